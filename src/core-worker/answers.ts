// What a worker writes into its answers: values inline or by the name of their stored copies, and which references it keeps.
//
// Invariants:
//   A1. A reference inside a value is granted to the owner of the answer when the value is prepared: before the task's own go.
//   A2. Which of a task's references this process still has is said once, in its last answer; the asker counts them for it.

import { makeObjectId, type ObjectId, type WorkerTag } from '../ids/ids.ts'
import { encodeSmall, type SerializedValue } from '../values/index.ts'
import type { ByteWriter } from '../wire/byte-writer.ts'
import type { ObjectLocation } from '../wire/messages.ts'
import { beginInline, endInline, writeInline, writeStored } from '../wire/task-frames.ts'
import type { CoreWorker } from './core-worker.ts'

/** null: small enough to be written in place. */
export type PreparedValue = (ObjectLocation & { readonly kind: 'inline' | 'stored' }) | null

/** The shell's part: how values become bytes, and where those go. */
export interface ValueWriter {
  readonly core: CoreWorker
  /** Larger values are stored. */
  readonly inlineBytesMax: number
  serialize(value: unknown): SerializedValue
  write(serialized: SerializedValue, storageId: ObjectId, owner: WorkerTag): NonNullable<PreparedValue>
}

const SMALL_BYTES_MAX = 264
const probe = Buffer.alloc(SMALL_BYTES_MAX)
const NO_IDS: readonly ObjectId[] = []

/**
 * For an answer to `owner`, which is given the references inside (A1). `answersAs`: under which it knows this process.
 * Throws what `serialize` and `write` throw.
 */
export function prepareValue(
  writer: ValueWriter,
  value: unknown,
  owner: WorkerTag,
  answersAs: WorkerTag = writer.core.tag,
): PreparedValue {
  if (encodeSmall(value, probe, 0) >= 0) return null
  const { core } = writer
  const serialized = writer.serialize(value)
  const isStored = serialized.byteLength > writer.inlineBytesMax
  const location = writer.write(serialized, isStored ? makeObjectId(core.tag, core.sequences(1)) : 0, owner)
  for (const ref of serialized.refs) core.table.grant(ref, owner, core.effects, answersAs)
  return location
}

export function writeValue(out: ByteWriter, value: unknown, prepared: PreparedValue): void {
  if (prepared === null) {
    out.reserve(SMALL_BYTES_MAX + 36)
    const at = beginInline(out)
    out.offset = encodeSmall(value, out.buffer, out.offset)
    endInline(out, at)
  } else if (prepared.kind === 'inline') writeInline(out, prepared.bytes, prepared.refs)
  else writeStored(out, prepared.storageId, prepared.size, prepared.refs)
}

/** A task of `owner` is over: `refs`, which were held for it, are let go of. Those that stay here for other reasons (A2). */
export function keptOf(core: CoreWorker, refs: readonly ObjectId[], owner: WorkerTag): readonly ObjectId[] {
  if (refs.length === 0) return NO_IDS
  const { table, effects } = core
  const kept: ObjectId[] = []
  for (const ref of refs) {
    const borrowed = table.borrowed.get(ref)
    if (borrowed && borrowed.holds > 1) {
      kept.push(ref)
      table.received(ref, owner, effects)
    }
    table.release(ref, effects)
  }
  return kept
}
