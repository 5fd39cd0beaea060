// Failure here looks like a table that grows with the work done, or a cluster that is never quite idle.
import v8 from 'node:v8'
import vm from 'node:vm'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { childrenOf, cpuTicks } from '../scripts/soak/measure.ts'
import { sleep, until } from './helpers.ts'

const TASKS = 200_000
/** Of 100 a second. */
const IDLE_MS = 4000
const IDLE_TICKS_MAX = 20

beforeAll(() => ray.init({ numCpus: 2 }))
afterAll(() => ray.shutdown())

v8.setFlagsFromString('--expose-gc')
const gc = vm.runInNewContext('gc') as () => void

type Tables = Record<string, number>
function tables(): Tables {
  using probe = ray.put(0) as ray.ObjectRef & { runtime: { core: { stats(): Tables } } }
  return probe.runtime.core.stats()
}

async function heapMb(): Promise<number> {
  for (let i = 0; i < 5; i++) {
    gc()
    await sleep(20)
  }
  return process.memoryUsage().heapUsed / 1e6
}

test('[ARCH-21][OBJ-04] tables are empty after many tasks, and memory is flat', async () => {
  const noop = ray.remote((i: number) => i)
  const round = async (): Promise<void> => {
    let refs: ray.ObjectRef<number>[] = Array.from({ length: TASKS }, (_, i) => noop.remote(i))
    const last = await ray.get(refs.at(-1) as ray.ObjectRef<number>, { timeoutS: 50 })
    expect(last).toBe(TASKS - 1)
    await ray.get(refs, { timeoutS: 50 })
    refs = []
  }
  await round()
  const before = await heapMb()
  await round()
  await until(
    () => {
      gc()
      const { owned, borrowed, open, queued, inflight } = tables()
      return (owned ?? 9) <= 1 && [borrowed, open, queued, inflight].every((count) => count === 0)
    },
    `tables are empty: ${JSON.stringify(tables())}`,
    20_000,
  )
  expect((await heapMb()) - before).toBeLessThan(10) // 50 bytes a task would be as much.
})

test('[ARCH-09] an idle cluster uses no CPU to speak of', async () => {
  const { pid } = (await ray.nodes())[0] as { pid?: number }
  const nodePid = pid ?? childrenOf(process.pid).find((child) => childrenOf(child).length > 0)
  const pids = [nodePid as number, ...childrenOf(nodePid as number)]
  expect(pids.length).toBeGreaterThanOrEqual(3)
  await sleep(1500) // What was busy before ends.
  const before = pids.map(cpuTicks)
  await sleep(IDLE_MS)
  const used = pids.map((one, i) => cpuTicks(one) - (before[i] as number))
  expect(
    used.reduce((a, b) => a + b, 0),
    `ticks of ${pids}: ${used}`,
  ).toBeLessThanOrEqual(IDLE_TICKS_MAX)
})
