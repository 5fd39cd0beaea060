// A driver whose shared memory holds nearly nothing: values go to disk. Prints what came back, as JSON.
import * as ray from 'ray-ts'

const MB = 1024 * 1024
const warnings = []
process.on('warning', (warning) => warnings.push(warning.message))
const cluster = await ray.init({ numCpus: 1 })
const sum = ray.remote((data) => [data.length, data[0], data[data.length - 1]])
const refs = Array.from({ length: 5 }, (_, i) => ray.put(new Uint8Array((i + 1) * MB).fill(i + 1)))
const sums = await ray.get(refs.map((ref) => sum.remote(ref)))
const made = await ray.get(ray.remote(() => new Float64Array(1e6).fill(2)).remote())
console.log(JSON.stringify({ sums, made: [made.length, made[999_999]], warnings, dir: cluster.sessionDir }))
await ray.shutdown()
