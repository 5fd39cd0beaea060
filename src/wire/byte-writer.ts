// A growing buffer into which frames are written back to back, then taken in one piece: one write per tick.
//
//   B1. What `take` returned is never written to again (a socket may still be sending it).
//   B2. `reserve` may move what is pending to another buffer: places in it are kept as marks, never as offsets.

const CHUNK_BYTES = 64 * 1024

export class ByteWriter {
  buffer: Buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  offset = 0
  #start = 0

  /** Bytes waiting to be taken. */
  get pending(): number {
    return this.offset - this.#start
  }

  /** Makes room for `bytes` more at `offset`; what is pending stays contiguous. */
  reserve(bytes: number): void {
    if (this.offset + bytes <= this.buffer.length) return
    const pending = this.pending
    const grown = Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, (pending + bytes) * 2))
    this.buffer.copy(grown, 0, this.#start, this.offset)
    this.buffer = grown
    this.#start = 0
    this.offset = pending
  }

  /** Names a place among what is pending; stays right when `reserve` moves the bytes (B2). */
  mark(): number {
    return this.offset - this.#start
  }

  /** Writes the distance from just behind the u32 at `mark` to here: a length prefix. */
  closeLength(mark: number): void {
    writeU32(this.buffer, this.#start + mark, this.offset - this.#start - mark - 4)
  }

  /** Drops what was written since `mark`. */
  truncate(mark: number): void {
    this.offset = this.#start + mark
  }

  take(): Buffer {
    const taken = this.buffer.subarray(this.#start, this.offset)
    this.#start = this.offset
    if (this.buffer.length - this.offset < 1024) {
      this.buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
      this.#start = this.offset = 0
    }
    return taken
  }

  u8(value: number): void {
    this.buffer[this.offset++] = value
  }

  u16(value: number): void {
    const { buffer, offset } = this
    buffer[offset] = value
    buffer[offset + 1] = value >>> 8
    this.offset = offset + 2
  }

  u32(value: number): void {
    writeU32(this.buffer, this.offset, value)
    this.offset += 4
  }

  /** Object ids: owner tag and sequence, 4 bytes each. */
  id(id: number): void {
    writeU32(this.buffer, this.offset, Math.floor(id / 0x1_0000_0000))
    writeU32(this.buffer, this.offset + 4, id >>> 0)
    this.offset += 8
  }

  f64(value: number): void {
    this.buffer.writeDoubleLE(value, this.offset)
    this.offset += 8
  }

  /** The caller has reserved. Small copies are cheaper in a loop than through `set`. */
  bytes(source: Uint8Array): void {
    const { buffer, offset } = this
    const length = source.length
    if (length <= 32) for (let i = 0; i < length; i++) buffer[offset + i] = source[i] as number
    else buffer.set(source, offset)
    this.offset = offset + length
  }
}

export function writeU32(buffer: Uint8Array, offset: number, value: number): void {
  buffer[offset] = value
  buffer[offset + 1] = value >>> 8
  buffer[offset + 2] = value >>> 16
  buffer[offset + 3] = value >>> 24
}

export function readU32(buffer: Uint8Array, offset: number): number {
  return (
    ((buffer[offset] as number) |
      ((buffer[offset + 1] as number) << 8) |
      ((buffer[offset + 2] as number) << 16) |
      ((buffer[offset + 3] as number) << 24)) >>>
    0
  )
}

export function readU16(buffer: Uint8Array, offset: number): number {
  return (buffer[offset] as number) | ((buffer[offset + 1] as number) << 8)
}

export function readId(buffer: Uint8Array, offset: number): number {
  return readU32(buffer, offset) * 0x1_0000_0000 + readU32(buffer, offset + 4)
}
