// The threads of a threaded actor, seen from the main thread of its process: it takes the calls, hands each to a free thread, and
// passes on what comes back. User code never runs here, so that this thread always answers.
//
//     push ─► free thread ─► frames (items, reply) ─► owner            a thread that ends is replaced by a fresh one
//
// Invariants:
//   T1. A thread has one call at a time.
//   T2. A call whose thread ends is answered: cancelled if it was to be, else with an error that says how the thread ended.
//   T3. References in a call's arguments are held here until the thread's own hold has reached their owner.

import threads from 'node:worker_threads'
import { makeError } from '../errors/index.ts'
import type { ObjectId } from '../ids/ids.ts'
import { readU32 } from '../wire/byte-writer.ts'
import type { ActorSpec, Resources, SchedulingStrategy } from '../wire/messages.ts'
import { STATUS } from '../wire/task-frames.ts'
import type { CoreRuntime, Identity } from './core-runtime.ts'
import type { Job } from './job.ts'
import type { JobRunner } from './job-runner.ts'
import type { StoreFolders } from './shm/segment-store.ts'
import type { Definition } from './task-peer.ts'

/** What a thread needs of its process. */
export interface ThreadHost {
  /** The program that threads run. */
  readonly entry: string
  readonly nodeSocket: string
  readonly store: StoreFolders
  readonly assignment: () => {
    readonly resources: Resources
    readonly strategy: SchedulingStrategy
    readonly gpus: readonly string[]
  }
}

export interface ThreadData {
  readonly spec: ActorSpec
  readonly incarnation: number
  /** What `static shared` returned: threads share the SharedArrayBuffers in it. */
  readonly shared: unknown
  /** Of the process: the thread gets a tag of its own. */
  readonly identity: Identity
  readonly nodeSocket: string
  readonly store: StoreFolders
  readonly resources: Resources
  readonly strategy: SchedulingStrategy
  readonly gpus: readonly string[]
}

export type ToThread =
  | { readonly t: 'call'; readonly owner: number; readonly frame: Uint8Array; readonly definition: Definition }
  | { readonly t: 'consumed'; readonly count: number }
  | { readonly t: 'cancel'; readonly cancelsChildren: boolean }

export type FromThread =
  | { readonly t: 'ready' }
  /** The class could not be loaded or constructed; `error` as tasks' errors are written. */
  | { readonly t: 'failed'; readonly error: Uint8Array }
  /** `isDone`: the reply is among them; `kept`: references in the arguments that the thread still holds. */
  | { readonly t: 'frames'; readonly bytes: Uint8Array; readonly isDone: boolean; readonly kept: readonly ObjectId[] }
  /** Their owners know that the thread holds these. */
  | { readonly t: 'settled'; readonly refs: readonly ObjectId[] }
  | { readonly t: 'blocked' }
  | { readonly t: 'unblocked' }
  | { readonly t: 'exitActor' }

interface Slot {
  worker: threads.Worker
  job: Job | null
  done: (() => void) | null
  /** References held for the thread (T3). */
  readonly held: Set<ObjectId>
  blocked: number
  lastError: Error | null
}

/** A cancelled call that has not ended by then computes: its thread is ended. */
const CANCEL_GRACE_MS = 300

export class ActorThreads {
  readonly #runtime: CoreRuntime
  readonly #runner: JobRunner
  readonly #data: ThreadData
  readonly #entry: string
  readonly #exit: (detail: string, byUser: boolean) => void
  readonly #idle: Slot[] = []
  readonly #waiting: { readonly job: Job; readonly done: () => void }[] = []

  constructor(parts: {
    runtime: CoreRuntime
    runner: JobRunner
    data: ThreadData
    entry: string
    exit: (detail: string, byUser: boolean) => void
  }) {
    this.#runtime = parts.runtime
    this.#runner = parts.runner
    this.#data = parts.data
    this.#entry = parts.entry
    this.#exit = parts.exit
  }

  /** Every thread has its instance; or throws the bytes of the constructor's error. */
  async start(count: number): Promise<void> {
    const slots = await Promise.all(Array.from({ length: count }, () => this.#open()))
    this.#idle.push(...slots)
  }

  /** `done` is called when the call has been answered. */
  run(job: Job, done: () => void): void {
    this.#runner.track(job)
    const slot = this.#idle.pop()
    if (!slot) {
      this.#waiting.push({ job, done }) // A thread is being replaced.
      return
    }
    slot.job = job
    slot.done = done
    job.onConsumed = () => post(slot, { t: 'consumed', count: job.consumed })
    job.onCancelled = () => this.#cancel(slot, job)
    const start = job.argsStart - PUSH_HEAD_BYTES
    const frame = Uint8Array.from(job.buffer.subarray(start, start + readU32(job.buffer, start - 4)))
    post(slot, { t: 'call', owner: job.peer.tag, frame, definition: job.definition }, [frame.buffer])
  }

  #cancel(slot: Slot, job: Job): void {
    post(slot, { t: 'cancel', cancelsChildren: job.cancelsChildren })
    setTimeout(() => {
      if (slot.job === job) void slot.worker.terminate() // T2 does the rest.
    }, CANCEL_GRACE_MS).unref()
  }

  #open(): Promise<Slot> {
    return new Promise((resolve, reject) => {
      const worker = new threads.Worker(this.#entry, { workerData: this.#data })
      const slot: Slot = { worker, job: null, done: null, held: new Set(), blocked: 0, lastError: null }
      worker.on('message', (message: FromThread) => {
        if (message.t === 'ready') resolve(slot)
        else if (message.t === 'failed') reject(message.error)
        else this.#onMessage(slot, message)
      })
      worker.on('error', (error: Error) => {
        slot.lastError = error
      })
      worker.on('exit', (code) => {
        reject(new Error(`a thread ended before its instance was made (exit code ${code})`, { cause: slot.lastError }))
        this.#onExit(slot, code)
      })
    })
  }

  #onMessage(slot: Slot, message: FromThread): void {
    const { table, effects } = this.#runtime.core
    switch (message.t) {
      case 'frames':
        return this.#onFrames(slot, message)
      case 'settled':
        for (const id of message.refs) if (slot.held.delete(id)) table.release(id, effects)
        return this.#runtime.perform()
      case 'blocked':
        slot.blocked++
        return this.#runtime.onBlocked?.()
      case 'unblocked':
        slot.blocked--
        return this.#runtime.onUnblocked?.()
      case 'exitActor':
        return this.#exit('it called exitActor()', true)
      default:
        return
    }
  }

  #onFrames(slot: Slot, message: FromThread & { t: 'frames' }): void {
    const { job } = slot
    if (!job) return
    const { out } = job.peer
    if (message.isDone) this.#keep(slot, job, new Set(message.kept))
    out.reserve(message.bytes.length)
    out.bytes(message.bytes)
    job.peer.schedule()
    if (!message.isDone) return
    this.#runner.forget(job)
    this.#release(slot)
    this.#runtime.perform()
  }

  /** Until the thread's own holds are counted, this process keeps what it kept. */
  #keep(slot: Slot, job: Job, kept: ReadonlySet<ObjectId>): void {
    const { table, effects } = this.#runtime.core
    for (const id of job.refs) {
      if (!kept.has(id)) {
        table.release(id, effects)
        continue
      }
      table.received(id, job.peer.tag, effects) // The answer names it: the asker counts it for this process.
      if (slot.held.has(id)) table.release(id, effects)
      else slot.held.add(id)
    }
  }

  #release(slot: Slot): void {
    const { done } = slot
    slot.job = null
    slot.done = null
    this.#idle.push(slot)
    const next = this.#waiting.shift()
    if (next) this.run(next.job, next.done)
    done?.()
  }

  #onExit(slot: Slot, code: number): void {
    const { job, done } = slot
    const at = this.#idle.indexOf(slot)
    if (at >= 0) this.#idle.splice(at, 1)
    for (let i = 0; i < slot.blocked; i++) this.#runtime.onUnblocked?.()
    for (const id of slot.held) this.#runtime.core.table.release(id, this.#runtime.core.effects)
    if (!job) {
      this.#runtime.perform()
      if (at >= 0) this.#replace()
      return
    }
    slot.job = null
    if (job.isCancelled) this.#runner.replyStatus(job, STATUS.cancelled)
    else this.#runner.replyError(job, this.#errorOf(slot, job, code), 0)
    this.#replace()
    done?.()
    this.#runtime.perform()
  }

  #replace(): void {
    this.#open().then(
      (slot) => this.#release(slot),
      () => this.#exit('a thread of it ended, and no other could be started', false),
    )
  }

  #errorOf(slot: Slot, job: Job, code: number): Error {
    const { lastError } = slot
    const isMemory = (lastError as NodeJS.ErrnoException | null)?.code === 'ERR_WORKER_OUT_OF_MEMORY'
    const why = lastError ? `${lastError.name}: ${lastError.message}` : `it exited with code ${code}`
    const params = { name: this.#data.spec.className, method: job.name, detail: why }
    return makeError(isMemory ? 'ACTOR_THREAD_OUT_OF_MEMORY' : 'ACTOR_THREAD_DIED', params, { cause: lastError })
  }
}

/** Of a push frame, before its arguments. */
const PUSH_HEAD_BYTES = 16

function post(slot: Slot, message: ToThread, transfer: ArrayBuffer[] = []): void {
  slot.worker.postMessage(message, transfer)
}
