// A worker's side of tasks: what `runtime/executor.ts`, `job-runner.ts` and `actor-executor.ts` do on the wire, with scripts for user code.
//
//   X1. Every push is answered once: a reply, or the end of the process.
//   X2. Normal tasks run in order and alone; those behind a slow or waiting one are given back.
//   X3. Calls of an actor start in the order of arrival, at most `maxConcurrency` at once.

import { keptOf, type PreparedValue, prepareValue, writeValue } from '../core-worker/answers.ts'
import { WATCH_MS, WorkerQueue } from '../core-worker/worker-queue.ts'
import { makeObjectId, type ObjectId, type WorkerTag } from '../ids/ids.ts'
import { InvariantError } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import { ByteWriter, readU32 } from '../wire/byte-writer.ts'
import { unpackData } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import type { ActorSpec } from '../wire/messages.ts'
import {
  beginItem,
  beginReply,
  CANCEL_STATE,
  endFrame,
  endReply,
  FRAME,
  type PushExtras,
  PushReader,
  readDefine,
  STATUS,
  STREAMING,
  TASK_FRAME_BYTES_MAX,
  ValueReader,
  writeCancelAck,
  writeErrorBody,
} from '../wire/task-frames.ts'
import type { CoreShell } from './core-shell.ts'
import { drive, type Outcome } from './drive.ts'
import type { SimRef } from './handles.ts'
import type { Socket } from './network.ts'
import { runScript, type Script } from './programs.ts'

const CANCEL_SETTLE_MS: Ms = 50

interface Peer {
  tag: WorkerTag
  readonly socket: Socket
  readonly out: ByteWriter
  readonly definitions: { readonly isMethod: boolean; readonly text: string; readonly extras: PushExtras }[]
  readonly jobs: Map<number, Job>
}

interface Job {
  readonly peer: Peer
  readonly sequence: number
  readonly key: string
  readonly isMethod: boolean
  readonly numReturns: number
  readonly args: Buffer
  readonly refs: readonly ObjectId[]
  readonly extras: PushExtras
  isCancelled: boolean
  isOver: boolean
  consumed: number
  onConsumed: (() => void) | null
  onCancel: (() => void) | null
}

interface ActorState {
  readonly spec: ActorSpec
  readonly incarnation: number
  running: number
  readonly queue: Job[]
  isFinishing: boolean
}

export class SimExecutor {
  readonly #shell: CoreShell
  readonly #peers = new Set<Peer>()
  readonly #tasks = new WorkerQueue<Job, true>()
  /** For good: of one whose constructor threw nothing comes any more. */
  #isBecoming = false
  #actor: ActorState | null = null
  readonly kept: SimRef[] = []

  constructor(shell: CoreShell) {
    this.#shell = shell
    shell.onBlocked = () => this.#onBlocked()
    shell.onUnblocked = () => this.#onUnblocked()
  }

  get isIdle(): boolean {
    return this.#tasks.isIdle && (this.#actor?.running ?? 0) === 0
  }

  accept(socket: Socket): void {
    const peer: Peer = { tag: -1, socket, out: new ByteWriter(), definitions: [], jobs: new Map() }
    this.#peers.add(peer)
    const reader = new FrameReader((buffer, start) => this.#onFrame(peer, buffer, start), TASK_FRAME_BYTES_MAX)
    socket.listen({ onData: (chunk) => reader.push(chunk), onClose: () => this.#onPeerClosed(peer) })
  }

  turnEnd(): void {
    this.#shell.perform()
    this.#shell.link.flush()
    for (const peer of this.#peers) this.#flush(peer)
  }

  /** What the node has to know of what a frame carries leaves before the frame. */
  #flushAll(peer: Peer): void {
    this.#shell.perform()
    this.#shell.link.flush()
    this.#flush(peer)
  }

  #flush(peer: Peer): void {
    if (peer.out.pending === 0) return
    this.#shell.cluster.mayTear(this.#shell.os)
    peer.socket.write(peer.out.take())
  }

  #onPeerClosed(peer: Peer): void {
    this.#peers.delete(peer)
    for (const job of peer.jobs.values()) {
      job.isCancelled = true
      job.onCancel?.()
      job.onConsumed?.()
    }
  }

  #onFrame(peer: Peer, buffer: Buffer, start: number): void {
    const { os, cluster } = this.#shell
    cluster.world.log(`${os.name} frame ${buffer[start]} from ${peer.tag}: ${readU32(buffer, start + 1)}`)
    switch (buffer[start]) {
      case FRAME.hello:
        peer.tag = readU32(buffer, start + 1)
        return
      case FRAME.define: {
        const { index, isMethod, text, extras } = readDefine(buffer, start)
        peer.definitions[index] = { isMethod, text, extras: extras ? (unpackData(extras) as PushExtras) : {} }
        return
      }
      case FRAME.push:
        return this.#onPush(peer, buffer, start)
      case FRAME.itemAck: {
        const job = peer.jobs.get(readU32(buffer, start + 1))
        if (!job) return
        job.consumed = readU32(buffer, start + 5)
        job.onConsumed?.()
        return
      }
      case FRAME.cancel:
        return this.#onCancel(peer, readU32(buffer, start + 1), buffer[start + 5] === 1)
      default:
        throw new InvariantError('a worker was sent an unknown frame')
    }
  }

  #onPush(peer: Peer, buffer: Buffer, start: number): void {
    const push = new PushReader()
    push.read(buffer, start)
    const definition = peer.definitions[push.functionIndex]
    if (!definition) throw new InvariantError('a push names a function that was not defined')
    const job: Job = {
      peer,
      sequence: push.task,
      key: definition.text,
      isMethod: definition.isMethod,
      numReturns: push.numReturns,
      args: Buffer.from(buffer.subarray(push.argsStart, push.argsEnd)),
      refs: push.refs,
      extras: push.extras ? (unpackData(push.extras) as PushExtras) : definition.extras,
      isCancelled: false,
      isOver: false,
      consumed: 0,
      onConsumed: null,
      onCancel: null,
    }
    const { cluster, core } = this.#shell
    cluster.judge.onArrival(this.#shell, peer.tag, job.sequence, job.isMethod)
    for (const ref of job.refs) core.table.hold(ref)
    if (job.isMethod) this.#enqueueCall(job)
    else {
      this.#tasks.push(job)
      if (this.#tasks.isReady) this.#pump()
      else this.#watch()
    }
  }

  // Normal tasks

  #pump(): void {
    while (this.#tasks.isReady) {
      const job = this.#tasks.begin(this.#shell.now)
      if (this.#tasks.fn) this.#runTask(job)
      else this.#load(job)
    }
  }

  #load(job: Job): void {
    job.peer.jobs.set(job.sequence, job)
    this.#shell.link.request<'kv.value'>(
      (requestId) => ({ t: 'kv.get', requestId, key: job.key, wait: true }),
      ({ value }) => {
        if (!value) throw new InvariantError(`the definition ${job.key} is gone`)
        this.#tasks.loaded(true)
        this.#pump()
      },
    )
  }

  #runTask(job: Job): void {
    if (job.isCancelled) {
      this.#tasks.abandon()
      this.#replyStatus(job, STATUS.cancelled)
      return
    }
    if (this.#tasks.isSlow) this.#flushAll(job.peer)
    job.peer.jobs.set(job.sequence, job)
    this.#run(job, (outcome) => {
      this.#answer(job, outcome, this.#tasks.end(this.#shell.now))
      if (this.#tasks.isWornOut(job)) this.#leave('maxCalls reached')
      this.#pump()
    })
    this.#watch()
  }

  #leave(detail: string): void {
    this.#giveBack(this.#tasks.leave())
    this.exit(detail)
  }

  exit(detail: string): void {
    this.#shell.link.send({ t: 'worker.exiting', detail, isFailure: false })
    this.#shell.os.die({ code: 0, signal: null }, true)
  }

  #watch(): void {
    if (!this.#tasks.watch()) return
    this.#shell.os.after(WATCH_MS, () => {
      this.#giveBack(this.#tasks.onWatch(this.#shell.now))
      this.#watch()
    })
  }

  #giveBack(jobs: readonly Job[]): void {
    for (const job of jobs) this.#replyStatus(job, STATUS.bounced)
  }

  #onBlocked(): void {
    if (this.#tasks.running === null && this.#actor === null && !this.#isBecoming) return
    if (!this.#tasks.block()) return
    this.#giveBack(this.#tasks.giveBack())
    this.#shell.link.send({ t: 'worker.blocked' })
  }

  #onUnblocked(): void {
    if (this.#tasks.unblock()) this.#shell.link.send({ t: 'worker.unblocked' })
  }

  // Actors

  become(spec: ActorSpec, incarnation: number): void {
    if (this.#actor || this.#isBecoming) return // A GCS that is not sure says it again.
    const { link, cluster } = this.#shell
    cluster.judge.onIncarnation(this.#shell, spec.actorId, incarnation)
    this.#isBecoming = true
    const started = (error: Uint8Array | null): void => {
      if (!error) this.#actor = { spec, incarnation, running: 0, queue: [], isFinishing: false }
      link.send({ t: 'actor.started', actorId: spec.actorId, incarnation, error })
    }
    link.request<'kv.value'>(
      (requestId) => ({ t: 'kv.get', requestId, key: spec.definition, wait: true }),
      () =>
        this.#shell.fetch(storedIn(Buffer.from(spec.args)), () => {
          const scope: SimRef[] = []
          const args = this.#arguments(Buffer.from(spec.args), spec.owner, scope)
          if ('failure' in args) {
            this.#drop(scope)
            return started(this.#shell.encodeFailure(args.failure))
          }
          const [script] = args.values as [Script]
          const { shell, kept } = { shell: this.#shell, kept: this.kept }
          const program = runScript(script, { shell, attempt: incarnation, parent: spec.handleId, kept, scope })
          drive(program, {
            shell,
            scope,
            onItem: null,
            onDone: (outcome) => {
              this.#drop(scope)
              started(outcome.status === STATUS.ok ? null : this.#encodeError(outcome))
            },
          })
        }),
    )
  }

  finish(): void {
    if (!this.#actor) return
    this.#actor.isFinishing = true
    this.#endIfFinished(this.#actor)
  }

  #endIfFinished(actor: ActorState): void {
    if (actor.isFinishing && actor.running === 0 && actor.queue.length === 0) this.exit('out of scope')
  }

  #enqueueCall(job: Job): void {
    const actor = this.#actor
    if (!actor) throw new InvariantError('a call reached a worker that is no actor')
    job.peer.jobs.set(job.sequence, job)
    if (actor.running >= actor.spec.options.maxConcurrency) actor.queue.push(job)
    else this.#runCall(actor, job)
  }

  #runCall(actor: ActorState, job: Job): void {
    actor.running++
    const began = this.#shell.now
    this.#run(job, (outcome) => {
      this.#answer(job, outcome, Math.round((this.#shell.now - began) * 1000))
      actor.running--
      const next = actor.running < actor.spec.options.maxConcurrency ? actor.queue.shift() : undefined
      if (next) this.#runCall(actor, next)
      this.#endIfFinished(actor)
    })
  }

  // Running

  #run(job: Job, onDone: (outcome: Outcome) => void): void {
    if (job.isCancelled) return onDone({ status: STATUS.cancelled, value: undefined })
    const task = makeObjectId(job.peer.tag, job.sequence)
    const stored = storedIn(job.args)
    this.#shell.fetch(stored, () => this.#runWith(job, task, onDone))
  }

  #runWith(job: Job, task: ObjectId, onDone: (outcome: Outcome) => void): void {
    if (job.isCancelled) return onDone({ status: STATUS.cancelled, value: undefined })
    const scope: SimRef[] = []
    const args = this.#arguments(job.args, job.peer.tag, scope)
    if ('failure' in args) {
      onDone({ status: STATUS.error, value: args.failure })
      return this.#drop(scope)
    }
    this.#shell.cluster.judge.onBegin(this.#shell, task, this.#actor)
    const [script] = args.values as [Script]
    const attempt = job.extras.attempt ?? 0
    const shell = this.#shell
    const settle = (outcome: Outcome): void => {
      if (job.isOver) return this.#drop(scope) // It went on after its cancel.
      job.isOver = true
      const final = job.isCancelled ? { status: STATUS.cancelled, value: undefined } : outcome
      const outer = shell.host.scope
      shell.host.scope = scope
      const prepared = this.#prepareAll(job, final)
      shell.host.scope = outer
      onDone(prepared)
      this.#drop(scope)
    }
    job.onCancel = () => {
      shell.os.after(CANCEL_SETTLE_MS, () => {
        if (job.isOver) return
        if (!job.isMethod) this.#giveBack(this.#tasks.leave())
        settle({ status: STATUS.cancelled, value: undefined })
        if (!job.isMethod) this.exit('a cancelled task went on')
      })
    }
    const kept = this.kept
    drive(runScript(script, { shell, attempt, parent: task, kept, scope }), {
      shell,
      scope,
      onItem: (index, value, go) => this.#onItem(job, index, value, go),
      onDone: settle,
    })
  }

  #onItem(job: Job, index: number, value: unknown, go: (isWanted: boolean) => void): void {
    if (job.isCancelled || job.isOver) return go(false)
    const { out } = job.peer
    const prepared = prepareValue(this.#shell, value, job.peer.tag)
    const start = beginItem(out, job.sequence, index)
    writeValue(out, value, prepared)
    endFrame(out, start)
    this.#flushAll(job.peer)
    const ahead = job.extras.backpressure ?? 0
    const proceed = (): void => {
      if (ahead > 0 && index + 1 - job.consumed >= ahead && !job.isCancelled) {
        job.onConsumed = proceed
        return
      }
      job.onConsumed = null
      this.#shell.os.after(0, () => go(!job.isCancelled))
    }
    proceed()
  }

  #arguments(
    blob: Buffer,
    owner: WorkerTag,
    scope: SimRef[],
  ): { readonly values: unknown[] } | { readonly failure: { kind: string; origin: ObjectId; of: null } } {
    const { host, cluster } = this.#shell
    const reader = new ValueReader(blob, 0)
    const values: unknown[] = []
    const outer = host.scope
    host.scope = scope
    try {
      for (let count = reader.u16(); count > 0; count--) {
        reader.next()
        if (!reader.isStored) values.push(this.#shell.deserialize(reader.buffer.subarray(reader.start, reader.end)))
        else {
          const bytes = cluster.openCopy(reader.storageId, this.#shell.node)
          if (!bytes) {
            cluster.judge.onLostArgument(this.#shell, owner, reader.storageId)
            return {
              failure: { kind: cluster.net.hasTransfers ? 'argumentLost' : 'lost', origin: reader.storageId, of: null },
            }
          }
          values.push(this.#shell.deserialize(Buffer.from(bytes)))
        }
      }
    } finally {
      host.scope = outer
    }
    return { values }
  }

  /** What a run no longer needs is let go of, but for what it keeps. */
  #drop(scope: readonly SimRef[]): void {
    for (const ref of scope) if (!this.kept.includes(ref)) ref.drop()
  }

  // Answers

  /** Values are made while the run's references are still held. */
  #prepareAll(job: Job, outcome: Outcome): Outcome {
    if (outcome.status !== STATUS.ok || job.numReturns === STREAMING) return outcome
    const values = (outcome.value as (count: number) => unknown[])(job.numReturns)
    return {
      status: STATUS.ok,
      value: values.map((value) => ({ value, prepared: prepareValue(this.#shell, value, job.peer.tag) })),
    }
  }

  #answer(job: Job, outcome: Outcome, micros: number): void {
    if (outcome.status === STATUS.cancelled) return this.#replyStatus(job, STATUS.cancelled)
    const { out } = job.peer
    const start = beginReply(out, job.sequence, outcome.status, micros)
    if (outcome.status === STATUS.error) writeErrorBody(out, this.#encodeError(outcome))
    else {
      const values =
        job.numReturns === STREAMING ? [] : (outcome.value as { value: unknown; prepared: PreparedValue }[])
      out.u16(values.length)
      for (const { value, prepared } of values) writeValue(out, value, prepared)
    }
    endReply(out, start, this.#finish(job))
  }

  #encodeError(outcome: Outcome): Buffer {
    return this.#shell.encodeFailure(outcome.value as { kind: string; origin: ObjectId; of: number | null })
  }

  #replyStatus(job: Job, status: number): void {
    const start = beginReply(job.peer.out, job.sequence, status, 0)
    endReply(job.peer.out, start, this.#finish(job))
  }

  #finish(job: Job): readonly ObjectId[] {
    job.peer.jobs.delete(job.sequence)
    return keptOf(this.#shell.core, job.refs, job.peer.tag)
  }

  #onCancel(peer: Peer, sequence: number, isRecursive: boolean): void {
    const queued = this.#tasks.take((job) => job.peer === peer && job.sequence === sequence)
    const job = queued ?? peer.jobs.get(sequence)
    const state = queued ? CANCEL_STATE.dropped : job ? CANCEL_STATE.signalled : CANCEL_STATE.unknown
    writeCancelAck(peer.out, sequence, state)
    if (queued) return this.#replyStatus(queued, STATUS.cancelled)
    if (!job || job.isCancelled) return
    job.isCancelled = true
    job.onConsumed?.()
    const { shell } = { shell: this.#shell }
    if (isRecursive) {
      for (const child of shell.core.childrenOf(makeObjectId(peer.tag, sequence))) {
        shell.cluster.judge.onCancel(makeObjectId(shell.tag, child.sequence))
        shell.core.cancel(shell.now, makeObjectId(shell.tag, child.sequence), false, true)
      }
    }
    job.onCancel?.()
  }
}

/** Which stored copies are among written arguments. */
function storedIn(blob: Buffer): ObjectId[] {
  const reader = new ValueReader(blob, 0)
  const ids: ObjectId[] = []
  for (let count = reader.u16(); count > 0; count--) {
    reader.next()
    if (reader.isStored) ids.push(reader.storageId)
  }
  return ids
}
