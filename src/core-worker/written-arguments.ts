// A call's arguments between being written and being sent: those with references wait in parts until the references have values.
//
// Invariants:
//   P1. A reference's value travels as it lies: inline bytes are copied, stored ones are named.
//   P2. References inside such values leave this process with them: they are told to the node, as those in plain arguments are.

import { type ObjectId, ownerOf } from '../ids/ids.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import type { Locality } from '../wire/messages.ts'
import { blockOf } from '../wire/tag-map.ts'
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
  | {
      readonly error: null
      readonly blob: Uint8Array
      readonly nested: readonly ObjectId[]
      /** Of its stored values; null: there are none. */
      readonly locality: Locality | null
    }
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
  let stored: StoredBytes | null = null
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
    else {
      stored ??= new StoredBytes()
      stored.add(location.storageId, location.size)
      writeStored(writer, location.storageId, location.size, location.refs)
    }
  }
  const blob = Buffer.from(writer.take())
  return { error: null, blob, nested: found === null ? nested : [...found], locality: stored?.list() ?? null }
}

/** By the block of who wrote them; one of its tags stands for it. */
class StoredBytes {
  readonly #byBlock = new Map<number, [tag: number, bytes: number]>()

  add(storageId: ObjectId, size: number): void {
    const tag = ownerOf(storageId)
    const known = this.#byBlock.get(blockOf(tag))
    if (known) known[1] += size
    else this.#byBlock.set(blockOf(tag), [tag, size])
  }

  list(): Locality {
    return [...this.#byBlock.values()]
  }
}
