// Arguments of a call, written as they will travel.
//
//   A1. Values are written when the call is made; later changes by the caller are not seen.
//   A2. Top-level references become dependencies; references inside values stay references.
//   A3. Large values go to the store, once per call: passing the same large one again and again draws a warning.

import type { WrittenArguments } from '../core-worker/written-arguments.ts'
import { makeObjectId, type ObjectId } from '../ids/ids.ts'
import { type CoreRuntime, INLINE_BYTES_MAX } from '../runtime/core-runtime.ts'
import { warn } from '../runtime/warnings.ts'
import { encodeSmall } from '../values/index.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import { beginInline, endInline, writeInline, writeStored } from '../wire/task-frames.ts'
import { idOf, ObjectRef } from './object-ref.ts'

const NO_IDS: readonly ObjectId[] = []
const writer = new ByteWriter()
const EMPTY_BLOB = Buffer.from([0, 0])
const NO_ARGUMENTS: WrittenArguments = { blob: EMPTY_BLOB, parts: null, pinned: NO_IDS, nested: NO_IDS }
const largeSeen = new WeakMap<object, number>()
const LARGE_REPEATS = 3

export function writeArguments(args: readonly unknown[], runtime: CoreRuntime, name: string): WrittenArguments {
  if (args.length === 0) return NO_ARGUMENTS
  let pinned: ObjectId[] | null = null
  let nested: ObjectId[] | null = null
  let parts: (Uint8Array | ObjectId)[] | null = null
  if (hasRefs(args, runtime)) parts = []
  else {
    writer.reserve(2)
    writer.u16(args.length)
  }
  for (const arg of args) {
    if (parts !== null && arg instanceof ObjectRef) {
      runtime.core.table.hold(arg.id)
      ;(pinned ??= []).push(arg.id)
      parts.push(arg.id)
      continue
    }
    writer.reserve(300)
    const at = beginInline(writer)
    const end = encodeSmall(arg, writer.buffer, writer.offset)
    if (end >= 0) {
      writer.offset = end
      endInline(writer, at)
    } else {
      writer.truncate(at - 1)
      const taken = writeLarge(arg, runtime, name)
      if (taken) {
        pinned ??= []
        pinned.push(...taken.pinned)
        if (taken.nested.length > 0) (nested ??= []).push(...taken.nested)
      }
    }
    if (parts !== null) parts.push(writer.take())
  }
  const blob = parts === null ? writer.take() : null
  return { blob, parts, pinned: pinned ?? NO_IDS, nested: nested ?? NO_IDS }
}

/** @throws before anything is written, when one is of another session. */
function hasRefs(args: readonly unknown[], runtime: CoreRuntime): boolean {
  let has = false
  for (const arg of args) {
    if (!(arg instanceof ObjectRef)) continue
    has = true
    idOf(arg, runtime)
  }
  return has
}

function writeLarge(
  arg: unknown,
  runtime: CoreRuntime,
  name: string,
): { pinned: ObjectId[]; nested: readonly ObjectId[] } | null {
  const { core } = runtime
  const before = writer.pending > 2 ? Buffer.from(writer.take()) : null
  const restart = (): void => {
    if (!before) return
    writer.reserve(before.length)
    writer.bytes(before)
  }
  let serialized: ReturnType<CoreRuntime['serialize']>
  try {
    serialized = runtime.serialize(arg)
  } catch (error) {
    writer.take() // What was begun is dropped.
    throw error
  }
  restart()
  const pinned: ObjectId[] = []
  for (const ref of serialized.refs) {
    core.table.hold(ref)
    core.table.escape(ref, core.effects)
    pinned.push(ref)
  }
  if (serialized.byteLength <= INLINE_BYTES_MAX) {
    const location = runtime.write(serialized, 0)
    if (location.kind === 'inline') writeInline(writer, location.bytes, serialized.refs)
    return { pinned, nested: serialized.refs }
  }
  warnIfRepeated(arg, serialized.byteLength, name)
  const id = makeObjectId(core.tag, core.sequences(1))
  core.table.create(id)
  const location = runtime.write(serialized, id)
  for (const ref of serialized.refs) core.table.hold(ref)
  core.fulfil(0, id, location)
  pinned.push(id)
  if (location.kind === 'stored') writeStored(writer, location.storageId, location.size, serialized.refs)
  return { pinned, nested: serialized.refs }
}

function warnIfRepeated(arg: unknown, size: number, name: string): void {
  if (typeof arg !== 'object' || arg === null) return
  const times = (largeSeen.get(arg) ?? 0) + 1
  largeSeen.set(arg, times)
  if (times !== LARGE_REPEATS) return
  const megabytes = (size / 1024 / 1024).toFixed(1)
  warn(
    `The same ${megabytes} MB argument was passed ${times} times to ${name}, and written each time. Put it once: const ref = ray.put(value), and pass ref.`,
  )
}
