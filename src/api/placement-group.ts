// Placement groups: resources on one or several nodes, reserved together, and used by tasks and actors that name the group.

import { errorFromWire, makeError, RayError } from '../errors/index.ts'
import { makeObjectId } from '../ids/ids.ts'
import { monotonicMs } from '../runtime/clock.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { randomHex } from '../runtime/session.ts'
import { currentTask } from '../runtime/task-context.ts'
import { fromUnits, toResources } from '../scheduling/resources.ts'
import type { GroupInfo, GroupStrategy } from '../wire/groups.ts'
import { builtinObject } from './builtin.ts'
import { assignment } from './context.ts'
import { describe, ObjectRef } from './object-ref.ts'
import { parseOptions } from './options.ts'
import { requireRuntime } from './state.ts'

/** One bundle: amounts by resource name, as `{ CPU: 1, GPU: 0.5 }`. */
export type Bundle = Readonly<Record<string, number>>

/** Options of `ray.util.placementGroup`. */
export interface PlacementGroupOptions {
  /**
   * How bundles share nodes. PACK: as few nodes as can be; SPREAD: as many; STRICT_PACK: one, or none; STRICT_SPREAD: a node of its
   * own for each, or none. Default 'PACK'.
   */
  readonly strategy?: GroupStrategy
  /** To find it by `ray.util.getPlacementGroup`. */
  readonly name?: string
  /** 'detached': it outlives the program that made it, until it is removed. Default: it ends with the program. */
  readonly lifetime?: 'detached' | null
  /** With STRICT_PACK: the node to prefer. */
  readonly softTargetNodeId?: string
  /** By bundle: labels that its node must have: `{ region: 'eu' }`, `'!eu'`, `'in(eu,us)'`, `'!in(eu,us)'`. */
  readonly bundleLabelSelector?: readonly Readonly<Record<string, string>>[]
}

const WAIT_S = 30

/** A handle to a placement group; it may be passed to tasks and actors, or captured by them. */
export class PlacementGroup {
  /** 36 hex digits. */
  readonly id: string
  /** What it was made of. */
  readonly bundleSpecs: readonly Bundle[]

  /** @internal */
  constructor(id: string, bundleSpecs: readonly Bundle[]) {
    this.id = id
    this.bundleSpecs = bundleSpecs
  }

  /** How many bundles it has. */
  get bundleCount(): number {
    return this.bundleSpecs.length
  }

  /** A reference to this group that has its value when all bundles are reserved. */
  ready(): ObjectRef<PlacementGroup> {
    const runtime = requireRuntime()
    return promised(runtime, async () => {
      await whenReady(runtime, this.id, null)
      return this
    })
  }

  /**
   * Whether all bundles were reserved within `timeoutS` (default 30 s).
   * @throws TaskPlacementGroupRemoved when it was removed.
   */
  async wait(options: { timeoutS?: number } = {}): Promise<boolean> {
    const { timeoutS = WAIT_S } = parseOptions<{ timeoutS?: number }>('placementGroup.wait', options)
    return whenReady(requireRuntime(), this.id, timeoutS * 1000)
  }
}
builtinObject(PlacementGroup, {
  name: 'PlacementGroup',
  take: (value) => ({ handle: null, data: { ...value } }),
  make: (_, data) => new PlacementGroup((data as PlacementGroup).id, (data as PlacementGroup).bundleSpecs),
})

/**
 * Reserves resources for a group of bundles, all or none, and returns at once: wait for `group.wait()` or `group.ready()`.
 * @throws InvalidArgumentError for bundles or options that cannot be right.
 */
export function placementGroup(bundles: readonly Bundle[], options: PlacementGroupOptions = {}): PlacementGroup {
  const parsed = parseOptions<PlacementGroupOptions>('ray.util.placementGroup', options)
  const { strategy = 'PACK', name = null, lifetime, softTargetNodeId = null, bundleLabelSelector } = parsed
  checkBundles(bundles)
  if (softTargetNodeId !== null && strategy !== 'STRICT_PACK') {
    const message = `softTargetNodeId goes with STRICT_PACK, but the strategy is ${strategy}`
    throw makeError('INVALID_ARGUMENT', { message, hint: "Pass strategy: 'STRICT_PACK', or leave it out." })
  }
  if (bundleLabelSelector && bundleLabelSelector.length !== bundles.length) {
    const message = `bundleLabelSelector has ${bundleLabelSelector.length} entries for ${bundles.length} bundles`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Pass one for each bundle; {} asks for nothing.' })
  }
  const { link, identity, core } = requireRuntime()
  const groupId = randomHex(14) + identity.jobId
  link.send({
    t: 'pg.create',
    spec: {
      ...{ groupId, name, strategy, softTargetNodeId, namespace: identity.namespace, jobId: identity.jobId },
      bundles: bundles.map((bundle) => toResources(bundle)),
      ...(bundleLabelSelector ? { selectors: bundleLabelSelector } : {}),
      detached: lifetime === 'detached',
      creator: core.tag,
      creatorActorId: currentTask()?.actorId ?? null,
    },
  })
  return new PlacementGroup(groupId, bundles)
}

/** Gives its resources back; tasks and actors that use it are ended, with TaskPlacementGroupRemoved or ActorPlacementGroupRemoved. */
export function removePlacementGroup(group: PlacementGroup): void {
  requireRuntime().link.send({ t: 'pg.remove', groupId: idOfGroup(group, 'removePlacementGroup') })
}

/** A placement group's entry in `ray.util.placementGroupTable`, with Ray's keys. */
export interface PlacementGroupEntry {
  /** 36 hex digits. */
  readonly placement_group_id: string
  /** '' for one without. */
  readonly name: string
  /** By bundle index. */
  readonly bundles: Readonly<Record<string, Bundle>>
  /** Bundle index to node id; '' for one that has no node (now). */
  readonly bundles_to_node_id: Readonly<Record<string, string>>
  /** How bundles share nodes. */
  readonly strategy: GroupStrategy
  /** PENDING until all is reserved, then CREATED; RESCHEDULING while bundles of a dead node find another; REMOVED. */
  readonly state: GroupInfo['state']
  /** Why it is not CREATED: what is asked, and what there is. */
  readonly reason: string
  /** How the reservation went. */
  readonly stats: {
    readonly end_to_end_creation_latency_ms: number
    readonly scheduling_attempt: number
    readonly highest_retry_delay_ms: number
    readonly scheduling_state: string
  }
}

/** The state of one placement group, or of all by their ids. */
export async function placementGroupTable(group: PlacementGroup): Promise<PlacementGroupEntry | Record<string, never>>
export async function placementGroupTable(): Promise<Record<string, PlacementGroupEntry>>
export async function placementGroupTable(
  group?: PlacementGroup,
): Promise<PlacementGroupEntry | Record<string, PlacementGroupEntry>> {
  const groupId = group === undefined ? null : idOfGroup(group, 'placementGroupTable')
  const infos = await infosOf(requireRuntime(), groupId)
  const entries = infos.map(entryOf)
  if (groupId !== null) return entries[0] ?? {}
  return Object.fromEntries(entries.map((entry) => [entry.placement_group_id, entry]))
}

/** The placement group of this name in this namespace. @throws InvalidArgumentError when there is none. */
export async function getPlacementGroup(name: string): Promise<PlacementGroup> {
  if (typeof name !== 'string' || name === '') {
    const message = `getPlacementGroup takes the name of a placement group, but got ${describe(name)}`
    throw makeError('INVALID_ARGUMENT', { message, hint: "Give it one: placementGroup(bundles, { name: 'it' })." })
  }
  const { link, identity } = requireRuntime()
  const { namespace } = identity
  const { info } = await link.request<'pg.found'>((requestId) => ({ t: 'pg.find', requestId, name, namespace }))
  if (!info) throw makeError('PLACEMENT_GROUP_NOT_FOUND', { name, namespace })
  return fromInfo(info)
}

/** The placement group that the running task or actor is in; null when it is in none. */
export async function getCurrentPlacementGroup(): Promise<PlacementGroup | null> {
  const { strategy } = assignment
  if (strategy.kind !== 'bundle') return null
  const [info] = await infosOf(requireRuntime(), strategy.groupId)
  return info ? fromInfo(info) : null
}

async function infosOf(runtime: CoreRuntime, groupId: string | null): Promise<readonly GroupInfo[]> {
  const answer = await runtime.link.request<'pg.tableIs'>((requestId) => ({ t: 'pg.table', requestId, groupId }))
  return answer.groups
}

function fromInfo({ groupId, bundles }: GroupInfo): PlacementGroup {
  return new PlacementGroup(groupId, bundles.map(fromUnits))
}

function entryOf(info: GroupInfo): PlacementGroupEntry {
  return {
    placement_group_id: info.groupId,
    name: info.name ?? '',
    bundles: Object.fromEntries(info.bundles.map((bundle, index) => [index, fromUnits(bundle)])),
    bundles_to_node_id: Object.fromEntries(info.nodes.map((nodeId, index) => [index, nodeId ?? ''])),
    strategy: info.strategy,
    state: info.state,
    reason: info.reason,
    stats: {
      end_to_end_creation_latency_ms: info.stats.creationMs,
      scheduling_attempt: info.stats.attempts,
      highest_retry_delay_ms: info.stats.highestRetryDelayMs,
      scheduling_state: info.stats.schedulingState,
    },
  }
}

/** False: not within the time. */
async function whenReady({ link }: CoreRuntime, groupId: string, timeoutMs: number | null): Promise<boolean> {
  const { isReady, error } = await link.request<'pg.ready'>((requestId) => ({
    ...{ t: 'pg.wait', requestId, groupId, timeoutMs },
  }))
  if (error) throw errorFromWire(error)
  return isReady
}

function idOfGroup(group: PlacementGroup, verb: string): string {
  if (group instanceof PlacementGroup) return group.id
  const message = `${verb} takes a placement group, but got ${describe(group)}`
  throw makeError('INVALID_ARGUMENT', { message, hint: 'Pass what ray.util.placementGroup(…) returned.' })
}

function checkBundles(bundles: readonly Bundle[]): void {
  const refuse = (message: string): never => {
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Pass a list like [{ CPU: 1 }, { CPU: 1, GPU: 1 }].' })
  }
  if (!Array.isArray(bundles) || bundles.length === 0) refuse('a placement group takes a list of bundles, not empty')
  for (const [index, bundle] of bundles.entries()) {
    const amounts: unknown[] = typeof bundle === 'object' && bundle !== null ? Object.values(bundle) : []
    if (!amounts.every((amount) => typeof amount === 'number' && Number.isFinite(amount) && amount >= 0))
      refuse(`bundle ${index} has an amount that is no number, or negative`)
    if (!amounts.some((amount) => (amount as number) > 0)) refuse(`bundle ${index} asks for nothing`)
    if ((bundle.GPU ?? 0) > 1 && !Number.isInteger(bundle.GPU)) refuse(`bundle ${index} asks for ${bundle.GPU} GPUs`)
  }
}

/** A reference to what the promise gives, or to its error. */
function promised<T>(runtime: CoreRuntime, make: () => Promise<T>): ObjectRef<T> {
  const { core } = runtime
  const id = makeObjectId(core.tag, core.sequences(1))
  core.table.create(id)
  const settle = (state: Parameters<typeof core.fulfil>[2]): void => {
    if (runtime.isClosed) return
    core.fulfil(monotonicMs(), id, state)
    runtime.perform()
  }
  make().then(
    (value) => settle(runtime.write(runtime.serialize(value), id)),
    (error: unknown) => {
      const coded = error instanceof RayError ? error : makeError('NODE_DIED', { detail: String(error) })
      settle({ kind: 'error', bytes: runtime.encodeCodedError(coded) })
    },
  )
  return new ObjectRef<T>(id, runtime)
}
