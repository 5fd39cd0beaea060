// Our side of bench/peers.ts: start-up figures, the microbenchmark rows and the no-op rows. One JSON line a row.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { median, runMicrobenchmark } from '../src/cli/microbenchmark.ts'

const args = process.argv.slice(2)
const filter = args.includes('--filter') ? (args[args.indexOf('--filter') + 1] as string) : ''
const print = (name: string, unit: string, value: number): void => {
  if (name.includes(filter)) console.log(JSON.stringify({ name, unit, median: value }))
}
const ms = async (call: () => Promise<unknown>): Promise<number> => {
  const began = performance.now()
  await call()
  return performance.now() - began
}

const importing = Array.from({ length: 5 }, () => {
  const program = "const b = performance.now(); await import('ray-ts'); console.log(performance.now() - b)"
  return Number(spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }).stdout)
})
print('import ray-ts', 'ms', median(importing))
const ray = await import('ray-ts')

const starts: Record<'init' | 'first' | 'shutdown' | 'actors', number[]> = {
  init: [],
  first: [],
  shutdown: [],
  actors: [],
}
for (let i = 0; i < 3 && !filter; i++) {
  const noop = ray.remote(() => 'ok')
  starts.init.push((await ms(() => ray.init({ numCpus: 2 }))) / 1000)
  starts.first.push((await ms(() => ray.get(noop.remote()))) / 1000)
  const Actor = ray.remote(
    class {
      touch(): number {
        return 1
      }
    },
  )
  starts.actors.push((await ms(() => ray.get(Array.from({ length: 20 }, () => Actor.remote().touch.remote())))) / 1000)
  starts.shutdown.push((await ms(() => ray.shutdown())) / 1000)
}
if (!filter) {
  print('init', 's', median(starts.init))
  print('first task', 's', median(starts.first))
  print('20 actors created and called once', 's', median(starts.actors))
  print('shutdown', 's', median(starts.shutdown))
}

const cluster = await ray.init({ numCpus: 2 })
const noop = ray.remote(() => 0)
await ray.get([noop.remote(), noop.remote()])
if (!filter) print('memory of an idle cluster with 2 workers', 'MB', residentMb(cluster.sessionDir))
await runMicrobenchmark({
  filter,
  quick: args.includes('--quick'),
  onRow: ({ name, unit, median: value }) => print(name, unit, value),
})
if ('no-op throughput'.includes(filter)) {
  const rates: number[] = []
  for (let round = 0; round < 9; round++) {
    const took = await ms(() => ray.get(Array.from({ length: 10_000 }, () => noop.remote())))
    rates.push(10_000 / (took / 1000))
  }
  print('no-op throughput', '/s', median(rates))
}
if ('no-op latency'.includes(filter)) {
  const latencies: number[] = []
  for (let i = 0; i < 1000; i++) await ray.get(noop.remote()) // As bench/peers/piscina does: what precedes a row differs.
  for (let i = 0; i < 3000; i++) latencies.push((await ms(() => ray.get(noop.remote()))) * 1000)
  print('no-op latency', 'us', median(latencies))
}
if (['bytes per queued task', '1M queued tasks drained'].some((name) => name.includes(filter))) await queued()
await ray.shutdown()

/** One million queued no-op tasks: bytes per queued task, and the rate at which they drain. */
async function queued(): Promise<void> {
  const count = 1_000_000
  // Garbage of earlier rows that goes meanwhile would count as gained: what finalizers let go of is collected after the next turn.
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.()
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const before = process.memoryUsage()
  let refs: ReturnType<typeof noop.remote>[] = []
  const submitting = await ms(async () => {
    refs = Array.from({ length: count }, () => noop.remote())
  })
  globalThis.gc?.()
  const after = process.memoryUsage()
  const bytes = after.heapUsed + after.external - before.heapUsed - before.external
  print('bytes per queued task', 'B', bytes / count)
  const draining = await ms(async () => {
    for (let i = 0; i < count; i += 10_000) await ray.get(refs.slice(i, i + 10_000))
  })
  print('1M queued tasks drained', '/s', count / ((submitting + draining) / 1000))
}

/** Proportional resident memory of the node and its workers. */
function residentMb(sessionDir: string): number {
  let kb = 0
  const name = sessionDir.slice(sessionDir.lastIndexOf('/') + 1)
  for (const pid of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
    try {
      if (!fs.readFileSync(`/proc/${pid}/environ`, 'utf8').includes(name)) continue
      kb += Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
    } catch {
      // It ended while we looked.
    }
  }
  return kb / 1024
}
