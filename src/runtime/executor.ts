// Runs what owners push to this worker: tasks one at a time, or the calls of the one actor that it has become.
//
//     push ─► queue ─► arguments ─► user code ─► reply (value | error | items)        cancel: dropped, or the task's signal fires
//
// Invariants:
//   X1. Every push is answered once: a reply, or the end of the process.
//   X2. Normal tasks run in order and alone (core-worker/worker-queue.ts). One that goes on after its cancel ends the process.
//   X4. Replies leave before user code runs that is slow or unknown, or must run once: nobody's result waits for somebody else's work.

import { WATCH_MS, WorkerQueue } from '../core-worker/worker-queue.ts'
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
import { monotonicMs } from './clock.ts'
import type { CoreRuntime } from './core-runtime.ts'
import { Job } from './job.ts'
import { type AnyFunction, type FunctionSource, type JobPeer, JobRunner, type Outcome } from './job-runner.ts'
import { setSerialTask } from './task-context.ts'
import type { TaskPeer } from './task-peer.ts'

const NO_EXTRAS: PushExtras = {}
/** An owner that sends so little at a time waits for each answer, and sends the next call right after it. */
const SPIN_FRAMES_MAX = 4

export class Executor {
  readonly #runtime: CoreRuntime
  readonly #functions: FunctionSource
  readonly #tasks = new WorkerQueue<Job, AnyFunction>()
  #frames = 0
  readonly #runner: JobRunner
  readonly actors: ActorExecutor
  readonly #exit: (detail: string) => void
  readonly #closed = new WeakSet<JobPeer>()

  constructor(runtime: CoreRuntime, functions: FunctionSource, exit: (detail: string) => void) {
    this.#runtime = runtime
    this.#functions = functions
    this.#exit = exit
    this.#runner = new JobRunner(runtime, (job) => {
      // What is left of it would go on beside the next task: this worker is not used again.
      if (job.definition.isMethod) return
      this.#giveBack(this.#tasks.leave())
      // Its owner has no connection any more: the node ends this worker and says why. An end of our own would cost the task no retry.
      if (this.#closed.has(job.peer)) return
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
    this.#closed.add(peer)
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
      this.#tasks.push(job)
      if (this.#tasks.isReady) this.#pump()
      else this.#watch()
    }
  }

  // Normal tasks

  #pump(): void {
    while (this.#tasks.isReady) {
      const job = this.#tasks.begin(monotonicMs())
      const { fn } = this.#tasks
      if (fn) this.#runTask(job, fn)
      else this.#load(job)
    }
  }

  #load(job: Job): void {
    this.#runner.track(job) // It may be cancelled meanwhile.
    this.#functions.load(job.key).then(
      (fn) => {
        this.#tasks.loaded(fn)
        this.#pump()
        this.#runtime.perform()
      },
      (error: unknown) => {
        this.#tasks.abandon()
        this.#runner.replyError(job, error, 0)
        this.#pump()
        this.#runtime.perform()
      },
    )
  }

  #runTask(job: Job, fn: AnyFunction): void {
    if (job.isCancelled) {
      this.#tasks.abandon()
      this.#runner.replyStatus(job, STATUS.cancelled)
      return
    }
    if (this.#tasks.isSlow) job.peer.flush() // X4
    setSerialTask(job)
    const outcome = this.#runner.call(job, fn, undefined, (settled) => {
      this.#settle(job, settled)
      this.#runtime.perform()
      this.#pump()
    })
    if (outcome) this.#settle(job, outcome)
    else this.#watch()
  }

  #settle(job: Job, outcome: Outcome): void {
    const micros = this.#tasks.end(monotonicMs())
    setSerialTask(null)
    this.#runner.answer(job, outcome, micros)
    if (this.#tasks.isWornOut(job)) this.#leave(job.peer, 'maxCalls reached')
  }

  #leave(peer: JobPeer, detail: string): void {
    this.#giveBack(this.#tasks.leave())
    peer.flush()
    this.#exit(detail)
  }

  #watch(): void {
    if (!this.#tasks.watch()) return
    setTimeout(() => {
      this.#giveBack(this.#tasks.onWatch(monotonicMs()))
      this.#watch()
    }, WATCH_MS)
  }

  #giveBack(jobs: readonly Job[]): void {
    for (const job of jobs) {
      this.#runner.replyStatus(job, STATUS.bounced)
      job.peer.flush()
    }
  }

  #onBlocked(): void {
    if (this.#tasks.running === null && !this.actors.isActor) return
    if (!this.#tasks.block()) return
    this.#giveBack(this.#tasks.giveBack())
    this.#runtime.link.send({ t: 'worker.blocked' })
  }

  #onUnblocked(): void {
    if (this.#tasks.unblock()) this.#runtime.link.send({ t: 'worker.unblocked' })
  }

  #onCancel(peer: TaskPeer, sequence: number, isRecursive: boolean): void {
    const ack = (state: number): void => {
      writeCancelAck(peer.out, sequence, state)
      peer.flush()
    }
    const queued = this.#tasks.take((job) => job.peer === peer && job.sequence === sequence)
    if (queued) {
      ack(CANCEL_STATE.dropped)
      this.#runner.replyStatus(queued, STATUS.cancelled)
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
