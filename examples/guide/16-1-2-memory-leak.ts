// Guide 16.1, second sample (no memory leaks): take results as they come instead of holding every reference. The sample's million
// tasks are ten thousand here.

import * as ray from 'ray-ts'

const TASKS = 10_000
await using _cluster = await ray.init()
const compute = ray.remote((i: number) => i * 2)

// BAD: every reference, and so every value, is held to the end.
const held = Array.from({ length: TASKS }, (_, i) => compute.remote(i))
console.log(held.length)

// GOOD: ray.wait, a hundred at a time; what was read is let go.
let refs = Array.from({ length: TASKS }, (_, i) => compute.remote(i))
let sum = 0
while (refs.length > 0) {
  const [done, rest] = await ray.wait(refs, { numReturns: Math.min(100, refs.length) })
  refs = rest
  for (const value of await ray.get(done)) sum += value
}
console.log(sum)

// GOOD: a generator of batches.
async function* processInBatches(items: readonly number[], batchSize = 100): AsyncGenerator<number[]> {
  for (let i = 0; i < items.length; i += batchSize) {
    yield await ray.get(items.slice(i, i + batchSize).map((item) => compute.remote(item)))
  }
}
let batched = 0
for await (const values of processInBatches(Array.from({ length: TASKS }, (_, i) => i))) {
  for (const value of values) batched += value
}
console.log(batched)

// BETTER: the same with the next tasks already running; at most a hundred are open.
let streamed = 0
for await (const value of ray.util.mapUnordered((i: number) => compute.remote(i), Array(TASKS).keys(), {
  inFlight: 100,
})) {
  streamed += value
}
console.log(streamed)
//> 10000
//> 99990000
//> 99990000
//> 99990000
