// One seed: one node, its drivers, one workload, one schedule of faults; judged after every step and at the end.

import { InvariantError, invariant } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import type { Bug } from './bugs.ts'
import { Cluster } from './cluster.ts'
import type { CoreShell } from './core-shell.ts'
import { drive } from './drive.ts'
import { type DriverState, driverProgram, resetScripts, settleProgram } from './driver.ts'
import { drawFaults, healed } from './faults.ts'
import { World } from './world.ts'

export interface SeedResult {
  readonly seed: number
  readonly hash: string
  readonly steps: number
  readonly virtualMs: Ms
  readonly counts: Readonly<Record<string, number>>
  readonly failure: Error | null
  readonly trace: readonly string[]
}

const FAULTS_END_MS: Ms = 3000
const SETTLE_MS: Ms = 60_000
const QUIET_MS: Ms = 3000
const NO_BUG: Bug = { name: 'none', what: '', seeds: 0 }

export function runSeed(seed: number, options: { bug?: Bug; keepsTrace?: boolean } = {}): SeedResult {
  resetScripts()
  const world = new World(seed, options.keepsTrace === true)
  const cluster = new Cluster(world, drawFaults(world.random, world.tears), options.bug ?? NO_BUG)
  let failure: Error | null = null
  try {
    play(cluster)
  } catch (error) {
    if (!(error instanceof Error)) throw error
    failure = error
    world.log(`FAILED: ${error.message}`)
  }
  return {
    seed,
    hash: (world.hash >>> 0).toString(16).padStart(8, '0'),
    steps: world.steps,
    virtualMs: world.now,
    counts: cluster.judge.counts,
    failure,
    trace: world.trace ?? [],
  }
}

function play(cluster: Cluster): void {
  const { world } = cluster
  const { faults } = cluster
  world.log(`faults ${JSON.stringify(faults)}`)
  cluster.start()
  const drivers: DriverState[] = []
  addDriver(cluster, drivers, 'driver')
  if (faults.secondDriver !== 'none') addDriver(cluster, drivers, 'second')
  if (faults.killEveryMs > 0) planKill(cluster, faults.killEveryMs)
  if (faults.secondDriver === 'dies') {
    world.at(200 + world.random.next() * 2000, () => {
      drivers[1]?.shell?.os.die({ code: null, signal: 'SIGKILL' }, false)
    })
  }
  const isOver = (): boolean => drivers.every((driver) => driver.isDone || driver.shell?.os.isAlive === false)
  world.run(FAULTS_END_MS, isOver)
  cluster.faults = healed(faults)
  world.log('healed')
  world.run(world.now + SETTLE_MS, isOver)
  const stuck = drivers.find((driver) => !driver.isDone && driver.shell?.os.isAlive !== false)
  invariant(!stuck, `liveness: ${stuck?.name} has not finished; ${cluster.judge.openTasks()}`)
  endAll(cluster)
  world.run(world.now + SETTLE_MS, () => cluster.judge.isQuiet)
  endAll(cluster)
  world.run(world.now + QUIET_MS)
  cluster.judge.checkEnd()
}

function addDriver(cluster: Cluster, drivers: DriverState[], name: string): void {
  const state: DriverState = { name, shell: null, pool: [], streams: [], actors: [], background: 0, isDone: false }
  drivers.push(state)
  cluster.startDriver(name, (shell) => {
    state.shell = shell
    runDriver(shell, state)
  })
}

function runDriver(shell: CoreShell, state: DriverState): void {
  const start = (): void => {
    drive(driverProgram(shell, state), {
      shell,
      scope: state.pool,
      onItem: null,
      onDone: () => {
        drive(settleProgram(state), {
          shell,
          scope: state.pool,
          onItem: null,
          onDone: () => {
            state.isDone = true
          },
        })
      },
    })
  }
  shell.os.after(0, start)
}

/** Kills a worker at a moment of its own, again and again, until the faults end. */
function planKill(cluster: Cluster, meanMs: Ms): void {
  const { world } = cluster
  world.after(world.random.next() * 2 * meanMs, () => {
    if (cluster.faults.killEveryMs === 0) return
    const alive = [...cluster.workers.values()].filter((worker) => worker.os.isAlive)
    if (alive.length > 0) world.random.pick(alive).os.die({ code: null, signal: 'SIGKILL' }, false)
    planKill(cluster, meanMs)
  })
}

/** What only a program could end is ended: references in global variables, detached actors. */
function endAll(cluster: Cluster): void {
  for (const worker of cluster.workers.values()) {
    if (!worker.os.isAlive) continue
    worker.os.enter(() => {
      for (const ref of worker.executor?.kept.splice(0) ?? []) ref.drop()
    })
  }
  for (const info of cluster.gcs.actors.list(null)) {
    if (info.state === 'DEAD' || !info.detached) continue
    const killer = [...cluster.shells.values()].find((shell) => shell.os.isAlive)
    if (!killer) throw new InvariantError('nobody is left to end the detached actors')
    killer.os.enter(() => {
      killer.link.send({ t: 'actor.kill', actorId: info.actorId, noRestart: true, detail: 'the end' })
    })
  }
}
