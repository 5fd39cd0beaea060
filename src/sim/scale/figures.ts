// What a run of a large simulated cluster comes to, as it is written to a result file.

import type { Ms } from '../../kernel/machine.ts'
import type { ScaleCluster, ScaleOptions } from './cluster.ts'
import type { Leg, Meter, Sake, Sum } from './meter.ts'

export interface ScaleFigures {
  readonly nodes: number
  readonly drivers: number
  readonly tasks: number
  readonly actors: number
  readonly groups: number
  /** By phase, and of all work: what the cluster would need if its processors took no time. */
  readonly virtualSeconds: Readonly<Record<string, number>>
  /** Control messages, and frames between owners and workers. */
  readonly perTask: Readonly<Record<string, number>>
  readonly perActor: Readonly<Record<string, number>>
  readonly perGroup: Readonly<Record<string, number>>
  /** That nodes know of each other. */
  readonly upkeep: Readonly<Record<string, number>>
  /** Microseconds of processor time. */
  readonly decisions: Readonly<Record<string, number>>
  /** Share of all processor time. */
  readonly shares: Readonly<Record<string, number>>
  /** Of one processor, over the virtual time. */
  readonly load: Readonly<Record<string, number>>
  readonly bottleneck: string
  readonly wallSeconds?: number
  readonly heapMiB?: number
}

export function figuresOf(cluster: ScaleCluster, options: ScaleOptions): ScaleFigures {
  const { meter, phases } = cluster
  const { nodes, actors, groups, tasks } = options
  const seconds = phases.reduce((sum, { virtualMs }) => sum + virtualMs, 0) / 1000
  const ran = tasks + 3 * groups
  const shares = sharesOf(meter)
  const load = loadOf(meter, seconds)
  return {
    ...{ nodes, drivers: options.owners, tasks, actors, groups },
    virtualSeconds: {
      ...Object.fromEntries(phases.map(({ name, virtualMs }) => [name, round(virtualMs / 1000)])),
      work: round(seconds),
    },
    perTask: perThing(meter, 'task', ran),
    perActor: perThing(meter, 'actor', actors),
    perGroup: perThing(meter, 'group', groups),
    upkeep: upkeepOf(meter, nodes, seconds),
    decisions: decisionsOf(meter, { ran, actors, groups }),
    shares,
    load,
    bottleneck: bottleneckOf(load),
  }
}

function perThing(meter: Meter, sake: Sake, count: number): Record<string, number> {
  const of = (leg: Leg): Sum => meter.sum(leg, sake)
  const result: Record<string, number> = {}
  for (const [name, leg] of [
    ['gcs', 'gcs'],
    ['peer', 'peer'],
    ['local', 'local'],
    ['frame', 'tasks'],
  ] as const) {
    const { count: messages, amount } = of(leg)
    result[`${name}Messages`] = per(messages, count)
    result[`${name}Bytes`] = per(amount, count)
  }
  return result
}

function upkeepOf(meter: Meter, nodes: number, seconds: number): Record<string, number> {
  const gcs = meter.sum('gcs', 'upkeep')
  const processes = meter.sum('peer', 'process')
  const cpu = meter.cpuOf('raylet fromGcs nodes.')
  return {
    gcsMessagesPerNodeSecond: per(gcs.count, nodes * seconds),
    gcsBytesPerNodeSecond: per(gcs.amount, nodes * seconds),
    gcsBytesPerSecond: per(gcs.amount, seconds),
    rayletMicrosPerNodeSecond: per(cpu.amount * 1000, nodes * seconds),
    peerProcessMessages: processes.count,
  }
}

function decisionsOf(
  meter: Meter,
  { ran, actors, groups }: { ran: number; actors: number; groups: number },
): Record<string, number> {
  const micros = (start: string, count?: number): number => {
    const sum = meter.cpuOf(start)
    return per(sum.amount * 1000, count ?? sum.count)
  }
  const leases = meter.cpuOf('raylet lease.request').count + meter.cpuOf('raylet fromPeer lease.request').count
  return {
    /** A request of an owner, at its own raylet: where does it go? */
    rayletRequest: micros('raylet lease.request'),
    rayletRequestOfPeer: micros('raylet fromPeer lease.request'),
    /** All that raylets do, by requests for leases. */
    rayletAllPerRequest: micros('raylet', leases),
    requestsPerTask: per(leases, ran),
    gcsActorCreate: micros('gcs forward actor.create'),
    gcsActorAll: per(
      ['gcs forward actor.', 'gcs actorLease.', 'gcs worker.'].reduce((sum, one) => sum + meter.cpuOf(one).amount, 0) *
        1000,
      actors,
    ),
    gcsGroupCreate: micros('gcs forward pg.create'),
    gcsGroupAll: per(
      ['gcs forward pg.', 'gcs bundles.', 'gcs group.', 'gcs timer pg'].reduce(
        (sum, one) => sum + meter.cpuOf(one).amount,
        0,
      ) * 1000,
      groups,
    ),
    gcsReport: micros('gcs node.report'),
    gcsViews: micros('gcs timer rooms'),
    rayletViews: micros('raylet fromGcs nodes.'),
    ownerPerTask: micros('owner', ran),
  }
}

function sharesOf(meter: Meter): Record<string, number> {
  const parts = {
    gcs: meter.cpuOf('gcs').amount,
    raylets: meter.cpuOf('raylet').amount,
    owners: meter.cpuOf('owner').amount,
  }
  const all = parts.gcs + parts.raylets + parts.owners + meter.encodingMs * meter.share
  return {
    gcs: per(parts.gcs, all),
    raylets: per(parts.raylets, all),
    owners: per(parts.owners, all),
    encoding: per(meter.encodingMs * meter.share, all),
  }
}

/** The busiest of each kind. */
function loadOf(meter: Meter, seconds: number): Record<string, number> {
  const most = (isOne: (name: string) => boolean): number => {
    let most: Ms = 0
    for (const [name, ms] of meter.busy) if (isOne(name)) most = Math.max(most, ms)
    return per((most * meter.share) / 1000, seconds)
  }
  return {
    gcs: most((name) => name === 'gcs'),
    busiestRaylet: most((name) => name !== 'gcs' && !name.startsWith('owner')),
    busiestOwner: most((name) => name.startsWith('owner')),
    /** Of a link of 10 Gbit/s. */
    gcsLink: per(allOf(meter, 'gcs') * 8, seconds * 10e9),
  }
}

function allOf(meter: Meter, leg: Leg): number {
  let bytes = 0
  for (const [key, { amount }] of meter.messages) if (key.startsWith(`${leg} `)) bytes += amount
  return bytes
}

function bottleneckOf(load: Readonly<Record<string, number>>): string {
  const [[name, share] = ['', 0]] = Object.entries(load).sort(([, a], [, b]) => b - a)
  return `${name}: ${(share * 100).toPrecision(3)} % of what one has`
}

function per(amount: number, count: number): number {
  return count === 0 ? 0 : round(amount / count)
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
