// How a stored value lies in a file: one header page, then the value's bytes.
//
//     | magic u32 | live readers i32 | flags u32 | … to 4096 | value … |
//
// A segment is a file with one value. A spill file holds one or many, each beginning at a multiple of the page size.

import { type ObjectId, ownerOf, sequenceOf } from '../../ids/ids.ts'

export const HEADER_BYTES = 4096
export const MAGIC = 0x53595252
/** Indices of the header as 32-bit words. */
export const WORD = { magic: 0, readers: 1, flags: 2 } as const
/** A reader that cannot say when it ends has it mapped: never write it anew. */
export const FLAG_NO_RECYCLE = 1

export function makeHeader(): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(MAGIC, 0)
  return header
}

export function segmentName(id: ObjectId): string {
  return `${ownerOf(id)}-${sequenceOf(id)}`
}

export function padToPage(bytes: number): number {
  return Math.ceil(bytes / HEADER_BYTES) * HEADER_BYTES
}
