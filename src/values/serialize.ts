// Users' values as bytes, and back.
//
//     value bytes = | format u8 | … |
//       undefined 0 · null 1 · true 2 · false 3 · int32 4 · float64 5 · latin1 string of at most 255 bytes 6 (length u8)
//       packed 16:  | 16, 3 bytes 0 | in-band length u32 | msgpack, padded to 8 |
//                   | buffer count u32, 4 bytes 0, then per buffer: offset f64, length f64 | padded to 64 | buffers, each padded to 64 |
//
// Inside the msgpack these extension types stand for what msgpack has not (a reader in another language needs only these):
//       1 undefined · 2 object reference (owner u32, sequence u32, big endian) · 3 special, nested msgpack [name, …parts] (walk.ts)
//
// A value is packed straight when a quick walk finds nothing special in it; else it is first rewritten (walk.ts).
//
//   V1. What `deserialize` returns never shares mutable state with the writer; large typed arrays are views over `bytes`.
//   V2. `serialize` either returns bytes that `deserialize` understands, or throws `UnserializableValueError` with the path.

import { addExtension, Packr, Unpackr } from 'msgpackr'
import type { ObjectId } from '../ids/ids.ts'
import type { ByteRange, SerializedValue, ValueHost } from './contract.ts'
import {
  isPlain,
  REF_BYTES,
  readRef,
  revive,
  rewrite,
  Special,
  UnserializableValueError,
  type WalkState,
  writeRef,
} from './walk.ts'

export const FORMAT = { undefined: 0, null: 1, true: 2, false: 3, int32: 4, float64: 5, latin1: 6, packed: 16 } as const
const NO_REFS: readonly ObjectId[] = []
const ALIGNMENT = 64
/** One write(2) takes at most 2 GiB; a view on Node 20 at most 4 GiB. */
const PART_BYTES_MAX = 1 << 30
const IN_BAND_BYTES_MAX = 2 ** 31 - 4096

const packr = new Packr({ useRecords: false, moreTypes: false, variableMapSize: true })
const unpackr = new Unpackr({ useRecords: false, moreTypes: false, int64AsType: 'number' })

class RefMark {
  readonly id: ObjectId
  constructor(id: ObjectId) {
    this.id = id
  }
}

addExtension({
  Class: RefMark,
  type: 2,
  pack(mark: RefMark) {
    const bytes = Buffer.allocUnsafe(REF_BYTES)
    writeRef(bytes, 0, mark.id)
    return bytes
  },
  unpack(bytes: Uint8Array) {
    if (bytes.byteLength !== REF_BYTES) throw new TypeError('a reference of the wrong length')
    const id = readRef(bytes, 0)
    return currentHost === undefined ? new RefMark(id) : currentHost.makeRef(id)
  },
} as unknown as Parameters<typeof addExtension>[0])
addExtension({
  Class: Special,
  type: 3,
  write: (special: Special) => special.parts,
  read: (parts: unknown) => new Special(parts as unknown[]),
} as unknown as Parameters<typeof addExtension>[0])

/** Whose references are being made while msgpack unpacks. Unpacking is synchronous, so one variable serves. */
let currentHost: ValueHost | undefined

/** Writes a small primitive at `offset`; the new offset, or -1 when it is none. 258 bytes must be free. */
export function encodeSmall(value: unknown, target: Uint8Array & { writeDoubleLE?: unknown }, offset: number): number {
  const buffer = target as Buffer
  switch (typeof value) {
    case 'number':
      if ((value | 0) === value && !Object.is(value, -0)) {
        buffer[offset] = FORMAT.int32
        buffer[offset + 1] = value
        buffer[offset + 2] = value >>> 8
        buffer[offset + 3] = value >>> 16
        buffer[offset + 4] = value >>> 24
        return offset + 5
      }
      buffer[offset] = FORMAT.float64
      return buffer.writeDoubleLE(value, offset + 1)
    case 'undefined':
      buffer[offset] = FORMAT.undefined
      return offset + 1
    case 'boolean':
      buffer[offset] = value ? FORMAT.true : FORMAT.false
      return offset + 1
    case 'string':
      return encodeShortString(value, buffer, offset)
    default:
      if (value !== null) return -1
      buffer[offset] = FORMAT.null
      return offset + 1
  }
}

function encodeShortString(text: string, buffer: Buffer, offset: number): number {
  const { length } = text
  if (length > 255) return -1
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i)
    if (code > 255) return -1
    buffer[offset + 2 + i] = code
  }
  buffer[offset] = FORMAT.latin1
  buffer[offset + 1] = length
  return offset + 2 + length
}

export function isSmall(bytes: Uint8Array, start = 0): boolean {
  return (bytes[start] as number) < FORMAT.packed
}

/** Reads what `encodeSmall` wrote. */
export function decodeSmall(bytes: Buffer, start: number): unknown {
  switch (bytes[start]) {
    case FORMAT.undefined:
      return undefined
    case FORMAT.null:
      return null
    case FORMAT.true:
      return true
    case FORMAT.false:
      return false
    case FORMAT.int32:
      return (
        (bytes[start + 1] as number) |
        ((bytes[start + 2] as number) << 8) |
        ((bytes[start + 3] as number) << 16) |
        ((bytes[start + 4] as number) << 24)
      )
    case FORMAT.float64:
      return bytes.readDoubleLE(start + 1)
    case FORMAT.latin1:
      return bytes.toString('latin1', start + 2, start + 2 + (bytes[start + 1] as number))
    default:
      throw new TypeError(`unknown value format ${bytes[start]}`)
  }
}

const scratch = Buffer.allocUnsafeSlow(264)

export function serialize(value: unknown, host: ValueHost): SerializedValue {
  const end = encodeSmall(value, scratch, 0)
  if (end >= 0) return wrap(Buffer.from(scratch.subarray(0, end)), [], NO_REFS)
  if (isPlain(value)) return wrap(pack(value), [], NO_REFS, true)
  const state: WalkState = {
    host,
    refs: [],
    buffers: [],
    seen: new Map(),
    path: [],
    depth: 0,
    identities: 0,
    makeRef: (id) => new RefMark(id),
  }
  const packed = unlessTooDeep(() => pack(rewrite(value, state)))
  return wrap(packed, state.buffers, state.refs.length > 0 ? [...new Set(state.refs)] : NO_REFS, true)
}

/** The stack may end before the limit of levels does. */
function unlessTooDeep<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (!(error instanceof RangeError) || !/call stack/.test(error.message)) throw error
    throw new UnserializableValueError('a value nested this deep', [], 'more levels than the stack holds: flatten it')
  }
}

/** Everything but buffers; what is too large for one msgpack block is refused, not cut. */
function pack(value: unknown): Buffer {
  let packed: Buffer | undefined
  let reason: unknown
  try {
    packed = packr.pack(value)
  } catch (error) {
    const message = String(error)
    const isTooLarge = error instanceof RangeError ? !/call stack/.test(message) : /larger than maximum/.test(message)
    if (!isTooLarge) throw error
    reason = error
  }
  if (packed && packed.length <= IN_BAND_BYTES_MAX) return packed
  const hint = 'put the bulk of it into typed arrays, Buffers or Arrow tables, or split it'
  const error = new UnserializableValueError('more than 2 GiB of objects and strings', [], hint)
  throw reason === undefined ? error : Object.assign(error, { cause: reason })
}

function wrap(
  inBand: Buffer,
  buffers: readonly (readonly ByteRange[])[],
  refs: readonly ObjectId[],
  isPacked = false,
): SerializedValue {
  const parts = isPacked ? packedParts(inBand, buffers) : [inBand]
  let byteLength = 0
  for (const part of parts) byteLength += part.byteLength
  const writeTo = (target: Uint8Array, offset: number): void => {
    let at = offset
    for (const part of parts) {
      target.set(part, at)
      at += part.byteLength
    }
  }
  return { byteLength, refs, parts, writeTo }
}

/** Head (format, in-band bytes, table), then each buffer behind its padding. */
function packedParts(inBand: Buffer, buffers: readonly (readonly ByteRange[])[]): Uint8Array[] {
  const tableAt = 8 + pad(inBand.length, 8)
  const head = Buffer.alloc(tableAt + 8 + buffers.length * 16)
  head.writeUInt32LE(FORMAT.packed, 0)
  head.writeUInt32LE(inBand.length, 4)
  head.set(inBand, 8)
  head.writeUInt32LE(buffers.length, tableAt)
  const parts: Uint8Array[] = [head]
  let end = head.length
  buffers.forEach((pieces, i) => {
    const start = pad(end, ALIGNMENT)
    if (start > end) parts.push(ZEROS.subarray(0, start - end))
    end = start
    for (const { buffer, byteOffset, byteLength } of pieces) {
      for (let done = 0; done < byteLength; done += PART_BYTES_MAX) {
        parts.push(new Uint8Array(buffer, byteOffset + done, Math.min(byteLength - done, PART_BYTES_MAX)))
      }
      end += byteLength
    }
    head.writeDoubleLE(start, tableAt + 8 + i * 16)
    head.writeDoubleLE(end - start, tableAt + 16 + i * 16)
  })
  return parts
}

const ZEROS = new Uint8Array(ALIGNMENT)

function pad(length: number, to: number): number {
  return Math.ceil(length / to) * to
}

/** @throws TypeError or RangeError for bytes that `serialize` did not write. */
export function deserialize(bytes: ByteRange, host: ValueHost): unknown {
  // The head is small; a whole value of more than 4 GiB would fit no view on Node 20.
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, PART_BYTES_MAX * 2))
  if (isSmall(view)) return decodeSmall(view, 0)
  if (view[0] !== FORMAT.packed) throw new TypeError(`unknown value format ${view[0]}`)
  const inBandLength = view.readUInt32LE(4)
  const tableAt = 8 + pad(inBandLength, 8)
  const buffers = readTable(bytes, view, tableAt)
  const outer = currentHost
  currentHost = host
  let value: unknown
  try {
    value = unpackr.unpack(view.subarray(8, 8 + inBandLength))
  } finally {
    currentHost = outer
  }
  return revive(value, { host, buffers })
}

function readTable(bytes: ByteRange, view: Buffer, tableAt: number): ByteRange[] {
  const count = view.readUInt32LE(tableAt)
  const firstAt = tableAt + 8 + count * 16
  if (firstAt > view.length) throw new RangeError('the table of buffers is longer than the value')
  const buffers: ByteRange[] = new Array(count)
  for (let i = 0; i < count; i++) {
    const offset = view.readDoubleLE(tableAt + 8 + i * 16)
    const length = view.readDoubleLE(tableAt + 16 + i * 16)
    const isInside = Number.isInteger(offset) && length >= 0 && offset >= firstAt && offset + length <= bytes.byteLength
    if (!isInside) throw new RangeError(`buffer ${i} lies outside of the value`)
    buffers[i] = aligned({ buffer: bytes.buffer, byteOffset: bytes.byteOffset + offset, byteLength: length })
  }
  return buffers
}

/** Typed arrays need their alignment; only values that lie unaligned in a network buffer are copied. */
function aligned(range: ByteRange): ByteRange {
  const { buffer, byteOffset, byteLength } = range
  return byteOffset % 8 === 0 ? range : new Uint8Array(buffer, byteOffset, byteLength).slice()
}

/** One contiguous copy, for errors and other small things. */
export function serializeToBytes(value: unknown, host: ValueHost): Buffer {
  const serialized = serialize(value, host)
  const bytes = Buffer.alloc(serialized.byteLength)
  serialized.writeTo(bytes, 0)
  return bytes
}
