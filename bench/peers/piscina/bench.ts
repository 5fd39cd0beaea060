// Piscina at its best settings: no-op throughput with 10,000 outstanding, and one-at-a-time latency. Prints one JSON line a row.

import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'

const here = path.dirname(fileURLToPath(import.meta.url))
const pool = new Piscina({
  filename: path.join(here, 'noop.cjs'),
  minThreads: 2,
  maxThreads: 2,
  concurrentTasksPerWorker: 1000,
  atomics: 'async',
})
const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number

await Promise.all(Array.from({ length: 10_000 }, () => pool.run(0)))
const rates: number[] = []
for (let round = 0; round < 9; round++) {
  const began = performance.now()
  await Promise.all(Array.from({ length: 10_000 }, () => pool.run(0)))
  rates.push(10_000 / ((performance.now() - began) / 1000))
}
console.log(JSON.stringify({ name: 'no-op throughput', unit: '/s', median: median(rates) }))
const latencies: number[] = []
for (let i = 0; i < 1000; i++) await pool.run(0) // As bench/rows.ts does.
for (let i = 0; i < 3000; i++) {
  const began = performance.now()
  await pool.run(0)
  latencies.push((performance.now() - began) * 1000)
}
console.log(JSON.stringify({ name: 'no-op latency', unit: 'us', median: median(latencies) }))
await pool.destroy()
