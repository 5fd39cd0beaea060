// Nested tasks: a parallel merge sort that calls itself. A task that waits for its children lends its CPU to them.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

const LEAF = 50_000

function merge(a: Float64Array, b: Float64Array): Float64Array {
  const out = new Float64Array(a.length + b.length)
  for (let i = 0, j = 0, k = 0; k < out.length; k++) {
    const fromA = j >= b.length || (i < a.length && (a[i] as number) <= (b[j] as number))
    out[k] = (fromA ? a[i++] : b[j++]) as number
  }
  return out
}

const sort = ray.remote(async (values: Float64Array): Promise<Float64Array> => {
  if (values.length <= LEAF) return values.slice().sort()
  const middle = values.length >> 1
  const [left, right] = await ray.get([sort.remote(values.subarray(0, middle)), sort.remote(values.subarray(middle))])
  return merge(left, right)
})

await using _cluster = await ray.init({ numCpus: 2 })
const values = Float64Array.from({ length: 200_000 }, (_, i) => Math.sin(i * i))
const sorted = await ray.get(sort.remote(values))
assert.deepEqual(sorted, values.slice().sort())
console.log(`${sorted.length} numbers, from ${sorted[0]?.toFixed(3)} to ${sorted.at(-1)?.toFixed(3)}`)
//> 200000 numbers, from -1.000 to 1.000
