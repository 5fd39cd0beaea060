// A process's side of the runtime as one machine: what it owns, borrows, submits and waits for. Composes the parts of this room.
//
// The shell (`runtime/`) calls one method per happening and then performs `drain()`: effects are data, in order. `step` is the
// same as one function, for the simulation.
//
// Invariants:
//   W1. A task resolves once: its returns are fulfilled by the first reply, failure or cancel that counts.
//   W2. What a task pins (references in its arguments) is released once, when it resolves for good.
//   W4. What a worker answered before it died counts: its death (and its actor's) is judged when its connection has closed, because the
//       node's word and the answers come over different connections, in any order.
//   W5. A connection between nodes may break with answers on its way: then all that was in flight on it may have run, and pays.
//   W3. A failure that a retry can cure costs a retry and nothing else; `-1` retries never run out.

import { type ActorId, makeObjectId, type NodeId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import { DenseTable } from '../kernel/dense-table.ts'
import { unreachable } from '../kernel/invariant.ts'
import type { Effect, Input, Ms } from '../kernel/machine.ts'
import type { ActorInfo, ActorSpec, ExitInfo, FromNode, ToNode } from '../wire/messages.ts'
import { isAmong } from '../wire/tag-map.ts'
import { STREAMING } from '../wire/task-frames.ts'
import type { Maker, WaitsFor } from '../wire/work.ts'
import { type ActorFailure, ActorSubmitter } from './actor-submitter.ts'
import { Dependencies, type Resolution } from './dependencies.ts'
import type { CoreEffect, CoreOutput, Effects, Failure, Task } from './effects.ts'
import { type LineageRecord, recordOf } from './lineage.ts'
import { ReferenceTable, type ValueState } from './reference-table.ts'
import { Streams } from './streams.ts'
import { TaskSubmitter } from './task-submitter.ts'
import { listWaiting, makerOf, type Waiter, type WaitingList } from './waiting-tasks.ts'

export type CoreInput =
  | { readonly t: 'submit'; readonly task: Task }
  | { readonly t: 'reply'; readonly task: Task; readonly states: readonly ValueState[]; readonly microseconds: number }
  | { readonly t: 'fulfil'; readonly id: ObjectId; readonly state: ValueState }
  | { readonly t: 'release'; readonly id: ObjectId }
  | { readonly t: 'connected'; readonly tag: WorkerTag }
  | { readonly t: 'disconnected'; readonly tag: WorkerTag }
  | { readonly t: 'cancel'; readonly id: ObjectId; readonly isForced: boolean; readonly isRecursive: boolean }

const NO_BYTES = new Uint8Array(0)
/** An argument may be lost again while it is made again; not for ever. */
const LOST_ARGUMENT_TRIES_MAX = 20
/** Ray's back-off before a task runs again whose worker was ended for memory. */
const OOM_RETRY_MS = 1000

interface PendingActor {
  readonly spec: ActorSpec
  readonly pinned: readonly ObjectId[]
}

export class CoreWorker {
  readonly tag: WorkerTag
  readonly table: ReferenceTable
  readonly actors: ActorSubmitter
  readonly streams = new Streams()
  readonly #tasks: TaskSubmitter
  readonly #dependencies: Dependencies
  /** Every unresolved task of this owner, by sequence. */
  readonly #open = new DenseTable<Task>()
  readonly #created = new Map<ActorId, PendingActor>()
  /** In the order of their times. */
  readonly #waitingForMemory: { readonly task: Task; readonly at: Ms }[] = []
  /** Workers with an open connection from here (W4). */
  readonly #connected = new Set<WorkerTag>()
  /** Ends that the node told of while the connection was still open. */
  readonly #ended = new Map<WorkerTag, ExitInfo>()
  /** Workers whose connections broke with answers on their way, perhaps (W5). */
  readonly #torn = new Set<WorkerTag>()
  /** What the GCS said of actors meanwhile, in order. */
  readonly #unheard: { readonly tag: WorkerTag; readonly info: ActorInfo }[] = []
  /** Copies that a process had made for this one when it ended. */
  readonly #left = new Map<WorkerTag, readonly ObjectId[]>()
  /** Owners that want to know when nothing of a dead process can reach us any more. */
  readonly #settling: { readonly of: WorkerTag; readonly owner: WorkerTag }[] = []
  #effects: CoreOutput[] = []
  #now: Ms = 0
  #sequence = 0

  constructor(tag: WorkerTag, encodePrimitive: (value: unknown) => Uint8Array, excessQueueingWarnThreshold?: number) {
    this.tag = tag
    this.table = new ReferenceTable(tag, encodePrimitive)
    this.actors = new ActorSubmitter(excessQueueingWarnThreshold)
    this.#tasks = new TaskSubmitter(tag)
    this.#dependencies = new Dependencies(this.table)
  }

  get effects(): Effects {
    return this.#effects
  }

  get openTasks(): number {
    return this.#open.size
  }

  /** Others may need what this process owns, or it waits for tasks: it should not end for being idle. */
  get isNeeded(): boolean {
    return this.#open.size > 0 || this.table.owned.size > 0
  }

  /** What is to be done now, in order. */
  drain(): readonly CoreOutput[] {
    for (let revived = this.table.takeRevived(); revived.length > 0; revived = this.table.takeRevived())
      for (const record of revived) this.#runAgain(record) // One may revive others.
    const effects = this.#effects
    if (effects.length > 0) this.#effects = []
    return effects
  }

  /** Reserves `count` consecutive sequences; the first. */
  sequences(count: number): number {
    const first = this.#sequence + 1
    this.#sequence += count
    return first
  }

  /** The last sequence that was reserved. */
  get submitted(): number {
    return this.#sequence
  }

  // Tasks

  /** The task's return objects exist already (`createReturns`). */
  submit(now: Ms, task: Task): void {
    this.#now = now
    this.#open.set(task.sequence, task)
    const resolution = this.#dependencies.add(task, this.#effects)
    if (task.actorId !== null) {
      if (resolution?.error) this.#fail(task, { kind: 'dependency', bytes: resolution.error })
      else this.#failActorCall(this.actors.submit(task, this.#effects))
    } else if (resolution) this.#onResolution(now, resolution)
  }

  createReturns(task: Task): void {
    if (task.numReturns === STREAMING) {
      this.streams.open(task.sequence)
      return
    }
    for (let i = 0; i < task.numReturns; i++) this.table.create(makeObjectId(this.tag, task.sequence + i))
  }

  task(sequence: number): Task | undefined {
    return this.#open.get(sequence)
  }

  /** Tasks that wait for their arguments, with what makes these; or others, each with a value. */
  waiting(
    pairs: Iterable<readonly [ObjectId, Waiter]> = this.#dependencies.pairs(),
    what: WaitsFor = 'arguments',
  ): WaitingList {
    return listWaiting(pairs, (id) => this.#taskOf(id), what)
  }

  /** The open task that makes a value of ours. */
  makerOf(id: ObjectId): Maker | undefined {
    const task = this.#taskOf(id)
    return task && makerOf(task)
  }

  /** A good reply with one value: the hot path. */
  completeOne(now: Ms, task: Task, state: ValueState, microseconds: number): void {
    const id = makeObjectId(this.tag, task.sequence)
    if (state.kind === 'stored') return this.#completeStored(now, task, [id], [state], microseconds)
    this.#finish(now, task, microseconds)
    this.#fulfil(now, id, state)
  }

  /** Keeps what is needed to make them again, before the task's arguments are let go of. */
  #completeStored(
    now: Ms,
    task: Task,
    ids: readonly ObjectId[],
    states: readonly ValueState[],
    microseconds: number,
  ): void {
    const known = this.table.recordOf(ids)
    const record = known ?? recordOf(task, task.args ?? NO_BYTES, this.table)
    for (let i = 0; i < states.length; i++) this.#fulfil(now, ids[i] as ObjectId, states[i] as ValueState)
    if (known) known.isRunning = false
    else if (record) this.table.keep(record, ids, this.#effects)
    this.#finish(now, task, microseconds)
  }

  complete(now: Ms, task: Task, states: readonly ValueState[], microseconds: number): void {
    const ids = states.map((_, i) => makeObjectId(this.tag, task.sequence + i))
    if (states.some((state) => state.kind === 'stored')) this.#completeStored(now, task, ids, states, microseconds)
    else {
      this.#finish(now, task, microseconds)
      for (let i = 0; i < states.length; i++) this.#fulfil(now, ids[i] as ObjectId, states[i] as ValueState)
    }
    if (task.numReturns === STREAMING) {
      this.streams.finish(task.sequence)
      this.#effects.push({ t: 'streamChanged', sequence: task.sequence })
    }
  }

  /** The task threw. `isRetriable`: the exception is one of those to be retried. */
  completeWithError(now: Ms, task: Task, error: Uint8Array, isRetriable: boolean, microseconds: number): void {
    if (isRetriable && task.cancel === 'no' && task.retriesLeft !== 0) {
      this.#leave(now, task, microseconds)
      this.#retry(now, task)
      return
    }
    this.#finish(now, task, microseconds)
    this.failWith(now, task, error)
  }

  onCancelled(now: Ms, task: Task): void {
    this.#finish(now, task, -1)
    this.#failObjects(task, { kind: 'cancelled', name: task.fn.name })
  }

  onBounced(now: Ms, task: Task): void {
    if (task.cancel !== 'no') {
      this.onCancelled(now, task)
      return
    }
    this.#tasks.onBounced(now, task, this.#effects)
  }

  /** An item of a generator; `state` is its value. Returns the new object's id, or undefined when it is not wanted. */
  onItem(now: Ms, task: Task, index: number, state: ValueState): ObjectId | undefined {
    if (!this.streams.accepts(task.sequence, index)) {
      this.discard(state)
      this.#ackItems(task) // A retried generator begins anew: else it would wait for the taking of what was taken long ago.
      return undefined
    }
    const id = makeObjectId(this.tag, this.sequences(1))
    this.table.create(id)
    this.streams.add(task.sequence, index, id)
    this.#fulfil(now, id, state)
    this.#effects.push({ t: 'streamChanged', sequence: task.sequence })
    return id
  }

  /** Takes the next item of a stream, telling the worker (G2). */
  nextItem(sequence: number): ObjectId | 'wait' | 'end' {
    const next = this.streams.next(sequence)
    const task = this.#open.get(sequence)
    if (typeof next === 'number' && task) this.#ackItems(task)
    return next
  }

  #ackItems(task: Task): void {
    const { target, sequence } = task
    if (!target || !task.extras?.backpressure) return
    this.#effects.push({ t: 'itemAck', target, sequence, consumed: this.streams.get(sequence)?.consumed ?? 0 })
  }

  abandonStream(sequence: number): void {
    for (const id of this.streams.abandon(sequence)) this.release(id)
    const task = this.#open.get(sequence)
    if (task && this.#cancelTask(task, false, true)) this.#tasksOver(0, task)
  }

  cancel(now: Ms, id: ObjectId, isForced: boolean, isRecursive: boolean): boolean {
    const task = this.#taskOf(id)
    if (!task) return false
    if (this.#cancelTask(task, isForced, isRecursive)) {
      this.#tasksOver(now, task)
      this.#failObjects(task, { kind: 'cancelled', name: task.fn.name })
    }
    return true
  }

  /** Every open task that was submitted while `parent` ran. */
  childrenOf(parent: ObjectId): readonly Task[] {
    const children: Task[] = []
    for (const task of this.#open.values()) if (task.parent === parent) children.push(task)
    return children
  }

  // Objects

  fulfil(now: Ms, id: ObjectId, state: ValueState): void {
    this.#fulfil(now, id, state)
  }

  /** Failure bytes for the objects of an effect `fail`. */
  failObject(now: Ms, id: ObjectId, bytes: Uint8Array): void {
    this.#fulfil(now, id, { kind: 'error', bytes })
  }

  release(id: ObjectId): void {
    this.table.release(id, this.#effects)
  }

  discard(state: ValueState): void {
    if (state.kind === 'stored')
      this.#effects.push({ t: 'toNode', message: { t: 'object.free', storageIds: [state.storageId] } })
    if (state.kind === 'stored' || state.kind === 'inline')
      for (const ref of state.refs) this.table.release(ref, this.#effects)
  }

  // Actors

  /** `pinned`: references in the constructor's arguments. They are held until the actor is dead for good. */
  createActor(spec: ActorSpec, pinned: readonly ObjectId[]): void {
    if (!spec.detached && !this.table.owned.has(spec.handleId)) {
      for (const id of pinned) this.release(id) // Its last handle went while its arguments were waited for.
      return
    }
    this.#created.set(spec.actorId, { spec, pinned })
    this.#effects.push({ t: 'toNode', message: { t: 'actor.create', spec } })
    this.actors.subscribe(spec.actorId, this.tag, this.#effects)
  }

  /** An argument of the constructor failed: the actor is dead before it was made. Others may have handles: the GCS tells all. */
  failCreation(spec: ActorSpec, pinned: readonly ObjectId[], error: Uint8Array): void {
    this.#created.set(spec.actorId, { spec, pinned })
    this.#effects.push({ t: 'toNode', message: { t: 'actor.failed', spec, error } })
  }

  // From the world

  onMessage(now: Ms, message: FromNode): void {
    this.#now = now
    switch (message.t) {
      case 'lease.granted':
        this.#tasks.onGranted(now, message.leaseId, message.worker, this.#effects)
        return
      case 'lease.refused': {
        const mayAskAgain = message.error.code === 'WORKER_START_FAILED'
        const tasks = this.#tasks.onRefused(now, message.leaseId, mayAskAgain, this.#effects)
        for (const task of tasks) this.#fail(task, { kind: 'refused', name: task.fn.name, error: message.error })
        return
      }
      case 'worker.died':
        this.#onWorkerDied(now, message.exit)
        return
      case 'node.died':
        return this.#onOtherNodeDied(now, message)
      case 'object.resolved':
        this.#onResolved(now, message)
        return
      case 'object.rescued':
        return this.#onRescued(now, message.storageId, message.copy)
      case 'ref.routed':
        this.#onRef(now, message.body)
        return
      case 'object.left':
        this.#left.set(message.maker, message.storageIds)
        return
      case 'ref.undeliverable':
        return // Its owner is gone, and with it the count.
      case 'actor.state':
        this.#onActorState(now, message.info)
        return
      case 'object.recycle':
        this.#effects.push({ t: 'freeOwn', storageIds: message.storageIds })
        return
      default:
        return // Answers to requests of the shell.
    }
  }

  /** The shell opens a connection to a worker; `onDisconnected` follows some day. */
  onConnected(tag: WorkerTag): void {
    this.#connected.add(tag)
  }

  /** The connection to a worker broke. The node tells why (`worker.died`), and sees to it that this comes. `isTorn`: W5. */
  onDisconnected(now: Ms, tag: WorkerTag, isTorn = false): void {
    this.#connected.delete(tag)
    if (isTorn) this.#torn.add(tag)
    for (const one of this.#settling.filter(({ of }) => of === tag)) this.#settle(one)
    const exit = this.#ended.get(tag)
    this.#ended.delete(tag)
    if (exit) this.#judgeDeath(now, exit)
    else {
      this.#suspend(now, tag)
      this.#effects.push({ t: 'toNode', message: { t: 'worker.unreachable', tag } })
    }
    const heard = this.#unheard.filter((one) => one.tag === tag)
    if (heard.length === 0) return
    const rest = this.#unheard.filter((one) => one.tag !== tag)
    this.#unheard.splice(0, this.#unheard.length, ...rest)
    // Only the last word on each actor: nothing is to be sent to an incarnation that has ended meanwhile.
    const last = new Map(heard.map(({ info }) => [info.actorId, info]))
    for (const info of last.values()) this.#onActorState(now, info)
  }

  #suspend(now: Ms, tag: WorkerTag): void {
    this.actors.onWorkerGone(tag)
    this.#tasks.suspend(now, tag, this.#effects)
  }

  onTimer(now: Ms, key: string): void {
    if (key === 'idleLeases') this.#tasks.onTimer(now, this.#effects)
    else if (key === 'oomRetries') this.#retryDue(now)
  }

  /** The node is gone: nothing that is open will ever be answered. */
  onNodeDied(detail: string): void {
    for (const task of [...this.#open.values()]) this.#fail(task, { kind: 'nodeDied', detail })
    for (const [id, borrowed] of this.table.borrowed) {
      if (borrowed.isResolving) this.#effects.push({ t: 'fail', ids: [id], failure: { kind: 'nodeDied', detail } })
    }
  }

  step(now: Ms, input: Input<FromNode, CoreInput>): Effect<ToNode, CoreEffect>[] {
    switch (input.kind) {
      case 'start':
        break
      case 'message':
        this.onMessage(now, input.message)
        break
      case 'timer':
        this.onTimer(now, input.key)
        break
      case 'local':
        this.#onLocal(now, input.event)
        break
      default:
        unreachable(input, 'core worker input')
    }
    return this.drain().map(asEffect)
  }

  stats(): Readonly<Record<string, number>> {
    return {
      ...this.#tasks.stats(),
      owned: this.table.owned.size,
      borrowed: this.table.borrowed.size,
      open: this.#open.size,
      actors: this.actors.known,
    }
  }

  check(): void {
    this.table.check()
    this.#tasks.check()
  }

  #onLocal(now: Ms, event: CoreInput): void {
    switch (event.t) {
      case 'submit':
        this.createReturns(event.task)
        return this.submit(now, event.task)
      case 'reply':
        return this.complete(now, event.task, event.states, event.microseconds)
      case 'fulfil':
        return this.fulfil(now, event.id, event.state)
      case 'release':
        return this.release(event.id)
      case 'disconnected':
        return this.onDisconnected(now, event.tag)
      case 'connected':
        return this.onConnected(event.tag)
      case 'cancel':
        this.cancel(now, event.id, event.isForced, event.isRecursive)
        return
      default:
        unreachable(event, 'core worker event')
    }
  }

  #onResolution(now: Ms, resolution: Resolution): void {
    const { task, error } = resolution
    if (error) {
      this.#fail(task, { kind: 'dependency', bytes: error })
      if (task.actorId === null) return
      this.actors.remove(task) // Else the calls behind it would wait for its arguments for ever.
      this.actors.onResolved(task, this.#effects)
    } else if (task.actorId !== null) this.actors.onResolved(task, this.#effects)
    else this.#tasks.submit(now, task, this.#effects)
  }

  /** A stored copy of an object could not be found. Of an owned one: it is made again, or fails. */
  onCopyLost(id: ObjectId, storageId: ObjectId): void {
    if (this.table.isOwned(id)) this.#lose((one) => one === storageId, null)
    else {
      this.table.forgetLocation(id)
      const body = { t: 'ref.copyLost', id, storageId } as const
      this.#effects.push({ t: 'toNode', message: { t: 'ref.route', to: ownerOf(id), body } })
    }
  }

  /** `of`: the node that died with them. It has to hear also that we need nothing: it keeps copies for us until then. */
  #lose(isLost: (storageId: ObjectId) => boolean, of: NodeId | null): void {
    const storageIds = this.table.suspend(isLost, this.#effects)
    if (storageIds.length === 0 && of === null) return
    this.#effects.push({ t: 'toNode', message: { t: 'object.rescue', storageIds, of } })
  }

  #onRescued(now: Ms, storageId: ObjectId, copy: ObjectId | null): void {
    const lost = this.table.rescued(storageId, copy, this.#effects)
    if (lost?.isHopeless) this.#failLost(lost.id)
    else if (lost) this.#wake(now, lost.id)
  }

  #failLost(id: ObjectId): void {
    this.#effects.push({ t: 'fail', ids: [id], failure: { kind: 'lost', id } })
  }

  /** A task found one of its stored arguments gone: it is sent again with what the argument is by then. True: it is. */
  retryLostArgument(now: Ms, task: Task, storageId: ObjectId): boolean {
    if (task.pendingArgs === null || task.cancel !== 'no' || task.attempt >= LOST_ARGUMENT_TRIES_MAX) return false
    for (const part of task.pendingArgs) {
      const state = typeof part === 'number' ? this.table.stateOf(part) : undefined
      if (state?.kind === 'stored' && state.storageId === storageId) this.onCopyLost(part as ObjectId, storageId)
    }
    this.#leave(now, task, -1)
    task.attempt++
    task.args = null
    const resolution = this.#dependencies.add(task, this.#effects)
    if (task.actorId !== null) this.#failActorCall(this.actors.resubmit(task, this.#effects))
    else if (resolution) this.#onResolution(now, resolution)
    return true
  }

  /** Lineage: the task of `record` once more. */
  #runAgain(record: LineageRecord): void {
    const { task, parts, blob, claimed } = record
    this.table.reopen(record)
    if (record.retriesLeft === 0) {
      for (let i = 0; i < task.numReturns; i++) this.#failLost(makeObjectId(this.tag, task.sequence + i))
      return
    }
    if (record.retriesLeft > 0) record.retriesLeft--
    for (const id of claimed) this.table.hold(id)
    const again: Task = {
      ...task,
      ...{ args: blob, pendingArgs: parts, openDependencies: 0, pinned: claimed, nestedRefs: [] },
      ...{ retriesLeft: record.retriesLeft, attempt: task.attempt + 1, isSuspect: false, cancel: 'no', handleId: 0 },
      ...{ target: null, previous: null, next: null },
    }
    this.submit(this.#now, again)
  }

  #fulfil(now: Ms, id: ObjectId, state: ValueState): void {
    this.table.fulfil(id, state, this.#effects)
    if (this.#dependencies.waitingCount > 0) this.#wake(now, id)
  }

  #wake(now: Ms, id: ObjectId): void {
    for (const resolution of this.#dependencies.onReady(id, this.#effects)) this.#onResolution(now, resolution)
  }

  #leave(now: Ms, task: Task, microseconds: number): void {
    if (task.actorId === null) this.#tasks.onDone(now, task, microseconds, this.#effects)
    else this.actors.onDone(task)
  }

  #finish(now: Ms, task: Task, microseconds: number): void {
    this.#leave(now, task, microseconds)
    this.#tasksOver(now, task)
  }

  #tasksOver(_now: Ms, task: Task): void {
    this.#open.delete(task.sequence)
    for (let i = 0; i < task.pinned.length; i++) this.table.release(task.pinned[i] as ObjectId, this.#effects)
    if (task.handleId !== 0) this.table.release(task.handleId, this.#effects)
    task.args = null
  }

  #retry(now: Ms, task: Task): void {
    if (task.retriesLeft > 0) task.retriesLeft--
    task.attempt++
    if (task.actorId === null) this.#tasks.resubmit(now, task, this.#effects)
    else this.#failActorCall(this.actors.resubmit(task, this.#effects))
  }

  /** The error bytes of a task for each of its returns. */
  failWith(now: Ms, task: Task, bytes: Uint8Array): void {
    if (task.numReturns === STREAMING) {
      const index = this.streams.get(task.sequence)?.received ?? 0
      this.onItem(now, task, index, { kind: 'error', bytes })
      this.streams.finish(task.sequence)
      this.#effects.push({ t: 'streamChanged', sequence: task.sequence })
      return
    }
    for (let i = 0; i < task.numReturns; i++) {
      this.#fulfil(now, makeObjectId(this.tag, task.sequence + i), { kind: 'error', bytes })
    }
  }

  #fail(task: Task, failure: Failure): void {
    if (!this.#open.has(task.sequence)) return
    this.#tasksOver(0, task)
    this.#failObjects(task, failure)
  }

  #failObjects(task: Task, failure: Failure): void {
    const ids: ObjectId[] = []
    if (task.numReturns === STREAMING) {
      const id = makeObjectId(this.tag, this.sequences(1))
      this.table.create(id)
      const stream = this.streams.get(task.sequence)
      if (stream) this.streams.add(task.sequence, stream.received, id)
      else this.table.release(id, this.#effects)
      this.streams.finish(task.sequence)
      ids.push(id)
      this.#effects.push({ t: 'streamChanged', sequence: task.sequence })
    } else for (let i = 0; i < task.numReturns; i++) ids.push(makeObjectId(this.tag, task.sequence + i))
    this.#effects.push({ t: 'fail', ids, failure })
  }

  #failActorCall(failure: ActorFailure | undefined): void {
    if (!failure) return
    const { task, kind, info } = failure
    // What was cancelled fails as that, however it came to its end.
    if (task.cancel !== 'no') this.#fail(task, { kind: 'cancelled', name: task.fn.name })
    else this.#fail(task, { kind, name: task.fn.name, actorId: task.actorId as ActorId, info })
  }

  #taskOf(id: ObjectId): Task | undefined {
    if (ownerOf(id) !== this.tag) return undefined
    const sequence = id % 0x1_0000_0000
    const exact = this.#open.get(sequence)
    if (exact) return exact
    for (const task of this.#open.values()) {
      if (task.numReturns === STREAMING || task.numReturns < 2) continue
      if (sequence > task.sequence && sequence < task.sequence + task.numReturns) return task
    }
    return undefined
  }

  /** True when the task was not on a worker yet, and is out. */
  #cancelTask(task: Task, isForced: boolean, isRecursive: boolean): boolean {
    task.cancel = isForced ? 'forced' : task.cancel === 'no' ? 'requested' : task.cancel
    const { target } = task
    if (target) {
      if (isForced && target.leaseId !== null) {
        const detail = `the task ${task.fn.name} was cancelled by force`
        const message: ToNode = { t: 'lease.kill', leaseId: target.leaseId, reason: 'cancelled', detail }
        this.#effects.push({ t: 'toNode', message })
      } else this.#effects.push({ t: 'cancelOnWorker', target, sequence: task.sequence, isRecursive })
      return false
    }
    this.#dependencies.remove(task)
    if (task.actorId === null) this.#tasks.remove(task, this.#effects)
    else this.actors.remove(task)
    return true
  }

  /** Another node: the end of every process of it that this one has dealings with. */
  #onOtherNodeDied(now: Ms, { tagBlocks, nodeId, detail }: FromNode & { t: 'node.died' }): void {
    const tags = new Set<WorkerTag>([...this.#connected, ...this.table.parties(), ...this.#tasks.workers()])
    const exit = { pid: 0, code: null, signal: null, reason: 'nodeDied', lastLines: [] } as const
    for (const tag of tags) {
      if (!isAmong(tagBlocks, tag)) continue
      this.#onWorkerDied(now, { ...exit, tag, detail: `its node ${nodeId.slice(0, 8)} died: ${detail}` })
      if (this.#connected.has(tag)) this.#effects.push({ t: 'disconnect', tag })
    }
    this.#lose((storageId) => isAmong(tagBlocks, ownerOf(storageId)), nodeId)
  }

  #onWorkerDied(now: Ms, exit: ExitInfo): void {
    if (!this.#connected.has(exit.tag)) return this.#judgeDeath(now, exit)
    this.#ended.set(exit.tag, exit) // W4
    this.#suspend(now, exit.tag)
  }

  #judgeDeath(now: Ms, exit: ExitInfo): void {
    this.table.onWorkerDied(exit.tag, this.#effects)
    const left = this.#left.get(exit.tag)
    if (left) this.table.claim(left, this.#effects)
    this.#left.delete(exit.tag)
    this.actors.onWorkerGone(exit.tag)
    const lost = this.#tasks.onWorkerGone(exit.tag)
    const isTorn = this.#torn.delete(exit.tag)
    for (let i = 0; i < lost.length; i++) {
      const hadBegun = isTorn || (i === 0 && exit.reason !== 'intended')
      this.#onTaskLost(now, lost[i] as Task, exit, hadBegun)
    }
    this.#tasks.afterWorkerGone(now, this.#effects)
  }

  #onTaskLost(now: Ms, task: Task, exit: ExitInfo, hadBegun: boolean): void {
    if (task.cancel !== 'no') this.#fail(task, { kind: 'cancelled', name: task.fn.name })
    else if (!hadBegun) {
      task.isSuspect = true
      this.#tasks.resubmit(now, task, this.#effects)
    } else if (task.retriesLeft !== 0 && exit.retry === 'free') this.#retryLater(now, task)
    else if (task.retriesLeft !== 0 && exit.retry !== 'never') this.#retry(now, task)
    else this.#fail(task, { kind: 'workerCrashed', name: task.fn.name, exit })
  }

  /** Memory ran out: not at once again, but when others have ended. */
  #retryLater(now: Ms, task: Task): void {
    task.attempt++
    this.#waitingForMemory.push({ task, at: now + OOM_RETRY_MS })
    this.#effects.push({ t: 'timer', key: 'oomRetries', at: now + OOM_RETRY_MS })
  }

  #retryDue(now: Ms): void {
    while (this.#waitingForMemory[0] && this.#waitingForMemory[0].at <= now) {
      const { task } = this.#waitingForMemory.shift() as { task: Task }
      if (this.#open.get(task.sequence) === task) this.#tasks.resubmit(now, task, this.#effects)
    }
    const next = this.#waitingForMemory[0]
    if (next) this.#effects.push({ t: 'timer', key: 'oomRetries', at: next.at }) // Clocks may fire a little early.
  }

  #onResolved(now: Ms, message: FromNode & { t: 'object.resolved' }): void {
    if (message.location) {
      this.table.onResolved(message.id, message.location, this.#effects)
      this.#wake(now, message.id)
    } else if (message.error) {
      this.#effects.push({
        t: 'fail',
        ids: [message.id],
        failure: { kind: 'ownerDied', id: message.id, error: message.error },
      })
    }
  }

  /** A borrowed object will never have a value; `bytes` say why. */
  failBorrowed(now: Ms, id: ObjectId, bytes: Uint8Array): void {
    this.table.onResolved(id, { kind: 'error', bytes }, this.#effects)
    this.#wake(now, id)
  }

  #onRef(now: Ms, body: (FromNode & { t: 'ref.routed' })['body']): void {
    if (body.t === 'ref.lost') {
      this.table.onLost(body.id, this.#effects)
      this.#wake(now, body.id)
    } else if (body.t === 'ref.settle') {
      if (this.#connected.has(body.of)) this.#settling.push(body)
      else this.#settle(body)
    } else if (body.t === 'ref.copyLost') {
      if (this.table.owned.has(body.id)) this.#lose((one) => one === body.storageId, null)
    } else this.table.onRefMessage(body, this.#effects)
  }

  /** All that `of` had sent us was dealt with. */
  #settle(one: { readonly of: WorkerTag; readonly owner: WorkerTag }): void {
    const at = this.#settling.indexOf(one)
    if (at >= 0) this.#settling.splice(at, 1)
    const body = { t: 'ref.settled', of: one.of, borrower: this.tag } as const
    this.#effects.push({ t: 'toNode', message: { t: 'ref.route', to: one.owner, body } })
  }

  #onActorState(now: Ms, info: ActorInfo): void {
    const tag = this.actors.targetTag(info.actorId)
    if (tag !== undefined && this.#connected.has(tag) && info.address?.tag !== tag) {
      this.#unheard.push({ tag, info }) // W4
      this.#suspend(now, tag)
      return
    }
    for (const failure of this.actors.onState(info, this.#effects)) this.#failActorCall(failure)
    if (info.state === 'DEAD') this.actors.sweep((handleId) => this.table.knows(handleId))
    const created = this.#created.get(info.actorId)
    // `getIfExists` found one that was made before: no constructor runs with these arguments. Among them may be its own handle.
    const isAnother = created !== undefined && info.handleId !== created.spec.handleId
    if (!created || (info.state !== 'DEAD' && !isAnother)) return
    this.#created.delete(info.actorId)
    for (const id of created.pinned) this.release(id)
  }

  /** The GCS would not make the actor: its calls fail as those of a dead one. */
  onActorRefused(actorId: ActorId): ActorSpec | undefined {
    const created = this.#created.get(actorId)
    this.#created.delete(actorId)
    for (const id of created?.pinned ?? []) this.release(id)
    return created?.spec
  }
}

function asEffect(output: CoreOutput): Effect<ToNode, CoreEffect> {
  if (output.t === 'toNode') return { kind: 'send', to: 0, message: output.message }
  if (output.t === 'timer') return { kind: 'timer', key: output.key, at: output.at }
  return { kind: 'local', event: output }
}
