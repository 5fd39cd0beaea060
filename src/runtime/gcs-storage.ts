// Where the GCS keeps what must outlive it: records `(table, key) → bytes`. By default in a folder (lmdb-storage.ts), or in Redis
// (redis-storage.ts) where the disk may go with the machine.
//
//   G1. A batch is applied whole or not at all, and batches in the order of their `write` calls, across crashes too.
//   G2. `write` resolves when the batch is as durable as the place makes it: on disk, or accepted by Redis.
//   G3. While the place is away or full, writes wait and are tried again; after `patienceMs` all that wait fail, and every later one:
//       what came after a lost batch must not be there without it. The process that holds such a storage ends, and another one
//       goes on from what is durable.
//   G4. One process writes: who opens a place fences, or is refused by, the one before.

import { makeError, type RayError } from '../errors/index.ts'
import { monotonicMs } from './clock.ts'

export interface StorageRecord {
  readonly table: string
  readonly key: string
  readonly value: Uint8Array
}

/** `null` removes the record. */
export interface StorageChange {
  readonly table: string
  readonly key: string
  readonly value: Uint8Array | null
}

export interface GcsStorage {
  /** Fails with `GCS_STORAGE_…` when the place cannot be used; the text says what to do. */
  open(): Promise<void>
  /** All records, in no order. */
  load(): Promise<StorageRecord[]>
  write(batch: readonly StorageChange[]): Promise<void>
  /** After the writes that wait. */
  close(): Promise<void>
}

export interface StorageOptions {
  /** How long a write waits for a place that is away or full. */
  readonly patienceMs?: number
  /** Told when writes begin to wait, and when they go on. */
  readonly warn?: (message: string) => void
}

/** What a place does; `StorageQueue` gives it the order, the patience and the groups. */
interface Place {
  /** As one transaction. Rejects without having changed anything, or (a lost answer) having changed all: it is repeated then. */
  commit(changes: readonly StorageChange[]): void | Promise<void>
  /** What `commit` rejected with, for users; `isLasting`: repeating it is no use. */
  explain(error: unknown): { readonly error: RayError; readonly isLasting: boolean }
}

interface Waiting {
  readonly batch: readonly StorageChange[]
  readonly resolve: () => void
  readonly reject: (error: RayError) => void
}

const PATIENCE_MS = 60_000
const RETRY_MS = { first: 100, last: 1000, factor: 1.5 }
/** One commit takes at most so many batches: a bound on its memory and its time. */
const GROUP_MAX = 1000

/** Batches that come while a commit runs share the next one: one wait for the disk, or one round trip, for all of them. */
export class StorageQueue {
  readonly #place: Place
  readonly #patienceMs: number
  readonly #warn: (message: string) => void
  #waiting: Waiting[] = []
  #running: Promise<void> | null = null
  #failure: RayError | null = null

  constructor(place: Place, options: StorageOptions) {
    this.#place = place
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS
    this.#warn = options.warn ?? (() => {})
  }

  write(batch: readonly StorageChange[]): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure) // G3
    return new Promise((resolve, reject) => {
      this.#waiting.push({ batch, resolve, reject })
      this.#running ??= this.#run()
    })
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running
  }

  /** Nothing is accepted any more. */
  end(error: RayError): void {
    this.#failure ??= error
  }

  async #run(): Promise<void> {
    await afterThisTurn()
    while (this.#waiting.length > 0) {
      const group = this.#waiting.splice(0, GROUP_MAX)
      const failure = await this.#commit(lastOfEach(group))
      if (!failure) {
        for (const one of group) one.resolve()
        continue
      }
      this.#failure = failure
      for (const one of [...group, ...this.#waiting.splice(0)]) one.reject(failure)
    }
    this.#running = null
  }

  async #commit(changes: readonly StorageChange[]): Promise<RayError | null> {
    const began = monotonicMs()
    for (let tries = 0; ; tries++) {
      try {
        await this.#place.commit(changes)
        if (tries > 0) this.#warn('the state of the cluster can be stored again')
        return null
      } catch (cause) {
        const { error, isLasting } = this.#place.explain(cause)
        if (isLasting || monotonicMs() - began >= this.#patienceMs) return error
        if (tries === 0) this.#warn(`${error.message}\n  It is tried again for ${this.#patienceMs / 1000} s.`)
        await new Promise((resolve) => setTimeout(resolve, retryDelayMs(tries)))
      }
    }
  }
}

export function retryDelayMs(tries: number): number {
  return Math.min(RETRY_MS.last, RETRY_MS.first * RETRY_MS.factor ** tries)
}

function lastOfEach(group: readonly Waiting[]): StorageChange[] {
  const [only] = group
  if (only && group.length === 1 && only.batch.length === 1) return [...only.batch]
  const last = new Map<string, StorageChange>()
  for (const { batch } of group) for (const change of batch) last.set(recordName(change.table, change.key), change)
  return [...last.values()]
}

function afterThisTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Tables have plain names. */
export function recordName(table: string, key: string): string {
  return `${table}\u0000${key}`
}

export interface StorageConfig extends StorageOptions {
  /** The folder of the embedded store. */
  readonly dir: string
  readonly redis: RedisPlace | null
}

export interface RedisPlace {
  /** `host:port`, `redis://…` or `rediss://…`. */
  readonly address: string
  readonly username: string | null
  readonly password: string | null
  readonly namespace: string
}

/** Redis where `RAY_REDIS_ADDRESS` names one. What was given on the command line comes before the environment. */
export function redisFromEnv(
  env: NodeJS.ProcessEnv,
  given: { readonly address?: string; readonly username?: string; readonly password?: string } = {},
): RedisPlace | null {
  const address = given.address ?? env.RAY_REDIS_ADDRESS
  if (!address) return null
  return {
    address,
    username: given.username ?? env.RAY_REDIS_USERNAME ?? env.REDIS_USERNAME ?? null,
    password: given.password ?? env.RAY_REDIS_PASSWORD ?? env.REDIS_PASSWORD ?? null,
    namespace: env.RAY_external_storage_namespace || 'default',
  }
}

/** Loads only the adapter that is used. */
export async function makeGcsStorage(config: StorageConfig): Promise<GcsStorage> {
  if (config.redis) {
    const { RedisStorage } = await import('./redis-storage.ts')
    return new RedisStorage(config.redis, config)
  }
  const { LmdbStorage } = await import('./lmdb-storage.ts')
  return new LmdbStorage(config.dir, config)
}

export function storageClosed(): RayError {
  return makeError('GCS_STORAGE_FAILED', { place: 'the GCS storage', detail: 'it is closed' })
}
