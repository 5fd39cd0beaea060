// Guide 3.3, second sample (transfer of objects): the same large value for a hundred tasks. Passed as it is, it is written a hundred
// times, and a warning says so; put once, only its reference travels.

import * as ray from 'ray-ts'

const warnings: Error[] = []
process.removeAllListeners('warning') // Print nothing; they are looked at below.
process.on('warning', (warning) => warnings.push(warning))

await using _cluster = await ray.init()

const loadLargeDataset = (): Float64Array => Float64Array.from({ length: 200_000 }, (_, i) => i)
const processTask = ray.remote((data: Float64Array, i: number) => data[i])

// BAD: written for each call.
const largeData = loadLargeDataset()
const bad = await ray.get(Array.from({ length: 100 }, (_, i) => processTask.remote(largeData, i)))

// GOOD: written once.
const largeDataRef = ray.put(loadLargeDataset())
const good = await ray.get(Array.from({ length: 100 }, (_, i) => processTask.remote(largeDataRef, i)))

console.log(bad.every((value, i) => value === good[i]))
await new Promise((resolve) => setImmediate(resolve))
console.log(`${warnings.length} warning: ${/ray\.put/.exec(warnings[0]?.message ?? '')?.[0]}`)
//> true
//> 1 warning: ray.put
