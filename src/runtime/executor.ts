// Runs what owners push to this worker: tasks one at a time, or the calls of the one actor that it has become.
//
//     push ─► queue ─► arguments ─► user code ─► reply (value | error | items)        cancel: dropped, or the task's signal fires
//
// Invariants:
//   X1. Every push is answered once: a reply, or the end of the process.
//   X2. Normal tasks run in order and alone. When one turns out slow, or waits for others, those behind it are given back.
//   X3. Calls of an actor start in the order of arrival within their concurrency group, at most `limit` at once.
//   X4. Replies leave before user code runs that is slow or unknown: nobody's result waits for somebody else's work.

import { makeError } from '../errors/index.ts'
import { makeObjectId, type ObjectId } from '../ids/ids.ts'
import { encodeSmall } from '../values/index.ts'
import { readU16, readU32 } from '../wire/byte-writer.ts'
import { unpackData } from '../wire/codec.ts'
import type { ActorSpec } from '../wire/messages.ts'
import {
  beginInline,
  beginItem,
  beginReply,
  CANCEL_STATE,
  endFrame,
  endInline,
  endReply,
  FRAME,
  type PushExtras,
  readPush,
  STATUS,
  STREAMING,
  ValueReader,
  writeCancelAck,
  writeErrorBody,
  writeInline,
  writeStored,
} from '../wire/task-frames.ts'
import type { CoreRuntime } from './core-runtime.ts'
import { INLINE_BYTES_MAX, Later } from './core-runtime.ts'
import { runConcurrently, setSerialTask, type TaskContext } from './task-context.ts'
import type { TaskPeer } from './task-peer.ts'

type AnyFunction = (...args: unknown[]) => unknown

export interface FunctionSource {
  /** Loads a definition by its key, e.g. `fn:<hash>`. */
  load(key: string): Promise<AnyFunction>
}

interface Loaded {
  readonly fn: AnyFunction
  averageMicros: number
  calls: number
}

interface Job {
  readonly peer: TaskPeer
  readonly sequence: number
  readonly key: string
  readonly isMethod: boolean
  readonly numReturns: number
  readonly args: Buffer
  readonly refs: readonly ObjectId[]
  readonly extras: PushExtras
  controller: AbortController | null
  isCancelled: boolean
  consumed: number
  onConsumed: (() => void) | null
}

interface Group {
  readonly limit: number
  running: number
  readonly queue: Job[]
}

interface ActorState {
  readonly spec: ActorSpec
  readonly instance: Record<string, unknown>
  readonly groups: Map<string, Group>
  readonly isConcurrent: boolean
  isFinishing: boolean
}

const NO_EXTRAS: PushExtras = {}
const NO_IDS: readonly ObjectId[] = []
const SLOW_MICROS = 1000
const BOUNCE_AFTER_MS = 5
const CANCEL_SETTLE_MS = 50

export class Executor {
  readonly #runtime: CoreRuntime
  readonly #functions: FunctionSource
  readonly #loaded = new Map<string, Loaded>()
  readonly #queue: Job[] = []
  #running: Job | null = null
  #runningSince = 0
  #actor: ActorState | null = null
  #blocked = 0
  #bounceTimer: NodeJS.Timeout | null = null
  readonly #jobs = new Map<TaskPeer, Map<number, Job>>()
  readonly #exit: (detail: string) => void

  constructor(runtime: CoreRuntime, functions: FunctionSource, exit: (detail: string) => void) {
    this.#runtime = runtime
    this.#functions = functions
    this.#exit = exit
    runtime.onBlocked = () => this.#onBlocked()
    runtime.onUnblocked = () => this.#onUnblocked()
  }

  get actor(): ActorState | null {
    return this.#actor
  }

  onFrame(peer: TaskPeer, buffer: Buffer, start: number): void {
    switch (buffer[start]) {
      case FRAME.hello:
        peer.tag = readU32(buffer, start + 1)
        return
      case FRAME.define: {
        const text = buffer.toString('utf8', start + 8, start + 8 + readU16(buffer, start + 6))
        peer.definitions[readU32(buffer, start + 1)] = { isMethod: buffer[start + 5] === 1, text }
        return
      }
      case FRAME.push:
        return this.#onPush(peer, buffer, start)
      case FRAME.itemAck: {
        const job = this.#jobs.get(peer)?.get(readU32(buffer, start + 1))
        if (!job) return
        job.consumed = readU32(buffer, start + 5)
        job.onConsumed?.()
        return
      }
      case FRAME.cancel:
        return this.#onCancel(peer, readU32(buffer, start + 1), buffer[start + 5] === 1)
      default:
        peer.close()
    }
  }

  /** An owner is gone: nobody waits for its tasks. */
  onPeerClosed(peer: TaskPeer): void {
    for (const job of this.#jobs.get(peer)?.values() ?? []) {
      job.isCancelled = true
      job.controller?.abort()
      job.onConsumed?.()
    }
    this.#jobs.delete(peer)
  }

  #onPush(peer: TaskPeer, buffer: Buffer, start: number): void {
    const push = readPush(buffer, start)
    const definition = peer.definitions[push.functionIndex]
    if (!definition) {
      peer.close()
      return
    }
    const job: Job = {
      peer,
      sequence: push.task,
      key: definition.text,
      isMethod: definition.isMethod,
      numReturns: push.numReturns,
      args: push.args,
      refs: push.refs,
      extras: push.extras ? (unpackData(push.extras) as PushExtras) : NO_EXTRAS,
      controller: null,
      isCancelled: false,
      consumed: 0,
      onConsumed: null,
    }
    for (const ref of job.refs) this.#runtime.core.table.hold(ref)
    if (job.isMethod) this.#enqueueCall(job)
    else {
      this.#queue.push(job)
      if (this.#running === null) this.#pump()
      else this.#armBounce()
    }
  }

  // Normal tasks

  #pump(): void {
    while (this.#running === null) {
      const job = this.#queue.shift()
      if (!job) return
      const loaded = this.#loaded.get(job.key)
      if (!loaded) {
        this.#running = job
        this.#runningSince = performance.now()
        this.#load(job)
        return
      }
      this.#runTask(job, loaded)
    }
  }

  #load(job: Job): void {
    this.#functions.load(job.key).then(
      (fn) => {
        this.#loaded.set(job.key, { fn, averageMicros: -1, calls: 0 })
        this.#running = null
        this.#queue.unshift(job)
        this.#pump()
        this.#runtime.perform()
      },
      (error: unknown) => {
        this.#running = null
        this.#replyError(job, error, 0)
        this.#pump()
        this.#runtime.perform()
      },
    )
  }

  #runTask(job: Job, loaded: Loaded): void {
    if (job.isCancelled) {
      this.#replyStatus(job, STATUS.cancelled)
      return
    }
    if (loaded.averageMicros < 0 || loaded.averageMicros > SLOW_MICROS) job.peer.flush()
    this.#running = job
    this.#track(job)
    const began = performance.now()
    this.#runningSince = began
    setSerialTask(this.#context(job, null))
    const outcome = this.#call(job, loaded.fn, undefined)
    if (!(outcome instanceof Promise)) {
      this.#settle(job, outcome, began, loaded)
      return
    }
    if (this.#queue.length > 0) this.#armBounce()
    outcome.then((settled) => {
      this.#settle(job, settled, began, loaded)
      this.#runtime.perform()
      this.#pump()
    })
  }

  #settle(job: Job, outcome: Outcome, began: number, loaded: Loaded): void {
    const micros = Math.round((performance.now() - began) * 1000)
    loaded.averageMicros = loaded.averageMicros < 0 ? micros : loaded.averageMicros * 0.8 + micros * 0.2
    this.#running = null
    setSerialTask(null)
    this.#answer(job, outcome, micros)
    const { maxCalls } = job.extras
    if (maxCalls !== undefined && maxCalls > 0 && ++loaded.calls >= maxCalls) this.#leave(job.peer, 'maxCalls reached')
  }

  #leave(peer: TaskPeer, detail: string): void {
    this.#running = null
    this.#bounceQueue()
    peer.flush()
    this.#exit(detail)
  }

  #armBounce(): void {
    if (this.#bounceTimer || this.#running === null) return
    this.#bounceTimer = setTimeout(() => {
      this.#bounceTimer = null
      if (this.#running === null) return
      const since = performance.now() - this.#runningSince
      if (since >= BOUNCE_AFTER_MS || this.#blocked > 0) this.#bounceQueue()
      else if (this.#queue.length > 0) this.#armBounce()
    }, BOUNCE_AFTER_MS)
  }

  #bounceQueue(): void {
    for (const job of this.#queue.splice(0)) {
      this.#replyStatus(job, STATUS.bounced)
      job.peer.flush()
    }
  }

  #onBlocked(): void {
    if (this.#running === null && this.#actor === null) return
    if (this.#blocked++ > 0) return
    if (this.#queue.length > 0) this.#bounceQueue()
    this.#runtime.link.send({ t: 'worker.blocked' })
  }

  #onUnblocked(): void {
    if (this.#blocked === 0 || --this.#blocked > 0) return
    this.#runtime.link.send({ t: 'worker.unblocked' })
  }

  // Actors

  async becomeActor(spec: ActorSpec, incarnation: number): Promise<void> {
    const { link } = this.#runtime
    const context: TaskContext = {
      taskId: spec.handleId,
      name: `${spec.className}.constructor`,
      actorId: spec.actorId,
      attempt: incarnation,
      controller: new AbortController(),
    }
    try {
      setSerialTask(context)
      const type = (await this.#functions.load(spec.definition)) as unknown as new (...args: unknown[]) => object
      const args = await this.#arguments(Buffer.from(spec.args))
      const instance = new type(...args) as Record<string, unknown>
      const { options } = spec
      const groups = new Map<string, Group>()
      groups.set('', { limit: options.maxConcurrency, running: 0, queue: [] })
      for (const [name, limit] of Object.entries(options.concurrencyGroups))
        groups.set(name, { limit, running: 0, queue: [] })
      const isConcurrent = options.maxConcurrency > 1 || groups.size > 1
      this.#actor = { spec, instance, groups, isConcurrent, isFinishing: false }
      setSerialTask(isConcurrent ? { ...context, name: spec.className } : null)
      link.send({ t: 'actor.started', actorId: spec.actorId, incarnation, error: null })
    } catch (error) {
      const bytes = this.#runtime.encodeTaskError(error, `${spec.className}.constructor`)
      link.send({ t: 'actor.started', actorId: spec.actorId, incarnation, error: bytes })
    }
  }

  finishActor(): void {
    if (!this.#actor) return
    this.#actor.isFinishing = true
    this.#endIfFinished()
  }

  #endIfFinished(): void {
    const actor = this.#actor
    if (!actor?.isFinishing) return
    for (const group of actor.groups.values()) if (group.running > 0 || group.queue.length > 0) return
    for (const peer of this.#jobs.keys()) peer.flush()
    this.#exit('all handles to it went out of scope')
  }

  #enqueueCall(job: Job): void {
    const actor = this.#actor
    if (!actor) {
      this.#replyError(job, makeError('SYSTEM', { message: 'a call reached a worker that is no actor' }), 0)
      return
    }
    const name = job.extras.group ?? actor.spec.options.methods[job.key]?.concurrencyGroup ?? ''
    const group = actor.groups.get(name)
    if (!group) {
      const known = [...actor.groups.keys()].filter(Boolean).join(', ') || 'none'
      const message = `the actor class ${actor.spec.className} has no concurrency group '${name}'`
      this.#replyError(job, makeError('INVALID_ARGUMENT', { message, hint: `Its groups are: ${known}.` }), 0)
      return
    }
    if (group.running >= group.limit) {
      this.#track(job)
      group.queue.push(job)
    } else this.#runCall(actor, group, job)
  }

  #runCall(actor: ActorState, group: Group, job: Job): void {
    group.running++
    this.#track(job)
    const began = performance.now()
    const outcome = this.#startCall(actor, job)
    if (!(outcome instanceof Promise)) {
      this.#answer(job, outcome, Math.round((performance.now() - began) * 1000))
      this.#callDone(actor, group)
      return
    }
    outcome.then((settled) => {
      this.#answer(job, settled, Math.round((performance.now() - began) * 1000))
      this.#callDone(actor, group)
      this.#runtime.perform()
    })
  }

  #startCall(actor: ActorState, job: Job): Outcome | Promise<Outcome> {
    if (job.isCancelled) return { status: STATUS.cancelled, value: undefined }
    const method = actor.instance[job.key]
    if (typeof method !== 'function') {
      const methods = Object.keys(actor.spec.options.methods).join(', ')
      const params = { className: actor.spec.className, method: job.key, methods }
      return { status: STATUS.error, value: makeError('ACTOR_METHOD_MISSING', params) }
    }
    const context = this.#context(job, actor.spec)
    if (actor.isConcurrent)
      return runConcurrently(context, () => this.#call(job, method as AnyFunction, actor.instance))
    setSerialTask(context)
    return this.#call(job, method as AnyFunction, actor.instance)
  }

  #callDone(actor: ActorState, group: Group): void {
    group.running--
    while (group.running < group.limit) {
      const next = group.queue.shift()
      if (!next) break
      this.#runCall(actor, group, next)
    }
    if (actor.isFinishing) this.#endIfFinished()
  }

  // Running

  #context(job: Job, actor: ActorSpec | null): TaskContext {
    let controller = job.controller
    return {
      taskId: makeObjectId(job.peer.tag, job.sequence),
      name: job.extras.name ?? job.key,
      actorId: actor?.actorId ?? null,
      attempt: job.extras.attempt ?? 0,
      get controller() {
        controller ??= job.controller ??= new AbortController()
        return controller
      },
    }
  }

  #call(job: Job, fn: AnyFunction, self: unknown): Outcome | Promise<Outcome> {
    try {
      const args = this.#arguments(job.args)
      if (args instanceof Promise) return args.then((ready) => this.#invoke(job, fn, self, ready)).catch(failed)
      return this.#invoke(job, fn, self, args)
    } catch (error) {
      return failed(error)
    }
  }

  #invoke(job: Job, fn: AnyFunction, self: unknown, args: unknown[]): Outcome | Promise<Outcome> {
    try {
      const result = fn.apply(self, args)
      if (job.numReturns === STREAMING) return this.#stream(job, result)
      if (isThenable(result)) {
        return this.#orCancelled(job, Promise.resolve(result as PromiseLike<unknown>).then(succeeded, failed))
      }
      return { status: STATUS.ok, value: result }
    } catch (error) {
      return failed(error)
    }
  }

  /** A cancelled task is answered when it ends, or shortly after its signal fired. */
  #orCancelled(job: Job, outcome: Promise<Outcome>): Promise<Outcome> {
    return new Promise((resolve) => {
      outcome.then((settled) => resolve(job.isCancelled ? { status: STATUS.cancelled, value: undefined } : settled))
      job.controller ??= new AbortController()
      job.controller.signal.addEventListener('abort', () => {
        setTimeout(() => {
          resolve({ status: STATUS.cancelled, value: undefined })
          // What is left of it would go on beside the next task: this worker is not used again.
          if (!job.isMethod && this.#running === job)
            setImmediate(() => this.#leave(job.peer, 'a cancelled task went on'))
        }, CANCEL_SETTLE_MS).unref()
      })
    })
  }

  async #stream(job: Job, result: unknown): Promise<Outcome> {
    try {
      const source = (isThenable(result) ? await result : result) as AsyncIterable<unknown> & Iterable<unknown>
      const open = source?.[Symbol.asyncIterator] ?? source?.[Symbol.iterator]
      if (typeof open !== 'function') {
        const message = `${job.extras.name ?? job.key} was called with numReturns: 'streaming' but returned no iterator`
        return failed(makeError('INVALID_ARGUMENT', { message, hint: 'Make it a generator function.' }))
      }
      const iterator = open.call(source) as AsyncIterator<unknown>
      for (let index = 0; !job.isCancelled; index++) {
        const step = await iterator.next()
        if (step.done) return { status: STATUS.ok, value: [] }
        this.#sendItem(job, index, step.value)
        await this.#awaitConsumer(job, index + 1)
      }
      await iterator.return?.()
      return { status: STATUS.cancelled, value: undefined }
    } catch (error) {
      return failed(error)
    }
  }

  #sendItem(job: Job, index: number, value: unknown): void {
    const { out } = job.peer
    const serialized = this.#prepare(value, job.peer.tag)
    const start = beginItem(out, job.sequence, index)
    this.#writeValue(job.peer, value, serialized)
    endFrame(out, start)
    job.peer.flush()
    this.#runtime.perform()
  }

  async #awaitConsumer(job: Job, sent: number): Promise<void> {
    const ahead = job.extras.backpressure ?? 0
    while (ahead > 0 && sent - job.consumed >= ahead && !job.isCancelled) {
      await new Promise<void>((resolve) => {
        job.onConsumed = resolve
      })
    }
  }

  #arguments(blob: Buffer): unknown[] | Promise<unknown[]> {
    const reader = new ValueReader(blob, 0)
    const count = reader.u16()
    const args = new Array<unknown>(count)
    let later = false
    for (let i = 0; i < count; i++) {
      reader.next()
      const value = this.#argument(reader)
      if (value instanceof Later) later = true
      args[i] = value
    }
    return later ? Promise.all(args.map((arg) => (arg instanceof Later ? arg.promise : arg))) : args
  }

  #argument(reader: ValueReader): unknown {
    if (reader.isStored) return this.#runtime.readStored(reader.storageId, reader.size)
    return this.#runtime.decodeValue(reader.buffer.subarray(reader.start, reader.end))
  }

  // Answers

  #answer(job: Job, outcome: Outcome, micros: number): void {
    if (outcome.status === STATUS.error) this.#replyError(job, outcome.value, micros)
    else if (outcome.status === STATUS.cancelled) this.#replyStatus(job, STATUS.cancelled)
    else if (job.numReturns === 1) this.#replyOne(job, outcome.value, micros)
    else this.#replyMany(job, outcome.value, micros)
  }

  #replyOne(job: Job, value: unknown, micros: number): void {
    const { peer } = job
    let prepared: Prepared | null
    try {
      prepared = this.#prepare(value, peer.tag)
    } catch (error) {
      this.#replyError(job, error, micros)
      return
    }
    const { out } = peer
    const start = beginReply(out, job.sequence, STATUS.ok, micros)
    out.u16(1)
    this.#writeValue(peer, value, prepared)
    endReply(out, start, this.#finish(job))
    peer.schedule()
  }

  #replyMany(job: Job, value: unknown, micros: number): void {
    const isStream = job.numReturns === STREAMING
    const count = isStream ? 0 : job.numReturns
    const values = isStream || count === 0 ? [] : toArray(value)
    if (!values || values.length !== count) {
      const got = values ? `${values.length} values` : typeof value
      const message = `${job.extras.name ?? job.key} should return an array of ${count} values (numReturns), but returned ${got}`
      this.#replyError(
        job,
        makeError('INVALID_ARGUMENT', { message, hint: 'Return as many values as numReturns says.' }),
        micros,
      )
      return
    }
    let prepared: (Prepared | null)[]
    try {
      prepared = values.map((one) => this.#prepare(one, job.peer.tag))
    } catch (error) {
      this.#replyError(job, error, micros)
      return
    }
    const { out } = job.peer
    const start = beginReply(out, job.sequence, STATUS.ok, micros)
    out.u16(count)
    for (let i = 0; i < count; i++) this.#writeValue(job.peer, values[i], prepared[i] as Prepared | null)
    endReply(out, start, this.#finish(job))
    job.peer.schedule()
  }

  #replyError(job: Job, error: unknown, micros: number): void {
    const bytes = this.#runtime.encodeTaskError(error, job.extras.name ?? job.key)
    const { out } = job.peer
    const start = beginReply(out, job.sequence, STATUS.error, micros)
    writeErrorBody(out, bytes)
    endReply(out, start, this.#finish(job))
    job.peer.schedule()
  }

  #replyStatus(job: Job, status: number): void {
    const start = beginReply(job.peer.out, job.sequence, status, 0)
    endReply(job.peer.out, start, this.#finish(job))
    job.peer.schedule()
  }

  /** The job is over: which of its nested references does this process keep? Those are granted to us by the owner. */
  #finish(job: Job): readonly ObjectId[] {
    this.#jobs.get(job.peer)?.delete(job.sequence)
    if (job.refs.length === 0) return NO_IDS
    const { table, effects } = this.#runtime.core
    const kept: ObjectId[] = []
    for (const ref of job.refs) {
      const borrowed = table.borrowed.get(ref)
      if (borrowed && borrowed.holds > 1) {
        kept.push(ref)
        table.granted(ref, 1, effects)
      }
      table.release(ref, effects)
    }
    return kept
  }

  /** null: small enough to be written in place. */
  #prepare(value: unknown, owner: number): Prepared | null {
    if (encodeSmall(value, probe, 0) >= 0) return null
    const runtime = this.#runtime
    const serialized = runtime.serialize(value)
    const storageId =
      serialized.byteLength > INLINE_BYTES_MAX ? makeObjectId(runtime.core.tag, runtime.core.sequences(1)) : 0
    const location = runtime.write(serialized, storageId, owner)
    for (const ref of serialized.refs) runtime.core.table.grant(ref, owner, runtime.core.effects)
    return location
  }

  #writeValue(peer: TaskPeer, value: unknown, prepared: Prepared | null): void {
    const { out } = peer
    if (prepared === null) {
      out.reserve(300)
      const at = beginInline(out)
      out.offset = encodeSmall(value, out.buffer, out.offset)
      endInline(out, at)
    } else if (prepared.kind === 'inline') writeInline(out, prepared.bytes, prepared.refs)
    else writeStored(out, prepared.storageId, prepared.size, prepared.refs)
  }

  #track(job: Job): void {
    let jobs = this.#jobs.get(job.peer)
    if (!jobs) {
      jobs = new Map()
      this.#jobs.set(job.peer, jobs)
    }
    jobs.set(job.sequence, job)
  }

  #onCancel(peer: TaskPeer, sequence: number, isRecursive: boolean): void {
    const ack = (state: number): void => {
      writeCancelAck(peer.out, sequence, state)
      peer.flush()
    }
    const queued = this.#queue.findIndex((job) => job.peer === peer && job.sequence === sequence)
    if (queued >= 0) {
      const [job] = this.#queue.splice(queued, 1)
      ack(CANCEL_STATE.dropped)
      if (job) this.#replyStatus(job, STATUS.cancelled)
      return
    }
    const job = this.#jobs.get(peer)?.get(sequence)
    if (!job) return ack(CANCEL_STATE.unknown)
    ack(CANCEL_STATE.signalled)
    job.isCancelled = true
    job.onConsumed?.()
    if (isRecursive) {
      for (const child of this.#runtime.core.childrenOf(makeObjectId(peer.tag, sequence))) {
        this.#runtime.cancel(makeObjectId(this.#runtime.core.tag, child.sequence), false, true)
      }
    }
    const controller = job.controller ?? new AbortController()
    job.controller = controller
    controller.abort(makeError('TASK_CANCELLED', { name: job.extras.name ?? job.key }))
  }
}

type Prepared = ReturnType<CoreRuntime['write']>

interface Outcome {
  readonly status: number
  readonly value: unknown
}

const probe = Buffer.allocUnsafeSlow(264)

function succeeded(value: unknown): Outcome {
  return { status: STATUS.ok, value }
}

function failed(error: unknown): Outcome {
  return { status: STATUS.error, value: error }
}

function isThenable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

function toArray(value: unknown): readonly unknown[] | null {
  if (Array.isArray(value)) return value
  const isIterable = typeof value === 'object' && value !== null && Symbol.iterator in value
  return isIterable ? [...(value as Iterable<unknown>)] : null
}
