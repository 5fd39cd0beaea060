// A pool of processes with the verbs of Python's multiprocessing (Ray: `ray.util.multiprocessing.Pool`).
//
//   M1. A pool's functions run in its own `processes` actors, so that `initializer` runs once in each, and once in what replaces one
//       that died.
//   M2. Each process has one chunk at a time; the next goes to whichever is free, in the order of submission.

import { makeError } from '../../errors/index.ts'
import type { ActorHandle } from '../actor.ts'
import { builtin } from '../builtin.ts'
import { kill } from '../control.ts'
import { get } from '../get-put-wait.ts'
import { remote } from '../remote.ts'

type Work = (...args: never[]) => unknown

/** The actor that is one process of a pool. */
class PoolActor {
  private readonly ready: Promise<unknown>

  constructor(initializer: Work | null, args: readonly unknown[]) {
    this.ready = Promise.resolve(initializer?.(...(args as never[])))
    this.ready.catch(() => {}) // Every run throws it.
  }

  async run(work: Work, calls: readonly (readonly unknown[])[]): Promise<unknown[]> {
    await this.ready
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

interface Chunk {
  readonly work: Work
  readonly calls: readonly (readonly unknown[])[]
  readonly resolve: (results: unknown[]) => void
  readonly reject: (error: unknown) => void
}

/** Runs functions over items in processes of its own. */
export class Pool implements Disposable {
  readonly #actors: readonly ActorHandle<PoolActor>[]
  readonly #idle: ActorHandle<PoolActor>[]
  readonly #queue: Chunk[] = []
  readonly #pending = new Set<Promise<unknown>>()
  #isClosed = false

  constructor(options: PoolOptions) {
    const type = remote(PoolActor, { numCpus: 1, maxConcurrency: 1, maxRestarts: -1 })
    const { processes, initializer = null, initargs = [] } = options
    this.#actors = Array.from({ length: processes }, () => type.remote(initializer, initargs))
    this.#idle = [...this.#actors]
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
    const chunks = await Promise.all(this.#submitChunks(work as never, [...items], options))
    return chunks.flat() as R[]
  }

  /** Results in order, one by one as they come. The work begins at once. */
  imap<V, R>(
    work: (value: V) => R | Promise<R>,
    items: Iterable<V>,
    options: MapOptions = {},
  ): AsyncGenerator<R, void, undefined> {
    const calls = [...items].map((item) => [item])
    return inOrder<R>(this.#submitChunks(work as never, calls, { chunksize: options.chunksize ?? 1 }))
  }

  /** Results as they are ready. The work begins at once. */
  imapUnordered<V, R>(
    work: (value: V) => R | Promise<R>,
    items: Iterable<V>,
    options: MapOptions = {},
  ): AsyncGenerator<R, void, undefined> {
    const calls = [...items].map((item) => [item])
    return asReady<R>(this.#submitChunks(work as never, calls, { chunksize: options.chunksize ?? 1 }))
  }

  /** One call, awaited. */
  async apply<A extends readonly unknown[], R>(work: (...args: A) => R | Promise<R>, args: A): Promise<R> {
    const [result] = await this.#submit(work as never, [args])
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
    for (const { reject } of this.#queue.splice(0)) reject(makeError('POOL_CLOSED', { what: 'pool' }))
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

  #submit(work: Work, calls: readonly (readonly unknown[])[]): Promise<unknown[]> {
    if (this.#isClosed) throw makeError('POOL_CLOSED', { what: 'pool' })
    const promise = new Promise<unknown[]>((resolve, reject) => this.#queue.push({ work, calls, resolve, reject }))
    this.#pending.add(promise)
    const forget = (): void => void this.#pending.delete(promise)
    promise.then(forget, forget)
    this.#pump()
    return promise
  }

  /** M2 */
  #pump(): void {
    while (this.#queue.length > 0) {
      const actor = this.#idle.shift()
      if (!actor) return
      const { work, calls, resolve, reject } = this.#queue.shift() as Chunk
      const next = (): void => {
        this.#idle.push(actor)
        this.#pump()
      }
      try {
        get(actor.run.remote(work, calls)).then(resolve, reject).finally(next)
      } catch (error) {
        reject(error) // The work cannot travel.
        this.#idle.push(actor)
      }
    }
  }

  #submitChunks(work: Work, calls: readonly (readonly unknown[])[], options: MapOptions): Promise<unknown[]>[] {
    const size = options.chunksize ?? Math.max(1, Math.ceil(calls.length / (this.#actors.length * 4)))
    const chunks: Promise<unknown[]>[] = []
    for (let i = 0; i < calls.length; i += size) chunks.push(this.#submit(work, calls.slice(i, i + size)))
    return chunks
  }
}

async function* inOrder<R>(chunks: readonly Promise<unknown[]>[]): AsyncGenerator<R, void, undefined> {
  for (const chunk of chunks) yield* (await chunk) as R[]
}

async function* asReady<R>(chunks: readonly Promise<unknown[]>[]): AsyncGenerator<R, void, undefined> {
  const open = new Map(chunks.map((chunk, i) => [i, chunk.then((values) => ({ i, values }))]))
  for (const one of open.values()) one.catch(() => {}) // Whoever asks for it sees its error.
  while (open.size > 0) {
    const { i, values } = await Promise.race(open.values())
    open.delete(i)
    yield* values as R[]
  }
}
