// What of the GCS's state outlives it, as records `(table, key) → bytes`.
//
//   cluster   counters       how many jobs and tag blocks were given, and the cluster's id: before any of them is told
//   node      node id        members and the dead that are remembered: a node that was declared dead stays so
//   job       driver's tag   which job it began, while it lives: asked again, it is the same
//   actor     actor id       what was asked for: written once, and once more without its arguments when it is dead and they are large
//   life      actor id       where it is in its life; small, since it is written at every change
//   alias     actor id       another id of an actor (`getIfExists`)
//   forgotten actor id       it died so long ago that nothing else is kept
//   state     actor id, key  what it keeps for its next life, until it is dead for good
//   group     group id       placement groups, and the removed that are remembered
//   kv        key            all of them: definitions of functions are needed when an actor comes back
//
// Not kept, because whoever has it says it again: what nodes have free, which processes live, who follows which actor, who waits
// for a key.
//
// Invariants:
//   R1. What a step changed leaves as one batch, before what the step says to anybody: the shell says it when the batch is durable.
//   R2. A record holds the state at the end of the step, however often it changed within.

import { packData, unpackData } from '../wire/codec.ts'

export type Table = 'cluster' | 'node' | 'job' | 'actor' | 'life' | 'alias' | 'forgotten' | 'state' | 'group' | 'kv'

export interface GcsRecord {
  readonly table: string
  readonly key: string
  readonly value: Uint8Array
}

/** `null`: the record goes. */
export interface GcsChange {
  readonly table: string
  readonly key: string
  readonly value: Uint8Array | null
}

export class Journal {
  readonly #isOn: boolean
  #changes = new Map<string, { table: Table; key: string; read: (() => unknown) | null }>()

  /** Off: for a GCS that does not outlive its process. */
  constructor(isOn: boolean) {
    this.#isOn = isOn
  }

  /** `read` is called at the end of the step (R2). */
  put(table: Table, key: string, read: () => unknown): void {
    if (this.#isOn) this.#changes.set(`${table} ${key}`, { table, key, read })
  }

  remove(table: Table, key: string): void {
    if (this.#isOn) this.#changes.set(`${table} ${key}`, { table, key, read: null })
  }

  take(): GcsChange[] {
    if (this.#changes.size === 0) return []
    const changes = [...this.#changes.values()]
    this.#changes = new Map()
    return changes.map(({ table, key, read }) => ({ table, key, value: read ? encode(read()) : null }))
  }
}

/** Bytes are kept as they are: function definitions may be large. */
function encode(value: unknown): Uint8Array {
  return value instanceof Uint8Array ? value : packData(value)
}

/** The records of one table. */
export function readTable<T>(
  records: readonly GcsRecord[],
  table: Exclude<Table, 'kv' | 'state'>,
): [key: string, value: T][] {
  return records
    .filter((record) => record.table === table)
    .map(({ key, value }) => [key, unpackData(Buffer.from(value)) as T])
}

/** In the order in which they were made. */
export function byIndex<T extends { readonly index: number }>(entries: [string, T][]): [string, T][] {
  return entries.sort(([, a], [, b]) => a.index - b.index)
}
