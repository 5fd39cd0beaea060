// What two nodes say on a bulk connection: who pulls dials, who holds the copy listens.
//
//     puller ──watch, unwatch, request──► holder          frames of msgpack (codec.ts)
//            ◄──has, have, gone──────────                  the same
//            ◄──data─────────────────────                  | length u32 | 2 | storage id f64 | index u32 | the chunk's bytes |
//
// The first byte of a frame tells them apart: no message in msgpack begins with 2.
//
//   B1. All of it may be repeated, and may be lost with its connection: the puller asks again.
//   B2. `index` counts chunks of `CHUNK_BYTES`, from 0; the last one is shorter.

import type { ObjectId } from '../ids/ids.ts'
import { WireFormatError } from './codec.ts'

export const CHUNK_BYTES = 5 * 1024 * 1024
export const DATA_HEAD_BYTES = 13
const DATA_KIND = 2
const LENGTH_BYTES = 4

export type PullerToHolder =
  /** Which chunks are there, and from now on: which come. Answered by `chunk.has` or `chunk.gone`. */
  | { readonly t: 'chunk.watch'; readonly storageId: ObjectId }
  | { readonly t: 'chunk.unwatch'; readonly storageId: ObjectId }
  /** Answered by the data, or `chunk.gone`. */
  | { readonly t: 'chunk.request'; readonly storageId: ObjectId; readonly index: number }

export type HolderToPuller =
  /** One bit a chunk, the lowest first; null: all. */
  | { readonly t: 'chunk.has'; readonly storageId: ObjectId; readonly bits: Uint8Array | null }
  | { readonly t: 'chunk.have'; readonly storageId: ObjectId; readonly index: number }
  /** It is not here (any more). */
  | { readonly t: 'chunk.gone'; readonly storageId: ObjectId }

/** The head of a data frame, with its length prefix. */
export function dataHead(storageId: ObjectId, index: number, bytes: number): Buffer {
  const head = Buffer.allocUnsafe(LENGTH_BYTES + DATA_HEAD_BYTES)
  head.writeUInt32LE(DATA_HEAD_BYTES + bytes)
  head[LENGTH_BYTES] = DATA_KIND
  head.writeDoubleLE(storageId, 5)
  head.writeUInt32LE(index, 13)
  return head
}

export interface BulkEvents {
  /** A whole message; the callee must not keep the bytes. */
  onMessage(bytes: Uint8Array): void
  /** A part of a chunk, `offset` bytes from its beginning; not to be kept either. `left` bytes of it follow. */
  onData(part: { storageId: ObjectId; index: number; offset: number; left: number; bytes: Uint8Array }): void
}

/** Cuts what a holder sends. The bytes of chunks are handed on as they come: nothing joins or keeps them. */
export class BulkReader {
  readonly #events: BulkEvents
  readonly #messageBytesMax: number
  #kept: Buffer = Buffer.alloc(0)
  #storageId = 0
  #index = 0
  #offset = 0
  #left = 0

  constructor(events: BulkEvents, messageBytesMax: number) {
    this.#events = events
    this.#messageBytesMax = messageBytesMax
  }

  /** @throws WireFormatError */
  push(input: Uint8Array): void {
    let at = 0
    while (at < input.length) {
      if (this.#left > 0) at += this.#data(input.subarray(at))
      else at += this.#head(input.subarray(at))
    }
  }

  #data(input: Uint8Array): number {
    const bytes = input.length > this.#left ? input.subarray(0, this.#left) : input
    this.#left -= bytes.length
    const offset = this.#offset
    this.#offset += bytes.length
    this.#events.onData({ storageId: this.#storageId, index: this.#index, offset, left: this.#left, bytes })
    return bytes.length
  }

  /** Takes what the head, or the whole message, still needs. */
  #head(input: Uint8Array): number {
    const had = this.#kept.length
    const needed = this.#needed()
    const taken = input.subarray(0, needed - had)
    this.#kept = had === 0 ? Buffer.from(taken) : Buffer.concat([this.#kept, taken])
    if (this.#kept.length === this.#needed()) this.#complete()
    return taken.length
  }

  #needed(): number {
    const kept = this.#kept
    if (kept.length <= LENGTH_BYTES) return LENGTH_BYTES + 1
    const length = kept.readUInt32LE()
    if (kept[LENGTH_BYTES] === DATA_KIND) return LENGTH_BYTES + DATA_HEAD_BYTES
    if (length === 0 || length > this.#messageBytesMax)
      throw new WireFormatError(`a message of ${length} bytes on a bulk connection`)
    return LENGTH_BYTES + length
  }

  #complete(): void {
    const kept = this.#kept
    this.#kept = Buffer.alloc(0)
    if (kept[LENGTH_BYTES] !== DATA_KIND) return this.#events.onMessage(kept.subarray(LENGTH_BYTES))
    const bytes = kept.readUInt32LE() - DATA_HEAD_BYTES
    if (bytes <= 0 || bytes > CHUNK_BYTES) throw new WireFormatError(`a chunk of ${bytes} bytes`)
    this.#storageId = kept.readDoubleLE(5)
    this.#index = kept.readUInt32LE(13)
    this.#offset = 0
    this.#left = bytes
  }
}
