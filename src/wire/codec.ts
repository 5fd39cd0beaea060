// Control messages as bytes: msgpack with the message's own field names. Off the hot path, so clarity wins over size.
//
// Frame of a control connection: | length u32 little endian | msgpack bytes |. `Uint8Array` fields travel as msgpack bin.
//
//   C1. `decodeMessage` copies byte fields out of the input, so that a message never keeps a network buffer alive.
//   C2. Bytes from the network are not trusted: what does not decode to an object with a string `t` throws `WireFormatError`.

import { Packr, Unpackr } from 'msgpackr'

export class WireFormatError extends Error {
  override name = 'WireFormatError'
}

/** Larger control messages are refused on both sides: 256 MiB holds any function definition (at most 100 MB). */
export const CONTROL_FRAME_BYTES_MAX = 256 * 1024 * 1024

const packr = new Packr({ useRecords: false, moreTypes: false, variableMapSize: true, int64AsType: 'number' })
const unpackr = new Unpackr({ useRecords: false, moreTypes: false, int64AsType: 'number', copyBuffers: true })

export function encodeMessage(message: { readonly t: string }): Buffer {
  return packr.pack(message)
}

export function decodeMessage<Message extends { readonly t: string }>(bytes: Uint8Array): Message {
  let value: unknown
  try {
    value = unpackr.unpack(bytes)
  } catch (error) {
    throw new WireFormatError(`a control message of ${bytes.length} bytes is not msgpack`, { cause: error })
  }
  if (typeof value !== 'object' || value === null || typeof (value as { t?: unknown }).t !== 'string') {
    throw new WireFormatError('a control message has no type')
  }
  return value as Message
}

/** Plain data (task extras, actor options) inside other frames. */
export function packData(value: unknown): Buffer {
  return packr.pack(value)
}

export function unpackData(bytes: Uint8Array): unknown {
  return unpackr.unpack(bytes)
}
