// The tasks that owners have pushed to this worker: which one runs, which wait behind it, and which go back to their owners.
//
//     push ─► queue ─► begin ─► (load its function) ─► user code ─► end          queue ──slow or waiting before it──► given back
//
// Invariants:
//   W1. Tasks begin in the order of arrival, one at a time.
//   W2. Nothing stays behind a task that turned out slow, or that waits for others: it is given back, and may run elsewhere.
//   W3. While something waits for values, its CPU is lent: told once when the first wait begins and once when the last one ends.

import { InvariantError } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import type { PushExtras } from '../wire/task-frames.ts'

export interface QueuedTask {
  /** Of its function. */
  readonly key: string
  readonly extras: PushExtras
}

interface Loaded<F> {
  readonly fn: F
  /** Below 0: it never ran. */
  averageMicros: number
  calls: number
}

const SLOW_MICROS = 1000
/** A task that runs for so long holds up those behind it. */
export const WATCH_MS: Ms = 5

export class WorkerQueue<T extends QueuedTask, F> {
  readonly #loaded = new Map<string, Loaded<F>>()
  readonly #queue: T[] = []
  #running: T | null = null
  #function: Loaded<F> | undefined
  #began: Ms = 0
  #blocked = 0
  #isWatched = false
  #isLeaving = false

  /** The one that runs, or whose function is loading. */
  get running(): T | null {
    return this.#running
  }

  get isIdle(): boolean {
    return this.#running === null && this.#queue.length === 0
  }

  /** One can `begin`. */
  get isReady(): boolean {
    return this.#running === null && this.#queue.length > 0 && !this.#isLeaving
  }

  push(task: T): void {
    this.#queue.push(task)
  }

  /** W1. Where `fn` is undefined, its function is to be loaded first: then `loaded` or `abandon`. */
  begin(now: Ms): T {
    const task = this.isReady ? this.#queue.shift() : undefined
    if (!task) throw new InvariantError('W1: a task begins where none can')
    this.#running = task
    this.#began = now
    this.#function = this.#loaded.get(task.key)
    return task
  }

  /** Of the task that began last. */
  get fn(): F | undefined {
    return this.#function?.fn
  }

  /** Its function is here: it begins anew, before all others. */
  loaded(fn: F): void {
    const task = this.#running
    if (task === null) throw new InvariantError('W1: a function was loaded for no task')
    this.#loaded.set(task.key, { fn, averageMicros: -1, calls: 0 })
    this.#running = null
    this.#queue.unshift(task)
  }

  /** It will not run: it was cancelled, or its function could not be loaded. */
  abandon(): void {
    this.#running = null
  }

  /** What runs now may take long, or must run once: answers that wait to be sent are to leave before. */
  get isSlow(): boolean {
    const average = this.#function?.averageMicros ?? -1
    return average < 0 || average > SLOW_MICROS || this.#running?.extras.once === true
  }

  /** Its code has ended; how long it took, in microseconds. */
  end(now: Ms): number {
    const micros = Math.round((now - this.#began) * 1000)
    const loaded = this.#function
    this.#running = null
    if (loaded) {
      loaded.averageMicros = loaded.averageMicros < 0 ? micros : loaded.averageMicros * 0.8 + micros * 0.2
      loaded.calls++
    }
    return micros
  }

  /** After `end`: its function has run here as often as `maxCalls` allows. */
  isWornOut({ extras }: T): boolean {
    const { maxCalls } = extras
    return maxCalls !== undefined && maxCalls > 0 && (this.#function?.calls ?? 0) >= maxCalls
  }

  /** The worker is about to end: nothing begins any more, and what waits goes back. */
  leave(): T[] {
    this.#isLeaving = true
    return this.#queue.splice(0)
  }

  /** True: call `onWatch` in `WATCH_MS`, and then ask again. */
  watch(): boolean {
    if (this.#isWatched || this.#running === null || this.#queue.length === 0) return false
    this.#isWatched = true
    return true
  }

  /** W2. Those that go back. */
  onWatch(now: Ms): T[] {
    this.#isWatched = false
    if (this.#running === null) return []
    return now - this.#began >= WATCH_MS || this.#blocked > 0 ? this.#queue.splice(0) : []
  }

  /** A wait begins. True: the node is to be told (W3), and `giveBack` is due. */
  block(): boolean {
    return this.#blocked++ === 0
  }

  /** A wait has ended. True: the node is to be told. */
  unblock(): boolean {
    return this.#blocked > 0 && --this.#blocked === 0
  }

  giveBack(): T[] {
    return this.#queue.splice(0)
  }

  /** A waiting task that is not to run. */
  take(isIt: (task: T) => boolean): T | undefined {
    const at = this.#queue.findIndex(isIt)
    return at < 0 ? undefined : this.#queue.splice(at, 1)[0]
  }
}
