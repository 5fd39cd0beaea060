// A value beyond 4 GiB: more than one view of Node 20 holds, and more than two write(2) take. Prints what came back, as JSON.
import * as ray from 'ray-ts'

const GB = 1024 ** 3
await ray.init({ numCpus: 1, objectStoreMemory: 5 * GB })
const ends = ray.remote(({ one, small }) => [one.length, one[0], one.at(-1), small[0]])
const one = new Float64Array((4.1 * GB) / 8)
one[0] = 1
one[one.length - 1] = 2
const there = await ray.get(ends.remote(ray.put({ one, small: new Uint8Array(5000).fill(3) })))
let refusal = ''
try {
  ray.put({ rows: Array.from({ length: 6 }, () => 'x'.repeat(400_000_000)) })
} catch (error) {
  refusal = `${error.name}: ${error.message}`
}
console.log(JSON.stringify({ there, refusal }))
await ray.shutdown()
