// Placement groups of the cluster: planned whole, reserved in two phases, given back whole.
//
//     PENDING ──plan, prepare on all nodes──► PREPARED ──commit on all──► CREATED ──a node died──► RESCHEDULING ─┐
//        ▲          │ one refuses: all return; again after 100 … 1000 ms     ▲                                    │ the lost
//        └──────────┘                                                        └────── plan, prepare, commit ◄──────┘ bundles
//     any ──removed, its job ended──► REMOVED
//
// Where all bundles of an attempt lie on one node, that node prepares and commits them in one step: a group takes one round trip then.
//
// Invariants:
//   R1. All or nothing: no bundle is committed before all of the attempt are prepared; what a failed attempt has prepared is returned.
//   R2. A bundle lies on one node at most; what is sent to a node about a bundle is in order (prepare, commit, return).
//   R3. Answers to an attempt that is over are ignored.
//   R4. REMOVED is final. A name belongs to one group that is not REMOVED. Of the removed the last `REMOVED_MAX` are remembered.
//   R5. Who waits is answered: when it is CREATED, REMOVED, or the time is over. Followers hear of every change.
//   R6. A group that is not detached ends with its job, and the actor that made it if one did.

import type { ActorId, JobId, NodeId, PlacementGroupId, WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import { type GroupAsk, planGroup, sumOf } from '../scheduling/bundles.ts'
import { conditionsOf } from '../scheduling/labels.ts'
import type { NodeTable } from '../scheduling/node-table.ts'
import { type Ask, type Choosing, pickNode } from '../scheduling/policies.ts'
import { fits } from '../scheduling/resources.ts'
import type { BundleAnswer, BundleId, BundleSet, BundleStep, GcsToNode, GroupDemand } from '../wire/cluster.ts'
import type { FollowedGroup, GroupInfo, GroupRequest, GroupSpec, GroupState, GroupStats } from '../wire/groups.ts'
import type {
  FromNode,
  LabelConditions,
  LeaseSpec,
  Resources,
  SchedulingStrategy,
  WireError,
} from '../wire/messages.ts'
import type { Placement } from './actor-manager.ts'
import { byIndex, type GcsRecord, Journal, readTable } from './records.ts'

const RETRY_MIN_MS: Ms = 100
const RETRY_MAX_MS: Ms = 1000
const RETRY_FACTOR = 1.5
const REMOVED_MAX = 1000
/** A bundle's node needs no drawing of lots. */
const NO_CHOICE: Choosing = { random: () => 0, spreadNext: 0 }
/** When resources become free, so many of those that wait are tried at once; the others at their time. */
const KICKED_MAX = 8

type Phase = 'none' | 'preparing' | 'prepared' | 'committed'

interface Bundle {
  nodeId: NodeId | null
  phase: Phase
}

interface Group {
  /** In the order of being made. */
  readonly index: number
  readonly spec: GroupSpec
  readonly selectors: readonly LabelConditions[] | undefined
  readonly bundles: Bundle[]
  readonly waiters: { readonly to: WorkerTag; readonly requestId: number }[]
  readonly followers: Set<NodeId>
  readonly createdAt: Ms
  state: GroupState
  reason: string
  error: WireError | null
  attempt: number
  creationMs: Ms
  retryMs: Ms
  highestRetryMs: Ms
  schedulingState: GroupStats['schedulingState']
  /** The releases when no plan was found: nothing has come free since. */
  triedAt: number
  isJobOver: boolean
}

/** What is kept of one. Who waits and who follows says so again. */
type GroupRecord = Pick<
  Group,
  | 'index'
  | 'spec'
  | 'bundles'
  | 'state'
  | 'reason'
  | 'error'
  | 'attempt'
  | 'creationMs'
  | 'highestRetryMs'
  | 'schedulingState'
  | 'isJobOver'
> & {
  /** Counts removals; 0: it is not removed. */
  readonly removal: number
}

/** What planning needs of the cluster. */
export interface GroupNodes {
  table(): NodeTable
  /** Counts what was taken off a node until it reports itself. */
  take(nodeId: NodeId, resources: Resources): void
  isActorAlive(actorId: ActorId): boolean
}

export type GroupEffect =
  | { readonly t: 'send'; readonly to: WorkerTag; readonly message: FromNode }
  | { readonly t: 'toNode'; readonly nodeId: NodeId; readonly message: GcsToNode }
  /** In order with what else goes to that node. */
  | { readonly t: 'bundles'; readonly nodeId: NodeId; readonly step: BundleStep }
  /** Call `onTimer(key)` then. */
  | { readonly t: 'timer'; readonly key: string; readonly afterMs: Ms }
  /** Actors that wait for a bundle may be placed, or refused, now. */
  | { readonly t: 'changed' }

export class PlacementGroupManager {
  readonly #groups = new Map<PlacementGroupId, Group>()
  /** Whose job is over: they go when the actor that made them does. Few, and looked at whenever a process ends. */
  readonly #overs = new Set<Group>()
  /** Those that have waited for some group: the end of any other concerns no group. */
  readonly #askers = new Set<WorkerTag>()
  readonly #names = new Map<string, PlacementGroupId>()
  readonly #removed: PlacementGroupId[] = []
  readonly #removalOf = new Map<PlacementGroupId, number>()
  readonly #journal: Journal
  #made = 0
  #removals = 0
  /** Wait for resources, in order. */
  readonly #pending = new Set<Group>()
  readonly #nodes: GroupNodes
  #releases = 0
  #turn = 0
  #fx: GroupEffect[] = []

  constructor(nodes: GroupNodes, journal = new Journal(false)) {
    this.#nodes = nodes
    this.#journal = journal
  }

  restore(records: readonly GcsRecord[]): void {
    const entries = byIndex(readTable<GroupRecord>(records, 'group'))
    for (const [groupId, { removal, ...kept }] of entries) {
      const group: Group = { ...newGroup(0, kept.spec, kept.index), ...kept }
      this.#made = kept.index + 1
      this.#groups.set(groupId, group)
      if (group.isJobOver) this.#overs.add(group)
      const { name, namespace } = kept.spec
      if (removal > 0) this.#removalOf.set(groupId, removal)
      else if (name !== null) this.#names.set(nameKey(namespace, name), groupId)
    }
    this.#removed.push(...[...this.#removalOf].sort(([, a], [, b]) => a - b).map(([groupId]) => groupId))
    this.#removals = Math.max(0, ...this.#removalOf.values())
  }

  /** Those that were looking for room look on. */
  start(): void {
    for (const group of this.#groups.values()) {
      const isUnderWay = group.bundles.some(({ phase }) => phase === 'preparing' || phase === 'prepared')
      const isMissing = group.bundles.some(({ phase }) => phase === 'none')
      if (group.state !== 'REMOVED' && isMissing && !isUnderWay) this.#retryLater(group)
    }
  }

  /** It is connected (again), and `nodeJoined` has compared what it holds: what it may not have heard is said again. */
  nodeResumed(nodeId: NodeId): void {
    for (const group of this.#groups.values()) {
      const isCommitting = !group.bundles.some(({ phase }) => phase === 'preparing')
      this.#prepare(group, nodeId)
      if (isCommitting) this.#commit(group, nodeId)
    }
  }

  /** Its record follows at the end of the step. */
  #changed(group: Group): void {
    this.#journal.put('group', group.spec.groupId, (): GroupRecord => {
      const { index, spec, bundles, state, reason, error, attempt, creationMs, highestRetryMs } = group
      const removal = this.#removalOf.get(spec.groupId) ?? 0
      const { schedulingState, isJobOver } = group
      return {
        ...{
          index,
          spec,
          bundles,
          state,
          reason,
          error,
          attempt,
          creationMs,
          highestRetryMs,
          schedulingState,
          isJobOver,
        },
        removal,
      }
    })
  }

  get size(): number {
    return this.#groups.size
  }

  /** What waits for room, as `ray status` shows it. */
  demand(): GroupDemand[] {
    const byShape = new Map<string, GroupDemand & { count: number }>()
    for (const { spec, bundles, state, reason } of this.#groups.values()) {
      if (state === 'CREATED' || state === 'REMOVED') continue
      const missing = spec.bundles.filter((_, index) => bundles[index]?.phase === 'none')
      if (missing.length === 0) continue
      const key = JSON.stringify([spec.strategy, missing])
      const known = byShape.get(key)
      if (known) known.count++
      else byShape.set(key, { strategy: spec.strategy, bundles: missing, count: 1, reason })
    }
    return [...byShape.values()]
  }

  drain(): readonly GroupEffect[] {
    const effects = this.#fx
    this.#fx = []
    return effects
  }

  // Core workers

  onRequest(now: Ms, from: WorkerTag, message: GroupRequest): void {
    switch (message.t) {
      case 'pg.create':
        return this.#create(now, message.spec)
      case 'pg.remove':
        return this.#remove(message.groupId, 'it was removed by removePlacementGroup')
      case 'pg.wait':
        return this.#wait(from, message)
      case 'pg.find': {
        const group = this.#groups.get(this.#names.get(nameKey(message.namespace, message.name)) ?? '')
        const info = group ? infoOf(group) : null
        return this.#send(from, { t: 'pg.found', requestId: message.requestId, info })
      }
      case 'pg.table': {
        const wanted = message.groupId === null ? [...this.#groups.values()] : [this.#groups.get(message.groupId)]
        const groups = wanted.flatMap((group) => (group ? [infoOf(group)] : []))
        return this.#send(from, { t: 'pg.tableIs', requestId: message.requestId, groups })
      }
    }
  }

  #create(now: Ms, spec: GroupSpec): void {
    if (this.#groups.has(spec.groupId)) return
    const group = newGroup(now, spec, this.#made++)
    this.#groups.set(spec.groupId, group)
    this.#changed(group)
    const taken = spec.name === null ? undefined : this.#names.get(nameKey(spec.namespace, spec.name))
    if (taken !== undefined) {
      const params = { name: spec.name ?? '', namespace: spec.namespace }
      return this.#end(group, `the name '${spec.name}' was taken`, { code: 'PLACEMENT_GROUP_NAME_TAKEN', params })
    }
    if (spec.name !== null) this.#names.set(nameKey(spec.namespace, spec.name), spec.groupId)
    this.#schedule(group)
  }

  #wait(from: WorkerTag, message: GroupRequest & { t: 'pg.wait' }): void {
    const { groupId, requestId, timeoutMs } = message
    const group = this.#groups.get(groupId)
    const error = group ? group.error : removedError(groupId, 'nobody remembers it')
    if (!group || error || group.state === 'CREATED') {
      return this.#send(from, { t: 'pg.ready', requestId, isReady: error === null, error })
    }
    group.waiters.push({ to: from, requestId })
    this.#askers.add(from)
    if (timeoutMs !== null) this.#timer(`wait ${groupId} ${from} ${requestId}`, timeoutMs)
  }

  // Raylets

  /** It wants to know where the bundles lie, now and after every change. */
  follow(nodeId: NodeId, groupId: PlacementGroupId): void {
    const group = this.#groups.get(groupId)
    if (group && group.state !== 'REMOVED') group.followers.add(nodeId)
    const view: FollowedGroup = group ? followedOf(group) : { groupId, state: 'REMOVED', bundles: [] }
    this.#toNode(nodeId, { t: 'group.is', group: view })
  }

  find(groupId: PlacementGroupId): FollowedGroup | undefined {
    const group = this.#groups.get(groupId)
    return group ? followedOf(group) : undefined
  }

  /** An actor that is to live in a bundle: it waits until there is one, and then there for room. */
  place(spec: LeaseSpec, strategy: SchedulingStrategy & { readonly kind: 'bundle' }): Placement {
    const { groupId, bundleIndex } = strategy
    const group = this.#groups.get(groupId)
    const { name } = spec
    if (!group || group.state === 'REMOVED') {
      const reason = `its placement group is gone: ${group?.reason ?? 'nobody remembers it'}`
      return { kind: 'refused', error: { code: 'TASK_PLACEMENT_GROUP_REMOVED', params: { name, reason } } }
    }
    const { bundles } = followedOf(group)
    const ask: Ask = { name, resources: spec.resources, strategy, localNodeId: null, bundles }
    const decision = pickNode(this.#nodes.table(), ask, NO_CHOICE)
    if (decision.kind === 'infeasible') return { kind: 'refused', error: decision.error }
    if (decision.kind === 'node') return { ...decision, mayWait: true }
    const able = bundles.flatMap(({ nodeId, resources }, index) => {
      const isAsked = bundleIndex < 0 || bundleIndex === index
      return isAsked && nodeId !== null && fits(spec.resources, resources) ? [nodeId] : []
    })
    const next = able[this.#turn++ % able.length]
    return next === undefined ? { kind: 'wait' } : { kind: 'node', nodeId: next, mayWait: true }
  }

  answered(now: Ms, answer: BundleAnswer): void {
    if (answer.t === 'prepared') this.#prepared(now, answer.bundles, answer.attempt, answer.isReserved)
    else this.#committed(now, answer.bundles, answer.attempt)
  }

  #prepared(now: Ms, { groupId, indices }: BundleSet, attempt: number, isReserved: boolean): void {
    const group = this.#groups.get(groupId)
    if (!group || group.attempt !== attempt) return // R3
    const own = bundlesOf(group, indices).filter(({ phase }) => phase === 'preparing')
    if (own.length === 0) return
    this.#changed(group)
    // What was refused is returned too: a node that was asked again after its connection broke may have said yes the second time.
    if (!isReserved) return this.#failAttempt(group, 'a node has less free than it said')
    for (const bundle of own) bundle.phase = 'prepared'
    if (group.bundles.some(({ phase }) => phase === 'preparing')) return
    group.state = group.state === 'PENDING' ? 'PREPARED' : group.state
    for (const nodeId of nodesOf(group, 'prepared')) this.#commit(group, nodeId)
    this.#settle(now, group)
  }

  #committed(now: Ms, { groupId, indices }: BundleSet, attempt: number): void {
    const group = this.#groups.get(groupId)
    if (!group || group.attempt !== attempt) return // R3
    // 'preparing': its node had all of them, and was told to commit what it can reserve.
    const own = bundlesOf(group, indices).filter(({ phase }) => phase === 'prepared' || phase === 'preparing')
    if (own.length === 0) return
    for (const bundle of own) bundle.phase = 'committed'
    this.#changed(group)
    this.#settle(now, group)
  }

  /** A node reported more than before, or joined. */
  released(): void {
    this.#releases++
    let count = 0
    for (const group of [...this.#pending]) {
      if (count++ === KICKED_MAX) return
      this.#plan(group)
    }
  }

  /** Its bundles are lost. */
  nodeDied(now: Ms, nodeId: NodeId): void {
    for (const group of this.#groups.values()) {
      group.followers.delete(nodeId)
      this.#lose(now, group, (index) => group.bundles[index]?.nodeId === nodeId)
    }
  }

  /** A node (re)joined and told which bundles it holds: others than we know of are returned, those it lacks are lost. */
  nodeJoined(now: Ms, nodeId: NodeId, holds: readonly BundleId[]): void {
    const held = new Set(holds.map(({ groupId, index }) => `${groupId} ${index}`))
    for (const bundle of holds) {
      const own = this.#groups.get(bundle.groupId)?.bundles[bundle.index]
      if (own?.nodeId !== nodeId || own.phase === 'none')
        this.#return(nodeId, { groupId: bundle.groupId, indices: [bundle.index] }, 'its placement group is gone')
    }
    for (const group of this.#groups.values()) {
      this.#lose(now, group, (index) => {
        const bundle = group.bundles[index]
        return bundle?.nodeId === nodeId && !held.has(`${group.spec.groupId} ${index}`)
      })
    }
    this.released()
  }

  // Ends

  jobEnded(jobId: JobId): void {
    for (const group of this.#groups.values()) {
      if (group.spec.jobId !== jobId || group.isJobOver) continue
      group.isJobOver = true
      this.#overs.add(group)
      this.#changed(group)
    }
    this.actorsChanged()
  }

  /** After actors have died (R6). */
  actorsChanged(): void {
    for (const group of [...this.#overs]) {
      const { detached, creatorActorId, groupId } = group.spec
      if (detached || group.state === 'REMOVED') this.#overs.delete(group)
      else if (creatorActorId === null || !this.#nodes.isActorAlive(creatorActorId))
        this.#remove(groupId, 'its job has ended')
    }
  }

  workerGone(tag: WorkerTag): void {
    if (!this.#askers.delete(tag)) return
    for (const { waiters } of this.#groups.values())
      for (let i = waiters.length - 1; i >= 0; i--) if (waiters[i]?.to === tag) waiters.splice(i, 1)
  }

  onTimer(key: string): void {
    const [what, groupId = '', to, requestId] = key.split(' ')
    const group = this.#groups.get(groupId)
    if (!group) return
    if (what === 'retry') {
      if (this.#pending.has(group)) this.#schedule(group)
      return
    }
    const at = group.waiters.findIndex((one) => one.to === Number(to) && one.requestId === Number(requestId))
    const [late] = at < 0 ? [] : group.waiters.splice(at, 1)
    if (late) this.#send(late.to, { t: 'pg.ready', requestId: late.requestId, isReady: false, error: null })
  }

  // Placing

  #schedule(group: Group): void {
    if (!this.#plan(group)) this.#retryLater(group)
  }

  /** False: no way was found. */
  #plan(group: Group): boolean {
    if (group.triedAt === this.#releases) return false
    const { spec } = group
    const placed = new Map(group.bundles.flatMap(({ nodeId }, index) => (nodeId === null ? [] : [[index, nodeId]])))
    const ask: GroupAsk = {
      strategy: spec.strategy,
      bundles: spec.bundles,
      placed,
      ...(group.selectors ? { selectors: group.selectors } : {}),
      ...(spec.softTargetNodeId === null ? {} : { softTargetNodeId: spec.softTargetNodeId }),
    }
    const plan = planGroup(this.#nodes.table(), ask)
    if (plan.kind !== 'planned') {
      group.triedAt = this.#releases
      const schedulingState = plan.kind === 'wait' ? 'NO_RESOURCES' : 'INFEASIBLE'
      // Tried for ever, but no record for each time.
      if (group.schedulingState !== schedulingState || group.reason !== plan.reason) this.#changed(group)
      group.schedulingState = schedulingState
      group.reason = plan.reason
      return false
    }
    this.#pending.delete(group)
    this.#changed(group)
    group.schedulingState = 'SCHEDULING_STARTED'
    group.reason = 'its bundles are being reserved'
    group.attempt++
    for (const [index, nodeId] of plan.nodeOf) group.bundles[index] = { nodeId, phase: 'preparing' }
    for (const nodeId of nodesOf(group, 'preparing')) {
      const takes = sumOf(indicesOf(group, nodeId, 'preparing').map((index) => spec.bundles[index] as Resources))
      this.#nodes.take(nodeId, takes)
      this.#prepare(group, nodeId)
    }
    return true
  }

  /** What that node has to reserve in this attempt. */
  #prepare(group: Group, nodeId: NodeId): void {
    const { spec, attempt } = group
    const indices = indicesOf(group, nodeId, 'preparing')
    if (indices.length === 0) return
    const isWhole = group.bundles.every(
      (own) => own.phase !== 'prepared' && (own.phase !== 'preparing' || own.nodeId === nodeId),
    )
    const resources = indices.map((index) => spec.bundles[index] as Resources)
    const bundles = { groupId: spec.groupId, indices }
    this.#do(nodeId, { t: 'prepare', bundles, attempt, resources, isWhole })
  }

  /** R1 */
  #commit(group: Group, nodeId: NodeId): void {
    const { spec, attempt } = group
    const indices = indicesOf(group, nodeId, 'prepared')
    if (indices.length === 0) return
    this.#do(nodeId, { t: 'commit', bundles: { groupId: spec.groupId, indices }, attempt })
  }

  #retryLater(group: Group): void {
    this.#pending.add(group)
    this.#timer(`retry ${group.spec.groupId}`, group.retryMs)
    if (group.retryMs > group.highestRetryMs) {
      group.highestRetryMs = group.retryMs
      this.#changed(group)
    }
    group.retryMs = Math.min(RETRY_MAX_MS, group.retryMs * RETRY_FACTOR)
  }

  /** R1: what it has prepared, or is about to, is returned. */
  #failAttempt(group: Group, reason: string): void {
    group.attempt++ // R3
    this.#changed(group)
    group.triedAt = -1
    this.#giveBack(group, ['preparing', 'prepared'], reason)
    group.reason = reason
    group.schedulingState = 'NO_RESOURCES'
    this.#retryLater(group)
  }

  #lose(now: Ms, group: Group, isLost: (index: number) => boolean): void {
    const lost = group.bundles.flatMap((bundle, index) => (bundle.phase !== 'none' && isLost(index) ? [index] : []))
    if (lost.length === 0) return
    this.#changed(group)
    const wasPreparing = group.bundles.some(({ phase }) => phase === 'preparing')
    for (const index of lost) group.bundles[index] = { nodeId: null, phase: 'none' }
    if (wasPreparing) this.#failAttempt(group, 'a node died while the bundles were being reserved')
    else this.#settle(now, group)
  }

  /** When nothing is under way: CREATED, or the bundles that are missing are looked for. */
  #settle(now: Ms, group: Group): void {
    this.#changed(group)
    if (group.bundles.some(({ phase }) => phase === 'preparing' || phase === 'prepared')) return
    if (group.bundles.some(({ phase }) => phase === 'none')) {
      const isPartOfIt = group.creationMs > 0 || group.bundles.some(({ phase }) => phase === 'committed')
      group.state = isPartOfIt ? 'RESCHEDULING' : 'PENDING'
      group.retryMs = RETRY_MIN_MS
      group.triedAt = -1
      this.#tell(group)
      return this.#schedule(group)
    }
    group.state = 'CREATED'
    group.reason = ''
    group.schedulingState = 'FINISHED'
    group.retryMs = RETRY_MIN_MS
    group.creationMs ||= Math.max(now - group.createdAt, Number.MIN_VALUE)
    for (const { to, requestId } of group.waiters.splice(0))
      this.#send(to, { t: 'pg.ready', requestId, isReady: true, error: null })
    this.#tell(group)
  }

  #remove(groupId: PlacementGroupId, reason: string): void {
    const group = this.#groups.get(groupId)
    if (group && group.state !== 'REMOVED') this.#end(group, reason, removedError(groupId, reason))
  }

  #end(group: Group, reason: string, error: WireError): void {
    const { name, namespace, groupId } = group.spec
    this.#giveBack(group, ['preparing', 'prepared', 'committed'], reason)
    group.state = 'REMOVED'
    group.schedulingState = 'REMOVED'
    group.reason = reason
    group.error = error
    this.#pending.delete(group)
    if (name !== null && this.#names.get(nameKey(namespace, name)) === groupId)
      this.#names.delete(nameKey(namespace, name))
    for (const { to, requestId } of group.waiters.splice(0))
      this.#send(to, { t: 'pg.ready', requestId, isReady: false, error })
    this.#tell(group)
    group.followers.clear()
    this.#removed.push(groupId)
    this.#removalOf.set(groupId, ++this.#removals)
    this.#changed(group)
    const forgotten = this.#removed.length > REMOVED_MAX ? this.#removed.shift() : undefined
    if (forgotten === undefined) return
    this.#groups.delete(forgotten)
    this.#removalOf.delete(forgotten)
    this.#journal.remove('group', forgotten)
  }

  #giveBack(group: Group, phases: readonly Phase[], detail: string): void {
    const { groupId } = group.spec
    for (const nodeId of nodesOf(group, ...phases)) {
      const indices = indicesOf(group, nodeId, ...phases)
      for (const index of indices) group.bundles[index] = { nodeId: null, phase: 'none' }
      this.#return(nodeId, { groupId, indices }, detail)
    }
  }

  #return(nodeId: NodeId, bundles: BundleSet, detail: string): void {
    this.#do(nodeId, { t: 'return', bundles, detail })
  }

  /** Followers, and actors that wait. */
  #tell(group: Group): void {
    const view = followedOf(group)
    for (const nodeId of group.followers) this.#toNode(nodeId, { t: 'group.is', group: view })
    this.#fx.push({ t: 'changed' })
  }

  #send(to: WorkerTag, message: FromNode): void {
    this.#fx.push({ t: 'send', to, message })
  }

  #toNode(nodeId: NodeId, message: GcsToNode): void {
    this.#fx.push({ t: 'toNode', nodeId, message })
  }

  #do(nodeId: NodeId, step: BundleStep): void {
    this.#fx.push({ t: 'bundles', nodeId, step })
  }

  #timer(key: string, afterMs: Ms): void {
    this.#fx.push({ t: 'timer', key, afterMs })
  }
}

function newGroup(now: Ms, spec: GroupSpec, index: number): Group {
  return {
    index,
    spec,
    selectors: spec.selectors?.map(conditionsOf),
    bundles: spec.bundles.map(() => ({ nodeId: null, phase: 'none' })),
    waiters: [],
    followers: new Set(),
    createdAt: now,
    state: 'PENDING',
    reason: '',
    error: null,
    attempt: 0,
    creationMs: 0,
    retryMs: RETRY_MIN_MS,
    highestRetryMs: 0,
    schedulingState: 'QUEUED',
    triedAt: -1,
    isJobOver: false,
  }
}

function bundlesOf({ bundles }: Group, indices: readonly number[]): Bundle[] {
  return indices.flatMap((index) => bundles[index] ?? [])
}

/** Which of its bundles are in one of these phases on that node. */
function indicesOf({ bundles }: Group, nodeId: NodeId, ...phases: readonly Phase[]): number[] {
  return bundles.flatMap((own, index) => (own.nodeId === nodeId && phases.includes(own.phase) ? [index] : []))
}

/** Each once: where bundles in one of these phases are. */
function nodesOf({ bundles }: Group, ...phases: readonly Phase[]): Set<NodeId> {
  const nodes = new Set<NodeId>()
  for (const { nodeId, phase } of bundles) if (nodeId !== null && phases.includes(phase)) nodes.add(nodeId)
  return nodes
}

function infoOf(group: Group): GroupInfo {
  const { groupId, name, namespace, strategy, bundles } = group.spec
  return {
    ...{ groupId, name, namespace, strategy, bundles },
    nodes: group.bundles.map(({ nodeId }) => nodeId),
    state: group.state,
    reason: group.reason,
    stats: {
      creationMs: group.creationMs,
      attempts: group.attempt,
      highestRetryDelayMs: group.highestRetryMs,
      schedulingState: group.schedulingState,
    },
  }
}

/** A bundle that is not committed yet takes no lease. */
function followedOf({ spec, state, bundles }: Group): FollowedGroup {
  const placed = spec.bundles.map((resources, index) => {
    const bundle = bundles[index]
    return { resources, nodeId: bundle?.phase === 'committed' ? bundle.nodeId : null }
  })
  return { groupId: spec.groupId, state, bundles: placed }
}

function removedError(groupId: PlacementGroupId, reason: string): WireError {
  return { code: 'PLACEMENT_GROUP_REMOVED', params: { groupId, reason } }
}

function nameKey(namespace: string, name: string): string {
  return JSON.stringify([namespace, name])
}
