// What serialized user values look like to the rest of the runtime. `values/` makes and reads them; nobody else looks inside.
//
// A value is serialized once, when it is handed over, so that later changes by its maker are not seen by others.
//
//     bytes of a value = | format u8 | 3 bytes reserved | in-band length u32 | in-band bytes … pad to 8 |
//                        | buffer count and (offset, length) table … pad to 64 | buffer 0 … pad to 64 | buffer 1 … |
//
// Small primitives (undefined, null, booleans, numbers, short strings) have one-byte formats of their own without table or padding.
// Buffers are 64-byte aligned relative to the start of the value, so that typed arrays over them need no copy.

import type { ActorId, ObjectId } from '../ids/ids.ts'

/**
 * A stretch of memory. Every `Uint8Array` is one; a stretch of more than 4 GiB on Node 20 is one too, but can be no `Uint8Array`.
 */
export interface ByteRange {
  readonly buffer: ArrayBufferLike
  readonly byteOffset: number
  readonly byteLength: number
}

/** What only the runtime knows how to turn into bytes. One implementation lives in `api/`; tests have their own. */
export interface ValueHost {
  /** Is it an `ObjectRef`? Then its id; and what receivers need besides (the hot path of `get object with 10k refs`). */
  refId(value: object): ObjectId | undefined
  /** Makes the receiver's `ObjectRef`. */
  makeRef(id: ObjectId): object
  /** Is it an actor handle? Then what is needed to make it anew: msgpack-able, plus its handle object's id. */
  actorHandle(
    value: object,
  ): { readonly actorId: ActorId; readonly handleId: ObjectId; readonly state: unknown } | undefined
  makeActorHandle(actorId: ActorId, handleId: ObjectId, state: unknown): object
  /**
   * Functions, classes and instances of users' classes: closures (`runtime/closures`) serialize them. `undefined` when it is none.
   * Throws a typed error with the path when it cannot travel. References found inside are added to `refs`.
   */
  encodeCode(value: unknown, refs: ObjectId[]): Uint8Array | undefined
  decodeCode(bytes: Uint8Array): unknown
  /** An Arrow table: the library that it is of, and its IPC stream in pieces. `undefined` when it is none. */
  encodeTable?(value: object): { readonly library: string; readonly parts: readonly Uint8Array[] } | undefined
  decodeTable?(library: string, bytes: Uint8Array): unknown
}

/** A value ready to be written anywhere. */
export interface SerializedValue {
  /** Length in bytes when written. */
  readonly byteLength: number
  /** Every reference (objects and actors' handle objects) inside it; empty array shared when none. */
  readonly refs: readonly ObjectId[]
  /** The bytes in pieces of at most 1 GiB, for writing to a file without joining them first. */
  readonly parts: readonly Uint8Array[]
  /** Writes exactly `byteLength` bytes at `offset`. `offset` must be a multiple of 64 when there are out-of-band buffers. */
  writeTo(target: Uint8Array, offset: number): void
}
