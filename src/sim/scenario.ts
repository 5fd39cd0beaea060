// One seed: one node, its drivers, one workload, one schedule of faults; judged after every step and at the end.

import { invariant } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import type { Bug } from './bugs.ts'
import { Cluster } from './cluster.ts'
import type { CoreShell } from './core-shell.ts'
import { drive } from './drive.ts'
import { type DriverState, driverProgram, resetScripts, settleProgram } from './driver.ts'
import { drawFaults, healed } from './faults.ts'
import { groupProgram } from './groups.ts'
import type { SimRef } from './handles.ts'
import { drawNet, type NetFaults, planNetFaults } from './net-faults.ts'
import type { SimNode } from './node.ts'
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
const UP_MS: Ms = 2000
const NO_BUG: Bug = { name: 'none', what: '', seeds: 0 }

export function runSeed(seed: number, options: { bug?: Bug; keepsTrace?: boolean; nodes?: number } = {}): SeedResult {
  resetScripts()
  const world = new World(seed, options.keepsTrace === true)
  const { bug = NO_BUG } = options
  const faults = drawFaults(world.random, world.tears)
  const net = drawNet(world, faults, options.nodes ?? (bug === NO_BUG ? 0 : bug.isOfMany ? 2 + (seed % 3) : 1))
  const cluster = new Cluster(world, faults, net, bug)
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
  if (!cluster.isAlone) {
    world.log(`net ${JSON.stringify(cluster.net)}`)
    world.run(UP_MS, () => cluster.isUp)
    invariant(cluster.isUp, 'liveness: the nodes have not found one another')
  }
  const drivers: DriverState[] = []
  const home = pickHome(cluster)
  addDriver(cluster, home, drivers, 'driver')
  if (faults.secondDriver !== 'none') addDriver(cluster, pickHome(cluster), drivers, 'second', cluster.net)
  if (!cluster.isAlone) planNetFaults(cluster, home)
  if (faults.killEveryMs > 0) planKill(cluster, faults.killEveryMs)
  if (faults.secondDriver === 'dies') {
    world.at(200 + world.random.next() * 2000, () => {
      drivers[1]?.os?.die({ code: null, signal: 'SIGKILL' }, false)
    })
  }
  const isGone = (driver: DriverState): boolean => driver.os?.isAlive === false
  const isOver = (): boolean => drivers.every((driver) => driver.isDone || isGone(driver))
  world.run(FAULTS_END_MS, isOver)
  cluster.faults = healed(faults)
  cluster.areFaultsOver = true
  cluster.healRoads()
  world.log('healed')
  world.run(world.now + SETTLE_MS, isOver)
  const stuck = drivers.find((driver) => !driver.isDone && !isGone(driver))
  invariant(!stuck, `liveness: ${stuck?.name} has not finished; ${cluster.judge.openTasks()}`)
  if (!cluster.gcsProcess.os.isAlive) world.run(world.now + SETTLE_MS, () => cluster.gcsProcess.os.isAlive)
  endAll(cluster)
  world.run(world.now + SETTLE_MS, () => cluster.judge.isQuiet)
  endAll(cluster)
  world.run(world.now + QUIET_MS)
  for (const node of cluster.nodes) if (node.os.isAlive) node.askRooms()
  endAll(cluster) // A detached actor whose driver died while its creation was on its way.
  world.run(world.now + QUIET_MS)
  world.run(world.now + QUIET_MS, () => cluster.areLinksIdle)
  if (cluster.net.groupMakers > 0) proveGroups(cluster)
  cluster.judge.checkEnd()
}

/** Nothing is used any more: everything can be reserved. */
function proveGroups(cluster: Cluster): void {
  const { world, nodes } = cluster
  const { groups } = cluster.judge
  if (!nodes.some((node) => cluster.isNodeAlive(node))) return
  groups.makeProof()
  world.run(world.now + SETTLE_MS, () => groups.isProven)
  invariant(groups.isProven, 'P4: a group of all CPUs is not made, although nothing runs')
  groups.endProof()
  world.run(world.now + QUIET_MS)
}

/** Where a driver runs: on any node that is there. */
function pickHome({ nodes, net, isAlone, world }: Cluster): SimNode {
  if (isAlone) return nodes[0] as SimNode
  return world.net.pick(nodes.filter(({ index }) => index !== net.lateNode))
}

function addDriver(
  cluster: Cluster,
  node: SimNode,
  drivers: DriverState[],
  name: string,
  { secondAtMs: afterMs, jobLateMs }: Pick<NetFaults, 'secondAtMs' | 'jobLateMs'> = { secondAtMs: 0, jobLateMs: 0 },
): void {
  const state: DriverState = {
    name,
    os: null,
    shell: null,
    pool: [],
    streams: [],
    actors: [],
    background: 0,
    isDone: false,
  }
  drivers.push(state)
  const start = (): void => {
    if (jobLateMs > 0) {
      const { out, back } = cluster.roadToGcs(node)
      for (const way of [out, back]) way.heldUntil = Math.max(way.heldUntil, cluster.world.now + jobLateMs)
    }
    state.os = cluster.startDriver(node, name, (shell) => {
      state.shell = shell
      runDriver(shell, state)
    })
  }
  if (afterMs > 0) cluster.world.after(afterMs, start)
  else start()
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
  for (let count = shell.cluster.net.groupMakers; count > 0; count--) shell.os.after(0, () => driveGroups(shell, state))
}

function driveGroups(shell: CoreShell, state: DriverState): void {
  state.background++
  const scope: SimRef[] = []
  const onDone = (): void => {
    for (const ref of scope) ref.drop()
    state.background--
  }
  drive(groupProgram(shell), { shell, scope, onItem: null, onDone })
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
    if (!cluster.isAlone || !killer) {
      cluster.gcsProcess.tell({ t: 'actor.kill', actorId: info.actorId, noRestart: true, detail: 'the end' })
      continue
    }
    killer.os.enter(() => {
      killer.link.send({ t: 'actor.kill', actorId: info.actorId, noRestart: true, detail: 'the end' })
    })
  }
}
