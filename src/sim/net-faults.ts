// What a seed draws where there are several nodes: how many, what each has, and what happens to machines and the roads between them.
//
// All of it comes from numbers of its own (`World.net`): a node that is alone lives as it did.

import type { Ms } from '../kernel/machine.ts'
import type { Resources } from '../wire/messages.ts'
import type { Cluster } from './cluster.ts'
import type { Faults } from './faults.ts'
import type { Road } from './network.ts'
import type { SimNode } from './node.ts'
import { Random } from './random.ts'
import type { World } from './world.ts'

export interface NetFaults {
  /** One a node. */
  readonly totals: readonly Resources[]
  /** Joins when work has begun, and nothing happens to it; -1: none. It alone has the resource `late`. */
  readonly lateNode: number
  readonly lateAtMs: Ms
  /** Tasks run on the node after that of who asks for them, and the last node's on the one before: the others hear of it from these only. */
  readonly isChain: boolean
  /** When a second driver comes: perhaps while links between nodes begin. */
  readonly secondAtMs: Ms
  /** So long its node does not reach the GCS from then on: it waits for its job, while nodes meet. */
  readonly jobLateMs: Ms
  /** Mean times between faults; 0: none. */
  readonly crashEveryMs: Ms
  /** The GCS is killed, and comes back with its records. */
  readonly gcsCrashEveryMs: Ms
  /** A link is lost for good. */
  readonly spoilEveryMs: Ms
  readonly pauseEveryMs: Ms
  readonly cutEveryMs: Ms
  readonly resetEveryMs: Ms
  readonly longestCutMs: Ms
  /** Everything from and to these is later. */
  readonly slowMs: readonly Ms[]
  /** Values go between nodes in chunks; else they are there at once. */
  readonly hasTransfers: boolean
  /** What shared memory holds; 0: all that comes. */
  readonly storeBytes: number
  /** In each driver so many make placement groups, beside all else. */
  readonly groupMakers: number
  readonly spreadChance: number
  readonly affinityChance: number
}

const ALONE = {
  lateNode: -1,
  lateAtMs: 0,
  isChain: false,
  secondAtMs: 0,
  jobLateMs: 0,
  crashEveryMs: 0,
  gcsCrashEveryMs: 0,
  spoilEveryMs: 0,
  pauseEveryMs: 0,
  cutEveryMs: 0,
  resetEveryMs: 0,
  longestCutMs: 0,
  slowMs: [],
  hasTransfers: false,
  storeBytes: 0,
  groupMakers: 0,
  spreadChance: 0,
  affinityChance: 0,
}

/** `nodes`: so many; 0: as the seed has it. */
export function drawNet(world: World, faults: Faults, nodes: number): NetFaults {
  const { net: random, gcs, groups, transfers } = world
  const drawn = random.chance(0.5) ? 1 : random.int(2, 4)
  const count = nodes > 0 ? nodes : drawn
  if (count === 1) return { ...ALONE, totals: [faults.total] }
  const every = (chance: number, fromMs: Ms, toMs: Ms): Ms =>
    random.chance(chance) ? fromMs + random.next() * (toMs - fromMs) : 0
  const hasTransfers = transfers.chance(0.35)
  const jobs = new Random(world.seed ^ 0x165667b1)
  const spills = new Random(world.seed ^ 0x2f0b4c47)
  const isChain = count > 2 && jobs.chance(0.2)
  const lateNode = count > 2 && random.chance(0.4) && !isChain ? count - 1 : -1
  return {
    totals: Array.from({ length: count }, (_, index) => totalOf(random, faults, index, lateNode)),
    lateNode,
    isChain,
    lateAtMs: 100 + random.next() * 1500,
    crashEveryMs: every(0.35, 300, 3000),
    pauseEveryMs: every(0.3, 100, 1500),
    cutEveryMs: every(0.45, 60, 1000),
    resetEveryMs: every(0.4, 60, 1000),
    longestCutMs: random.chance(0.6) ? 400 : 3000,
    slowMs: Array.from({ length: count }, () => (random.chance(isChain ? 0.6 : 0.2) ? random.next() * 30 : 0)),
    // What comes in chunks has to be made elsewhere.
    spreadChance: (random.chance(0.5) ? random.next() * 0.5 : 0) + (hasTransfers ? 0.4 : 0),
    affinityChance: random.chance(0.5) ? random.next() * 0.4 : 0,
    gcsCrashEveryMs: gcs.chance(0.4) ? 100 + gcs.next() * 1900 : 0,
    hasTransfers,
    storeBytes: hasTransfers && spills.chance(0.6) ? spills.int(1500, 6000) : 0,
    secondAtMs: groups.chance(0.5) ? groups.next() * groups.next() * 200 : 0,
    jobLateMs: jobs.chance(0.4) ? 20 + jobs.next() * 400 : 0,
    groupMakers: groups.chance(0.35) ? groups.int(1, 3) : 0,
    spoilEveryMs: gcs.chance(0.1) ? 300 + gcs.next() * 3000 : 0,
  }
}

function totalOf(random: Random, faults: Faults, index: number, lateNode: number): Resources {
  const CPU = random.int(1, 3) * 10_000
  const has = (chance: number): boolean => index === 0 || random.chance(chance)
  return {
    CPU,
    GPU: has(0.3) ? (faults.total.GPU ?? 0) : 0,
    special: has(0.5) ? 10_000 : 0,
    places: 1_000_000,
    ...(index === lateNode ? { late: 20_000 } : {}),
  }
}

/** Plans all of it until the faults end. `home`: where the first driver is; it dies more rarely. */
export function planNetFaults(cluster: Cluster, home: SimNode): void {
  const { net, world } = cluster
  const { net: random } = world
  for (const node of cluster.nodes) {
    const extraMs = net.slowMs[node.index] ?? 0
    for (const road of roadsOf(cluster, node)) for (const way of [road.out, road.back]) way.extraMs += extraMs
  }
  const targets = cluster.nodes.filter(({ index }) => index !== net.lateNode)
  again(cluster, net.crashEveryMs, () => {
    const alive = targets.filter((node) => node.os.isAlive)
    const node = random.pick(alive)
    if (alive.length > 1 && (node !== home || random.chance(0.3))) node.crash()
  })
  again(cluster, net.gcsCrashEveryMs, () => cluster.gcsProcess.crash(20 + world.gcs.next() * 500), world.gcs)
  const spoil = (): void => {
    const node = world.gcs.pick(targets)
    if (node.os.isAlive) node.os.enter(() => node.peers?.spoil(world.gcs.pick(targets).nodeId))
  }
  again(cluster, net.spoilEveryMs, spoil, world.gcs)
  again(cluster, net.pauseEveryMs, () => {
    const os = random.chance(0.2) ? cluster.gcsProcess.os : random.pick(targets).os
    os.busyUntil = Math.max(os.busyUntil, world.now + 20 + random.next() * net.longestCutMs)
    world.log(`${os.name} stands still until ${os.busyUntil.toFixed(0)}`)
  })
  again(cluster, net.cutEveryMs, () => cut(cluster, random.pick(targets), targets))
  // Numbers of their own again: worlds without it are as they were.
  const drains = new Random(world.seed ^ 0x2545f491)
  const drained = targets.filter((node) => node !== home)
  if (drained.length > 0 && drains.chance(0.2)) {
    world.after(drains.next() * drains.next() * 1500, () => {
      const node = drains.pick(drained)
      const deadlineMs = 50 + drains.next() * 1500
      world.log(`node${node.index} is drained within ${deadlineMs.toFixed(0)} ms`)
      cluster.gcsProcess.drain(node, 'PREEMPTION', deadlineMs)
    })
  }
  planIdleEnds(cluster, drained)
  again(cluster, net.resetEveryMs, () => {
    const from = random.pick(targets)
    const to = random.pick(cluster.nodes)
    if (from === to) {
      world.log(`the connection between node${from.index} and the GCS is reset`)
      cluster.gcsProcess.reset(from, random.next() * 200)
      return
    }
    world.log(`connections between node${from.index} and node${to.index} are reset`)
    for (const socket of cluster.road(from, to).sockets) if (random.chance(0.7)) socket.reset(random.next() * 200)
  })
}

/** Whoever makes nodes as they are needed ends those that it takes for idle. */
function planIdleEnds(cluster: Cluster, nodes: readonly SimNode[]): void {
  const { world, gcsProcess } = cluster
  const numbers = new Random(world.seed ^ 0x1b873593)
  if (nodes.length === 0 || !numbers.chance(0.25)) return
  const ask = (): void => {
    const node = numbers.pick(nodes)
    if (node.os.isAlive) world.log(`node${node.index} is drained if it is idle`)
    if (node.os.isAlive) gcsProcess.drain(node, 'IDLE_TERMINATION', numbers.chance(0.5) ? null : numbers.next() * 1500)
  }
  again(cluster, 20 + numbers.next() * 1000, ask, numbers)
}

function cut(cluster: Cluster, node: SimNode, others: readonly SimNode[]): void {
  const { net, world } = cluster
  const { net: random } = world
  const other = random.pick(others)
  const road = other === node ? cluster.roadToGcs(node) : cluster.road(node, other)
  const until = world.now + 20 + random.next() * net.longestCutMs
  const how = random.pick(['both', 'out', 'back'] as const)
  if (how !== 'back') road.out.heldUntil = Math.max(road.out.heldUntil, until)
  if (how !== 'out') road.back.heldUntil = Math.max(road.back.heldUntil, until)
  const name = other === node ? 'the GCS' : `node${other.index}`
  world.log(`the road between node${node.index} and ${name} is cut (${how}) until ${until.toFixed(0)}`)
}

function roadsOf(cluster: Cluster, node: SimNode): Road[] {
  return [
    cluster.roadToGcs(node),
    ...cluster.nodes.filter((other) => other !== node).map((to) => cluster.road(node, to)),
  ]
}

function again(cluster: Cluster, meanMs: Ms, happen: () => void, random = cluster.world.net): void {
  if (meanMs === 0) return
  cluster.world.after(random.next() * 2 * meanMs, () => {
    if (cluster.areFaultsOver) return
    happen()
    again(cluster, meanMs, happen, random)
  })
}
