// Four nodes under load, with a fault every few seconds; at the end every answer was right and nothing is left over.
//
//     npm run chaos -- --minutes 10 [--seed K]
//
// Faults: a worker killed, a node killed (and another one joining), a raylet that stands still for a while, the GCS killed and started
// again. The driver's own node and process live. Writes its figures to bench/results/chaos-<date>.json.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import * as ray from 'ray-ts'
import { Cluster } from 'ray-ts/testing'
import { seeded } from './soak/measure.ts'

interface Lane {
  readonly name: string
  /** Resolves to how many answers were checked; throws when one is wrong. */
  readonly round: (random: () => number) => Promise<number>
}

const ROUND_PATIENCE_MS = 120_000
const QUIET_MS = 30_000
const RETRIES = { maxRetries: 100 }

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '2' }, seed: { type: 'string', default: '1' } },
})
const minutes = Number(values.minutes)
const failures: string[] = []
const rounds = new Map<string, { rounds: number; checked: number }>()
const faults: Record<string, number> = {}

const below = (random: () => number, n: number): number => Math.floor(random() * n)
const check = (isRight: boolean, what: () => string): void => {
  if (!isRight) throw new Error(`wrong result: ${what()}`)
}

const square = ray.remote((x: number) => x * x, RETRIES)
const slowly = ray.remote(async (x: number, ms: number) => {
  await new Promise((resolve) => setTimeout(resolve, ms))
  return -x
}, RETRIES)
const make = ray.remote((bytes: number, seed: number) => Buffer.alloc(bytes, seed & 255), RETRIES)
const sumOf = ray.remote((a: Uint8Array, b: Uint8Array) => (a[0] as number) + (b[b.length - 1] as number), RETRIES)
const pidOf = ray.remote(async () => {
  await new Promise((resolve) => setTimeout(resolve, 5))
  return process.pid
}, RETRIES)

class Counter {
  private n = 0
  add(by: number): number {
    return (this.n += by)
  }
}
const RemoteCounter = ray.remote(Counter)

const LANES: readonly Lane[] = [
  {
    name: 'tasks',
    round: async (random) => {
      const n = 50 + below(random, 300)
      const got = await ray.get(Array.from({ length: n }, (_, i) => square.remote(i)))
      for (let i = 0; i < n; i++) check(got[i] === i * i, () => `square of ${i}: ${got[i]}`)
      return n
    },
  },
  {
    name: 'slow tasks',
    round: async (random) => {
      const n = 8
      const got = await ray.get(Array.from({ length: n }, (_, i) => slowly.remote(i, 20 + below(random, 200))))
      for (let i = 0; i < n; i++) check(got[i] === -i, () => `slow task ${i}: ${got[i]}`)
      return n
    },
  },
  {
    name: 'objects',
    round: async (random) => {
      const bytes = 200_000 + below(random, 2_000_000)
      const refs = Array.from({ length: 4 }, (_, i) => make.remote(bytes, i + 1))
      await sleep(below(random, 500)) // Meanwhile their node may go.
      const sums = await ray.get([
        sumOf.remote(refs[0] as never, refs[1] as never),
        sumOf.remote(refs[2] as never, refs[3] as never),
      ])
      check(sums[0] === 3 && sums[1] === 7, () => `sums ${sums}`)
      const own = (await ray.get(refs[3] as ray.ObjectRef<Buffer>)) as Uint8Array
      check(own.length === bytes && own[bytes - 1] === 4, () => `an object of ${bytes} bytes`)
      for (const ref of refs) ref[Symbol.dispose]()
      return 3
    },
  },
  {
    name: 'actors',
    round: async (random) => {
      const counter = RemoteCounter.options({ numCpus: 0, maxRestarts: -1, maxTaskRetries: -1 }).remote()
      const n = 5 + below(random, 40)
      let last = 0
      for (let i = 0; i < n; i++) {
        const got = await ray.get(counter.add.remote(1))
        check(got === last + 1 || got === 1 || got === last + 2, () => `call ${i}: ${got} after ${last}`)
        last = got
        if (i % 10 === 0) await sleep(below(random, 100))
      }
      ray.kill(counter)
      return n
    },
  },
  {
    name: 'placement groups',
    round: async (random) => {
      const strategy = random() < 0.5 ? 'SPREAD' : 'PACK'
      const group = ray.util.placementGroup([{ place: 0.1 }, { place: 0.1 }], { strategy })
      check(await group.wait({ timeoutS: 60 }), () => 'a group was not ready within 60 s')
      ray.util.removePlacementGroup(group)
      return 1
    },
  },
]

const node = { numCpus: 1, resources: { place: 1 }, objectStoreMemory: 200_000_000 }
const began = performance.now()
const endAt = began + minutes * 60_000
const cluster = await Cluster.start({ head: node, nodes: [node, node, node] })
await cluster.connect({ logToDriver: false })

await Promise.all([
  ...LANES.map((lane, i) => run(lane, seeded(Number(values.seed) * 100 + i))),
  unrest(seeded(Number(values.seed))),
])
const left = await quiesce()
for (const [name, count] of Object.entries(left)) failures.push(`${name} is ${count} when nothing is left to do`)
await cluster.shutdown()
report()

async function run(lane: Lane, random: () => number): Promise<void> {
  const outcome = { rounds: 0, checked: 0 }
  rounds.set(lane.name, outcome)
  while (performance.now() < endAt && failures.length === 0) {
    const patience = new AbortController()
    const stuck = sleep(ROUND_PATIENCE_MS, undefined, { signal: patience.signal }).then(() => {
      throw new Error(`no end within ${ROUND_PATIENCE_MS / 1000} s`)
    })
    stuck.catch(() => {})
    try {
      outcome.checked += await Promise.race([lane.round(random), stuck])
      outcome.rounds++
    } catch (error) {
      await dump()
      failures.push(`${lane.name}, round ${outcome.rounds}: ${error instanceof Error ? error.stack : String(error)}`)
    }
    patience.abort()
    await sleep(5)
  }
}

/** What every raylet holds, and what the driver and the GCS see. */
async function dump(): Promise<void> {
  for (const one of cluster.nodes) cluster.kill(one, 'SIGUSR2')
  await sleep(500)
  for (const one of cluster.nodes) {
    const file = path.join(one.sessionDir, 'logs', 'debug_state.txt')
    console.error(
      `${one.isHead ? 'head' : 'node'} ${one.nodeId}: ${await fs.promises.readFile(file, 'utf8').catch(String)}`,
    )
  }
  console.error(`own raylet: ${JSON.stringify(await ray.util.nodeStats())}`)
  console.error(`nodes: ${JSON.stringify((await ray.nodes()).map(({ NodeID, Alive }) => [NodeID, Alive]))}`)
  console.error(`free: ${JSON.stringify(await ray.availableResources({ raw: true }))}`)
}

/** A fault every few seconds. */
async function unrest(random: () => number): Promise<void> {
  const kinds = [killWorker, killWorker, killNode, standStill, restartGcs]
  while (performance.now() < endAt && failures.length === 0) {
    await sleep(2000 + below(random, 3000))
    const kind = kinds[below(random, kinds.length)] as (random: () => number) => Promise<void>
    try {
      await kind(random)
      faults[kind.name] = (faults[kind.name] ?? 0) + 1
    } catch (error) {
      failures.push(`${kind.name}: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }
}

async function killWorker(): Promise<void> {
  const pid = await ray.get(pidOf.remote())
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

async function killNode(random: () => number): Promise<void> {
  const others = cluster.nodes.filter(({ isHead }) => !isHead)
  const victim = others[below(random, others.length)]
  if (victim) await cluster.removeNode(victim, { allowGraceful: false })
  await sleep(below(random, 1000))
  await cluster.addNode(node)
}

async function standStill(random: () => number): Promise<void> {
  const others = cluster.nodes.filter(({ isHead }) => !isHead)
  const one = others[below(random, others.length)]
  if (!one) return
  cluster.kill(one, 'SIGSTOP')
  await sleep(300 + below(random, 1500))
  cluster.kill(one, 'SIGCONT')
}

async function restartGcs(): Promise<void> {
  await cluster.restartGcs()
}

/** Waits until all that was taken is free again, and gives what is not. */
async function quiesce(): Promise<Record<string, number>> {
  const deadline = performance.now() + QUIET_MS
  let left: Record<string, number> = {}
  do {
    globalThis.gc?.()
    await sleep(300)
    const [total, available] = await Promise.all([ray.clusterResources(), ray.availableResources()])
    left = {}
    for (const [name, amount] of Object.entries(total)) {
      const taken = amount - (available[name] ?? 0)
      if (name !== 'object_store_memory' && Math.abs(taken) > 1e-6) left[`${name} taken`] = taken
    }
  } while (Object.keys(left).length > 0 && performance.now() < deadline)
  return left
}

function report(): void {
  const seconds = (performance.now() - began) / 1000
  console.log(`chaos: ${minutes} minutes, seed ${values.seed}: ${JSON.stringify(faults)}`)
  for (const [name, outcome] of rounds)
    console.log(`  ${name.padEnd(18)} ${outcome.rounds} rounds, ${outcome.checked} checked`)
  const machine = { cpus: os.availableParallelism(), memoryMb: Math.round(os.totalmem() / 1e6), node: process.version }
  const date = new Date().toISOString()
  const result = {
    date,
    machine,
    minutes,
    seconds,
    seed: Number(values.seed),
    faults,
    lanes: Object.fromEntries(rounds),
    failures,
  }
  const file = `bench/results/chaos-${date.slice(0, 16).replaceAll(':', '')}.json`
  fs.mkdirSync('bench/results', { recursive: true })
  fs.writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`)
  for (const failure of failures) console.error(`FAILED: ${failure}`)
  console.log(`${failures.length === 0 ? 'passed' : 'failed'}; ${file}`)
  process.exitCode = failures.length === 0 ? 0 : 1
}
