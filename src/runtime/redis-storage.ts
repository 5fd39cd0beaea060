// The state of the GCS in Redis, by the package `redis`, an optional peer that is loaded only here. All of a cluster is one hash,
// `ray:<namespace>`: fields `<table> 0 <key>`, so that `DEL` removes it.
//
//   D1. A connection is used until anything goes wrong with it, then given up; the next try makes a new one. Nothing is queued in
//       the client, so that StorageQueue alone decides what is written and in which order.
//   D2. Groups are MULTI … EXEC behind a WATCH: what an old connection still had on its way when a new one had written does nothing.
//   D3. The newest GCS of a namespace writes, the one before is fenced: Redis cannot tell whether it lives.

import crypto from 'node:crypto'
import { makeError, RayError } from '../errors/index.ts'
import { monotonicMs } from './clock.ts'
import {
  type GcsStorage,
  type RedisPlace,
  recordName,
  retryDelayMs,
  type StorageChange,
  type StorageOptions,
  StorageQueue,
  type StorageRecord,
  storageClosed,
} from './gcs-storage.ts'

const OWNER = '\u0000owner'
/** A server that does not answer for so long is away. */
const ANSWER_MS = 5000
const PATIENCE_MS = 60_000

/** Of the package, what is used. */
interface Client {
  connect(): Promise<unknown>
  destroy(): void
  readonly isReady: boolean
  on(event: 'error', listener: (error: unknown) => void): unknown
  sendCommand(args: readonly (string | Buffer)[], options?: object): Promise<unknown>
}

interface RedisModule {
  createClient(options: object): Client
  readonly RESP_TYPES: { readonly BLOB_STRING: number }
}

export class RedisStorage implements GcsStorage {
  readonly #place: RedisPlace
  readonly #hash: string
  readonly #patienceMs: number
  readonly #queue: StorageQueue
  readonly #token = crypto.randomBytes(8).toString('hex')
  #module: RedisModule | null = null
  #client: Client | null = null
  #isOpen = false

  constructor(place: RedisPlace, options: StorageOptions = {}) {
    this.#place = place
    this.#hash = `ray:${place.namespace}`
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS
    this.#queue = new StorageQueue(
      { commit: (changes) => this.#commit(changes), explain: (error) => this.#explain(error) },
      options,
    )
  }

  async open(): Promise<void> {
    this.#module = await loadRedis()
    await this.#patiently((client) => this.#ask(client.sendCommand(['HSET', this.#hash, OWNER, this.#token])))
    this.#isOpen = true
  }

  async load(): Promise<StorageRecord[]> {
    if (!this.#isOpen) throw storageClosed()
    const typeMapping = { [(this.#module as RedisModule).RESP_TYPES.BLOB_STRING]: Buffer }
    const flat = await this.#patiently((client) =>
      this.#ask(client.sendCommand(['HGETALL', this.#hash], { typeMapping })),
    )
    const records: StorageRecord[] = []
    const items = flat as readonly Buffer[]
    for (let i = 0; i + 1 < items.length; i += 2) {
      const field = (items[i] as Buffer).toString()
      if (field === OWNER) continue
      const end = field.indexOf('\u0000')
      records.push({
        table: field.slice(0, end),
        key: field.slice(end + 1),
        value: new Uint8Array(items[i + 1] as Buffer),
      })
    }
    return records
  }

  write(batch: readonly StorageChange[]): Promise<void> {
    return this.#isOpen ? this.#queue.write(batch) : Promise.reject(storageClosed())
  }

  async close(): Promise<void> {
    this.#queue.end(storageClosed())
    await this.#queue.idle()
    this.#isOpen = false
    this.#giveUp()
  }

  async #commit(changes: readonly StorageChange[]): Promise<void> {
    await this.#using(async (client) => {
      const [, owner] = await this.#ask(
        Promise.all([client.sendCommand(['WATCH', this.#hash]), client.sendCommand(['HGET', this.#hash, OWNER])]),
      )
      if (owner !== null && owner !== this.#token) throw this.#inUse() // D3
      // A hash that is gone altogether (DEL, an empty new Redis) has nobody else in it: it is ours again.
      const sets: (string | Buffer)[] = owner === null ? [OWNER, this.#token] : []
      const removed: string[] = []
      for (const { table, key, value } of changes) {
        const field = recordName(table, key)
        if (value) sets.push(field, Buffer.from(value.buffer, value.byteOffset, value.byteLength))
        else removed.push(field)
      }
      const commands = [
        client.sendCommand(['MULTI']),
        ...(sets.length > 0 ? [client.sendCommand(['HSET', this.#hash, ...sets])] : []),
        ...(removed.length > 0 ? [client.sendCommand(['HDEL', this.#hash, ...removed])] : []),
        client.sendCommand(['EXEC']),
      ]
      const answers = await this.#ask(Promise.all(commands))
      if (answers.at(-1) === null) throw new Error('another connection wrote meanwhile') // D2
    })
  }

  /** For what is no write, and so not in the queue. */
  async #patiently(ask: (client: Client) => Promise<unknown>): Promise<unknown> {
    const began = monotonicMs()
    for (let tries = 0; ; tries++) {
      try {
        return await this.#using(ask)
      } catch (cause) {
        const { error, isLasting } = this.#explain(cause)
        if (isLasting || monotonicMs() - began >= this.#patienceMs) throw error
        await new Promise((resolve) => setTimeout(resolve, retryDelayMs(tries)))
      }
    }
  }

  async #using<T>(use: (client: Client) => Promise<T>): Promise<T> {
    try {
      return await use(this.#client?.isReady ? this.#client : await this.#connect())
    } catch (error) {
      this.#giveUp() // D1
      throw error
    }
  }

  async #connect(): Promise<Client> {
    this.#giveUp()
    const { address, username, password } = this.#place
    const client = (this.#module as RedisModule).createClient({
      url: address.includes('://') ? address : `redis://${address}`,
      ...(username === null ? {} : { username }),
      ...(password === null ? {} : { password }),
      RESP: 2,
      disableOfflineQueue: true,
      socket: { reconnectStrategy: false, connectTimeout: ANSWER_MS },
    })
    client.on('error', () => {}) // What waits on the connection fails with it.
    this.#client = client
    await this.#ask(client.connect())
    return client
  }

  /** A server that is stopped keeps its connections open and answers nothing. */
  async #ask<T>(answer: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS / 1000} s`)), ANSWER_MS)
    })
    answer.catch(() => {}) // After the time-out nobody waits for it.
    try {
      return await Promise.race([answer, late])
    } finally {
      clearTimeout(timer)
    }
  }

  #giveUp(): void {
    const client = this.#client
    this.#client = null
    try {
      client?.destroy()
    } catch {
      // It was closed by the other side.
    }
  }

  #explain(error: unknown): { error: RayError; isLasting: boolean } {
    if (error instanceof RayError) return { error, isLasting: true }
    const text =
      error instanceof Error ? error.message || ((error as NodeJS.ErrnoException).code ?? error.name) : String(error)
    const isRefused = /^(WRONGPASS|NOAUTH|NOPERM|WRONGTYPE|ERR AUTH)|Invalid protocol|Invalid URL/.test(text)
    const params = { place: `Redis at ${hostOf(this.#place.address)}`, detail: text }
    return { error: makeError('GCS_STORAGE_FAILED', params, { cause: error }), isLasting: isRefused }
  }

  #inUse(): RayError {
    const place = `Redis at ${hostOf(this.#place.address)}, namespace '${this.#place.namespace}'`
    return makeError('GCS_STORAGE_IN_USE', { place, detail: 'it was taken over' })
  }
}

/** Without the password that may stand in the address. */
function hostOf(address: string): string {
  return address.replace(/^(\w+:\/\/)?.*@/, '$1')
}

async function loadRedis(): Promise<RedisModule> {
  try {
    return (await import('redis')) as unknown as RedisModule
  } catch (cause) {
    const message = 'RAY_REDIS_ADDRESS is set, but the package redis is not installed'
    throw makeError('INVALID_ARGUMENT', { message, hint: 'npm install redis, or unset RAY_REDIS_ADDRESS.' }, { cause })
  }
}
