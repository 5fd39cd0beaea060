// Guide 16.3 (granularity of tasks): a task costs something, so tiny ones are sent in batches. The million of single calls is ten
// thousand here; the batches do the whole million.

import * as ray from 'ray-ts'

const TOTAL = 1_000_000
await using _cluster = await ray.init()

// BAD: one call for one addition.
const addOne = ray.remote((x: number) => x + 1)
const single = await ray.get(Array.from({ length: TOTAL / 100 }, (_, i) => addOne.remote(i)))
console.log(single.length, single.at(-1))

// GOOD: 1,000 calls of 1,000 additions.
const addOneBatch = ray.remote((xs: Float64Array) => xs.map((x) => x + 1))
const batchSize = 1000
const batches = Array.from({ length: TOTAL / batchSize }, (_, b) =>
  Float64Array.from({ length: batchSize }, (_, i) => b * batchSize + i),
)
const results = await ray.get(batches.map((batch) => addOneBatch.remote(batch)))
console.log(results.length * batchSize, results.at(-1)?.at(-1))
//> 10000 10000
//> 1000000 1000000
