// Keys and values of the cluster: function definitions, and whatever libraries keep.
//
//   K1. A waiting question is answered by the first put of its key, once.

import type { WorkerTag } from '../ids/ids.ts'
import { type GcsRecord, Journal } from './records.ts'

export interface KvAnswer {
  readonly to: WorkerTag
  readonly requestId: number
  readonly value: Uint8Array | null
}

export class Kv {
  readonly #values = new Map<string, Uint8Array>()
  readonly #waiting = new Map<string, { to: WorkerTag; requestId: number }[]>()
  readonly #journal: Journal

  constructor(journal = new Journal(false)) {
    this.#journal = journal
  }

  restore(records: readonly GcsRecord[]): void {
    for (const { table, key, value } of records) if (table === 'kv') this.#values.set(key, value)
  }

  put(key: string, value: Uint8Array, overwrite: boolean): KvAnswer[] {
    if (overwrite || !this.#values.has(key)) {
      this.#values.set(key, value)
      this.#journal.put('kv', key, () => value)
    }
    const waiting = this.#waiting.get(key) ?? []
    this.#waiting.delete(key)
    return waiting.map(({ to, requestId }) => ({ to, requestId, value: this.#values.get(key) as Uint8Array }))
  }

  /** `undefined`: the answer comes later. */
  get(to: WorkerTag, requestId: number, key: string, wait: boolean): KvAnswer | undefined {
    const value = this.#values.get(key)
    if (value || !wait) return { to, requestId, value: value ?? null }
    const waiting = this.#waiting.get(key)
    if (waiting) waiting.push({ to, requestId })
    else this.#waiting.set(key, [{ to, requestId }])
    return undefined
  }

  delete(key: string): void {
    if (this.#values.delete(key)) this.#journal.remove('kv', key)
  }

  keys(prefix: string): string[] {
    return [...this.#values.keys()].filter((key) => key.startsWith(prefix))
  }
}
