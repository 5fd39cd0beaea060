// What is needed to make lost values again: finished tasks whose stored returns are still needed, and what these tasks take in turn.
//
//     a return is stored ──► its task is kept: its arguments as bytes, and claims on the stored values among them
//     a claimed value that nobody holds any more is given up, but its own task is kept: it can be made again when it is needed
//
// Kept are tasks that may be retried and whose arguments name no reference inside a value: such values would have to be held.
//
// Invariants:
//   L1. A record lives while one of its returns is in the table; its claims end with it.
//   L2. Records keep at most `bytesMax` of arguments (Ray's `max_lineage_bytes`); beyond, the oldest are forgotten, and what they made
//       cannot be made again.
//   L3. Making a value again costs its task a retry.

import type { ObjectId } from '../ids/ids.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import { VALUE_OVERHEAD_BYTES, writeInline } from '../wire/task-frames.ts'
import type { Task } from './effects.ts'
import type { ReferenceTable } from './reference-table.ts'
import type { ArgumentParts } from './written-arguments.ts'

export interface LineageRecord {
  readonly task: Task
  /** null: no reference is among them. */
  readonly blob: Uint8Array | null
  readonly parts: ArgumentParts | null
  /** Stored values among the arguments. */
  readonly claimed: readonly ObjectId[]
  readonly bytes: number
  /** Returns that are in the table. */
  returns: number
  retriesLeft: number
  isRunning: boolean
}

const writer = new ByteWriter()

/** `blob`: the arguments as they were sent. Undefined: it cannot be made again. */
export function recordOf(task: Task, blob: Uint8Array, table: ReferenceTable): LineageRecord | undefined {
  if (task.actorId !== null || task.retriesLeft === 0 || task.cancel !== 'no') return undefined
  const usual = { task, returns: 0, retriesLeft: task.retriesLeft, isRunning: false } as const
  if (task.pendingArgs === null) {
    if (task.nestedRefs.length > 0) return undefined
    return { ...usual, blob, parts: null, claimed: [], bytes: blob.byteLength }
  }
  const claimed: ObjectId[] = []
  const parts: (Uint8Array | ObjectId)[] = []
  let bytes = 0
  for (const part of task.pendingArgs) {
    if (typeof part !== 'number') {
      parts.push(part)
      bytes += part.byteLength
      continue
    }
    const state = table.stateOf(part)
    if (state?.kind === 'stored' && state.refs.length === 0) {
      if (table.isOwned(part)) claimed.push(part)
      else return undefined // Its owner knows how to make it, and may be gone by then.
      parts.push(part)
      continue
    }
    if (!state || state.kind === 'pending' || state.kind === 'evicted' || state.kind === 'error') return undefined
    const location = table.locationOf(state)
    if (location.kind !== 'inline' || location.refs.length > 0) return undefined
    writer.truncate(0)
    writer.reserve(VALUE_OVERHEAD_BYTES)
    writeInline(writer, location.bytes, [])
    const written = Buffer.from(writer.take())
    parts.push(written)
    bytes += written.byteLength
  }
  if (hasOthers(task)) return undefined
  return { ...usual, blob: null, parts, claimed, bytes }
}

/** References inside the written values: they would have to be held as long as the record lives. */
function hasOthers(task: Task): boolean {
  const top = new Set(task.pendingArgs?.filter((part) => typeof part === 'number'))
  return task.nestedRefs.some((id) => !top.has(id))
}

export class Lineage {
  readonly #bytesMax: number
  /** Oldest first. */
  readonly #records = new Set<LineageRecord>()
  #bytes = 0

  constructor(bytesMax = 1024 ** 3) {
    this.#bytesMax = bytesMax
  }

  get size(): number {
    return this.#records.size
  }

  /** Those to be forgotten for it (L2). */
  add(record: LineageRecord): LineageRecord[] {
    this.#records.add(record)
    this.#bytes += record.bytes
    const forgotten: LineageRecord[] = []
    for (const oldest of this.#records) {
      if (this.#bytes <= this.#bytesMax || oldest === record) break
      this.remove(oldest)
      forgotten.push(oldest)
    }
    return forgotten
  }

  remove(record: LineageRecord): void {
    if (this.#records.delete(record)) this.#bytes -= record.bytes
  }
}
