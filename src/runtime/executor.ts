// Runs what owners push to this worker: tasks one at a time, or the calls of the one actor that it has become.
//
//     push ─► queue ─► arguments ─► user code ─► reply (value | error | items)        cancel: dropped, or the task's signal fires
//
// Invariants:
//   X1. Every push is answered once: a reply, or the end of the process.
//   X2. Normal tasks run in order and alone. When one turns out slow, or waits for others, those behind it are given back.
//   X4. Replies leave before user code runs that is slow or unknown, or must run once: nobody's result waits for somebody else's work.

import { makeError } from '../errors/index.ts'
import { makeObjectId } from '../ids/ids.ts'
import { readU32 } from '../wire/byte-writer.ts'
import { unpackData } from '../wire/codec.ts'
import {
  CANCEL_STATE,
  FRAME,
  type PushExtras,
  pushFunctionIndex,
  readDefine,
  STATUS,
  writeCancelAck,
} from '../wire/task-frames.ts'
import { ActorExecutor } from './actor-executor.ts'
import type { CoreRuntime } from './core-runtime.ts'
import { Job } from './job.ts'
import { type AnyFunction, type FunctionSource, type JobPeer, JobRunner, type Outcome } from './job-runner.ts'
import { setSerialTask } from './task-context.ts'
import type { TaskPeer } from './task-peer.ts'

interface Loaded {
  readonly fn: AnyFunction
  averageMicros: number
  calls: number
}

const NO_EXTRAS: PushExtras = {}
const SLOW_MICROS = 1000
const BOUNCE_AFTER_MS = 5
/** An owner that sends so little at a time waits for each answer, and sends the next call right after it. */
const SPIN_FRAMES_MAX = 4

export class Executor {
  readonly #runtime: CoreRuntime
  readonly #functions: FunctionSource
  readonly #loaded = new Map<string, Loaded>()
  readonly #queue: Job[] = []
  #running: Job | null = null
  #runningSince = 0
  #blocked = 0
  #frames = 0
  #bounceTimer: NodeJS.Timeout | null = null
  readonly #runner: JobRunner
  readonly actors: ActorExecutor
  readonly #exit: (detail: string) => void

  constructor(runtime: CoreRuntime, functions: FunctionSource, exit: (detail: string) => void) {
    this.#runtime = runtime
    this.#functions = functions
    this.#exit = exit
    this.#runner = new JobRunner(runtime, (job) => {
      // What is left of it would go on beside the next task: this worker is not used again.
      if (!job.definition.isMethod && this.#running === job)
        setImmediate(() => this.#leave(job.peer, 'a cancelled task went on'))
    })
    this.actors = new ActorExecutor({ runtime, functions, runner: this.#runner, exit })
    runtime.onBlocked = () => this.#onBlocked()
    runtime.onUnblocked = () => this.#onUnblocked()
  }

  onFrame(peer: TaskPeer, buffer: Buffer, start: number): void {
    this.#frames++
    switch (buffer[start]) {
      case FRAME.hello:
        peer.tag = readU32(buffer, start + 1)
        return
      case FRAME.define: {
        const { index, isMethod, text, extras } = readDefine(buffer, start)
        peer.definitions[index] = { isMethod, text, extras: extras ? (unpackData(extras) as PushExtras) : NO_EXTRAS }
        return
      }
      case FRAME.push:
        return this.#onPush(peer, buffer, start)
      case FRAME.itemAck: {
        const job = this.#runner.find(peer, readU32(buffer, start + 1))
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

  /** All that came with one read was dealt with. */
  onBatchEnd(): void {
    const { spinner } = this.#runtime
    spinner.arrived()
    this.#runtime.perform()
    if (this.#frames <= SPIN_FRAMES_MAX) spinner.expect()
    this.#frames = 0
  }

  /** An owner is gone: nobody waits for its tasks. */
  onPeerClosed(peer: TaskPeer): void {
    this.#runner.onPeerClosed(peer)
  }

  #onPush(peer: TaskPeer, buffer: Buffer, start: number): void {
    const definition = peer.definitions[pushFunctionIndex(buffer, start)]
    if (!definition) {
      peer.close()
      return
    }
    const job = new Job(peer, definition, buffer, start)
    for (const ref of job.refs) this.#runtime.core.table.hold(ref)
    if (definition.isMethod) this.actors.enqueue(job)
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
        this.#runner.track(job) // It may be cancelled meanwhile.
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
        this.#runner.replyError(job, error, 0)
        this.#pump()
        this.#runtime.perform()
      },
    )
  }

  #runTask(job: Job, loaded: Loaded): void {
    if (job.isCancelled) {
      this.#runner.replyStatus(job, STATUS.cancelled)
      return
    }
    if (loaded.averageMicros < 0 || loaded.averageMicros > SLOW_MICROS || job.extras.once) job.peer.flush()
    this.#running = job
    const began = performance.now()
    this.#runningSince = began
    setSerialTask(job)
    const outcome = this.#runner.call(job, loaded.fn, undefined, (settled) => {
      this.#settle(job, settled, began, loaded)
      this.#runtime.perform()
      this.#pump()
    })
    if (outcome) this.#settle(job, outcome, began, loaded)
    else if (this.#queue.length > 0) this.#armBounce()
  }

  #settle(job: Job, outcome: Outcome, began: number, loaded: Loaded): void {
    const micros = Math.round((performance.now() - began) * 1000)
    loaded.averageMicros = loaded.averageMicros < 0 ? micros : loaded.averageMicros * 0.8 + micros * 0.2
    this.#running = null
    setSerialTask(null)
    this.#runner.answer(job, outcome, micros)
    const { maxCalls } = job.extras
    if (maxCalls !== undefined && maxCalls > 0 && ++loaded.calls >= maxCalls) this.#leave(job.peer, 'maxCalls reached')
  }

  #leave(peer: JobPeer, detail: string): void {
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
      this.#runner.replyStatus(job, STATUS.bounced)
      job.peer.flush()
    }
  }

  #onBlocked(): void {
    if (this.#running === null && !this.actors.isActor) return
    if (this.#blocked++ > 0) return
    if (this.#queue.length > 0) this.#bounceQueue()
    this.#runtime.link.send({ t: 'worker.blocked' })
  }

  #onUnblocked(): void {
    if (this.#blocked === 0 || --this.#blocked > 0) return
    this.#runtime.link.send({ t: 'worker.unblocked' })
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
      if (job) this.#runner.replyStatus(job, STATUS.cancelled)
      return
    }
    const job = this.#runner.find(peer, sequence)
    if (!job) return ack(CANCEL_STATE.unknown)
    ack(CANCEL_STATE.signalled)
    if (isRecursive) {
      for (const child of this.#runtime.core.childrenOf(makeObjectId(peer.tag, sequence))) {
        this.#runtime.cancel(makeObjectId(this.#runtime.core.tag, child.sequence), false, true)
      }
    }
    job.cancelsChildren = isRecursive
    job.cancel(makeError('TASK_CANCELLED', { name: job.name }))
  }
}
