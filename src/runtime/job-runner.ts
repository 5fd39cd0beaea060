// Runs one job: reads its arguments, calls user code, and writes the answer. What runs when is decided by the executors of tasks
// and of actors.
//
//   J1. Every job is answered once: a value, an error, a status; a stream by its items first.
//   J2. What user code throws, or returns and cannot be serialized, becomes the answer. Nothing of it leaves here as an exception.

import { keptOf, type PreparedValue, prepareValue, writeValue } from '../core-worker/answers.ts'
import { makeError } from '../errors/index.ts'
import type { ObjectId, WorkerTag } from '../ids/ids.ts'
import type { ByteWriter } from '../wire/byte-writer.ts'
import {
  beginItem,
  beginReply,
  endFrame,
  endReply,
  STATUS,
  STREAMING,
  ValueReader,
  writeErrorBody,
} from '../wire/task-frames.ts'
import type { CoreRuntime } from './core-runtime.ts'
import type { Job } from './job.ts'
import { collectLater } from './shm/collect.ts'
import { Later } from './waiting.ts'

export type AnyFunction = (...args: unknown[]) => unknown

export interface FunctionSource {
  /** Loads a definition by its key, e.g. `fn:<hash>`. */
  load(key: string): Promise<AnyFunction>
}

/** Where a job's answers go. */
export interface JobPeer {
  /** The owner's. */
  readonly tag: WorkerTag
  readonly out: ByteWriter
  /** After writing to `out`. What the node has to know of it leaves before (`CoreRuntime.flushNode`). */
  schedule(): void
  flush(): void
}

export interface Outcome {
  readonly status: number
  readonly value: unknown
}

const NO_ARGUMENTS: unknown[] = []
const CANCEL_SETTLE_MS = 50
export const CANCELLED: Outcome = { status: STATUS.cancelled, value: undefined }

export class JobRunner {
  readonly #runtime: CoreRuntime
  readonly #jobs = new Map<JobPeer, Map<number, Job>>()
  readonly #onWentOn: (job: Job) => void
  readonly #kept: ((job: Job) => readonly ObjectId[]) | null

  /**
   * `onWentOn`: a job is about to be answered as cancelled although its code has not ended.
   * `kept`: which references in its arguments are still held after a job, where nobody holds them for the job itself.
   */
  constructor(
    runtime: CoreRuntime,
    onWentOn: (job: Job) => void,
    kept: ((job: Job) => readonly ObjectId[]) | null = null,
  ) {
    this.#runtime = runtime
    this.#onWentOn = onWentOn
    this.#kept = kept
  }

  find(peer: JobPeer, sequence: number): Job | undefined {
    return this.#jobs.get(peer)?.get(sequence)
  }

  flushAll(): void {
    for (const peer of this.#jobs.keys()) peer.flush()
  }

  /** An owner is gone: nobody waits for its jobs. */
  onPeerClosed(peer: JobPeer): void {
    for (const job of this.#jobs.get(peer)?.values() ?? []) job.cancel()
    this.#jobs.delete(peer)
  }

  /** The outcome, or null when it comes later, through `later`. */
  call(job: Job, fn: AnyFunction, self: unknown, later: (outcome: Outcome) => void): Outcome | null {
    try {
      const args = this.arguments(job.buffer, job.argsStart)
      if (!(args instanceof Promise)) return this.#invoke(job, fn, self, args, later)
      this.track(job)
      args.then(
        (ready) => {
          const outcome = this.#invoke(job, fn, self, ready, later)
          if (outcome) later(outcome)
        },
        (error: unknown) => later(failed(error)),
      )
      return null
    } catch (error) {
      return failed(error)
    }
  }

  #invoke(
    job: Job,
    fn: AnyFunction,
    self: unknown,
    args: unknown[],
    later: (outcome: Outcome) => void,
  ): Outcome | null {
    if (job.isCancelled) return CANCELLED // While its arguments were read.
    try {
      const result = fn.apply(self, args)
      if (job.numReturns === STREAMING) {
        this.track(job)
        void this.#stream(job, result).then(this.#endOnce(job, later))
        return null
      }
      if (!isThenable(result)) return { status: STATUS.ok, value: result }
      this.track(job)
      const end = this.#endOnce(job, later)
      ;(result as PromiseLike<unknown>).then(
        (value) => end({ status: STATUS.ok, value }),
        (error: unknown) => end(failed(error)),
      )
      return null
    } catch (error) {
      return failed(error)
    }
  }

  /** A cancelled job is answered when it ends, or shortly after its signal fired. */
  #endOnce(job: Job, later: (outcome: Outcome) => void): (outcome: Outcome) => void {
    let isOver = false
    const end = (outcome: Outcome): void => {
      if (isOver) return
      isOver = true
      later(job.isCancelled ? CANCELLED : outcome)
    }
    job.onCancelled = () => {
      setTimeout(() => {
        if (isOver) return
        this.#onWentOn(job)
        end(CANCELLED)
      }, CANCEL_SETTLE_MS).unref()
    }
    return end
  }

  async #stream(job: Job, result: unknown): Promise<Outcome> {
    try {
      const source = (isThenable(result) ? await result : result) as AsyncIterable<unknown> & Iterable<unknown>
      const open = source?.[Symbol.asyncIterator] ?? source?.[Symbol.iterator]
      if (typeof open !== 'function') {
        const message = `${job.name} was called with numReturns: 'streaming' but returned no iterator`
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
      return CANCELLED
    } catch (error) {
      return failed(error)
    }
  }

  #sendItem(job: Job, index: number, value: unknown): void {
    const { out } = job.peer
    const prepared = this.#prepare(value, job.peer.tag)
    const start = beginItem(out, job.sequence, index)
    writeValue(out, value, prepared)
    endFrame(out, start)
    job.peer.flush()
  }

  async #awaitConsumer(job: Job, sent: number): Promise<void> {
    const ahead = job.extras.backpressure ?? 0
    while (ahead > 0 && sent - job.consumed >= ahead && !job.isCancelled) {
      await new Promise<void>((resolve) => {
        job.onConsumed = resolve
      })
    }
  }

  /** The args blob that begins at `start`. Nobody may change the list. */
  arguments(blob: Buffer, start: number): unknown[] | Promise<unknown[]> {
    if (blob[start] === 0 && blob[start + 1] === 0) return NO_ARGUMENTS
    const reader = new ValueReader(blob, start)
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

  answer(job: Job, outcome: Outcome, micros: number): void {
    if (outcome.status === STATUS.error) this.replyError(job, outcome.value, micros)
    else if (outcome.status === STATUS.cancelled) this.replyStatus(job, STATUS.cancelled)
    else if (job.numReturns === 1) this.#replyOne(job, outcome.value, micros)
    else this.#replyMany(job, outcome.value, micros)
  }

  #replyOne(job: Job, value: unknown, micros: number): void {
    const { peer } = job
    let prepared: PreparedValue
    try {
      prepared = this.#prepare(value, peer.tag)
    } catch (error) {
      this.replyError(job, error, micros)
      return
    }
    const { out } = peer
    const start = beginReply(out, job.sequence, STATUS.ok, micros)
    out.u16(1)
    writeValue(out, value, prepared)
    endReply(out, start, this.#finish(job))
    peer.schedule()
  }

  #replyMany(job: Job, value: unknown, micros: number): void {
    const isStream = job.numReturns === STREAMING
    const count = isStream ? 0 : job.numReturns
    const values = isStream || count === 0 ? [] : toArray(value)
    if (!values || values.length !== count) {
      const got = values ? `${values.length} values` : typeof value
      const message = `${job.name} should return an array of ${count} values (numReturns), but returned ${got}`
      this.replyError(
        job,
        makeError('INVALID_ARGUMENT', { message, hint: 'Return as many values as numReturns says.' }),
        micros,
      )
      return
    }
    let prepared: PreparedValue[]
    try {
      prepared = values.map((one) => this.#prepare(one, job.peer.tag))
    } catch (error) {
      this.replyError(job, error, micros)
      return
    }
    const { out } = job.peer
    const start = beginReply(out, job.sequence, STATUS.ok, micros)
    out.u16(count)
    for (let i = 0; i < count; i++) writeValue(out, values[i], prepared[i] as PreparedValue)
    endReply(out, start, this.#finish(job))
    job.peer.schedule()
  }

  replyError(job: Job, error: unknown, micros: number): void {
    const bytes = this.#runtime.encodeTaskError(error, job.name)
    const { out } = job.peer
    const start = beginReply(out, job.sequence, STATUS.error, micros)
    writeErrorBody(out, bytes)
    endReply(out, start, this.#finish(job))
    job.peer.schedule()
  }

  replyStatus(job: Job, status: number): void {
    const start = beginReply(job.peer.out, job.sequence, status, 0)
    endReply(job.peer.out, start, this.#finish(job))
    job.peer.schedule()
  }

  /**
   * The job is over: which of its nested references does this process keep? The asker, which holds them until it has read the
   * answer, counts them for us.
   */
  #finish(job: Job): readonly ObjectId[] {
    this.forget(job)
    if (job.refs.length === 0) return job.refs
    if (this.#kept) return this.#kept(job)
    const kept = keptOf(this.#runtime.core, job.refs, job.peer.tag)
    if (kept.length > 0) collectLater()
    return kept
  }

  #prepare(value: unknown, owner: WorkerTag): PreparedValue {
    return prepareValue(this.#runtime, value, owner, this.#runtime.identity.answersAs)
  }

  /** It was answered. */
  forget(job: Job): void {
    if (job.isTracked) this.#jobs.get(job.peer)?.delete(job.sequence)
  }

  /** From now on it can be found: it waits, or goes on after this turn of the event loop. */
  track(job: Job): void {
    if (job.isTracked) return
    job.isTracked = true
    let jobs = this.#jobs.get(job.peer)
    if (!jobs) {
      jobs = new Map()
      this.#jobs.set(job.peer, jobs)
    }
    jobs.set(job.sequence, job)
  }
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
