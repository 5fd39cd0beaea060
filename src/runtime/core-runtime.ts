// One process's runtime: drives the core worker machine with real connections, values and promises. Drivers and workers share it.
//
// Invariants:
//   C1. Every entry from the world ends with `perform`: no effect waits for the next one.
//   C2. A promise given to a user settles: by its value, its error, its time-out, or the node's end.
//   C3. Values are serialized when they are handed over, and deserialized for each reader: nobody shares mutable state by accident.

import { setTimeout as sleep } from 'node:timers/promises'
import { CoreWorker } from '../core-worker/core-worker.ts'
import type { CoreOutput, Failure, Target, Task } from '../core-worker/effects.ts'
import type { ValueState } from '../core-worker/reference-table.ts'
import { Replies } from '../core-worker/replies.ts'
import { errorFromWire, makeError, makeTaskError, RayError } from '../errors/index.ts'
import {
  formatObjectId,
  type JobId,
  makeObjectId,
  type NodeId,
  type ObjectId,
  parseObjectId,
  type WorkerId,
  type WorkerTag,
} from '../ids/ids.ts'
import {
  type ByteRange,
  deserialize,
  encodeSmall,
  type SerializedValue,
  serialize,
  serializeToBytes,
  UnserializableValueError,
  type ValueHost,
} from '../values/index.ts'
import { packData } from '../wire/codec.ts'
import type { ActorInfo, ActorSpec, FromNode, ObjectLocation, SpillLocation, WorkerAddress } from '../wire/messages.ts'
import { writeCancel, writeItemAck, writePush } from '../wire/task-frames.ts'
import type { ProcessWork } from '../wire/work.ts'
import { monotonicMs, msUntil } from './clock.ts'
import { errorFor } from './failures.ts'
import { Handles } from './handles.ts'
import type { NodeLink } from './node-link.ts'
import type { SegmentStore } from './shm/segment-store.ts'
import { Spinner } from './spinner.ts'
import { currentTask } from './task-context.ts'
import { TaskPeer } from './task-peer.ts'
import { Later, PENDING, Waiting } from './waiting.ts'
import { warn } from './warnings.ts'

/** Ray's max_direct_call_object_size: larger values go to the store. */
export const INLINE_BYTES_MAX = 100 * 1024
/** A cancelled worker that does not answer within this is computing: it is killed. */
const CANCEL_GRACE_MS = 300
/** With so few tasks under way, every answer is waited for. */
const SPIN_TASKS_MAX = 4
const LOCATE_TRIES_MAX = 5
/** What a worker says of an argument: its owner has it made again, and sends the task anew. */
const ARGUMENT_GONE = 'its stored copy, an argument, is gone'
/** So many values that are waited for in `get` are looked at, when somebody asks. */
const READ_MAX = 1000
const LOST_TRIES_MAX = 40
const LOST_RETRY_MS = 50

export interface Identity {
  readonly tag: WorkerTag
  readonly workerId: WorkerId
  readonly nodeId: NodeId
  readonly jobId: JobId
  readonly namespace: string
  readonly isDriver: boolean
  /** Under which the receivers of its answers know it: a thread's leave through its process. Default: `tag`. */
  readonly answersAs?: WorkerTag
}

/** For a stored value that is not at its usual place. */
interface Search {
  isOver: boolean
  /** Ends the question to the node that is open now. */
  leave: (() => void) | null
}

const scratch = Buffer.allocUnsafeSlow(512)

export class CoreRuntime {
  readonly identity: Identity
  readonly core: CoreWorker
  readonly link: NodeLink
  readonly store: SegmentStore
  readonly host: ValueHost
  readonly waiting: Waiting
  readonly spinner = new Spinner()
  readonly handles: Handles = new Handles(
    (id) => {
      if (this.isClosed) return true
      this.core.release(id)
      return this.core.table.isOwned(id) && !this.core.table.owned.has(id)
    },
    () => {
      if (!this.isClosed) this.perform()
    },
  )
  /** Told when a wait begins and ends, so that a worker can lend its CPU meanwhile. */
  onBlocked: (() => void) | null = null
  onUnblocked: (() => void) | null = null
  onLogs: ((message: FromNode & { t: 'log.lines' }) => void) | null = null
  /** Actors that are made when arguments of their constructors are there. */
  readonly deferred = new Set<{ readonly fn: { readonly name: string }; readonly ids: readonly ObjectId[] }>()
  isClosed = false
  readonly inlineBytesMax = INLINE_BYTES_MAX
  readonly #streamWaiters = new Map<number, Set<() => void>>()
  readonly #actorWaiters = new Map<string, Set<(info: ActorInfo) => void>>()
  readonly #peers = new Map<WorkerTag, TaskPeer>()
  readonly #locating = new Map<ObjectId, Set<(where: SpillLocation | 'shm' | null) => void>>()
  readonly #refused = new Map<string, RayError>()
  readonly #creationRefused = new Map<string, (error: RayError) => void>()
  readonly #replies: Replies
  #isPerforming = false

  constructor(options: { identity: Identity; link: NodeLink; store: SegmentStore; host: ValueHost; warnAt?: number }) {
    this.identity = options.identity
    this.link = options.link
    this.store = options.store
    this.host = options.host
    this.waiting = new Waiting(this, options.identity.tag)
    this.core = new CoreWorker(options.identity.tag, encodePrimitive, options.warnAt)
    this.#replies = new Replies(this.core, (task, bytes, micros) => this.#onTaskError(task, bytes, micros))
  }

  // Values

  /** @throws UnserializableException with the path to what cannot travel. */
  serialize(value: unknown): SerializedValue {
    try {
      return serialize(value, this.host)
    } catch (error) {
      if (!(error instanceof UnserializableValueError)) throw error
      const [message] = error.message.split(`: ${error.hint}`)
      throw makeError('UNSERIALIZABLE', { message: message ?? error.message, hint: error.hint }, { cause: error })
    }
  }

  put(value: unknown): ObjectId {
    const id = makeObjectId(this.core.tag, this.core.sequences(1))
    this.core.table.create(id)
    this.core.fulfil(monotonicMs(), id, this.#stateOf(value, id))
    this.perform()
    return id
  }

  /** The state of a new owned object with this value; contained references are held by it. */
  #stateOf(value: unknown, id: ObjectId): ValueState {
    if (isPrimitive(value)) return { kind: 'primitive', value }
    const serialized = this.serialize(value)
    const state = this.write(serialized, id)
    for (const ref of serialized.refs) this.core.table.hold(ref)
    return state
  }

  /** Puts serialized bytes where they belong: inline, or into the store under `storageId`, for `owner`. */
  write(
    serialized: SerializedValue,
    storageId: ObjectId,
    owner: WorkerTag = this.core.tag,
  ): ObjectLocation & { kind: 'inline' | 'stored' } {
    const { byteLength: size, refs } = serialized
    if (size <= INLINE_BYTES_MAX) {
      const bytes = Buffer.allocUnsafeSlow(size)
      serialized.writeTo(bytes, 0)
      return { kind: 'inline', bytes, refs }
    }
    const spilled = this.store.write(storageId, serialized)
    this.link.send({ t: 'object.created', storageId, owner, size, spilled })
    return { kind: 'stored', storageId, size, refs }
  }

  // Reading

  /** The value, PENDING, or throws the object's error. Stored values that moved are found asynchronously. */
  read(id: ObjectId): unknown {
    const state = this.core.table.look(id, this.core.effects)
    switch (state.kind) {
      case 'pending':
      case 'evicted':
        return PENDING
      case 'primitive':
        return state.value
      case 'error':
        return this.#throwOrLater(id, state.bytes)
      case 'inline':
        return this.decodeValue(state.bytes)
      case 'stored': {
        const bytes = this.store.open(state.storageId, state.size)
        return bytes ? this.decodeValue(bytes) : this.#readMoved(id, state.storageId, state.size)
      }
    }
  }

  /** A stored value that somebody else keeps alive while we read it: an argument. */
  readStored(storageId: ObjectId, size: number): unknown {
    const bytes = this.store.open(storageId, size)
    return bytes ? this.decodeValue(bytes) : this.#readMoved(storageId, storageId, size)
  }

  /** A value, or a promise of one (`Later`) when code inside it must be imported first. */
  decodeValue(bytes: ByteRange): unknown {
    try {
      return deserialize(bytes, this.host)
    } catch (error) {
      const { ready } = error as { ready?: Promise<void> }
      if (!(ready instanceof Promise)) throw error
      return new Later(ready.then(() => deserialize(bytes, this.host)))
    }
  }

  #readMoved(id: ObjectId, storageId: ObjectId, size: number): Later {
    const search: Search = { isOver: false, leave: null }
    const found = this.#openMoved(storageId, size, search).then((bytes) => {
      if (!bytes) return this.#readAgain(id, storageId)
      const value = this.decodeValue(bytes)
      return value instanceof Later ? value.promise : value
    })
    this.core.table.hold(id)
    const abandon = (): void => {
      search.isOver = true
      search.leave?.()
    }
    return new Later(
      found.finally(() => this.release(id)),
      abandon,
    )
  }

  /** No copy is left. Its owner may have another one made; an argument's is told to whoever sent it. */
  async #readAgain(id: ObjectId, storageId: ObjectId): Promise<unknown> {
    for (let tries = 0; id !== storageId || this.core.table.isOwned(id); tries++) {
      const isStale = this.core.table.stateOf(id)
      if (tries > LOST_TRIES_MAX || !isStale) break
      if (isStale.kind === 'stored' && isStale.storageId === storageId) this.core.onCopyLost(id, storageId)
      this.perform()
      if (tries > 0) await sleep(LOST_RETRY_MS) // The word of the loss has to reach the owner first.
      await this.whenReady([id])
      const state = this.core.table.look(id, this.core.effects)
      if (state.kind === 'stored' && state.storageId === storageId) continue
      const value = this.read(id)
      this.perform()
      return value instanceof Later ? value.promise : value
    }
    const detail = id === storageId ? ARGUMENT_GONE : 'its stored copy is gone'
    throw makeError('OBJECT_LOST', { id: this.formatId(id), detail })
  }

  /** It may move on between the node's answer and our look: then the node is asked again. */
  async #openMoved(storageId: ObjectId, size: number, search: Search): Promise<ByteRange | undefined> {
    for (let tries = 0; tries < LOCATE_TRIES_MAX; tries++) {
      const where = await this.#locate(storageId, search)
      if (where === null) return undefined
      const bytes = where === 'shm' ? this.store.open(storageId, size) : this.store.openAt(where, size)
      if (bytes) return bytes
    }
    return undefined
  }

  /** Rejects when the search is given up. */
  #locate(storageId: ObjectId, search: Search): Promise<SpillLocation | 'shm' | null> {
    this.onBlocked?.()
    return new Promise<SpillLocation | 'shm' | null>((resolve, reject) => {
      const known = this.#locating.get(storageId)
      const waiting = known ?? new Set()
      search.leave = () => {
        reject(new Error('nobody waits for it any more'))
        if (!waiting.delete(resolve) || waiting.size > 0 || this.#locating.get(storageId) !== waiting) return
        this.#locating.delete(storageId)
        this.link.send({ t: 'object.unlocate', storageId })
      }
      if (search.isOver) return search.leave()
      waiting.add(resolve)
      if (known) return
      this.#locating.set(storageId, waiting)
      this.link.send({ t: 'object.locate', storageId })
    }).finally(() => this.onUnblocked?.())
  }

  #throwOrLater(id: ObjectId, bytes: Uint8Array): Later {
    const ready = this.#importsOf(bytes)
    if (!ready) throw this.#errorOf(id, bytes)
    return new Later(
      ready.then(() => {
        throw this.#errorOf(id, bytes)
      }),
    )
  }

  /** What must be imported before this error can be read; null mostly. */
  #importsOf(bytes: Uint8Array): Promise<void> | null {
    try {
      if (bytes.byteLength > 0) deserialize(bytes, this.host)
      return null
    } catch (error) {
      const { ready } = error as { ready?: Promise<void> }
      return ready instanceof Promise ? ready : null
    }
  }

  #errorOf(id: ObjectId, bytes: Uint8Array): unknown {
    if (bytes.byteLength === 0) return makeError('OBJECT_FREED', { id: this.formatId(id) })
    return this.decodeError(bytes)
  }

  /** Errors travel as `[kind, payload]`: a code of the table, or what a task threw. */
  decodeError(bytes: Uint8Array): unknown {
    try {
      const value = deserialize(bytes, this.host) as readonly unknown[]
      if (value[0] === 'code')
        return errorFromWire({ code: String(value[1]), params: value[2] as Record<string, string | number> })
      return makeTaskError(value[1], value[2] as { name: string; pid: number })
    } catch (error) {
      return makeError('SYSTEM', { message: `an error could not be read: ${String(error)}` }, { cause: error })
    }
  }

  encodeCodedError(error: RayError): Buffer {
    return serializeToBytes(['code', error.code, error.params], this.host)
  }

  encodeTaskError(cause: unknown, name: string): Buffer {
    const where = { name, pid: process.pid }
    try {
      return serializeToBytes(['task', cause, where], this.host)
    } catch {
      return serializeToBytes(['task', describeError(cause), where], this.host)
    }
  }

  formatId(id: ObjectId): string {
    return formatObjectId(id, this.identity.jobId)
  }

  // get and wait

  isReady(id: ObjectId): boolean {
    return this.core.table.look(id, this.core.effects).kind !== 'pending'
  }

  get(ids: readonly ObjectId[], timeoutMs: number | null, keep: unknown): Promise<unknown[]> {
    return this.waiting.get(ids, timeoutMs, keep)
  }

  getOne(id: ObjectId, timeoutMs: number | null, keep: unknown): Promise<unknown> {
    return this.waiting.getOne(id, timeoutMs, keep)
  }

  wait(ids: readonly ObjectId[], count: number, timeoutMs: number | null, keep: unknown): Promise<number[]> {
    return this.waiting.wait(ids, count, timeoutMs, keep)
  }

  /** Resolves when all have values or errors. */
  async whenReady(ids: readonly ObjectId[]): Promise<void> {
    await this.wait(ids, ids.length, null, null) // Its callers hold them.
  }

  /** The actor cannot be made: an argument of its constructor failed. */
  failCreation(spec: ActorSpec, error: Uint8Array, pinned: readonly ObjectId[]): void {
    this.core.failCreation(spec, pinned, error)
    this.perform()
  }

  expectAnswer(): void {
    if (this.core.openTasks <= SPIN_TASKS_MAX) this.spinner.expect()
  }

  // Generators

  async nextItem(sequence: number): Promise<ObjectId | undefined> {
    for (;;) {
      const next = this.core.nextItem(sequence)
      this.perform()
      if (next === 'end') return undefined
      if (next !== 'wait') return next
      this.onBlocked?.()
      await new Promise<void>((resolve) => {
        const waiters = this.#streamWaiters.get(sequence) ?? new Set()
        this.#streamWaiters.set(sequence, waiters)
        waiters.add(resolve)
      })
      this.onUnblocked?.()
    }
  }

  // Tasks

  submit(task: Task): void {
    this.core.createReturns(task)
    this.core.submit(monotonicMs(), task)
    this.perform()
  }

  cancel(id: ObjectId, isForced: boolean, isRecursive: boolean): void {
    this.core.cancel(monotonicMs(), id, isForced, isRecursive)
    this.perform()
  }

  release(id: ObjectId): void {
    if (this.isClosed) return
    this.core.release(id)
    this.perform()
  }

  // From the node

  onMessage(message: FromNode): void {
    switch (message.t) {
      case 'log.lines':
        this.onLogs?.(message)
        return
      case 'object.collect':
        this.store.collect()
        return
      case 'work.ask':
        this.link.send({ t: 'work.is', question: message.question, work: this.#workOf(message.ids) })
        return
      case 'object.spilled':
        this.store.spilled(message.storageIds)
        return
      case 'object.located': {
        const waiting = this.#locating.get(message.storageId) ?? new Set()
        this.#locating.delete(message.storageId)
        for (const resolve of waiting) resolve(message.where)
        return
      }
      case 'actor.createRefused': {
        const error = errorFromWire(message.error)
        this.#refused.set(message.actorId, error)
        const spec = this.core.onActorRefused(message.actorId)
        if (spec)
          this.core.onMessage(monotonicMs(), {
            t: 'actor.state',
            info: { ...deadInfo(spec), death: { reason: error.message, exit: null, creationError: null } },
          })
        this.#creationRefused.get(message.actorId)?.(error)
        this.perform()
        return
      }
      default:
        this.core.onMessage(monotonicMs(), message)
        this.perform()
    }
  }

  #workOf(ids: readonly ObjectId[]): ProcessWork {
    const makers = ids.flatMap((id) => {
      const maker = this.core.makerOf(id)
      return maker ? [[id, maker] as const] : []
    })
    const constructed = [...this.deferred].flatMap((actor) => actor.ids.map((id) => [id, actor] as const))
    const missing = constructed.filter(([id]) => !this.isReady(id))
    const isOfActor = new Set(missing.map(([id]) => id))
    // A program that waits is nothing to look for. Of a process that runs several calls, its actor's name.
    const task = currentTask()
    const reader = { fn: { name: task?.name ?? '' } }
    const read = task ? this.waiting.ids(READ_MAX).filter((id) => !isOfActor.has(id)) : []
    const lists = [
      this.core.waiting(),
      this.core.waiting(missing, 'constructor'),
      this.core.waiting(
        read.map((id) => [id, reader] as const),
        'get',
      ),
    ]
    const isCut = lists.some((list) => list.isCut)
    return { jobId: this.identity.jobId, waiting: lists.flatMap(({ waiting }) => waiting), isCut, makers }
  }

  /** Calls back with the error if the GCS refuses the actor. */
  onCreationRefused(actorId: string, callback: (error: RayError) => void): void {
    this.#creationRefused.set(actorId, callback)
  }

  onNodeGone(detail: string): void {
    if (this.isClosed) return
    this.core.onNodeDied(detail)
    this.perform()
    for (const waiting of this.#locating.values()) for (const resolve of waiting) resolve(null)
    const bytes = this.encodeCodedError(makeError('NODE_DIED', { detail }))
    for (const id of this.waiting.ids()) {
      if (this.core.table.isOwned(id)) this.core.failObject(monotonicMs(), id, bytes)
      else this.core.failBorrowed(monotonicMs(), id, bytes)
    }
    this.perform()
  }

  close(): void {
    this.isClosed = true
    for (const peer of this.#peers.values()) peer.close()
    this.#peers.clear()
  }

  /** Resolves when the actor's state satisfies `until`. */
  whenActor(actorId: string, until: (info: ActorInfo) => boolean): Promise<ActorInfo> {
    const info = this.core.actors.info(actorId)
    if (info && until(info)) return Promise.resolve(info)
    return new Promise((resolve) => {
      const watchers = this.#actorWaiters.get(actorId) ?? new Set()
      this.#actorWaiters.set(actorId, watchers)
      const watcher = (changed: ActorInfo): void => {
        if (!until(changed)) return
        watchers.delete(watcher)
        resolve(changed)
      }
      watchers.add(watcher)
    })
  }

  // Effects

  /** What the node has to know of what an answer carries (holds granted, copies made) leaves before the answer. */
  flushNode(): void {
    this.perform()
    this.link.flush()
  }

  /** Performs what the machine wants done, until it wants nothing more (C1). */
  perform(): void {
    if (this.#isPerforming) return
    this.#isPerforming = true
    try {
      for (let effects = this.core.drain(); effects.length > 0; effects = this.core.drain()) {
        for (let i = 0; i < effects.length; i++) this.#performOne(effects[i] as CoreOutput)
      }
    } finally {
      this.#isPerforming = false
    }
  }

  #performOne(effect: CoreOutput): void {
    switch (effect.t) {
      case 'ready': {
        this.waiting.ready(effect.id)
        return
      }
      case 'push':
        if (effect.task.target !== effect.target) return // Resolved since.
        return this.#push(effect.target, effect.task)
      case 'toNode':
        return this.link.send(effect.message)
      case 'timer':
        setTimeout(() => this.#onTimer(effect.key), msUntil(effect.at)).unref()
        return
      case 'connect':
        this.#peer(effect.address)
        return
      case 'disconnect':
        this.#peers.get(effect.tag)?.close()
        this.#peers.delete(effect.tag)
        return this.core.onDisconnected(monotonicMs(), effect.tag)
      case 'freeOwn':
        return this.store.free(effect.storageIds)
      case 'itemAck': {
        const peer = this.#peer(effect.target.address)
        writeItemAck(peer.out, effect.sequence, effect.consumed)
        return peer.schedule()
      }
      case 'cancelOnWorker':
        return this.#cancelOnWorker(effect.target, effect.sequence, effect.isRecursive)
      case 'streamChanged': {
        const waiters = this.#streamWaiters.get(effect.sequence)
        this.#streamWaiters.delete(effect.sequence)
        for (const resolve of waiters ?? []) resolve()
        return
      }
      case 'actorChanged':
        for (const watcher of [...(this.#actorWaiters.get(effect.info.actorId) ?? [])]) watcher(effect.info)
        return
      case 'fail':
        return this.#fail(effect.ids, effect.failure)
      case 'warn':
        warn(effect.text)
        return
    }
  }

  #onTimer(key: string): void {
    if (this.isClosed) return
    this.core.onTimer(monotonicMs(), key)
    this.perform()
  }

  #peer(address: WorkerAddress): TaskPeer {
    let peer = this.#peers.get(address.tag)
    if (!peer) {
      peer = TaskPeer.connect(
        address,
        { ...this.identity, token: this.link.token },
        {
          onFrame: (from, buffer, start) => {
            if (!this.#replies.onFrame(monotonicMs(), from.tag, buffer, start)) from.close()
          },
          onBatchEnd: () => {
            this.spinner.arrived()
            this.perform()
          },
          onClose: (closed) => {
            if (this.#peers.get(closed.tag) === closed) this.#peers.delete(closed.tag)
            this.core.onDisconnected(monotonicMs(), closed.tag, closed.isTorn)
            this.perform()
          },
        },
      )
      peer.unref() // Waits hold the link; a program with nothing to wait for may end.
      this.#peers.set(address.tag, peer)
      this.core.onConnected(address.tag)
    }
    return peer
  }

  #push(target: Target, task: Task): void {
    const peer = this.#peer(target.address)
    const { out } = peer
    const index = peer.indexOf(task.fn, task.actorId !== null, task.extras)
    const isAgain = task.attempt > 0 || task.isSuspect
    const once = task.retriesLeft === 0 || task.isSuspect
    const again = isAgain ? packData({ ...task.extras, attempt: task.attempt, once }) : null
    writePush(out, task.sequence, index, task.numReturns, task.args as Uint8Array, task.nestedRefs, again)
    peer.schedule()
  }

  #cancelOnWorker(target: Target, sequence: number, isRecursive: boolean): void {
    const peer = this.#peer(target.address)
    writeCancel(peer.out, sequence, isRecursive)
    peer.schedule()
    if (target.leaseId === null) return
    const { leaseId } = target
    setTimeout(() => {
      const task = this.core.task(sequence)
      if (!task || task.target !== target || this.#replies.takeCancelAck(sequence)) return
      const detail = `the task ${task.fn.name} was cancelled while it computed`
      this.link.send({ t: 'lease.kill', leaseId, reason: 'cancelled', detail })
    }, CANCEL_GRACE_MS)
  }

  #fail(ids: readonly ObjectId[], failure: Failure): void {
    const bytes =
      failure.kind === 'dependency'
        ? failure.bytes
        : this.encodeCodedError(errorFor(failure, this.#refused, (id) => this.formatId(id)))
    for (const id of ids) {
      if (failure.kind === 'ownerDied' || (failure.kind === 'nodeDied' && !this.core.table.isOwned(id))) {
        this.core.failBorrowed(monotonicMs(), id, bytes)
      } else this.core.failObject(monotonicMs(), id, actorCreationError(failure) ?? bytes)
    }
  }

  /** The stored copy that its worker could not find, if that is why a task failed. */
  #lostArgument(bytes: Uint8Array): ObjectId | undefined {
    const error = this.#importsOf(bytes) ? null : (this.decodeError(bytes) as { cause?: unknown })
    const { cause } = error ?? {}
    const isLost = cause instanceof RayError && cause.code === 'OBJECT_LOST' && cause.params.detail === ARGUMENT_GONE
    return isLost ? parseObjectId(String(cause.params.id)) : undefined
  }

  #onTaskError(task: Task, bytes: Uint8Array, microseconds: number): void {
    const lost = task.pendingArgs === null ? undefined : this.#lostArgument(bytes)
    if (lost !== undefined && this.core.retryLostArgument(monotonicMs(), task, lost)) return
    const { retryOn } = task
    const ready = retryOn ? this.#importsOf(bytes) : null
    const complete = (): void =>
      this.core.completeWithError(monotonicMs(), task, bytes, retryOn?.(bytes) ?? false, microseconds)
    if (!ready) return complete()
    ready.then(complete, complete).finally(() => this.perform())
  }
}

function isPrimitive(value: unknown): boolean {
  switch (typeof value) {
    case 'number':
    case 'boolean':
    case 'undefined':
      return true
    case 'string':
      return value.length <= 255 && encodeSmall(value, scratch, 0) >= 0
    default:
      return value === null
  }
}

export function encodePrimitive(value: unknown): Uint8Array {
  const end = encodeSmall(value, scratch, 0)
  return Buffer.from(scratch.subarray(0, end))
}

/** What was thrown cannot travel: its words do. Asking for them may run user code that throws in turn. */
function describeError(cause: unknown): Error {
  try {
    const error = new Error(String(cause instanceof Error ? cause.message : cause))
    if (cause instanceof Error) {
      error.name = String(cause.name)
      if (cause.stack) error.stack = String(cause.stack)
    }
    return error
  } catch {
    return new Error('what it threw can neither travel nor be described')
  }
}

function actorCreationError(failure: Failure): Uint8Array | null {
  return failure.kind === 'actorDied' ? (failure.info?.death?.creationError ?? null) : null
}

function deadInfo(spec: ActorSpec): ActorInfo {
  const { actorId, className, name, namespace, handleId, detached, options, definition, jobId } = spec
  const life = { state: 'DEAD' as const, address: null, incarnation: 0, numRestarts: 0, death: null }
  return { actorId, className, name, namespace, handleId, detached, options, definition, jobId, ...life }
}
