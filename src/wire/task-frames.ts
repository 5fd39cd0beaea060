// The frames between an owner and the worker that runs its tasks: the hot path, hence hand-written binary.
//
// Every frame: | length u32 | type u8 | … |, little endian. Frame bodies:
//
//   hello      owner tag u32, protocol u32                                        owner → worker, first
//   define     function index u32, kind u8 (0 task, 1 method), text u16-prefixed, extras u32-prefixed msgpack (or none)
//              owner → worker: hash or method name with what all its calls carry, interned
//   push       task u32, function u32, numReturns u16 (0xFFFF: streaming), flags u8, args blob u32-prefixed,
//              [nested refs: count u32, ids]  if flag 1,  [extras: u32-prefixed msgpack, instead of the defined ones] if flag 2
//   reply      task u32, status u8, microseconds u32, body (below), borrowed refs: count u32, ids
//   item       task u32, index u32, value                                         one item of a generator
//   itemAck    task u32, consumed u32                                             back-pressure
//   cancel     task u32, flags u8 (1 recursive)
//   cancelAck  task u32, state u8
//
//   args blob  count u16, values          value: kind u8, then by kind
//       inline 0: bytes u32-prefixed      stored 1: storage id 8, size f64
//       inline with refs 2, stored with refs 3: the same, then count u32 and ids
//       error  4: bytes u32-prefixed (a generator's failing item)
//   reply body  status ok: count u16, values; status error: bytes u32-prefixed; else empty
//
//   T1. A task is named by its sequence alone: the connection says whose it is (hello).
//   T2. Readers check nothing but lengths: both ends are the same version (hello), on one machine or behind authentication.

import type { ObjectId } from '../ids/ids.ts'
import { type ByteWriter, readId, readU16, readU32 } from './byte-writer.ts'
import { WireFormatError } from './codec.ts'

export const FRAME = { hello: 1, define: 2, push: 3, reply: 4, item: 5, itemAck: 6, cancel: 7, cancelAck: 8 } as const
export const STATUS = { ok: 0, error: 1, cancelled: 2, bounced: 3 } as const
export const CANCEL_STATE = { unknown: 0, dropped: 1, signalled: 2 } as const
export const STREAMING = 0xffff
export const TASK_FRAME_BYTES_MAX = 1024 * 1024 * 1024

const FLAG_REFS = 1
const FLAG_EXTRAS = 2
const KIND = { inline: 0, stored: 1, inlineRefs: 2, storedRefs: 3, error: 4 } as const
const NO_IDS: readonly ObjectId[] = []

/** A value in a frame: `bytes` for inline and error ones, `storageId` for stored ones. */
export interface FrameValue {
  readonly kind: 'inline' | 'stored' | 'error'
  /** A range of the frame's buffer: copy before keeping. */
  readonly bytes: Buffer | null
  readonly storageId: ObjectId
  readonly size: number
  readonly refs: readonly ObjectId[]
}

/** What a push carries beside arguments; absent fields take their usual values. */
export interface PushExtras {
  readonly name?: string
  readonly attempt?: number
  readonly backpressure?: number
  readonly group?: string
  /** The returns' references have left the owner: the worker publishes them itself. */
  readonly publish?: boolean
  readonly maxCalls?: number
  /** It must not run again: what ran before it is answered first, so that a death in it is known to be its own. */
  readonly once?: boolean
  readonly retryExceptions?: boolean
  readonly parentTask?: ObjectId
  readonly [key: string]: unknown
}

function begin(writer: ByteWriter, type: number, bytesMax: number): number {
  writer.reserve(bytesMax + 5)
  const start = writer.mark()
  writer.offset += 4
  writer.u8(type)
  return start
}

function end(writer: ByteWriter, start: number): void {
  writer.closeLength(start)
}

export function writeHello(writer: ByteWriter, ownerTag: number, protocol: number): void {
  const start = begin(writer, FRAME.hello, 8)
  writer.u32(ownerTag)
  writer.u32(protocol)
  end(writer, start)
}

export function writeDefine(
  writer: ByteWriter,
  index: number,
  isMethod: boolean,
  text: string,
  extras: Uint8Array | null,
): void {
  const bytes = Buffer.from(text)
  const start = begin(writer, FRAME.define, bytes.length + 11 + (extras?.length ?? 0))
  writer.u32(index)
  writer.u8(isMethod ? 1 : 0)
  writer.u16(bytes.length)
  writer.bytes(bytes)
  writer.u32(extras?.length ?? 0)
  if (extras) writer.bytes(extras)
  end(writer, start)
}

export interface Define {
  readonly index: number
  readonly isMethod: boolean
  readonly text: string
  readonly extras: Buffer | null
}

export function readDefine(buffer: Buffer, start: number): Define {
  const textEnd = start + 8 + readU16(buffer, start + 6)
  const extrasLength = readU32(buffer, textEnd)
  return {
    index: readU32(buffer, start + 1),
    isMethod: buffer[start + 5] === 1,
    text: buffer.toString('utf8', start + 8, textEnd),
    extras: extrasLength > 0 ? buffer.subarray(textEnd + 4, textEnd + 4 + extrasLength) : null,
  }
}

export function writePush(
  writer: ByteWriter,
  task: number,
  functionIndex: number,
  numReturns: number,
  args: Uint8Array,
  refs: readonly ObjectId[],
  extras: Uint8Array | null,
): void {
  const start = begin(writer, FRAME.push, 23 + args.length + refs.length * 8 + (extras?.length ?? 0))
  writer.u32(task)
  writer.u32(functionIndex)
  writer.u16(numReturns)
  writer.u8((refs.length > 0 ? FLAG_REFS : 0) | (extras ? FLAG_EXTRAS : 0))
  writer.u32(args.length)
  writer.bytes(args)
  if (refs.length > 0) writeIds(writer, refs)
  if (extras) {
    writer.u32(extras.length)
    writer.bytes(extras)
  }
  end(writer, start)
}

/** Reads pushes into its own fields, one after the other: no object is made for a frame. */
export class PushReader {
  task = 0
  functionIndex = 0
  numReturns = 0
  /** Where the args blob lies in the frame's buffer. */
  argsStart = 0
  argsEnd = 0
  refs: readonly ObjectId[] = NO_IDS
  extras: Buffer | null = null

  read(buffer: Buffer, start: number): void {
    this.task = readU32(buffer, start + 1)
    this.functionIndex = pushFunctionIndex(buffer, start)
    this.numReturns = readU16(buffer, start + 9)
    const flags = buffer[start + 11] as number
    this.argsStart = start + 16
    this.argsEnd = this.argsStart + readU32(buffer, start + 12)
    this.refs = NO_IDS
    this.extras = null
    if (flags === 0) return
    let offset = this.argsEnd
    if (flags & FLAG_REFS) {
      this.refs = readIds(buffer, offset)
      offset += 4 + this.refs.length * 8
    }
    if (flags & FLAG_EXTRAS) this.extras = buffer.subarray(offset + 4, offset + 4 + readU32(buffer, offset))
  }
}

export function pushFunctionIndex(buffer: Buffer, start: number): number {
  return readU32(buffer, start + 5)
}

/** Opens a reply; the caller writes the body's values, then `endReply`. */
export function beginReply(writer: ByteWriter, task: number, status: number, microseconds: number): number {
  const start = begin(writer, FRAME.reply, 32)
  writer.u32(task)
  writer.u8(status)
  writer.u32(Math.min(microseconds, 0xffff_ffff) >>> 0)
  return start
}

export function endReply(writer: ByteWriter, start: number, borrowed: readonly ObjectId[]): void {
  writer.reserve(4 + borrowed.length * 8)
  writeIds(writer, borrowed)
  end(writer, start)
}

export function writeErrorBody(writer: ByteWriter, bytes: Uint8Array): void {
  writer.reserve(bytes.length + 4)
  writer.u32(bytes.length)
  writer.bytes(bytes)
}

export function beginItem(writer: ByteWriter, task: number, index: number): number {
  const start = begin(writer, FRAME.item, 16)
  writer.u32(task)
  writer.u32(index)
  return start
}

export { end as endFrame }

export function writeItemAck(writer: ByteWriter, task: number, consumed: number): void {
  const start = begin(writer, FRAME.itemAck, 8)
  writer.u32(task)
  writer.u32(consumed)
  end(writer, start)
}

export function writeCancel(writer: ByteWriter, task: number, isRecursive: boolean): void {
  const start = begin(writer, FRAME.cancel, 5)
  writer.u32(task)
  writer.u8(isRecursive ? 1 : 0)
  end(writer, start)
}

export function writeCancelAck(writer: ByteWriter, task: number, state: number): void {
  const start = begin(writer, FRAME.cancelAck, 5)
  writer.u32(task)
  writer.u8(state)
  end(writer, start)
}

/** Bytes that `writeInline` takes beside the value itself. */
export const VALUE_OVERHEAD_BYTES = 17

/** Opens an inline value whose length is not known yet; give the result to `endInline` after writing the bytes. */
export function beginInline(writer: ByteWriter): number {
  writer.u8(KIND.inline)
  const at = writer.mark()
  writer.offset += 4
  return at
}

export function endInline(writer: ByteWriter, at: number): void {
  writer.closeLength(at)
}

export function writeInline(writer: ByteWriter, bytes: Uint8Array, refs: readonly ObjectId[]): void {
  writer.reserve(bytes.length + refs.length * 8 + VALUE_OVERHEAD_BYTES)
  writer.u8(refs.length > 0 ? KIND.inlineRefs : KIND.inline)
  writer.u32(bytes.length)
  writer.bytes(bytes)
  if (refs.length > 0) writeIds(writer, refs)
}

export function writeStored(writer: ByteWriter, storageId: ObjectId, size: number, refs: readonly ObjectId[]): void {
  writer.reserve(refs.length * 8 + VALUE_OVERHEAD_BYTES + 8)
  writer.u8(refs.length > 0 ? KIND.storedRefs : KIND.stored)
  writer.id(storageId)
  writer.f64(size)
  if (refs.length > 0) writeIds(writer, refs)
}

export function writeErrorValue(writer: ByteWriter, bytes: Uint8Array): void {
  writer.reserve(bytes.length + 5)
  writer.u8(KIND.error)
  writer.u32(bytes.length)
  writer.bytes(bytes)
}

function writeIds(writer: ByteWriter, ids: readonly ObjectId[]): void {
  writer.u32(ids.length)
  for (let i = 0; i < ids.length; i++) writer.id(ids[i] as ObjectId)
}

export function readIds(buffer: Uint8Array, offset: number): readonly ObjectId[] {
  const count = readU32(buffer, offset)
  if (count === 0) return NO_IDS
  // A frame that was cut or made up must not cost memory or time beyond its own size.
  if (count * 8 > buffer.length - offset - 4)
    throw new WireFormatError(`a frame announces ${count} ids that it has not`)
  const ids = new Array<ObjectId>(count)
  for (let i = 0; i < count; i++) ids[i] = readId(buffer, offset + 4 + i * 8)
  return ids
}

/** Walks values one after the other. A class, so that reading a reply allocates one object and no closures. */
export class ValueReader {
  readonly buffer: Buffer
  offset: number
  kind = 0
  /** Range of the current value's bytes; empty for stored ones. */
  start = 0
  end = 0
  storageId: ObjectId = 0
  size = 0
  refs: readonly ObjectId[] = NO_IDS

  constructor(buffer: Buffer, offset: number) {
    this.buffer = buffer
    this.offset = offset
  }

  u16(): number {
    const value = readU16(this.buffer, this.offset)
    this.offset += 2
    return value
  }

  next(): void {
    const { buffer } = this
    const kind = buffer[this.offset] as number
    this.kind = kind
    let offset = this.offset + 1
    if (kind === KIND.stored || kind === KIND.storedRefs) {
      this.storageId = readId(buffer, offset)
      this.size = buffer.readDoubleLE(offset + 8)
      this.start = this.end = offset
      offset += 16
    } else {
      const length = readU32(buffer, offset)
      this.start = offset + 4
      this.end = offset = offset + 4 + length
    }
    this.refs = NO_IDS
    if (kind === KIND.inlineRefs || kind === KIND.storedRefs) {
      this.refs = readIds(buffer, offset)
      offset += 4 + this.refs.length * 8
    }
    this.offset = offset
  }

  get isStored(): boolean {
    return this.kind === KIND.stored || this.kind === KIND.storedRefs
  }

  get isError(): boolean {
    return this.kind === KIND.error
  }

  ids(): readonly ObjectId[] {
    const ids = readIds(this.buffer, this.offset)
    this.offset += 4 + ids.length * 8
    return ids
  }

  prefixed(): Buffer {
    const length = readU32(this.buffer, this.offset)
    const from = this.offset + 4
    this.offset = from + length
    return this.buffer.subarray(from, from + length)
  }
}
