// A pool of processes with the verbs of Python's multiprocessing (Ray: `ray.util.multiprocessing.Pool`).
//
//   M1. A pool's functions run in its own `processes` actors, so that `initializer` runs once in each.

import { makeError } from '../../errors/index.ts'
import type { ActorHandle } from '../actor.ts'
import { builtin } from '../builtin.ts'
import { kill } from '../control.ts'
import { get } from '../get-put-wait.ts'
import type { ObjectRef } from '../object-ref.ts'
import { remote } from '../remote.ts'

type Work = (...args: never[]) => unknown

/** The actor that is one process of a pool. */
class PoolActor {
  async setUp(initializer: Work | null, args: readonly unknown[]): Promise<void> {
    if (initializer) await initializer(...(args as never[]))
  }

  async run(work: Work, calls: readonly (readonly unknown[])[]): Promise<unknown[]> {
    const results: unknown[] = []
    for (const args of calls) results.push(await work(...(args as never[])))
    return results
  }
}
builtin('PoolActor', PoolActor)

/** Options of a `Pool`. */
export interface PoolOptions {
  /** How many processes; each takes a CPU. */
  readonly processes: number
  /** Runs once in each process before its first work. */
  readonly initializer?: Work
  /** Its arguments. Default: none. */
  readonly initargs?: readonly unknown[]
}

/** Options of the maps of a `Pool`. */
export interface MapOptions {
  /** Items sent together. Default: a fourth of each process's share. */
  readonly chunksize?: number
}

/** Runs functions over items in processes of its own. */
export class Pool implements Disposable {
  readonly #actors: ActorHandle<PoolActor>[]
  readonly #pending = new Set<Promise<unknown>>()
  #next = 0
  #isClosed = false

  constructor(options: PoolOptions) {
    const type = remote(PoolActor, { numCpus: 1, maxConcurrency: 1 })
    this.#actors = Array.from({ length: options.processes }, () => type.remote())
    for (const actor of this.#actors) {
      this.#track(get(actor.setUp.remote(options.initializer ?? null, options.initargs ?? [])))
    }
  }

  /** Results in order. */
  async map<V, R>(work: (value: V) => R | Promise<R>, items: Iterable<V>, options: MapOptions = {}): Promise<R[]> {
    return this.starmap(work as never, [...items].map((item) => [item]) as never, options)
  }

  /** The same for functions of several arguments. */
  async starmap<A extends readonly unknown[], R>(
    work: (...args: A) => R | Promise<R>,
    items: Iterable<A>,
    options: MapOptions = {},
  ): Promise<R[]> {
    const results: R[] = []
    for (const ref of this.#submitChunks(work as never, [...items], options)) results.push(...((await get(ref)) as R[]))
    return results
  }

  /** Results in order, one by one as they come. */
  async *imap<V, R>(
    work: (value: V) => R | Promise<R>,
    items: Iterable<V>,
    options: MapOptions = {},
  ): AsyncGenerator<R> {
    const calls = [...items].map((item) => [item])
    const refs = this.#submitChunks(work as never, calls, { chunksize: options.chunksize ?? 1 })
    for (const ref of refs) yield* (await get(ref)) as R[]
  }

  /** Results as they are ready. */
  async *imapUnordered<V, R>(
    work: (value: V) => R | Promise<R>,
    items: Iterable<V>,
    options: MapOptions = {},
  ): AsyncGenerator<R> {
    const calls = [...items].map((item) => [item])
    const refs = this.#submitChunks(work as never, calls, { chunksize: options.chunksize ?? 1 })
    const open = new Map(refs.map((ref, i) => [i, get(ref).then((values) => ({ i, values }))]))
    while (open.size > 0) {
      const { i, values } = await Promise.race(open.values())
      open.delete(i)
      yield* values as R[]
    }
  }

  /** One call, awaited. */
  async apply<A extends readonly unknown[], R>(work: (...args: A) => R | Promise<R>, args: A): Promise<R> {
    const [result] = await this.#track(get(this.#submit(work as never, [args])))
    return result as R
  }

  /** One call; its promise. The pool may be closed meanwhile. */
  applyAsync<A extends readonly unknown[], R>(work: (...args: A) => R | Promise<R>, args: A): Promise<R> {
    return this.apply(work, args)
  }

  /** No more work is taken. */
  close(): void {
    this.#isClosed = true
  }

  /** Ends the processes at once; open calls fail. */
  terminate(): void {
    this.#isClosed = true
    for (const actor of this.#actors) kill(actor)
  }

  /** After `close`: waits for all work, then ends the processes. */
  async join(): Promise<void> {
    if (!this.#isClosed)
      throw makeError('INVALID_ARGUMENT', { message: 'the pool is open', hint: 'Call close() or terminate() first.' })
    await Promise.allSettled(this.#pending)
    this.terminate()
  }

  [Symbol.dispose](): void {
    this.terminate()
  }

  #submit(work: Work, calls: readonly (readonly unknown[])[]): ObjectRef<unknown[]> {
    if (this.#isClosed) throw makeError('POOL_CLOSED', { what: 'pool' })
    const actor = this.#actors[this.#next++ % this.#actors.length] as ActorHandle<PoolActor>
    return actor.run.remote(work, calls)
  }

  #submitChunks(work: Work, calls: readonly (readonly unknown[])[], options: MapOptions): ObjectRef<unknown[]>[] {
    const size = options.chunksize ?? Math.max(1, Math.ceil(calls.length / (this.#actors.length * 4)))
    const refs: ObjectRef<unknown[]>[] = []
    for (let i = 0; i < calls.length; i += size) refs.push(this.#submit(work, calls.slice(i, i + size)))
    for (const ref of refs) this.#track(get(ref)).catch(() => {})
    return refs
  }

  #track<T>(promise: Promise<T>): Promise<T> {
    this.#pending.add(promise)
    promise.then(
      () => this.#pending.delete(promise),
      () => this.#pending.delete(promise),
    )
    return promise
  }
}
