// Cuts a stream of bytes into frames: | length u32 little endian, of what follows | body |.
//
//   F1. A frame is handed over exactly once, in order, as a range of a buffer that the callee must not keep.
//   F2. Work is linear in the bytes received: parts of a large frame are joined once, when it is complete.
//   F3. A length above the limit throws before anything is buffered for it.

import { WireFormatError } from './codec.ts'

export type OnFrame = (buffer: Buffer, start: number, end: number) => void

export class FrameReader {
  #parts: Buffer[] = []
  #held = 0
  #needed = 4
  readonly #onFrame: OnFrame
  /** May be raised between frames: a connection that has shown who it is may send more. */
  bytesMax: number

  constructor(onFrame: OnFrame, bytesMax: number) {
    this.#onFrame = onFrame
    this.bytesMax = bytesMax
  }

  push(chunk: Buffer): void {
    let buffer = chunk
    if (this.#held > 0) {
      this.#parts.push(chunk)
      this.#held += chunk.length
      if (this.#held < this.#needed) return
      buffer = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts, this.#held)
      this.#parts = []
      this.#held = 0
    }
    const rest = this.#cut(buffer)
    if (rest < buffer.length) {
      this.#parts.push(buffer.subarray(rest))
      this.#held = buffer.length - rest
      this.#needed = this.#held < 4 ? 4 : 4 + buffer.readUInt32LE(rest)
    }
  }

  #cut(buffer: Buffer): number {
    const length = buffer.length
    let offset = 0
    while (length - offset >= 4) {
      const size =
        ((buffer[offset] as number) |
          ((buffer[offset + 1] as number) << 8) |
          ((buffer[offset + 2] as number) << 16) |
          ((buffer[offset + 3] as number) << 24)) >>>
        0
      if (size > this.bytesMax)
        throw new WireFormatError(`a frame of ${size} bytes is over the limit of ${this.bytesMax}`)
      if (length - offset - 4 < size) break
      this.#onFrame(buffer, offset + 4, offset + 4 + size)
      offset += 4 + size
    }
    return offset
  }
}
