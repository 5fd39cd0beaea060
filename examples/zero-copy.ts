// A large array is stored once, and every task reads it in place: the bytes are shared memory, not copies.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

const LENGTH = 4_000_000 // 32 MB
const TASKS = 8

const sumSlice = ray.remote((values: Float64Array, index: number) => {
  const size = values.length / TASKS
  let sum = 0
  for (const value of values.subarray(index * size, (index + 1) * size)) sum += value
  return sum
})

/** A view may be written to: its pages are private to the task, and the stored value stays as it was. */
const scribble = ray.remote((values: Float64Array) => {
  values.fill(-1)
  return values[0]
})

await using _cluster = await ray.init()

const values = new Float64Array(LENGTH).map((_, i) => i)
using shared = ray.put(values) // `using`: it may go at the end of the block, without waiting for the garbage collector.

// Pass the reference: passing `values` itself would store the 32 MB again for each call.
const sums = await ray.get(Array.from({ length: TASKS }, (_, i) => sumSlice.remote(shared, i)))
assert.equal(
  sums.reduce((a, b) => a + b),
  (LENGTH * (LENGTH - 1)) / 2,
)

assert.equal(await ray.get(scribble.remote(shared)), -1)
const unchanged = await ray.get(shared)
assert.equal(unchanged[1], 1)

// Put copies: later changes here are not seen by readers.
values[1] = 99
assert.equal((await ray.get(shared))[1], 1)
console.log(`${TASKS} tasks read ${(LENGTH * 8) / 1e6} MB in place`)
//> 8 tasks read 32 MB in place
