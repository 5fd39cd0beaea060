// A first-in first-out queue that tasks and actors of the whole cluster share. It lives in an actor.

import { makeError } from '../../errors/index.ts'
import type { ActorHandle } from '../actor.ts'
import { builtin, builtinObject } from '../builtin.ts'
import { kill } from '../control.ts'
import { get } from '../get-put-wait.ts'
import type { ActorOptions } from '../options.ts'
import { remote } from '../remote.ts'

interface Taker {
  readonly give: (item: { readonly value: unknown } | null) => void
}

/** The actor behind a queue. Full and empty are told as plain answers: errors would cost a stack each. */
class QueueActor {
  private readonly items: unknown[] = []
  private readonly takers: Taker[] = []
  private readonly givers: (() => void)[] = []
  private readonly maxsize: number

  constructor(maxsize: number) {
    this.maxsize = maxsize
  }

  /** False: there was no room in time. `timeoutMs` 0 only looks; null waits for ever. */
  async put(value: unknown, timeoutMs: number | null): Promise<boolean> {
    while (this.maxsize > 0 && this.items.length >= this.maxsize) {
      if (timeoutMs === 0 || !(await this.waitIn(this.givers, timeoutMs))) return false
    }
    const taker = this.takers.shift()
    if (taker) taker.give({ value })
    else this.items.push(value)
    return true
  }

  async take(timeoutMs: number | null): Promise<{ readonly value: unknown } | null> {
    if (this.items.length > 0) {
      const value = this.items.shift()
      this.givers.shift()?.()
      return { value }
    }
    if (timeoutMs === 0) return null
    return new Promise((resolve) => {
      const taker: Taker = { give: resolve }
      this.takers.push(taker)
      if (timeoutMs === null) return
      setTimeout(() => {
        const at = this.takers.indexOf(taker)
        if (at < 0) return
        this.takers.splice(at, 1)
        resolve(null)
      }, timeoutMs)
    })
  }

  /** All or nothing. */
  putBatch(values: readonly unknown[]): boolean {
    if (this.maxsize > 0 && this.items.length + values.length > this.maxsize) return false
    for (const value of values) {
      const taker = this.takers.shift()
      if (taker) taker.give({ value })
      else this.items.push(value)
    }
    return true
  }

  takeBatch(count: number): unknown[] | null {
    if (count > this.items.length) return null
    const taken = this.items.splice(0, count)
    for (let i = 0; i < count; i++) this.givers.shift()?.()
    return taken
  }

  size(): number {
    return this.items.length
  }

  private waitIn(waiters: (() => void)[], timeoutMs: number | null): Promise<boolean> {
    return new Promise((resolve) => {
      const wake = (): void => resolve(true)
      waiters.push(wake)
      if (timeoutMs === null) return
      setTimeout(() => {
        const at = waiters.indexOf(wake)
        if (at < 0) return
        waiters.splice(at, 1)
        resolve(false)
      }, timeoutMs)
    })
  }
}
builtin('QueueActor', QueueActor)

/** Options of a `Queue`. */
export interface QueueOptions {
  /** Items that it holds at most; 0: without limit. Default 0. */
  readonly maxsize?: number
  /** Options of the actor behind it, such as a name. Default: it takes no CPU. */
  readonly actorOptions?: ActorOptions
}

/**
 * A first-in first-out queue shared by everything in the cluster that holds it: it may be passed to tasks and actors, or captured.
 * It lives in an actor and ends with the last one that holds it, or by `shutdown()`.
 */
export class Queue<T = unknown> {
  /** Items that it holds at most; 0: without limit. */
  readonly maxsize: number
  /** The actor behind it. */
  readonly actor: ActorHandle<QueueActor>

  constructor(options: QueueOptions = {}) {
    this.maxsize = options.maxsize ?? 0
    const remoteQueue = remote(QueueActor, { maxConcurrency: 1000, numCpus: 0, ...options.actorOptions })
    this.actor = remoteQueue.remote(this.maxsize)
  }

  /** Waits for room, `timeoutS` at most. @throws QueueFull */
  async put(value: T, options: { timeoutS?: number } = {}): Promise<void> {
    const { timeoutS } = options
    if (!(await get(this.actor.put.remote(value, timeoutS === undefined ? null : timeoutS * 1000))))
      refuseFull(timeoutS)
  }

  /** @throws QueueFull at once when there is no room. */
  async putNowait(value: T): Promise<void> {
    if (!(await get(this.actor.put.remote(value, 0)))) refuseFull(undefined)
  }

  /** Waits for an item, `timeoutS` at most. @throws QueueEmpty */
  async get(options: { timeoutS?: number } = {}): Promise<T> {
    const { timeoutS } = options
    const item = await get(this.actor.take.remote(timeoutS === undefined ? null : timeoutS * 1000))
    return item ? (item.value as T) : refuseEmpty(timeoutS)
  }

  /** @throws QueueEmpty at once when there is none. */
  async getNowait(): Promise<T> {
    const item = await get(this.actor.take.remote(0))
    return item ? (item.value as T) : refuseEmpty(undefined)
  }

  /** All of them or none. @throws QueueFull */
  async putNowaitBatch(values: readonly T[]): Promise<void> {
    if (!(await get(this.actor.putBatch.remote(values)))) refuseFull(undefined)
  }

  /** Exactly `count`. @throws QueueEmpty when there are fewer. */
  async getNowaitBatch(count: number): Promise<T[]> {
    return ((await get(this.actor.takeBatch.remote(count))) as T[] | null) ?? refuseEmpty(undefined)
  }

  /** How many items it holds now. */
  size(): Promise<number> {
    return get(this.actor.size.remote())
  }

  /** Whether it holds none now. */
  async empty(): Promise<boolean> {
    return (await this.size()) === 0
  }

  /** Whether there is no room now. */
  async full(): Promise<boolean> {
    return this.maxsize > 0 && (await this.size()) >= this.maxsize
  }

  /** Ends its actor; what waits at it fails. */
  shutdown(): void {
    kill(this.actor)
  }
}
builtinObject(Queue, {
  name: 'Queue',
  take: (queue) => ({ handle: (queue as Queue).actor, data: (queue as Queue).maxsize }),
  make: (actor, maxsize) => Object.assign(Object.create(Queue.prototype) as object, { actor, maxsize }),
})

function refuseEmpty(timeoutS: number | undefined): never {
  throw makeError('QUEUE_EMPTY', { detail: timeoutS === undefined ? '' : ` after ${timeoutS} s` })
}

function refuseFull(timeoutS: number | undefined): never {
  throw makeError('QUEUE_FULL', { detail: timeoutS === undefined ? '' : ` after ${timeoutS} s` })
}
