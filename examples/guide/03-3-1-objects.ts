// Guide 3.3, first sample (objects). NumPy's 10,000 by 10,000 array is a Float64Array of a million numbers here.

import * as ray from 'ray-ts'

await using _cluster = await ray.init()

// Into the object store; a reference comes back.
const largeArray = Float64Array.from({ length: 1_000_000 }, (_, i) => i)
const ref = ray.put(largeArray)

// The reference goes to many tasks, which read the bytes in place.
const processChunk = ray.remote((data: Float64Array, i: number) => data[i * 100_000])
const futures = Array.from({ length: 10 }, (_, i) => processChunk.remote(ref, i))
console.log((await ray.get(futures)).join(' '))

// Read here: without a copy, since it is on this machine.
const data = await ray.get(ref)
console.log(data.length, data.at(-1))

// Several at once.
const refs = Array.from({ length: 100 }, (_, i) => ray.put(i))
const values = await ray.get(refs)
console.log(values.length, values[99])

// Objects go when nothing refers to them any more. JavaScript collects garbage when it likes; this says it now:
ref[Symbol.dispose]()
//> 0 100000 200000 300000 400000 500000 600000 700000 800000 900000
//> 1000000 999999
//> 100 99
