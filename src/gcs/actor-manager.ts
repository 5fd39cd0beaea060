// Actors of the cluster: where each lives, who wants to know, and whether it comes back.
//
//     PENDING_CREATION ──lease, start──► ALIVE ──worker died, restarts left──► RESTARTING ──► ALIVE
//            │                             │ └──────────── no restarts left, killed, out of scope ──► DEAD
//            └── constructor threw, infeasible, killed ─────────────────────────────────────────────► DEAD
//
// Invariants:
//   A1. At most one incarnation is alive: a new lease is asked only after the old worker's end was reported.
//   A2. A name belongs to one actor that is not DEAD.
//   A3. DEAD is final. Subscribers hear of every change, in order.
//   A3'. Of the dead the last `DEAD_MAX` are remembered, without their arguments; of `FORGOTTEN_MAX` more, that they died: nobody waits for them.
//   A4. A non-detached actor does not outlive its owner or its job.

import { errorFromWire } from '../errors/index.ts'
import type { ActorId, NodeId, WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import { fits } from '../scheduling/resources.ts'
import type { GcsToNode, NodeState, NodeToGcs } from '../wire/cluster.ts'
import type {
  ActorInfo,
  ActorSpec,
  ActorState,
  ExitInfo,
  FromNode,
  LeaseId,
  LeaseSpec,
  Resources,
  ToNode,
  WireError,
  WorkerAddress,
} from '../wire/messages.ts'
import type { WaitingLeases } from '../wire/work.ts'
import { ActorStates } from './actor-states.ts'
import { byIndex, type GcsRecord, Journal, readTable } from './records.ts'

const NOTHING = new Uint8Array(0)
/** Of a dead actor, arguments of so many bytes may stay in its record: writing it anew would cost more. */
const SMALL_BYTES = 256
/** How the errors begin that no node can cure. */
const UNSCHEDULABLE = ' can never be scheduled: '
/** Ray's default is 100,000 (`maximum_gcs_destroyed_actor_cached_count`). */
const DEAD_MAX = 10_000
const FORGOTTEN_MAX = 200_000

interface Actor {
  /** In the order of being made. */
  readonly index: number
  spec: ActorSpec
  state: ActorState
  incarnation: number
  restarts: number
  /** Leases asked for so far. */
  placements: number
  leaseId: LeaseId | null
  /** Where its lease was asked for. */
  nodeId: NodeId | null
  /** As its lease was asked for. */
  mayWait: boolean
  worker: WorkerAddress | null
  death: ActorInfo['death']
  /** Who follows it, and under which ids they know it (an alias each for `getIfExists`). */
  readonly subscribers: Map<WorkerTag, Set<ActorId>>
  /** No more restarts: it is being ended on purpose. */
  ending: { readonly reason: string } | null
  /** Why its worker is to be killed, until that is gone: the word may have been lost on the way to its node. */
  killing: string | null
}

/** Written at every change: the spec, with its arguments, is not in it. */
type Life = Pick<
  Actor,
  | ('state' | 'incarnation' | 'restarts' | 'placements' | 'leaseId' | 'nodeId' | 'mayWait' | 'worker' | 'death')
  | ('ending' | 'killing')
> & {
  /** Counts deaths; 0: it is not dead. */
  readonly index: number
}

interface SpecRecord {
  readonly index: number
  readonly spec: ActorSpec
}

/** What placing actors needs of the cluster. */
export interface ActorNodes {
  /** `near`: as if that process ran it; null: on any node. */
  place(spec: LeaseSpec, near: WorkerTag | null): Placement
  nodeOf(tag: WorkerTag): NodeId | undefined
  /** Not known yet whether it lives: its node has to come back to the GCS first. */
  isAwaited(tag: WorkerTag): boolean
}

export type Placement =
  /** `mayWait`: it is the only one that could, and queues it if need be. */
  | { readonly kind: 'node'; readonly nodeId: NodeId; readonly mayWait: boolean }
  | { readonly kind: 'wait' }
  | { readonly kind: 'refused'; readonly error: WireError }

export type ActorEffect =
  | { readonly t: 'send'; readonly to: WorkerTag; readonly message: FromNode }
  | { readonly t: 'toNode'; readonly nodeId: NodeId; readonly message: GcsToNode }
  | { readonly t: 'killLater'; readonly actorId: ActorId; readonly afterMs: Ms }

export class ActorManager {
  readonly #actors = new Map<ActorId, Actor>()
  readonly #names = new Map<string, ActorId>()
  /** Other ids of actors, made by `getIfExists`. */
  readonly #aliases = new Map<ActorId, ActorId>()
  /** In the order of their deaths. */
  readonly #dead: ActorId[] = []
  readonly #forgotten = new Set<ActorId>()
  /** Subscribers to actors that are not made yet (their arguments have no values), and whose they will be. */
  readonly #early = new Map<ActorId, { readonly owner: WorkerTag; readonly subscribers: Set<WorkerTag> }>()
  readonly #processes = new Set<WorkerTag>()
  readonly #byWorker = new Map<WorkerTag, ActorId>()
  /** By process: actors that it owns or follows and that are not dead. With it they are looked at; there are too many to look at all. */
  readonly #concerned = new Map<WorkerTag, Set<Actor>>()
  /** Wait for resources that no node has free. */
  readonly #unplaced = new Set<Actor>()
  readonly #nodes: ActorNodes
  readonly #gracefulMs: Ms
  readonly #journal: Journal
  readonly #states: ActorStates
  #made = 0
  #deaths = 0
  readonly #deathOf = new Map<ActorId, number>()
  #fx: ActorEffect[] = []

  constructor(gracefulShutdownMs: Ms, nodes: ActorNodes, journal = new Journal(false)) {
    this.#gracefulMs = gracefulShutdownMs
    this.#nodes = nodes
    this.#journal = journal
    this.#states = new ActorStates(journal)
  }

  restore(records: readonly GcsRecord[]): void {
    this.#states.restore(records)
    const lives = new Map(readTable<Life>(records, 'life'))
    for (const [actorId, { index, spec }] of byIndex(readTable<SpecRecord>(records, 'actor'))) {
      const life = lives.get(actorId)
      if (!life) continue
      const { killing = null } = life // Absent in records of earlier versions.
      const actor: Actor = { ...life, killing, index, spec, subscribers: new Map() }
      if (actor.state === 'DEAD') actor.spec = withoutArguments(spec)
      this.#made = index + 1
      this.#actors.set(actorId, actor)
      if (actor.state === 'DEAD') continue
      this.#concern(spec.owner, actor)
      if (actor.worker) this.#byWorker.set(actor.worker.tag, actorId)
      else if (actor.leaseId === null) this.#unplaced.add(actor)
      if (spec.name !== null) this.#names.set(nameKey(spec.namespace, spec.name), actorId)
    }
    for (const [actorId, { index }] of byIndex([...lives])) {
      if (index === 0 || !this.#actors.has(actorId)) continue
      this.#dead.push(actorId)
      this.#deathOf.set(actorId, index)
      this.#deaths = index
    }
    for (const [actorId, target] of readTable<ActorId>(records, 'alias')) this.#aliases.set(actorId, target)
    for (const [actorId] of byIndex(readTable<{ index: number }>(records, 'forgotten'))) this.#forgotten.add(actorId)
  }

  /** Processes there that actors need, or are. */
  tagsOn(nodeId: NodeId): Set<WorkerTag> {
    const tags = new Set<WorkerTag>()
    const add = (tag: WorkerTag | undefined): void => {
      if (tag !== undefined && this.#nodes.nodeOf(tag) === nodeId) tags.add(tag)
    }
    for (const { spec, worker, state } of this.#actors.values()) {
      if (state === 'DEAD') continue
      add(spec.owner)
      add(worker?.tag)
    }
    for (const { owner } of this.#early.values()) add(owner)
    return tags
  }

  /** It is connected (again): what may have been lost on the way to it is said again. `held`: leases of living workers there. */
  nodeResumed(nodeId: NodeId, held: NodeState['actors']): void {
    const workers = new Map(held.map(({ leaseId, worker }) => [leaseId, worker]))
    for (const actor of [...this.#actors.values()]) {
      if (actor.nodeId !== nodeId || actor.state === 'DEAD' || actor.leaseId === null) continue
      const worker = workers.get(actor.leaseId)
      workers.delete(actor.leaseId)
      if (actor.worker) {
        if (worker) this.#remind(actor, actor.worker) // Else it is gone, which is heard of next.
      } else if (worker) this.#granted(nodeId, actor.leaseId, actor.spec.actorId, worker)
      else this.#request(actor, actor.leaseId)
    }
    // Of actors that are dead or live elsewhere.
    for (const leaseId of workers.keys())
      this.#fx.push({ t: 'toNode', nodeId, message: { t: 'actorLease.cancel', leaseId } })
  }

  #remind(actor: Actor, worker: WorkerAddress): void {
    const { spec, leaseId } = actor
    if (actor.killing !== null) return this.#kill(worker.tag, 'killed', actor.killing)
    if (actor.state !== 'ALIVE') return this.#start(actor, worker)
    if (leaseId !== null) {
      this.#toNodeOf(actor, { t: 'actorLease.keepOnly', leaseId, resources: spec.lease.resources })
    }
    if (actor.ending) this.#finish(actor, worker)
  }

  /** Its record follows at the end of the step. */
  #changed(actor: Actor): void {
    const { actorId } = actor.spec
    this.#journal.put('life', actorId, () => this.#lifeOf(actor))
  }

  #lifeOf(actor: Actor): Life {
    const { state, incarnation, restarts, placements, leaseId, nodeId, mayWait, worker, death, ending, killing } = actor
    const index = this.#deathOf.get(actor.spec.actorId) ?? 0
    return { state, incarnation, restarts, placements, leaseId, nodeId, mayWait, worker, death, ending, killing, index }
  }

  #recordSpec(actor: Actor): void {
    this.#journal.put('actor', actor.spec.actorId, () => ({ index: actor.index, spec: actor.spec }))
  }

  get size(): number {
    return this.#actors.size
  }

  drain(): readonly ActorEffect[] {
    const effects = this.#fx
    this.#fx = []
    return effects
  }

  /** A process has registered. */
  joined(tag: WorkerTag): void {
    this.#processes.add(tag)
  }

  create(from: WorkerTag, spec: ActorSpec): void {
    if (this.#aliases.has(spec.actorId)) return
    const known = this.#actors.get(spec.actorId)
    if (known) {
      if (known.death?.reason === takenReason(spec)) this.#refuseName(from, spec) // Said again: the answer may have been lost.
      return
    }
    if (spec.name !== null) {
      const key = nameKey(spec.namespace, spec.name)
      const taken = this.#names.get(key)
      if (taken !== undefined && spec.getIfExists) {
        this.#aliases.set(spec.actorId, taken)
        this.#journal.put('alias', spec.actorId, () => taken)
        this.subscribe(from, spec.actorId, spec.owner)
        this.#adoptEarly(spec.actorId)
        return
      }
      if (taken !== undefined) {
        this.#refuseName(from, spec)
        this.#addDead(spec, [], { reason: takenReason(spec), exit: null, creationError: null })
        return
      }
      this.#names.set(key, spec.actorId)
    }
    const actor = newActor(spec, this.#made++)
    this.#concern(spec.owner, actor)
    this.#follow(actor, from, spec.actorId)
    this.#actors.set(spec.actorId, actor)
    this.#recordSpec(actor)
    this.#adoptEarly(spec.actorId)
    this.#place(actor)
  }

  #refuseName(from: WorkerTag, { actorId, name, namespace }: ActorSpec): void {
    const error = { code: 'ACTOR_NAME_TAKEN', params: { name: name ?? '', namespace } }
    this.#send(from, { t: 'actor.createRefused', actorId, error })
  }

  /** An argument of its constructor failed: it is dead before it was made. */
  createFailed(from: WorkerTag, spec: ActorSpec, error: Uint8Array): void {
    if (this.#actors.has(spec.actorId)) return
    const death = { reason: 'an argument of its constructor failed', exit: null, creationError: error }
    this.#addDead(spec, [from], death)
  }

  subscribe(from: WorkerTag, actorId: ActorId, owner: WorkerTag): void {
    const actor = this.#resolve(actorId)
    if (!actor) {
      if (this.#forgotten.has(actorId) || !(this.#processes.has(owner) || this.#nodes.isAwaited(owner))) {
        this.#send(from, { t: 'actor.state', info: unknownDead(actorId, this.#forgotten.has(actorId)) })
        return
      }
      const early = this.#early.get(actorId) ?? { owner, subscribers: new Set() }
      this.#early.set(actorId, early)
      early.subscribers.add(from)
      return
    }
    if (actor.state !== 'DEAD') this.#follow(actor, from, actorId)
    this.#send(from, { t: 'actor.state', info: { ...infoOf(actor), actorId } })
  }

  #follow(actor: Actor, from: WorkerTag, actorId: ActorId): void {
    this.#concern(from, actor)
    const ids = actor.subscribers.get(from)
    if (ids) ids.add(actorId)
    else actor.subscribers.set(from, new Set([actorId]))
  }

  #concern(tag: WorkerTag, actor: Actor): void {
    const actors = this.#concerned.get(tag)
    if (actors) actors.add(actor)
    else this.#concerned.set(tag, new Set([actor]))
  }

  #unconcern(tag: WorkerTag, actor: Actor): void {
    const actors = this.#concerned.get(tag)
    if (actors?.delete(actor) && actors.size === 0) this.#concerned.delete(tag)
  }

  unsubscribe(from: WorkerTag, actorId: ActorId): void {
    this.#resolve(actorId)?.subscribers.get(from)?.delete(actorId)
  }

  find(name: string, namespace: string): ActorInfo | null {
    const actor = this.#actors.get(this.#names.get(nameKey(namespace, name)) ?? '')
    return actor ? infoOf(actor) : null
  }

  list(namespace: string | null): ActorInfo[] {
    const all = [...this.#actors.values()]
    return all.filter((actor) => namespace === null || actor.spec.namespace === namespace).map(infoOf)
  }

  onNode(nodeId: NodeId, message: NodeToGcs): void {
    switch (message.t) {
      case 'actorLease.granted':
        return this.#granted(nodeId, message.leaseId, message.actorId, message.worker)
      case 'actorLease.refused':
        return this.#refused(message.leaseId, message.actorId, message.error)
      case 'actorLease.rejected':
        return this.#rejected(message.leaseId, message.actorId)
      case 'worker.gone':
        return this.workerGone(message.exit)
      default:
        return
    }
  }

  /** Its processes were reported gone before; what was asked of it is asked of others. */
  nodeDied(nodeId: NodeId): void {
    for (const actor of this.#actors.values()) {
      if (actor.nodeId === nodeId && actor.worker === null && actor.state !== 'DEAD') this.#place(actor)
    }
  }

  /** Those that no node has room for. */
  waiting(): WaitingLeases[] {
    return [...this.#unplaced].map(({ spec: { placementResources: resources, className, name, jobId, lease } }) => {
      const { strategy, selectors = [], priority } = lease
      return { name: name ?? className, isActor: true, jobId, resources, strategy, selectors, priority, count: 1 }
    })
  }

  /** Somewhere resources may have become free: `available`, on one node; absent: anywhere. */
  placeWaiting(available?: Resources): void {
    for (const actor of [...this.#unplaced]) {
      const { placementResources, lease } = actor.spec
      if (!available || lease.strategy.kind === 'bundle' || fits(placementResources, available)) this.#place(actor)
    }
  }

  isAlive(actorId: ActorId): boolean {
    const actor = this.#resolve(actorId)
    return actor !== undefined && actor.state !== 'DEAD'
  }

  started(from: WorkerTag, actorId: ActorId, incarnation: number, error: Uint8Array | null): void {
    const actor = this.#actors.get(actorId)
    if (!actor || actor.worker?.tag !== from || actor.incarnation !== incarnation || actor.state === 'DEAD') return
    if (error) {
      this.#die(actor, { reason: 'its constructor threw', exit: null, creationError: error })
      this.#kill(from, 'intended', 'its constructor threw')
      return
    }
    actor.state = 'ALIVE'
    this.#changed(actor)
    if (actor.leaseId) {
      this.#toNodeOf(actor, { t: 'actorLease.keepOnly', leaseId: actor.leaseId, resources: actor.spec.lease.resources })
    }
    this.#tell(actor)
  }

  /** For its next life: said by this one, and no other (S1 of actor-states.ts). */
  keep(from: WorkerTag, { requestId, actorId, key, value }: ToNode & { t: 'actor.keep' }): void {
    const actor = this.#actors.get(actorId)
    const isItself = actor?.worker?.tag === from && actor.state !== 'DEAD'
    if (isItself) this.#states.put(actorId, key, value)
    const params = {
      name: actor?.spec.className ?? 'actor',
      actorId,
      reason: actor?.death?.reason ?? 'it was replaced',
    }
    this.#send(from, { t: 'actor.kept', requestId, error: isItself ? null : { code: 'ACTOR_DIED', params } })
  }

  /** It ends by its own will, for good. */
  exited(from: WorkerTag, actorId: ActorId, detail: string): void {
    const actor = this.#actors.get(actorId)
    if (actor?.worker?.tag !== from) return
    actor.ending ??= { reason: detail }
    this.#changed(actor)
  }

  kill(actorId: ActorId, noRestart: boolean, detail: string): void {
    const actor = this.#resolve(actorId)
    if (!actor || actor.state === 'DEAD') return
    if (noRestart) actor.ending ??= { reason: detail }
    this.#changed(actor)
    if (actor.worker) {
      actor.killing = detail
      this.#kill(actor.worker.tag, 'killed', detail)
    }
    if (noRestart) this.#die(actor, { reason: detail, exit: null, creationError: null })
  }

  outOfScope(actorId: ActorId): void {
    if (this.#aliases.delete(actorId)) return this.#journal.remove('alias', actorId)
    const actor = this.#actors.get(actorId)
    if (!actor || actor.state === 'DEAD' || actor.spec.detached) return
    actor.ending ??= { reason: 'all handles to it went out of scope' }
    this.#changed(actor)
    if (actor.state === 'ALIVE' && actor.worker) this.#finish(actor, actor.worker)
    else this.kill(actorId, true, actor.ending.reason)
  }

  #finish({ spec: { actorId } }: Actor, worker: WorkerAddress): void {
    this.#send(worker.tag, { t: 'actor.finish', actorId })
    this.#fx.push({ t: 'killLater', actorId, afterMs: this.#gracefulMs })
  }

  /** The grace of an actor that should have finished is over. */
  killNow(actorId: ActorId): void {
    const actor = this.#actors.get(actorId)
    if (actor && actor.state !== 'DEAD') this.kill(actorId, true, actor.ending?.reason ?? 'it did not finish in time')
  }

  #resolve(actorId: ActorId): Actor | undefined {
    return this.#actors.get(this.#aliases.get(actorId) ?? actorId)
  }

  #place(actor: Actor): void {
    this.#unplaced.delete(actor)
    actor.nodeId = null
    actor.leaseId = null
    this.#changed(actor)
    const spec = { ...actor.spec.lease, resources: actor.spec.placementResources }
    // As in Ray: one that holds nothing while it lives may be anywhere, others are near their owner while there is room.
    const isHeavy = Object.values(actor.spec.lease.resources).some((units) => units > 0)
    const placement = this.#nodes.place(spec, isHeavy ? actor.spec.owner : null)
    if (placement.kind === 'refused') return this.#unplaceable(actor, placement.error)
    if (placement.kind === 'wait') {
      this.#unplaced.add(actor)
      return
    }
    const leaseId = `a${actor.spec.actorId}.${actor.placements++}`
    actor.leaseId = leaseId
    actor.nodeId = placement.nodeId
    actor.mayWait = placement.mayWait
    this.#request(actor, leaseId)
  }

  #request(actor: Actor, leaseId: LeaseId): void {
    const { actorId, lease, placementResources } = actor.spec
    const spec = { ...lease, resources: placementResources }
    this.#toNodeOf(actor, { t: 'actorLease.request', leaseId, actorId, spec, mayWait: actor.mayWait })
  }

  #granted(nodeId: NodeId, leaseId: LeaseId, actorId: ActorId, worker: WorkerAddress): void {
    const actor = this.#actors.get(actorId)
    if (!actor || actor.state === 'DEAD' || actor.leaseId !== leaseId) {
      this.#fx.push({ t: 'toNode', nodeId, message: { t: 'actorLease.cancel', leaseId } })
      return
    }
    if (actor.worker?.tag === worker.tag) return // Said again.
    actor.worker = worker
    this.#changed(actor)
    this.#byWorker.set(worker.tag, actorId)
    this.#start(actor, worker)
  }

  #start({ spec, incarnation }: Actor, worker: WorkerAddress): void {
    this.#send(worker.tag, { t: 'actor.start', spec, incarnation, state: this.#states.of(spec.actorId) })
  }

  #refused(leaseId: LeaseId, actorId: ActorId, error: WireError): void {
    const actor = this.#actors.get(actorId)
    if (actor?.leaseId === leaseId && actor.state !== 'DEAD') this.#unplaceable(actor, error)
  }

  /** That node had no room after all. */
  #rejected(leaseId: LeaseId, actorId: ActorId): void {
    const actor = this.#actors.get(actorId)
    if (actor?.leaseId === leaseId && actor.state !== 'DEAD' && actor.worker === null) this.#place(actor)
  }

  #unplaceable(actor: Actor, error: WireError): void {
    const { message, hint } = errorFromWire(error)
    const [what = message] = message.split(`\n  ${hint}`)
    const isInfeasible = what.includes(UNSCHEDULABLE)
    const isGroupRemoved = error.code === 'TASK_PLACEMENT_GROUP_REMOVED'
    const sentence = isInfeasible ? what.slice(what.indexOf(UNSCHEDULABLE) + UNSCHEDULABLE.length) : what
    const reason = isGroupRemoved ? String(error.params.reason) : sentence
    this.#die(actor, { reason, exit: null, creationError: null, isInfeasible, isGroupRemoved })
  }

  /** It is known now: whoever asked before is told. */
  #adoptEarly(actorId: ActorId): void {
    const early = this.#early.get(actorId)
    this.#early.delete(actorId)
    for (const from of early?.subscribers ?? []) this.subscribe(from, actorId, early?.owner ?? 0)
  }

  /** `to`: who is to hear of it, beside those who asked before. */
  #addDead(spec: ActorSpec, to: readonly WorkerTag[], death: NonNullable<ActorInfo['death']>): void {
    const actor = newActor(spec, this.#made++)
    const early = this.#early.get(spec.actorId)
    this.#early.delete(spec.actorId)
    for (const tag of [...to, ...(early?.subscribers ?? [])]) actor.subscribers.set(tag, new Set([spec.actorId]))
    this.#actors.set(spec.actorId, actor)
    this.#recordSpec(actor)
    this.#die(actor, death)
  }

  /** Nobody will make what the dead one had promised. */
  #earlyGone(tag: WorkerTag): void {
    for (const [actorId, early] of this.#early) {
      early.subscribers.delete(tag)
      if (early.owner === tag) {
        for (const to of early.subscribers) this.#send(to, { t: 'actor.state', info: unknownDead(actorId, false) })
      }
      if (early.owner === tag || early.subscribers.size === 0) this.#early.delete(actorId)
    }
  }

  workerGone(exit: ExitInfo): void {
    this.#processes.delete(exit.tag)
    this.#earlyGone(exit.tag)
    const actorId = this.#byWorker.get(exit.tag)
    this.#byWorker.delete(exit.tag)
    const concerned = this.#concerned.get(exit.tag) ?? []
    this.#concerned.delete(exit.tag)
    for (const actor of [...concerned].sort((a, b) => a.index - b.index)) {
      actor.subscribers.delete(exit.tag)
      if (actor.spec.owner !== exit.tag || actor.spec.detached || actor.state === 'DEAD') continue
      this.kill(actor.spec.actorId, true, 'its owner is gone')
    }
    const actor = actorId === undefined ? undefined : this.#actors.get(actorId)
    if (!actor || actor.worker?.tag !== exit.tag) return
    actor.worker = null
    actor.killing = null
    this.#changed(actor)
    if (actor.state === 'DEAD') return
    if (!actor.ending && actor.state !== 'ALIVE' && exit.reason === 'intended') {
      this.#place(actor) // The worker was on its way out when it got the actor: nothing of it has begun.
      return
    }
    const death = { reason: actor.ending?.reason ?? exit.detail, exit, creationError: null }
    // As in Ray: what the end of a drained node takes along comes back at no cost.
    const isFree = exit.reason === 'nodeDied' && exit.retry === 'free' && actor.spec.maxRestarts > 0
    const mayRestart = actor.spec.maxRestarts < 0 || isFree || actor.restarts < actor.spec.maxRestarts
    if (exit.reason === 'groupRemoved') return this.#die(actor, { ...death, isGroupRemoved: true })
    if (actor.ending || !mayRestart) {
      this.#die(actor, death)
      return
    }
    if (!isFree) actor.restarts++
    actor.incarnation++
    actor.state = 'RESTARTING'
    actor.death = death
    this.#tell(actor)
    this.#place(actor)
  }

  #die(actor: Actor, death: NonNullable<ActorInfo['death']>): void {
    actor.state = 'DEAD'
    const pid = death.exit?.pid ?? actor.worker?.pid
    actor.death = pid === undefined ? death : { ...death, pid }
    if (actor.spec.name !== null) {
      const key = nameKey(actor.spec.namespace, actor.spec.name)
      if (this.#names.get(key) === actor.spec.actorId) this.#names.delete(key)
    }
    this.#unplaced.delete(actor)
    if (actor.leaseId && !actor.worker) this.#toNodeOf(actor, { t: 'actorLease.cancel', leaseId: actor.leaseId })
    this.#tell(actor)
    for (const tag of [actor.spec.owner, ...actor.subscribers.keys()]) this.#unconcern(tag, actor)
    actor.subscribers.clear()
    const { args, argRefs } = actor.spec
    actor.spec = withoutArguments(actor.spec)
    this.#states.forget(actor.spec.actorId)
    this.#dead.push(actor.spec.actorId)
    this.#deathOf.set(actor.spec.actorId, ++this.#deaths)
    if (args.length + argRefs.length > SMALL_BYTES) this.#recordSpec(actor)
    this.#changed(actor)
    const forgotten = this.#dead.length > DEAD_MAX ? this.#dead.shift() : undefined
    if (forgotten !== undefined) this.#forget(forgotten)
  }

  #forget(actorId: ActorId): void {
    const index = this.#deathOf.get(actorId) ?? 0
    this.#actors.delete(actorId)
    this.#deathOf.delete(actorId)
    this.#forgotten.add(actorId)
    this.#journal.remove('actor', actorId)
    this.#journal.remove('life', actorId)
    this.#journal.put('forgotten', actorId, () => ({ index }))
    if (this.#forgotten.size <= FORGOTTEN_MAX) return
    for (const oldest of this.#forgotten) {
      this.#forgotten.delete(oldest)
      this.#journal.remove('forgotten', oldest)
      return
    }
  }

  #tell(actor: Actor): void {
    const info = infoOf(actor)
    for (const [to, ids] of actor.subscribers) {
      for (const actorId of ids) this.#send(to, { t: 'actor.state', info: { ...info, actorId } })
    }
  }

  #kill(tag: WorkerTag, reason: 'killed' | 'intended', detail: string): void {
    const nodeId = this.#nodes.nodeOf(tag)
    if (nodeId !== undefined) this.#fx.push({ t: 'toNode', nodeId, message: { t: 'worker.kill', tag, reason, detail } })
  }

  #send(to: WorkerTag, message: FromNode): void {
    this.#fx.push({ t: 'send', to, message })
  }

  #toNodeOf({ nodeId }: Actor, message: GcsToNode): void {
    if (nodeId !== null) this.#fx.push({ t: 'toNode', nodeId, message })
  }
}

function withoutArguments(spec: ActorSpec): ActorSpec {
  return { ...spec, args: NOTHING, argRefs: [] }
}

function newActor(spec: ActorSpec, index: number): Actor {
  return {
    index,
    spec,
    state: 'PENDING_CREATION',
    incarnation: 0,
    restarts: 0,
    placements: 0,
    leaseId: null,
    nodeId: null,
    mayWait: false,
    worker: null,
    death: null,
    subscribers: new Map(),
    ending: null,
    killing: null,
  }
}

const NO_OPTIONS: ActorInfo['options'] = {
  maxConcurrency: 1,
  concurrencyGroups: {},
  allowOutOfOrder: false,
  maxTaskRetries: 0,
  maxPendingCalls: -1,
  isAsync: false,
  threads: 0,
  methods: {},
}

/** What is told of an actor that died long ago, or whose owner died before it made it. */
function unknownDead(actorId: ActorId, wasAlive: boolean): ActorInfo {
  const reason = wasAlive ? 'it died long ago' : 'its owner died before it was made'
  return {
    actorId,
    state: 'DEAD',
    address: null,
    incarnation: 0,
    className: 'actor',
    name: null,
    namespace: '',
    handleId: 0,
    detached: false,
    options: NO_OPTIONS,
    definition: '',
    jobId: '',
    death: { reason, exit: null, creationError: null },
    numRestarts: 0,
  }
}

function takenReason({ name }: ActorSpec): string {
  return `the name '${name}' was taken`
}

function nameKey(namespace: string, name: string): string {
  return `${namespace}\u0000${name}`
}

function infoOf(actor: Actor): ActorInfo {
  const { spec } = actor
  return {
    actorId: spec.actorId,
    state: actor.state,
    address: actor.state === 'ALIVE' ? actor.worker : null,
    incarnation: actor.incarnation,
    className: spec.className,
    name: spec.name,
    namespace: spec.namespace,
    handleId: spec.handleId,
    detached: spec.detached,
    options: spec.options,
    definition: spec.definition,
    jobId: spec.jobId,
    death: actor.death,
    numRestarts: actor.restarts,
  }
}
