// What this process's program waits for: `get`, `wait`, and the readiness of objects.
//
//     get(ids) ──all there?──► values                 ready(id) ──► entry ──► its waiter takes the value
//         └── entries by id ─────────────────────────────┘
//
// Invariants:
//   A1. A wait ends once: with what it waited for, the first error, its time-out, or the node's end (as errors of its objects). Its time
//       counts until the values are here, not only until they exist; what was still on its way is then given up (`abandon`).
//   A2. What is waited for is not freed meanwhile, even when the program holds its reference nowhere else (`keep`).
//   A3. Calls that find everything there do not hold up the world for ever: now and then one takes a turn of the event loop, so
//       that replies, timers and finalizers get theirs, also in a loop that polls.

import { makeError } from '../errors/index.ts'
import { makeObjectId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import { DenseTable } from '../kernel/dense-table.ts'
import { monotonicMs, msUntil } from './clock.ts'

export const PENDING = Symbol('pending')

/** What a wait needs of the runtime. */
export interface WaitHost {
  /** The value, `PENDING`, a `Later`, or throws the object's error. */
  read(id: ObjectId): unknown
  isReady(id: ObjectId): boolean
  /** Performs what looking at objects made the machine want. */
  perform(): void
  onBlocked: (() => void) | null
  onUnblocked: (() => void) | null
  /** A wait has begun: its answer may come at once. */
  expectAnswer(): void
}

/** A value that is not there yet although its object is ready. */
export class Later {
  readonly promise: Promise<unknown>
  /** To be called when nobody waits for it any more. */
  readonly abandon: () => void
  constructor(promise: Promise<unknown>, abandon: () => void = () => {}) {
    this.promise = promise
    this.abandon = abandon
    promise.catch(() => {}) // Whoever awaits it sees the error; nobody may.
  }
}

/** One waiter's interest in one object; those of the same object are chained. A class: half a million a second are made. */
class Entry {
  readonly waiter: Waiter
  readonly index: number
  next: Entry | null
  constructor(waiter: Waiter, index: number, next: Entry | null) {
    this.waiter = waiter
    this.index = index
    this.next = next
  }
}

interface Waiter {
  onReady(id: ObjectId, index: number): void
}

/** So many calls that found everything there, then a turn of the event loop (A3). */
const TURN_AFTER = 512

export class Waiting {
  readonly #host: WaitHost
  readonly #tag: WorkerTag
  /** Of objects that this process owns, and of others. */
  readonly #own: DenseTable<Entry>
  readonly #foreign = new Map<ObjectId, Entry>()
  #unturned = 0

  constructor(host: WaitHost, tag: WorkerTag) {
    this.#host = host
    this.#tag = tag
    this.#own = new DenseTable(makeObjectId(tag, 0))
  }

  /** Ids that somebody waits for, or the first so many of them. */
  ids(countMax = Number.POSITIVE_INFINITY): ObjectId[] {
    const ids: ObjectId[] = []
    for (const keys of [this.#own.keys(), this.#foreign.keys()]) {
      for (const id of keys) if (ids.push(id) >= countMax) return ids
    }
    return ids
  }

  ready(id: ObjectId): void {
    const entries = this.#entriesOf(id)
    let entry = entries.get(id) ?? null
    if (entry === null) return
    entries.delete(id)
    for (; entry !== null; entry = entry.next) entry.waiter.onReady(id, entry.index)
  }

  getOne(id: ObjectId, timeoutMs: number | null, keep: unknown): Promise<unknown> {
    let value: unknown
    try {
      value = this.#host.read(id)
    } catch (error) {
      return Promise.reject(error)
    }
    this.#host.perform()
    if (value === PENDING) return new GetOne(this, this.#host, id, timeoutMs, keep).promise
    if (value instanceof Later) return arrival(value, endOf(timeoutMs), () => timedOut(1, 1, timeoutMs ?? 0))
    return this.#mayTurn() ? turn().then(() => value) : Promise.resolve(value)
  }

  async get(ids: readonly ObjectId[], timeoutMs: number | null, keep: unknown): Promise<unknown[]> {
    const values = new Array<unknown>(ids.length)
    const endsAt = endOf(timeoutMs)
    let missing: number[] | null = null
    for (let i = 0; i < ids.length; i++) {
      const value = this.#host.read(ids[i] as ObjectId)
      if (value === PENDING) (missing ??= []).push(i)
      else values[i] = value
    }
    this.#host.perform()
    try {
      if (missing) await new GetAll(this, this.#host, { ids, missing, values, timeoutMs, keep }).promise
      else if (this.#mayTurn()) await turn()
      for (let i = 0; i < values.length; i++) {
        const value = values[i]
        if (!(value instanceof Later)) continue
        const late = (): Error =>
          timedOut(values.filter((one) => one instanceof Later).length, ids.length, timeoutMs ?? 0)
        values[i] = await arrival(value, endsAt, late)
      }
      return values
    } catch (error) {
      for (const value of values) if (value instanceof Later) value.abandon()
      throw error
    }
  }

  /** Indices of at least `count` ready ids (or as many as were ready in time), in the order given. */
  async wait(ids: readonly ObjectId[], count: number, timeoutMs: number | null, keep: unknown): Promise<number[]> {
    let ready = this.#readyAmong(ids, count)
    this.#host.perform()
    if (ready.length >= count) {
      if (this.#mayTurn()) await turn()
      return ready
    }
    if (timeoutMs === 0) await turn()
    else await new WaitSome(this, this.#host, { ids, ready, count, timeoutMs, keep }).promise
    ready = this.#readyAmong(ids, count)
    return ready
  }

  watch(id: ObjectId, waiter: Waiter, index: number): void {
    const entries = this.#entriesOf(id)
    entries.set(id, new Entry(waiter, index, entries.get(id) ?? null))
  }

  /** Takes out what is left of a waiter's entries. */
  unwatch(id: ObjectId, waiter: Waiter): void {
    const entries = this.#entriesOf(id)
    let kept: Entry | null = null
    let isChanged = false
    for (let entry = entries.get(id) ?? null; entry !== null; entry = entry.next) {
      if (entry.waiter === waiter) isChanged = true
      else kept = new Entry(entry.waiter, entry.index, kept)
    }
    if (!isChanged) return
    if (kept) entries.set(id, kept)
    else entries.delete(id)
  }

  #entriesOf(id: ObjectId): DenseTable<Entry> | Map<ObjectId, Entry> {
    return ownerOf(id) === this.#tag ? this.#own : this.#foreign
  }

  #mayTurn(): boolean {
    if (++this.#unturned < TURN_AFTER) return false
    this.#unturned = 0
    return true
  }

  #readyAmong(ids: readonly ObjectId[], count: number): number[] {
    const ready: number[] = []
    for (let i = 0; i < ids.length && ready.length < count; i++)
      if (this.#host.isReady(ids[i] as ObjectId)) ready.push(i)
    return ready
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function endOf(timeoutMs: number | null): number | null {
  return timeoutMs === null ? null : monotonicMs() + timeoutMs
}

function arrival(later: Later, endsAt: number | null, late: () => Error): Promise<unknown> {
  if (endsAt === null) return later.promise
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      later.abandon()
      reject(late())
    }, msUntil(endsAt))
    const isThere = (): void => clearTimeout(timer)
    later.promise.then(resolve, reject).finally(isThere)
  })
}

function timedOut(missing: number, total: number, timeoutMs: number): Error {
  return makeError('GET_TIMEOUT', { missing, total, timeoutS: timeoutMs / 1000 })
}

class GetOne implements Waiter {
  readonly promise: Promise<unknown>
  readonly keep: unknown // A2
  readonly #host: WaitHost
  readonly #timeoutMs: number | null
  readonly #endsAt: number | null
  #timer: NodeJS.Timeout | null = null
  #resolve: (value: unknown) => void = () => {}
  #reject: (error: unknown) => void = () => {}

  constructor(waiting: Waiting, host: WaitHost, id: ObjectId, timeoutMs: number | null, keep: unknown) {
    this.keep = keep
    this.#host = host
    this.#timeoutMs = timeoutMs
    this.#endsAt = endOf(timeoutMs)
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    host.onBlocked?.()
    waiting.watch(id, this, 0)
    host.expectAnswer()
    if (timeoutMs === null) return
    this.#timer = setTimeout(() => {
      waiting.unwatch(id, this)
      host.onUnblocked?.()
      this.#reject(timedOut(1, 1, timeoutMs))
    }, timeoutMs)
  }

  onReady(id: ObjectId): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#host.onUnblocked?.()
    try {
      const value = this.#host.read(id)
      const late = (): Error => timedOut(1, 1, this.#timeoutMs ?? 0)
      this.#resolve(value instanceof Later ? arrival(value, this.#endsAt, late) : value)
    } catch (error) {
      this.#reject(error)
    }
  }
}

interface GetAllOptions {
  readonly ids: readonly ObjectId[]
  readonly missing: readonly number[]
  readonly values: unknown[]
  readonly timeoutMs: number | null
  readonly keep: unknown
}

/** Fills `values`; rejects with the first error that comes. */
class GetAll implements Waiter {
  readonly promise: Promise<void>
  readonly keep: unknown // A2
  readonly #waiting: Waiting
  readonly #host: WaitHost
  readonly #options: GetAllOptions
  #open: number
  #timer: NodeJS.Timeout | null = null
  #resolve: () => void = () => {}
  #reject: (error: unknown) => void = () => {}

  constructor(waiting: Waiting, host: WaitHost, options: GetAllOptions) {
    const { ids, missing, timeoutMs } = options
    this.keep = options.keep
    this.#waiting = waiting
    this.#host = host
    this.#options = options
    this.#open = missing.length
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    host.onBlocked?.()
    for (let i = 0; i < missing.length; i++) {
      const index = missing[i] as number
      waiting.watch(ids[index] as ObjectId, this, index)
    }
    host.expectAnswer()
    if (timeoutMs !== null)
      this.#timer = setTimeout(() => this.#fail(timedOut(this.#open, ids.length, timeoutMs)), timeoutMs)
  }

  onReady(id: ObjectId, index: number): void {
    if (this.#open === 0) return // It failed already: another entry of the same chain.
    try {
      this.#options.values[index] = this.#host.read(id)
    } catch (error) {
      this.#fail(error)
      return
    }
    if (--this.#open > 0) return
    this.#end()
    this.#resolve()
  }

  #fail(error: unknown): void {
    this.#open = 0
    const { ids, missing } = this.#options
    for (const index of missing) this.#waiting.unwatch(ids[index] as ObjectId, this)
    this.#end()
    this.#reject(error)
  }

  #end(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#host.onUnblocked?.()
  }
}

interface WaitSomeOptions {
  readonly ids: readonly ObjectId[]
  /** Indices of those that were ready before. */
  readonly ready: readonly number[]
  readonly count: number
  readonly timeoutMs: number | null
  readonly keep: unknown
}

/** Resolves when `count` are ready, or the time is over. */
class WaitSome implements Waiter {
  readonly promise: Promise<void>
  readonly keep: unknown // A2
  readonly #waiting: Waiting
  readonly #host: WaitHost
  readonly #ids: readonly ObjectId[]
  #open: number
  #timer: NodeJS.Timeout | null = null
  #resolve: () => void = () => {}

  constructor(waiting: Waiting, host: WaitHost, options: WaitSomeOptions) {
    const { ids, ready, count, timeoutMs } = options
    this.keep = options.keep
    this.#waiting = waiting
    this.#host = host
    this.#ids = ids
    this.#open = count - ready.length
    this.promise = new Promise((resolve) => {
      this.#resolve = resolve
    })
    host.onBlocked?.()
    let next = 0
    for (let i = 0; i < ids.length; i++) {
      if (ready[next] === i) next++
      else waiting.watch(ids[i] as ObjectId, this, i)
    }
    host.expectAnswer()
    if (timeoutMs !== null) this.#timer = setTimeout(() => this.#finish(), timeoutMs)
  }

  onReady(): void {
    if (--this.#open === 0) this.#finish()
  }

  #finish(): void {
    this.#open = 0
    if (this.#timer) clearTimeout(this.#timer)
    for (const id of this.#ids) this.#waiting.unwatch(id, this)
    this.#host.onUnblocked?.()
    this.#resolve()
  }
}
