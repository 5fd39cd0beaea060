// Chunks of one stored value: which of them are there.
//
//   C1. `count` is the number of set bits; bits beyond `length` are never set.

import type { NodeId, ObjectId } from '../ids/ids.ts'

export class ChunkSet {
  readonly length: number
  readonly #bits: Uint8Array
  #count = 0

  constructor(length: number) {
    this.length = length
    this.#bits = new Uint8Array(Math.ceil(length / 8))
  }

  /** From the network: shorter or longer input is no error. */
  static from(bits: Uint8Array, length: number): ChunkSet {
    const set = new ChunkSet(length)
    for (let i = 0; i < length; i++) if ((((bits[i >> 3] ?? 0) >> (i & 7)) & 1) === 1) set.add(i)
    return set
  }

  get count(): number {
    return this.#count
  }

  get isFull(): boolean {
    return this.#count === this.length
  }

  has(index: number): boolean {
    return (((this.#bits[index >> 3] ?? 0) >> (index & 7)) & 1) === 1
  }

  /** False: it was there, or there is no such chunk. */
  add(index: number): boolean {
    if (!Number.isInteger(index) || index < 0 || index >= this.length || this.has(index)) return false
    this.#bits[index >> 3] = (this.#bits[index >> 3] as number) | (1 << (index & 7))
    this.#count++
    return true
  }

  toBytes(): Uint8Array {
    return this.#bits.slice()
  }
}

export function chunksIn(size: number, chunkBytes: number): number {
  return Math.max(1, Math.ceil(size / chunkBytes))
}

/** An order of `0 … length - 1` that differs between pullers: those who begin together do not all ask for the same chunk. */
export function chunkOrder(nodeId: NodeId, storageId: ObjectId, length: number): { first: number; stride: number } {
  let hash = 2166136261
  for (const part of [nodeId, String(storageId)]) {
    for (let i = 0; i < part.length; i++) hash = Math.imul(hash ^ part.charCodeAt(i), 16777619) >>> 0
  }
  let stride = 1 + ((Math.imul(hash, 2654435761) >>> 0) % length)
  while (gcd(stride, length) !== 1) stride = stride === length ? 1 : stride + 1
  return { first: hash % length, stride }
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b)
}
