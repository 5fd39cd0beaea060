// The cluster's machine: nodes, actors, keys and values, jobs. Composes this room. Never on the path of a task.
//
// It hears of everything through nodes: their own words, and what their core workers ask (`forward`).
//
// Invariants:
//   G1. A worker tag is given once: in blocks, each to one node.
//   G2. What is asked is answered, if only with nothing.
//   G4. What others hear of is in the journal first: what a step changed leaves before what it says (R1 of records.ts).
//   G3. A node's death is told to the actors as the end of every process that lived there, then to all nodes.

import { formatJobId, type JobId, type NodeId, type WorkerTag } from '../ids/ids.ts'
import type { Effect, Input, Ms } from '../kernel/machine.ts'
import { type Choosing, choosingFrom, pickNode } from '../scheduling/policies.ts'
import {
  type BundleStep,
  type ClusterStatus,
  type GcsToNode,
  type NodeDrain,
  type NodeState,
  type NodeToGcs,
  roomEveryMs,
} from '../wire/cluster.ts'
import type { ExitInfo, FromNode, LeaseSpec, Resources, ToNode } from '../wire/messages.ts'
import { ActorManager, type Placement } from './actor-manager.ts'
import { DrainQuestions } from './drain-questions.ts'
import { Kv } from './kv.ts'
import { type HealthConfig, NodeManager } from './node-manager.ts'
import { PlacementGroupManager } from './placement-group-manager.ts'
import { type GcsChange, type GcsRecord, Journal, readTable } from './records.ts'

export type GcsInput =
  | { readonly t: 'fromNode'; readonly nodeId: NodeId; readonly message: NodeToGcs }
  /** What came of it together: one batch of records for all of it, and one word to each node about bundles. */
  | { readonly t: 'manyFromNode'; readonly nodeId: NodeId; readonly messages: readonly NodeToGcs[] }
  /** Answered by `drainAnswered` with the same id, which the asker made. */
  | { readonly t: 'drain'; readonly requestId: string; readonly nodeId: NodeId; readonly drain: NodeDrain }
  /** Its connection closed. */
  | { readonly t: 'nodeGone'; readonly nodeId: NodeId; readonly detail: string }
export type GcsEffect =
  /** One batch; what follows it in the same step is performed when it is durable. */
  | { readonly t: 'persist'; readonly changes: readonly GcsChange[] }
  | { readonly t: 'toNode'; readonly nodeId: NodeId; readonly message: GcsToNode }
  /** After what was sent to it. */
  | { readonly t: 'disconnect'; readonly nodeId: NodeId }
  /** `refusal`: a sentence; null: it is being drained. */
  | { readonly t: 'drainAnswered'; readonly requestId: string; readonly refusal: string | null }

export interface GcsConfig {
  readonly clusterId: string
  readonly actorGracefulShutdownMs: Ms
  readonly health: HealthConfig
  /** How long a node whose connection closed may take to come back. */
  readonly reconnectGraceMs: Ms
  readonly system: Readonly<Record<string, unknown>>
  /** It outlives its process: what it must not forget leaves as `persist`. */
  readonly isDurable?: boolean
  /** How long nodes may take to come back to a GCS that was restarted. Default: as long as to one that was not. */
  readonly restoreGraceMs?: Ms
}

interface Counters {
  readonly clusterId: string
  readonly jobs: number
  readonly blocks: number
}

type Fx = Effect<never, GcsEffect>[]

const VIEWS_EVERY_MS: Ms = 100
/** How long a node may take to say whether it is idle: less than who asks waits for the answer. */
const DRAIN_ANSWER_MS: Ms = 4000

export class Gcs {
  readonly actors: ActorManager
  readonly nodes: NodeManager
  readonly groups: PlacementGroupManager
  readonly #config: GcsConfig
  readonly #journal: Journal
  readonly #kv: Kv
  readonly #choosing: Choosing
  readonly #drains = new DrainQuestions()
  /** What each node held when it registered last. */
  readonly #held = new Map<NodeId, NodeState['actors']>()
  readonly #jobOf = new Map<WorkerTag, JobId>()
  /** Drivers that wait for their jobs: their nodes do not count them among their processes yet. */
  readonly #beginning = new Set<WorkerTag>()
  #clusterId: string
  #jobs = 0
  #recorded = ''
  #pings = 0
  #areViewsPlanned = false
  #areRoomsPlanned = false
  #fx: Fx = []

  constructor(config: GcsConfig) {
    this.#config = config
    this.#clusterId = config.clusterId
    this.#journal = new Journal(config.isDurable ?? false)
    this.nodes = new NodeManager(this.#journal)
    this.#kv = new Kv(this.#journal)
    this.#choosing = choosingFrom(config.clusterId)
    const nodes = {
      place: (spec: LeaseSpec, near: WorkerTag | null) => this.#place(spec, near),
      nodeOf: (tag: WorkerTag) => this.nodes.nodeOf(tag),
      isAwaited: (tag: WorkerTag) => this.nodes.isAwaited(tag),
    }
    this.actors = new ActorManager(config.actorGracefulShutdownMs, nodes, this.#journal)
    this.groups = new PlacementGroupManager(
      {
        table: () => this.nodes.table,
        take: (nodeId, resources) => this.nodes.take(nodeId, resources),
        isActorAlive: (actorId) => this.actors.isAlive(actorId),
      },
      this.#journal,
    )
  }

  /** Before anything else: what another GCS of this cluster had made durable. */
  restore(records: readonly GcsRecord[]): void {
    const [counters] = readTable<Counters>(records, 'cluster').map(([, one]) => one)
    if (counters) {
      this.#clusterId = counters.clusterId
      this.#jobs = counters.jobs
    }
    this.nodes.restore(records, counters?.blocks ?? 0)
    for (const [tag, jobId] of readTable<JobId>(records, 'job')) this.#jobOf.set(Number(tag), jobId)
    this.#kv.restore(records)
    this.actors.restore(records)
    this.groups.restore(records)
  }

  get clusterId(): string {
    return this.#clusterId
  }

  step(now: Ms, input: Input<never, GcsInput>): Fx {
    this.#fx = []
    if (input.kind === 'start') this.#start(now)
    else if (input.kind === 'timer') this.#onTimer(now, input.key)
    else if (input.kind === 'local') this.#onLocal(now, input.event)
    this.#performGroups(now)
    this.#performActors(now)
    this.#planViews(now)
    this.#record()
    return this.#fx
  }

  status(): ClusterStatus {
    const clusterId = this.#clusterId
    const actors = this.actors.waiting()
    const demand = [
      ...this.nodes.demand(),
      ...actors.map(({ resources, strategy, count }) => ({ resources, strategy, count })),
    ]
    return { clusterId, nodes: this.nodes.all(), demand, groups: this.groups.demand(), actors }
  }

  #start(now: Ms): void {
    const { health, restoreGraceMs, reconnectGraceMs } = this.#config
    this.#timer('health', now + health.periodMs)
    this.groups.start()
    for (const nodeId of this.nodes.awaited()) {
      this.#timer(`nodeGone ${nodeId}`, now + (restoreGraceMs ?? reconnectGraceMs))
    }
    // How much of their time has passed is not known: all of it counts again.
    for (const { nodeId, drain } of this.nodes.draining()) if (drain) this.#planEnd(now, nodeId, drain)
  }

  /** G4 */
  #record(): void {
    const counters: Counters = { clusterId: this.#clusterId, jobs: this.#jobs, blocks: this.nodes.blocks }
    const recorded = `${counters.jobs} ${counters.blocks}`
    if (recorded !== this.#recorded) this.#journal.put('cluster', 'counters', () => counters)
    this.#recorded = recorded
    const changes = this.#journal.take()
    if (changes.length > 0) this.#fx.unshift({ kind: 'local', event: { t: 'persist', changes } })
  }

  #onTimer(now: Ms, key: string): void {
    const [what, id = ''] = key.split(' ')
    if (what === 'pg') this.groups.onTimer(key.slice('pg '.length))
    else if (what === 'killActor') this.actors.killNow(id)
    else if (what === 'nodeGone') {
      if (!this.nodes.isConnected(id)) this.#nodeDied(now, id, 'its connection to the GCS was closed')
    } else if (what === 'drained') {
      if (this.nodes.get(id)?.state === 'DRAINING') this.#nodeDied(now, id, 'it was drained, and its time was over')
    } else if (what === 'drainAnswer') {
      const seconds = DRAIN_ANSWER_MS / 1000
      this.#answerDrain(
        id,
        `it has not said within ${seconds} s whether it is idle (ray status shows whether it is drained later)`,
      )
    } else if (what === 'views') this.#tellViews()
    else if (what === 'rooms') this.#tellRooms()
    else if (what === 'health') this.#checkHealth(now)
  }

  #onLocal(now: Ms, event: GcsInput): void {
    const { nodeId } = event
    if (event.t === 'nodeGone') {
      this.nodes.disconnected(nodeId)
      if (this.nodes.get(nodeId)) this.#timer(`nodeGone ${nodeId}`, now + this.#config.reconnectGraceMs)
      return
    }
    if (event.t === 'drain') return this.#onDrain(now, event)
    if (event.t === 'manyFromNode') {
      for (const message of event.messages) this.#onLocal(now, { t: 'fromNode', nodeId, message })
      return
    }
    const { message } = event
    this.nodes.answered(nodeId)
    switch (message.t) {
      case 'node.register':
        return this.#register(now, message)
      case 'node.report':
        if (message.bundled) this.nodes.bundles(nodeId, message.bundled)
        this.nodes.wants(nodeId, message.demand)
        return this.#reported(nodeId, message.available, message.waiting)
      case 'node.leaving':
        return this.#nodeDied(now, nodeId, message.detail)
      case 'peer.lost':
        return this.#peerLost(now, [nodeId, message.nodeId], message.detail)
      case 'tags.request':
        return this.#toNode(nodeId, { t: 'tags.granted', tags: this.nodes.grantTags(nodeId) })
      case 'nodes.ask':
        this.#tellViews()
        return this.#toNode(nodeId, { t: 'nodes.told', question: message.question })
      case 'rooms.watch':
        return this.#watch(nodeId, message.isOn)
      case 'worker.joined':
        this.nodes.joined(nodeId, message.tag)
        this.#beginning.delete(message.tag)
        return this.actors.joined(message.tag)
      case 'job.begin': {
        const { tag, namespace } = message
        const jobId = this.#jobOf.get(tag) ?? formatJobId(++this.#jobs)
        this.#jobOf.set(tag, jobId)
        if (!this.nodes.isLiving(nodeId, tag)) this.#beginning.add(tag)
        this.#journal.put('job', String(tag), () => jobId)
        return this.#toNode(nodeId, { t: 'job.made', tag, jobId, namespace })
      }
      case 'worker.gone':
        this.nodes.left(nodeId, message.exit.tag)
        return this.#workerGone(message.exit)
      case 'forward':
        return this.#onForward(now, message.from, message.message)
      case 'bundles.done':
        for (const answer of message.answers) this.groups.answered(now, answer)
        return
      case 'group.follow':
        return this.groups.follow(nodeId, message.groupId)
      case 'node.drainAnswered':
        return this.#onDrainAnswered(now, message, nodeId)
      case 'pong':
        return
      case 'node.resumed':
        return this.#resumed(nodeId)
      case 'actorLease.rejected':
        this.#reported(nodeId, message.available)
        return this.actors.onNode(nodeId, message)
      default:
        return this.actors.onNode(nodeId, message)
    }
  }

  #reported(nodeId: NodeId, available: Resources, waiting?: number): void {
    if (!this.nodes.report(nodeId, available, waiting)) return
    this.groups.released()
    this.actors.placeWaiting(available)
  }

  #register(now: Ms, message: NodeToGcs & { t: 'node.register' }): void {
    const { nodeId } = message
    const answer = this.nodes.register(message)
    if ('code' in answer) {
      this.#toNode(nodeId, { t: 'node.refused', error: answer })
      this.#fx.push({ kind: 'local', event: { t: 'disconnect', nodeId } })
      return
    }
    const clusterId = this.#clusterId
    const { system } = this.#config
    this.#held.set(nodeId, message.state.actors)
    this.#drains.cameBack(nodeId)
    for (const { tag } of message.state.processes) this.actors.joined(tag)
    this.#toNode(nodeId, { t: 'node.registered', clusterId, tags: answer, nodes: this.nodes.known(), system })
    const { drain } = this.nodes.get(nodeId) ?? {}
    if (drain) this.#toNode(nodeId, { t: 'node.drain', drain })
    this.groups.nodeJoined(now, nodeId, message.state.bundles)
    this.actors.placeWaiting()
  }

  #onDrain(now: Ms, { requestId, nodeId, drain }: GcsInput & { t: 'drain' }): void {
    const refusal = this.#whyNeverDrain(nodeId)
    if (refusal === null && drain.reason === 'IDLE_TERMINATION') {
      this.#drains.add(requestId, nodeId, drain)
      this.#timer(`drainAnswer ${requestId}`, now + DRAIN_ANSWER_MS)
      if (this.nodes.isConnected(nodeId)) this.#askIfIdle(nodeId)
      return
    }
    if (refusal === null && this.#drain(now, nodeId, drain)) this.#toNode(nodeId, { t: 'node.drain', drain })
    this.#fx.push({ kind: 'local', event: { t: 'drainAnswered', requestId, refusal } })
  }

  /** A sentence; null: it may be drained, if it is idle where that is asked for. */
  #whyNeverDrain(nodeId: NodeId): string | null {
    const node = this.nodes.get(nodeId)
    if (!node || node.state === 'DEAD') return 'it is not in the cluster'
    return node.isHead ? 'it is the head, without which the cluster ends' : null
  }

  #askIfIdle(nodeId: NodeId): void {
    for (const question of this.#drains.takeUnsaid(nodeId)) this.#toNode(nodeId, question)
  }

  /** Also when who asked has gone, or asked an earlier GCS: the node takes nothing new any more. */
  #onDrainAnswered(now: Ms, message: NodeToGcs & { t: 'node.drainAnswered' }, nodeId: NodeId): void {
    const { question, drain, refusal } = message
    // A machine that will go does not stay because it was idle, too.
    const isToGo = this.nodes.get(nodeId)?.drain?.reason === 'PREEMPTION'
    if (refusal === null && !isToGo) this.#drain(now, nodeId, drain)
    this.#answerDrain(question, refusal)
  }

  /** A1 of drain-questions.ts */
  #answerDrain(requestId: string, refusal: string | null): void {
    if (this.#drains.end(requestId)) this.#fx.push({ kind: 'local', event: { t: 'drainAnswered', requestId, refusal } })
  }

  #drain(now: Ms, nodeId: NodeId, drain: NodeDrain): boolean {
    if (!this.nodes.drain(nodeId, drain)) return false
    this.#planEnd(now, nodeId, drain)
    this.#tellViews()
    return true
  }

  #planEnd(now: Ms, nodeId: NodeId, { deadlineMs }: NodeDrain): void {
    if (deadlineMs !== null) this.#timer(`drained ${nodeId}`, now + deadlineMs)
  }

  #workerGone(exit: ExitInfo): void {
    this.actors.workerGone(exit)
    this.groups.workerGone(exit.tag)
    this.#beginning.delete(exit.tag)
    const jobId = this.#jobOf.get(exit.tag)
    if (this.#jobOf.delete(exit.tag)) this.#journal.remove('job', String(exit.tag))
    if (jobId !== undefined) this.groups.jobEnded(jobId)
    else this.groups.actorsChanged()
  }

  /** Its words from before are heard; ours, which may have been lost, are said again. */
  #resumed(nodeId: NodeId): void {
    const isLiving = (tag: WorkerTag): boolean => this.nodes.isLiving(nodeId, tag)
    this.nodes.resumed(nodeId)
    const held = (this.#held.get(nodeId) ?? []).filter(({ worker }) => isLiving(worker.tag))
    this.#held.delete(nodeId)
    this.actors.nodeResumed(nodeId, held)
    this.groups.nodeResumed(nodeId)
    this.#askIfIdle(nodeId)
    for (const tag of this.#tagsOn(nodeId)) {
      if (isLiving(tag) || this.#beginning.has(tag)) continue
      this.#workerGone(endOf(tag, 'it ended while its node had no connection to the GCS', 'crashed'))
    }
  }

  /** Processes there that somebody here counts on. */
  #tagsOn(nodeId: NodeId): Set<WorkerTag> {
    const tags = this.actors.tagsOn(nodeId)
    for (const tag of this.#jobOf.keys()) if (this.nodes.nodeOf(tag) === nodeId) tags.add(tag)
    return tags
  }

  #nodeDied(now: Ms, nodeId: NodeId, reason: string): void {
    const wasDraining = this.nodes.get(nodeId)?.state === 'DRAINING'
    const died = this.nodes.die(nodeId, reason)
    if (!died) return
    this.#held.delete(nodeId)
    for (const requestId of this.#drains.endOf(nodeId))
      this.#fx.push({ kind: 'local', event: { t: 'drainAnswered', requestId, refusal: `it died: ${reason}` } })
    this.groups.nodeDied(now, nodeId) // First: actors that come back look for their bundle elsewhere.
    for (const tag of new Set([...died, ...this.#tagsOn(nodeId)])) {
      const exit = endOf(tag, `its node ${nodeId.slice(0, 8)} died: ${reason}`, 'nodeDied')
      this.#workerGone(wasDraining ? { ...exit, retry: 'free' } : exit)
    }
    this.actors.nodeDied(nodeId)
    this.#tellViews()
    this.#toNode(nodeId, { t: 'node.end', detail: reason })
    this.#fx.push({ kind: 'local', event: { t: 'disconnect', nodeId } })
  }

  /** What the two had told each other may be lost (K1): one of them must end, and the other is rid of all that it had there. */
  #peerLost(now: Ms, pair: readonly NodeId[], detail: string): void {
    const victim = this.nodes.lesserOf(pair)
    const other = pair.find((nodeId) => nodeId !== victim)
    if (victim) this.#nodeDied(now, victim, `its link with node ${other?.slice(0, 8)} was lost: ${detail}`)
  }

  #checkHealth(now: Ms): void {
    const { health } = this.#config
    const { ping, overdue } = this.nodes.check(health)
    const count = ++this.#pings
    for (const nodeId of ping) this.#toNode(nodeId, { t: 'ping', count })
    for (const nodeId of overdue) {
      const seconds = ((health.periodMs * health.failureThreshold + health.timeoutMs) / 1000).toFixed(1)
      this.#nodeDied(now, nodeId, `it has not answered for ${seconds} s`)
    }
    this.#timer('health', now + health.periodMs)
  }

  /** Like a task of the process `near`; null: like one of any node. */
  #place(spec: LeaseSpec, near: WorkerTag | null): Placement {
    const { name, resources, strategy, selectors, onInfeasible } = spec
    if (strategy.kind === 'bundle') return this.groups.place(spec, strategy)
    const { table } = this.nodes
    const anyNode = table.size > 0 ? table.at(Math.floor(this.#choosing.random() * table.size)).nodeId : null
    const localNodeId = (near === null ? undefined : this.nodes.nodeOf(near)) ?? anyNode
    // What asks for nothing makes no node fuller, so that a whole burst would meet on the node that happens to be idle: in turn.
    const isWeightless = strategy.kind === 'DEFAULT' && !Object.values(resources).some((units) => units > 0)
    const asked = isWeightless ? ({ kind: 'SPREAD' } as const) : strategy
    const ask = { name, resources, strategy: asked, localNodeId, ...(selectors ? { selectors } : {}) }
    const decision = pickNode(table, ask, this.#choosing)
    if (decision.kind === 'wait') {
      const { nodeId, isOnly } = decision
      return isOnly && nodeId !== null ? { kind: 'node', nodeId, mayWait: true } : { kind: 'wait' }
    }
    if (decision.kind !== 'node')
      return onInfeasible === 'wait' ? { kind: 'wait' } : { kind: 'refused', error: decision.error }
    const mayWait = table.size === 1
    // Until its next report: else all that is placed in one go would meet on one node.
    if (!mayWait) this.nodes.take(decision.nodeId, resources)
    return { ...decision, mayWait }
  }

  /** Soon, together. */
  #planViews(now: Ms): void {
    if (this.nodes.hasChanged && !this.#areViewsPlanned) {
      this.#areViewsPlanned = true
      this.#timer('views', now + VIEWS_EVERY_MS)
    }
    if (this.nodes.hasRoomChanged && !this.#areRoomsPlanned) {
      this.#areRoomsPlanned = true
      this.#timer('rooms', now + roomEveryMs(this.nodes.size))
    }
  }

  #tellViews(): void {
    this.#areViewsPlanned = false
    const nodes = this.nodes.takeChanged()
    if (nodes.length > 0) this.#toAll({ t: 'nodes.changed', nodes })
  }

  #tellRooms(): void {
    this.#areRoomsPlanned = false
    this.#tellViews() // Of nodes that nobody knows yet.
    const rooms = this.nodes.takeRooms()
    const message: GcsToNode = { t: 'nodes.room', rooms } // One object for all: it is encoded once.
    if (rooms.length > 0) for (const nodeId of this.nodes.watching()) this.#toNode(nodeId, message)
  }

  /** It hears what is free on all nodes as the others have heard it, and what changes from then on; also when it hears nothing new. */
  #watch(nodeId: NodeId, isOn: boolean): void {
    const rooms = this.nodes.watch(nodeId, isOn)
    if (isOn) this.#toNode(nodeId, { t: 'nodes.room', rooms })
  }

  /** One object for all: it is encoded once. */
  #toAll(message: GcsToNode): void {
    for (const { nodeId } of this.nodes.all()) if (this.nodes.isConnected(nodeId)) this.#toNode(nodeId, message)
  }

  #performGroups(now: Ms): void {
    const steps = new Map<NodeId, BundleStep[]>()
    const tellSteps = (nodeId: NodeId): void => {
      const all = steps.get(nodeId)
      if (steps.delete(nodeId)) this.#toNode(nodeId, { t: 'bundles.do', steps: all ?? [] })
    }
    for (const effect of this.groups.drain()) {
      if (effect.t === 'send') this.#deliver(effect.to, effect.message)
      else if (effect.t === 'bundles') steps.set(effect.nodeId, [...(steps.get(effect.nodeId) ?? []), effect.step])
      else if (effect.t === 'toNode') {
        tellSteps(effect.nodeId)
        this.#toNode(effect.nodeId, effect.message)
      } else if (effect.t === 'timer') this.#timer(`pg ${effect.key}`, now + effect.afterMs)
      else this.actors.placeWaiting()
    }
    for (const nodeId of [...steps.keys()]) tellSteps(nodeId)
  }

  #performActors(now: Ms): void {
    for (const effect of this.actors.drain()) {
      if (effect.t === 'send') this.#deliver(effect.to, effect.message)
      else if (effect.t === 'toNode') this.#toNode(effect.nodeId, effect.message)
      else this.#timer(`killActor ${effect.actorId}`, now + effect.afterMs)
    }
  }

  #deliver(to: WorkerTag, message: FromNode): void {
    const nodeId = this.nodes.nodeOf(to)
    if (nodeId !== undefined) this.#toNode(nodeId, { t: 'deliver', to, message })
  }

  #toNode(nodeId: NodeId, message: GcsToNode): void {
    this.#fx.push({ kind: 'local', event: { t: 'toNode', nodeId, message } })
  }

  #timer(key: string, at: Ms): void {
    this.#fx.push({ kind: 'timer', key, at })
  }

  #onForward(now: Ms, from: WorkerTag, message: ToNode): void {
    switch (message.t) {
      case 'kv.put':
        for (const answer of this.#kv.put(message.key, message.value, message.overwrite)) {
          this.#deliver(answer.to, { t: 'kv.value', requestId: answer.requestId, value: answer.value })
        }
        return
      case 'kv.get': {
        const answer = this.#kv.get(from, message.requestId, message.key, message.wait)
        if (answer) this.#deliver(from, { t: 'kv.value', requestId: answer.requestId, value: answer.value })
        return
      }
      case 'kv.delete':
        return this.#kv.delete(message.key)
      case 'kv.keys':
        return this.#deliver(from, {
          t: 'kv.keyList',
          requestId: message.requestId,
          keys: this.#kv.keys(message.prefix),
        })
      case 'actor.create':
        return this.actors.create(from, message.spec)
      case 'actor.failed':
        return this.actors.createFailed(from, message.spec, message.error)
      case 'actor.subscribe':
        return this.actors.subscribe(from, message.actorId, message.owner)
      case 'actor.unsubscribe':
        return this.actors.unsubscribe(from, message.actorId)
      case 'actor.find': {
        const info = this.actors.find(message.name, message.namespace)
        return this.#deliver(from, { t: 'actor.found', requestId: message.requestId, info })
      }
      case 'actor.list': {
        const actors = this.actors.list(message.allNamespaces ? null : message.namespace)
        return this.#deliver(from, { t: 'actor.listed', requestId: message.requestId, actors })
      }
      case 'actor.kill':
        return this.actors.kill(message.actorId, message.noRestart, message.detail)
      case 'actor.outOfScope':
        return this.actors.outOfScope(message.actorId)
      case 'actor.started':
        return this.actors.started(from, message.actorId, message.incarnation, message.error)
      case 'actor.keep':
        return this.actors.keep(from, message)
      case 'actor.exited':
        return this.actors.exited(from, message.actorId, message.detail)
      case 'pg.create':
      case 'pg.remove':
      case 'pg.wait':
      case 'pg.find':
      case 'pg.table':
        return this.groups.onRequest(now, from, message)
      default:
        return
    }
  }
}

function endOf(tag: WorkerTag, detail: string, reason: 'nodeDied' | 'crashed'): ExitInfo {
  return { tag, pid: 0, code: null, signal: null, reason, detail, lastLines: [] }
}
