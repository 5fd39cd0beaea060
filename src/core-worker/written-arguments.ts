// A call's arguments between being written and being sent: those with references wait in parts until the references have values.
//
// Invariants:
//   P1. A reference's value travels as it lies: inline bytes are copied, stored ones are named.
//   P2. References inside such values leave this process with them: they are told to the node, as those in plain arguments are.

import type { ObjectId } from '../ids/ids.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import { VALUE_OVERHEAD_BYTES, writeInline, writeStored } from '../wire/task-frames.ts'
import type { Effects } from './effects.ts'
import type { ReferenceTable } from './reference-table.ts'

/** What a call's arguments came to when it was made. */
export interface WrittenArguments {
  /** null: there are references among them, and `parts` says what to write when they have values. */
  readonly blob: Uint8Array | null
  /** When `blob` is null: written values and references, in order. */
  readonly parts: readonly (Uint8Array | ObjectId)[] | null
  /** Held until the call is over: references at the top level, and those nested in arguments. */
  readonly pinned: readonly ObjectId[]
  /** References inside values. */
  readonly nested: readonly ObjectId[]
}

export type ArgumentParts = NonNullable<WrittenArguments['parts']>

export type ResolvedArguments =
  | { readonly error: null; readonly blob: Uint8Array; readonly nested: readonly ObjectId[] }
  /** The first reference in order that has an error for a value. */
  | { readonly error: Uint8Array }

export function referencesAmong(parts: ArgumentParts): readonly ObjectId[] {
  return parts.filter((part) => typeof part === 'number')
}

/** Its buffer of 64 KiB serves all calls: each takes a copy of its own size. */
const writer = new ByteWriter()

/** Every reference among `parts` has a value or an error. `nested`: those inside the written values. */
export function resolveArguments(
  parts: ArgumentParts,
  nested: readonly ObjectId[],
  table: ReferenceTable,
  effects: Effects,
): ResolvedArguments {
  writer.truncate(0)
  writer.reserve(2)
  writer.u16(parts.length)
  let found: Set<ObjectId> | null = null
  for (const part of parts) {
    if (typeof part !== 'number') {
      writer.reserve(part.length)
      writer.bytes(part)
      continue
    }
    const location = table.locationOf(table.look(part, effects))
    if (location.kind === 'error') return { error: location.bytes }
    for (const ref of location.refs) {
      found ??= new Set(nested)
      found.add(ref)
      table.escape(ref, effects) // P2
    }
    writer.reserve(VALUE_OVERHEAD_BYTES)
    if (location.kind === 'inline') writeInline(writer, location.bytes, location.refs)
    else writeStored(writer, location.storageId, location.size, location.refs)
  }
  return { error: null, blob: Buffer.from(writer.take()), nested: found === null ? nested : [...found] }
}
