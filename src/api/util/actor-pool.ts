// Spreads work over actors: whoever is idle takes the next item.
//
//   P1. An actor has at most one item at a time.
//   P2. Results come in the order of submission (`getNext`) or as they are ready (`getNextUnordered`); the two do not mix.

import { makeError } from '../../errors/index.ts'
import type { ActorHandle } from '../actor.ts'
import { get, wait } from '../get-put-wait.ts'
import type { ObjectRef } from '../object-ref.ts'

type Work<A, V, R> = (actor: ActorHandle<A>, value: V) => ObjectRef<R>

/** Options of `ActorPool.getNext` and `getNextUnordered`. */
export interface NextOptions {
  /** @throws GetTimeoutError after this long. */
  readonly timeoutS?: number
  /** Leave an item that timed out behind instead of keeping its place. */
  readonly ignoreIfTimedout?: boolean
}

/** A pool of actors of class `A`. */
export class ActorPool<A> {
  readonly #idle: ActorHandle<A>[]
  readonly #waiting: { readonly work: Work<A, unknown, unknown>; readonly value: unknown }[] = []
  readonly #running = new Map<ObjectRef, { readonly actor: ActorHandle<A>; readonly index: number }>()
  readonly #byIndex = new Map<number, ObjectRef>()
  #nextIndex = 0
  #nextReturn = 0

  constructor(actors: readonly ActorHandle<A>[]) {
    this.#idle = [...actors]
  }

  /** Results of `work` over `items`, in order, while later ones are computed. */
  async *map<V, R>(work: Work<A, V, R>, items: Iterable<V>): AsyncGenerator<R, void, undefined> {
    for (const item of items) this.submit(work, item)
    while (this.hasNext()) yield (await this.getNext()) as R
  }

  /** The same, as they become ready. */
  async *mapUnordered<V, R>(work: Work<A, V, R>, items: Iterable<V>): AsyncGenerator<R, void, undefined> {
    for (const item of items) this.submit(work, item)
    while (this.hasNext()) yield (await this.getNextUnordered()) as R
  }

  /** Gives one item to an idle actor, or has it wait for one. */
  submit<V, R>(work: Work<A, V, R>, value: V): void {
    const actor = this.#idle.pop()
    if (!actor) {
      this.#waiting.push({ work: work as Work<A, unknown, unknown>, value })
      return
    }
    const ref = work(actor, value) as ObjectRef
    this.#running.set(ref, { actor, index: this.#nextIndex })
    this.#byIndex.set(this.#nextIndex++, ref)
  }

  /** Whether results are still to come. */
  hasNext(): boolean {
    return this.#running.size > 0 || this.#waiting.length > 0
  }

  /** The next result in the order of submission. */
  async getNext(options: NextOptions = {}): Promise<unknown> {
    this.#requireNext()
    const ref = this.#byIndex.get(this.#nextReturn) as ObjectRef
    if (options.timeoutS !== undefined) {
      const [ready] = await wait([ref], { timeoutS: options.timeoutS })
      if (ready.length === 0) {
        if (options.ignoreIfTimedout) this.#forget(ref, this.#nextReturn++)
        throw makeError('GET_TIMEOUT', { missing: 1, total: 1, timeoutS: options.timeoutS })
      }
    }
    this.#byIndex.delete(this.#nextReturn++)
    try {
      return await get(ref)
    } finally {
      this.#release(ref)
    }
  }

  /** Any result that is ready first. */
  async getNextUnordered(options: NextOptions = {}): Promise<unknown> {
    this.#requireNext()
    const [[ref]] = await wait(
      [...this.#running.keys()],
      options.timeoutS === undefined ? {} : { timeoutS: options.timeoutS },
    )
    if (!ref) throw makeError('GET_TIMEOUT', { missing: 1, total: 1, timeoutS: options.timeoutS ?? 0 })
    const index = this.#running.get(ref)?.index ?? 0
    this.#byIndex.delete(index)
    this.#nextReturn = Math.max(this.#nextReturn, index + 1)
    try {
      return await get(ref)
    } finally {
      this.#release(ref)
    }
  }

  /** Whether an actor is idle and nothing waits for it. */
  hasFree(): boolean {
    return this.#idle.length > 0 && this.#waiting.length === 0
  }

  /** Takes an idle actor out of the pool; undefined when none is idle. */
  popIdle(): ActorHandle<A> | undefined {
    return this.hasFree() ? this.#idle.pop() : undefined
  }

  /** Adds an actor, which takes waiting work at once. */
  push(actor: ActorHandle<A>): void {
    this.#idle.push(actor)
    const next = this.#waiting.shift()
    if (next) this.submit(next.work, next.value)
  }

  #requireNext(): void {
    if (this.hasNext()) return
    throw makeError('INVALID_ARGUMENT', { message: 'the pool has no more results', hint: 'Ask hasNext() first.' })
  }

  #forget(ref: ObjectRef, index: number): void {
    this.#byIndex.delete(index)
    void get(ref).then(
      () => this.#release(ref),
      () => this.#release(ref),
    )
  }

  #release(ref: ObjectRef): void {
    const running = this.#running.get(ref)
    this.#running.delete(ref)
    if (running) this.push(running.actor)
  }
}
