// Mixed load for a while, with every result checked, and everything measured that could grow.
//
//     npm run soak -- --minutes 10 [--seed K] [--only LANE]
//
// Fails on a wrong result, an error that no lane allows, a figure that grows, a table that is not empty when nothing is left to do,
// and on processes, sockets or files that are left at the end. Writes its figures to bench/results/soak-<date>.json.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import v8 from 'node:v8'
import * as ray from 'ray-ts'
import { expectNothingLeft, leftovers } from '../test/leftovers.ts'
import { dropKept, LANES, type Lane } from './soak/lanes.ts'
import {
  childrenOf,
  folderFigures,
  median,
  processFigures,
  type Sample,
  seeded,
  type Trend,
  trendOf,
} from './soak/measure.ts'

const SAMPLE_MS = 3000
const QUIET_MS = 30_000
const ROUND_PATIENCE_MS = 120_000
/** Follow the load or count what ever was: shown, not judged. (Dead actors are remembered, up to a limit.) */
const VARYING = /^(workers|workers RSS MB|node workers|node actors|node .*Ever|driver queued|driver open|driver owned)$/

interface Outcome {
  rounds: number
  checked: number
  readonly tolerated: Record<string, number>
}

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
  },
})
const minutes = Number(values.minutes)
const failures: string[] = []
const outcomes = new Map<string, Outcome>()
const samples: Sample[] = []
const workerRss = new Map<number, number[]>()

void process.stdout // A pipe perhaps, which counts as a handle once it is used.
const handlesBefore = activeHandles().length
const cluster = await ray.init({ numCpus: 4, objectStoreMemory: 100_000_000, logToDriver: false })
const nodePid = Number.parseInt(fs.readFileSync(path.join(cluster.sessionDir, 'node.pid'), 'utf8'), 10)
const began = performance.now()
const endAt = began + minutes * 60_000

const sampling = sampleUntilEnd()
await Promise.all(
  LANES.filter((lane) => lane.name.includes(values.only)).map((lane, i) => run(lane, Number(values.seed) * 100 + i)),
)
await sampling
if (process.env.SOAK_SNAPSHOTS) snapshot('last')
dropKept()
const left = await quiesce()
for (const [name, count] of Object.entries(left)) failures.push(`${name} is ${count} when nothing is left to do`)
await ray.shutdown()
await expectNothingLeft(() => leftovers(cluster.sessionDir), 'of the session').catch((error: Error) => {
  failures.push(error.message)
})
let handlesAfter = activeHandles()
for (let i = 0; i < 20 && handlesAfter.length > handlesBefore; i++) {
  await sleep(100)
  handlesAfter = activeHandles()
}
if (handlesAfter.length > handlesBefore) failures.push(`more handles than before ray.init: ${handlesAfter.join(', ')}`)
report(trends())

async function run(lane: Lane, seed: number): Promise<void> {
  const context = { random: seeded(seed), cluster }
  const outcome: Outcome = { rounds: 0, checked: 0, tolerated: {} }
  outcomes.set(lane.name, outcome)
  while (performance.now() < endAt && failures.length === 0) {
    let patience: NodeJS.Timeout | undefined
    const stuck = new Promise<never>((_, reject) => {
      patience = setTimeout(() => reject(new Error(`no end within ${ROUND_PATIENCE_MS / 1000} s`)), ROUND_PATIENCE_MS)
    })
    try {
      outcome.checked += await Promise.race([lane.round(context), stuck])
      outcome.rounds++
    } catch (error) {
      const isAllowed = lane.allowed?.some((type) => error instanceof type) ?? false
      const name = error instanceof Error ? error.constructor.name : String(error)
      if (isAllowed) outcome.tolerated[name] = (outcome.tolerated[name] ?? 0) + 1
      else
        failures.push(`${lane.name}, round ${outcome.rounds}: ${error instanceof Error ? error.stack : String(error)}`)
    }
    clearTimeout(patience)
    await sleep(5)
  }
}

async function sampleUntilEnd(): Promise<void> {
  while (performance.now() < endAt && failures.length === 0) {
    await sleep(SAMPLE_MS)
    samples.push(await sample())
    if (process.env.SOAK_SNAPSHOTS && samples.length === Math.ceil((minutes * 60_000) / SAMPLE_MS / 4))
      snapshot('first')
  }
}

async function sample(): Promise<Sample> {
  globalThis.gc?.()
  const memory = process.memoryUsage()
  const driver = processFigures(process.pid)
  const node = processFigures(nodePid)
  const workers = childrenOf(nodePid)
  let workersMb = 0
  let workerFdsMax = 0
  for (const pid of workers) {
    const figures = processFigures(pid)
    if (!figures) continue
    workersMb += figures.rssMb
    workerFdsMax = Math.max(workerFdsMax, figures.fds)
    const series = workerRss.get(pid)
    if (series) series.push(figures.rssMb)
    else workerRss.set(pid, [figures.rssMb])
  }
  return {
    'driver heap MB': memory.heapUsed / 1e6,
    'driver external MB': (memory.external + memory.arrayBuffers) / 1e6,
    'driver RSS MB': driver?.rssMb ?? 0,
    'driver fds': driver?.fds ?? 0,
    'driver mappings': driver?.maps ?? 0,
    'node RSS MB': node?.rssMb ?? 0,
    'node fds': node?.fds ?? 0,
    workers: workers.length,
    'workers RSS MB': workersMb,
    'most fds of a worker': workerFdsMax,
    'shared memory MB': folderFigures(shmDir()).mb,
    'spilled MB': folderFigures(path.join(cluster.sessionDir, 'spill')).mb,
    'session files but logs':
      folderFigures(cluster.sessionDir).files - folderFigures(path.join(cluster.sessionDir, 'logs')).files,
    ...prefixed('driver ', driverTables()),
    ...prefixed('node ', await ray.util.nodeStats()),
  }
}

/** Waits until nothing is left to do, and gives what is left all the same. */
async function quiesce(): Promise<Sample> {
  const deadline = performance.now() + QUIET_MS
  let remaining: Sample = {}
  do {
    globalThis.gc?.()
    await sleep(200)
    const node = await ray.util.nodeStats()
    const { owned, borrowed, open, queued, inflight, leases, requests } = driverTables()
    const { objects, published, shmBytes, spilledBytes, waiting, leases: granted } = node
    const all = {
      owned,
      borrowed,
      open,
      queued,
      inflight,
      leases,
      requests,
      objects,
      published,
      shmBytes,
      spilledBytes,
      waiting,
    }
    const files = folderFigures(path.join(cluster.sessionDir, 'spill')).files
    const inShm = fs.readdirSync(shmDir()).filter((name) => name !== 'control').length
    remaining = Object.fromEntries(
      Object.entries({ ...all, granted, 'spill files': files, 'segment files': inShm }).filter(
        ([, count]) => count !== 0,
      ),
    ) as Sample
  } while (Object.keys(remaining).length > 0 && performance.now() < deadline)
  return remaining
}

function trends(): Trend[] {
  const names = Object.keys(samples[0] ?? {})
  const all = names.map((name) => {
    const [floor, share] = name.includes('RSS') ? [40, 0.3] : name.includes('heap') ? [4, 0.1] : [50, 0.5]
    return trendOf(
      name,
      samples.map((one) => one[name] ?? 0),
      floor,
      share,
    )
  })
  for (const [pid, series] of workerRss) {
    if (series.length > samples.length / 2) all.push(trendOf(`worker ${pid} RSS MB`, series, 40, 0.3))
  }
  for (const trend of all) {
    if (!trend.isGrowing || VARYING.test(trend.name)) continue
    failures.push(`${trend.name} grows: by ${trend.growth.toFixed(1)} over the run (median ${trend.median.toFixed(1)})`)
  }
  return all
}

function report(all: readonly Trend[]): void {
  const seconds = (performance.now() - began) / 1000
  console.log(`soak: ${minutes} minutes, seed ${values.seed}`)
  for (const [name, { rounds, checked, tolerated }] of outcomes) {
    const notes = Object.entries(tolerated).map(([error, count]) => `${count} ${error}`)
    console.log(
      `  ${name.padEnd(26)} ${String(rounds).padStart(7)} rounds ${String(checked).padStart(9)} checked  ${notes.join(', ')}`,
    )
  }
  console.log(
    `  ${'figure'.padEnd(26)} ${'first'.padStart(10)} ${'median'.padStart(10)} ${'last'.padStart(10)} ${'growth'.padStart(10)}`,
  )
  for (const one of all) {
    const cells = [one.first, one.median, one.last, one.growth].map((value) => value.toFixed(1).padStart(10))
    console.log(`  ${one.name.padEnd(26)} ${cells.join(' ')}${one.isGrowing ? '  GROWS' : ''}`)
  }
  const file = `bench/results/soak-${new Date().toISOString().slice(0, 16).replaceAll(':', '')}.json`
  fs.mkdirSync(path.dirname(file), { recursive: true })
  const machine = { cpus: os.availableParallelism(), memoryMb: Math.round(os.totalmem() / 1e6), node: process.version }
  const lanes = Object.fromEntries(outcomes)
  const result = {
    date: new Date().toISOString(),
    machine,
    minutes,
    seconds,
    seed: Number(values.seed),
    failures,
    lanes,
    trends: all,
  }
  fs.writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`)
  for (const failure of failures) console.error(`FAILED: ${failure}`)
  const total = [...outcomes.values()].reduce((sum, one) => sum + one.checked, 0)
  const workers = `${workerRss.size} workers seen, median ${median(samples.map((one) => one.workers ?? 0))} at a time`
  console.log(`${failures.length === 0 ? 'passed' : 'failed'}: ${total} results checked, ${workers}; ${file}`)
  process.exitCode = failures.length === 0 ? 0 : 1
}

/** To find what grows: SOAK_SNAPSHOTS=1 writes the driver's heap after the first quarter and at the end. */
function snapshot(name: string): void {
  globalThis.gc?.()
  v8.writeHeapSnapshot(`.cache/soak-${name}.heapsnapshot`)
}

function driverTables(): Record<string, number> {
  const ref = ray.put(0)
  try {
    const { core } = (ref as unknown as { runtime: { core: { stats(): Record<string, number> } } }).runtime
    const stats = core.stats()
    return { ...stats, owned: (stats.owned ?? 0) - 1 }
  } finally {
    ref[Symbol.dispose]()
  }
}

function shmDir(): string {
  return path.join(process.env.RAY_TS_SHM_DIR ?? '/dev/shm', `ray-ts-${path.basename(cluster.sessionDir)}`)
}

function prefixed(prefix: string, figures: Readonly<Record<string, number>>): Sample {
  return Object.fromEntries(Object.entries(figures).map(([name, value]) => [`${prefix}${name}`, value]))
}

/** Sockets, pipes and child processes that this process has open. */
function activeHandles(): string[] {
  return process.getActiveResourcesInfo().filter((name) => /Wrap$/.test(name) && !/TTY/.test(name))
}
