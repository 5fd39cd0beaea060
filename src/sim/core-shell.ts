// A core worker process as the machines see it: drives the production `CoreWorker` as `runtime/core-runtime.ts` does, over simulated
// connections, with the real codec, frames and values.
//
//   C1. Every turn ends with `perform`: no effect waits for the next turn.
//   C2. Whatever a frame or message carries was encoded and decoded; no object is shared between processes.

import { CoreWorker } from '../core-worker/core-worker.ts'
import type { CoreOutput, Failure, Target, Task } from '../core-worker/effects.ts'
import { Replies } from '../core-worker/replies.ts'
import { type JobId, makeObjectId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import { InvariantError } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import { deserialize, encodeSmall, type SerializedValue, serialize } from '../values/index.ts'
import { ByteWriter, readU32 } from '../wire/byte-writer.ts'
import { packData } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import type { ActorInfo, ActorSpec, FromNode, ObjectLocation, ToNode, WorkerAddress } from '../wire/messages.ts'
import {
  TASK_FRAME_BYTES_MAX,
  writeCancel,
  writeDefine,
  writeHello,
  writeItemAck,
  writePush,
} from '../wire/task-frames.ts'
import type { Cluster } from './cluster.ts'
import { Fetches } from './fetches.ts'
import { type FailureInfo, GetFailure, HostOf, type SimRef } from './handles.ts'
import type { ControlLink } from './link.ts'
import type { Socket } from './network.ts'
import type { SimNode } from './node.ts'
import type { SimProcess } from './processes.ts'

/** Larger values go to the store; small, so that a simulation moves few bytes. */
const INLINE_BYTES_MAX = 600
const CANCEL_GRACE_MS: Ms = 300
const LOST_TRIES_MAX = 40
const LOST_RETRY_MS: Ms = 50

interface Peer {
  readonly tag: WorkerTag
  readonly socket: Socket
  readonly out: ByteWriter
  readonly defined: Map<string, number>
  isClosed: boolean
}

export class CoreShell {
  readonly core: CoreWorker
  readonly os: SimProcess
  readonly cluster: Cluster
  readonly node: SimNode
  readonly link: ControlLink
  readonly host: HostOf
  /** References and handles that the program of this process holds. */
  readonly refs = new Set<SimRef>()
  readonly jobId: JobId
  isClosed = false
  onBlocked: (() => void) | null = null
  onUnblocked: (() => void) | null = null
  readonly #peers = new Map<WorkerTag, Peer>()
  readonly #waiters = new Map<ObjectId, Set<(id: ObjectId) => void>>()
  readonly #fetches = new Fetches(this)
  readonly #streamWaiters = new Map<number, Set<() => void>>()
  readonly #actorWaiters = new Map<string, Set<(info: ActorInfo) => void>>()
  readonly #replies: Replies
  readonly refused = new Set<string>()
  readonly inlineBytesMax = INLINE_BYTES_MAX
  /** Programs go on after the machine's effects, as promises do. */
  readonly #microtasks: (() => void)[] = []
  #isPerforming = false

  constructor(
    cluster: Cluster,
    node: SimNode,
    os: SimProcess,
    registered: FromNode & { t: 'registered' },
    link: ControlLink,
  ) {
    this.cluster = cluster
    this.node = node
    this.os = os
    this.link = link
    this.jobId = registered.jobId
    this.core = new CoreWorker(registered.tag, encodePrimitive)
    this.#replies = new Replies(this.core, (task, bytes, micros) => {
      const { kind, origin } = task.pendingArgs === null ? { kind: '', origin: 0 } : this.failureOf(0, bytes)
      if (kind === 'argumentLost' && this.core.retryLostArgument(this.now, task, origin)) return
      this.core.completeWithError(this.now, task, bytes, task.retryOn?.(bytes) ?? false, micros)
    })
    this.host = new HostOf(this)
    cluster.bugs.core?.(this.core)
  }

  get tag(): WorkerTag {
    return this.core.tag
  }

  get now(): Ms {
    return this.cluster.world.now
  }

  // Values

  serialize(value: unknown): SerializedValue {
    return serialize(value, this.host)
  }

  deserialize(bytes: Uint8Array): unknown {
    return deserialize(bytes, this.host)
  }

  put(value: unknown): ObjectId {
    const id = makeObjectId(this.tag, this.core.sequences(1))
    this.core.table.create(id)
    const serialized = this.serialize(value)
    const state = this.write(serialized, id, this.tag)
    for (const ref of serialized.refs) this.core.table.hold(ref)
    this.core.fulfil(this.now, id, state)
    return id
  }

  write(
    serialized: SerializedValue,
    storageId: ObjectId,
    owner: WorkerTag,
  ): ObjectLocation & { kind: 'inline' | 'stored' } {
    const { byteLength: size, refs } = serialized
    const bytes = Buffer.alloc(size)
    serialized.writeTo(bytes, 0)
    if (size <= INLINE_BYTES_MAX) return { kind: 'inline', bytes, refs }
    this.node.store.write(storageId, bytes)
    this.cluster.judge.onWritten(storageId, bytes)
    this.link.send({ t: 'object.created', storageId, owner, size, spilled: null })
    return { kind: 'stored', storageId, size, refs }
  }

  /** The value, `undefined` while it is pending, or throws `GetFailure`. */
  read(id: ObjectId): { readonly value: unknown } | undefined {
    const state = this.core.table.look(id, this.core.effects)
    switch (state.kind) {
      case 'pending':
      case 'evicted':
        return undefined
      case 'primitive':
        return { value: state.value }
      case 'error':
        throw new GetFailure(this.failureOf(id, state.bytes))
      case 'inline':
        return { value: this.deserialize(state.bytes) }
      case 'stored':
        return { value: this.readStored(state.storageId, id) }
    }
  }

  fetch(storageIds: readonly ObjectId[], callback: () => void): void {
    this.#fetches.fetch(storageIds, callback)
  }

  /** After the machine's effects, as promises do. */
  soon(run: () => void): void {
    this.#microtasks.push(run)
  }

  /** Of values that are known, those that are stored: brought here, or made again while their owners can. */
  fetchValues(ids: readonly ObjectId[], callback: () => void, isOver: () => boolean, tries = 0): void {
    const stored = ids.flatMap((id) => {
      const state = this.core.table.stateOf(id)
      return state?.kind === 'stored' ? [{ id, storageId: state.storageId }] : []
    })
    for (const { id } of stored) this.core.table.hold(id)
    this.fetch(
      stored.map(({ storageId }) => storageId),
      () => {
        const lost = stored.filter(({ storageId }) => !this.cluster.openCopy(storageId, this.node))
        const mayCome = this.cluster.net.hasTransfers && lost.length > 0 && tries < LOST_TRIES_MAX && !isOver()
        for (const { id, storageId } of mayCome ? lost : []) {
          const state = this.core.table.stateOf(id)
          if (state?.kind === 'stored' && state.storageId === storageId) this.core.onCopyLost(id, storageId)
        }
        const release = (): void => {
          for (const { id } of stored) this.core.release(id)
        }
        if (!mayCome) {
          callback()
          return release()
        }
        this.perform()
        this.os.after(LOST_RETRY_MS, () => {
          this.whenReady(ids, ids.length, null, () => {
            this.fetchValues(ids, callback, isOver, tries + 1)
            release()
          })
        })
      },
    )
  }

  readStored(storageId: ObjectId, id: ObjectId): unknown {
    const bytes = this.cluster.openCopy(storageId, this.node)
    if (!bytes) throw new GetFailure({ kind: 'lost', origin: id, of: null })
    return this.deserialize(Buffer.from(bytes))
  }

  failureOf(id: ObjectId, bytes: Uint8Array): FailureInfo {
    if (bytes.byteLength === 0) return { kind: 'freed', origin: id, of: null }
    return this.deserialize(bytes) as FailureInfo
  }

  encodeFailure(failure: FailureInfo): Buffer {
    const serialized = this.serialize(failure)
    const bytes = Buffer.alloc(serialized.byteLength)
    serialized.writeTo(bytes, 0)
    return bytes
  }

  // Waiting

  isReady(id: ObjectId): boolean {
    return this.core.table.look(id, this.core.effects).kind !== 'pending'
  }

  /** Calls back once, when `count` of the ids are ready, or when the time is over. */
  whenReady(
    ids: readonly ObjectId[],
    count: number,
    timeoutMs: Ms | null,
    callback: (isTimedOut: boolean) => void,
  ): void {
    const missing = new Set(ids.filter((id) => !this.isReady(id)))
    let open = missing.size - (new Set(ids).size - Math.min(count, new Set(ids).size))
    if (open <= 0) {
      callback(false)
      return
    }
    let isOver = false
    const finish = (isTimedOut: boolean): void => {
      if (isOver) return
      isOver = true
      for (const id of missing) this.#waiters.get(id)?.delete(onReady)
      this.onUnblocked?.()
      this.#microtasks.push(() => callback(isTimedOut))
    }
    const onReady = (): void => {
      if (--open === 0) finish(false)
    }
    this.onBlocked?.()
    for (const id of missing) {
      const waiters = this.#waiters.get(id) ?? new Set()
      this.#waiters.set(id, waiters)
      waiters.add(onReady)
    }
    if (timeoutMs !== null) this.os.after(timeoutMs, () => finish(true))
  }

  nextItem(sequence: number, callback: (id: ObjectId | undefined) => void): void {
    const next = this.core.nextItem(sequence)
    if (next === 'end') return callback(undefined)
    if (next !== 'wait') return callback(next)
    this.onBlocked?.()
    const waiters = this.#streamWaiters.get(sequence) ?? new Set()
    this.#streamWaiters.set(sequence, waiters)
    waiters.add(() => {
      this.onUnblocked?.()
      this.#microtasks.push(() => this.nextItem(sequence, callback))
    })
  }

  whenActor(actorId: string, until: (info: ActorInfo) => boolean, callback: () => void): void {
    const info = this.core.actors.info(actorId)
    if (info && until(info)) return callback()
    const watchers = this.#actorWaiters.get(actorId) ?? new Set()
    this.#actorWaiters.set(actorId, watchers)
    const watcher = (changed: ActorInfo): void => {
      if (!until(changed)) return
      watchers.delete(watcher)
      callback()
    }
    watchers.add(watcher)
  }

  // From the node

  onMessage(message: FromNode): void {
    switch (message.t) {
      case 'object.located':
        return this.#fetches.onLocated(message)
      case 'object.rescued':
        if (this.cluster.net.hasTransfers) this.cluster.judge.onRescued(message.storageId, message.copy)
        return this.core.onMessage(this.now, message)
      case 'actor.createRefused': {
        this.refused.add(message.actorId)
        const spec = this.core.onActorRefused(message.actorId)
        const death = { reason: message.error.code, exit: null, creationError: null }
        if (spec) this.core.onMessage(this.now, { t: 'actor.state', info: { ...deadInfo(spec), death } })
        return
      }
      default:
        this.core.onMessage(this.now, message)
    }
  }

  failCreation(spec: ActorSpec, error: Uint8Array, pinned: readonly ObjectId[]): void {
    this.core.failCreation(spec, pinned, error)
  }

  /** The node is gone. */
  onNodeGone(): void {
    if (this.isClosed) return
    this.core.onNodeDied('its connection broke')
    this.perform()
    for (const id of [...this.#waiters.keys()]) {
      const bytes = this.encodeFailure({ kind: 'nodeDied', origin: id, of: null })
      if (this.core.table.isOwned(id)) this.core.failObject(this.now, id, bytes)
      else this.core.failBorrowed(this.now, id, bytes)
    }
    this.perform()
  }

  // Effects

  turnEnd(): void {
    this.settle()
    for (const peer of this.#peers.values()) this.#flush(peer)
    this.link.flush()
    this.cluster.judge.onTurn(this)
  }

  /** Performs until nothing is wanted and every program waits. */
  settle(): void {
    this.perform()
    for (let task = this.#microtasks.shift(); task; task = this.#microtasks.shift()) {
      task()
      this.perform()
    }
  }

  perform(): void {
    if (this.#isPerforming) return
    this.#isPerforming = true
    try {
      for (let effects = this.core.drain(); effects.length > 0; effects = this.core.drain()) {
        for (const effect of effects) this.#performOne(effect)
      }
    } finally {
      this.#isPerforming = false
    }
    this.core.check()
  }

  #performOne(effect: CoreOutput): void {
    switch (effect.t) {
      case 'ready': {
        const waiters = this.#waiters.get(effect.id)
        this.#waiters.delete(effect.id)
        for (const onReady of waiters ?? []) onReady(effect.id)
        return
      }
      case 'push':
        if (effect.task.target !== effect.target) return // Resolved since.
        return this.#push(effect.target, effect.task)
      case 'toNode':
        return this.#toNode(effect.message)
      case 'timer':
        return this.os.after(Math.max(0, effect.at - this.now), () => {
          if (!this.isClosed) this.core.onTimer(this.now, effect.key)
        })
      case 'connect':
        this.#peer(effect.address)
        return
      case 'disconnect':
        this.#peers.get(effect.tag)?.socket.close()
        this.#peers.delete(effect.tag)
        return this.core.onDisconnected(this.now, effect.tag)
      case 'freeOwn':
        return this.node.store.freeOwn(this.tag, effect.storageIds)
      case 'itemAck':
        return writeItemAck(this.#peer(effect.target.address).out, effect.sequence, effect.consumed)
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
        return
    }
  }

  #toNode(message: ToNode): void {
    this.cluster.judge.onToNode(message)
    this.link.send(message)
  }

  #peer(address: WorkerAddress): Peer {
    const known = this.#peers.get(address.tag)
    if (known) return known
    const socket = this.cluster.dial(this, address.socket)
    const peer: Peer = { tag: address.tag, socket, out: new ByteWriter(), defined: new Map(), isClosed: false }
    const reader = new FrameReader((buffer, start) => this.#onFrame(peer, buffer, start), TASK_FRAME_BYTES_MAX)
    socket.listen({
      onData: (chunk) => reader.push(chunk),
      onClose: (isReset) => {
        peer.isClosed = true
        if (this.#peers.get(peer.tag) === peer) this.#peers.delete(peer.tag)
        this.core.onDisconnected(this.now, peer.tag, isReset)
      },
    })
    writeHello(peer.out, this.tag, 1)
    this.#peers.set(address.tag, peer)
    this.core.onConnected(address.tag)
    return peer
  }

  #flush(peer: Peer): void {
    if (peer.out.pending > 0 && !peer.isClosed) peer.socket.write(peer.out.take())
  }

  #push(target: Target, task: Task): void {
    const peer = this.#peer(target.address)
    const known = `${task.fn.key} ${JSON.stringify(task.extras)}`
    let index = peer.defined.get(known)
    if (index === undefined) {
      index = peer.defined.size
      peer.defined.set(known, index)
      writeDefine(peer.out, index, task.actorId !== null, task.fn.key, task.extras ? packData(task.extras) : null)
    }
    if (!task.args) throw new InvariantError(`D1: the task ${task.sequence} is pushed without arguments`)
    const isAgain = task.attempt > 0 || task.isSuspect
    const once = task.retriesLeft === 0 || task.isSuspect
    const extras = isAgain ? packData({ ...task.extras, attempt: task.attempt, once }) : null
    writePush(peer.out, task.sequence, index, task.numReturns, task.args, task.nestedRefs, extras)
    this.cluster.judge.onPush(this, target, task)
  }

  #cancelOnWorker(target: Target, sequence: number, isRecursive: boolean): void {
    writeCancel(this.#peer(target.address).out, sequence, isRecursive)
    const { leaseId } = target
    if (leaseId === null) return
    this.os.after(CANCEL_GRACE_MS, () => {
      const task = this.core.task(sequence)
      if (!task || task.target !== target || this.#replies.takeCancelAck(sequence)) return
      this.link.send({ t: 'lease.kill', leaseId, reason: 'cancelled', detail: 'it computed' })
    })
  }

  #fail(ids: readonly ObjectId[], failure: Failure): void {
    const kind = failure.kind === 'actorDied' && this.refused.has(failure.actorId) ? 'createRefused' : failure.kind
    for (const id of ids) {
      const creation = failure.kind === 'actorDied' ? failure.info?.death?.creationError : null
      const bytes =
        creation ?? (failure.kind === 'dependency' ? failure.bytes : this.encodeFailure({ kind, origin: id, of: null }))
      const isBorrowed = failure.kind === 'ownerDied' || (failure.kind === 'nodeDied' && ownerOf(id) !== this.tag)
      if (isBorrowed) this.core.failBorrowed(this.now, id, bytes)
      else this.core.failObject(this.now, id, bytes)
    }
  }

  // Frames from workers

  #onFrame(peer: Peer, buffer: Buffer, start: number): void {
    const sequence = readU32(buffer, start + 1)
    this.cluster.world.log(
      `${this.os.name} frame ${buffer[start]} of ${sequence} from ${peer.tag}, status ${buffer[start + 5]}`,
    )
    this.#replies.onFrame(this.now, peer.tag, buffer, start)
  }
}

const scratch = Buffer.alloc(512)

function encodePrimitive(value: unknown): Uint8Array {
  return Buffer.from(scratch.subarray(0, encodeSmall(value, scratch, 0)))
}

function deadInfo(spec: ActorSpec): ActorInfo {
  const { actorId, className, name, namespace, handleId, detached, options, definition, jobId } = spec
  const life = { state: 'DEAD' as const, address: null, incarnation: 0, numRestarts: 0, death: null }
  return { actorId, className, name, namespace, handleId, detached, options, definition, jobId, ...life }
}
