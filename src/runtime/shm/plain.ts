// Stored values without any mapping: read into fresh memory. Works everywhere.

import fs from 'node:fs'
import type { ByteRange } from '../../values/index.ts'
import type { ShmBackend } from './backend.ts'
import { HEADER_BYTES } from './layout.ts'

/** One read(2) takes at most 2 GiB. */
const READ_BYTES_MAX = 1 << 30

export function plainBackend(): ShmBackend {
  return {
    kind: 'plain',
    canRecycle: false,
    openReader: (path, { offset, bytes }) => readCopy(path, offset, bytes),
    openShared: () => null,
    copy: (target, offset, source) => target.set(source, offset),
    willRead: () => {},
    mappings: () => 0,
  }
}

export function readCopy(path: string, offset: number, bytes: number): ByteRange | undefined {
  let fd: number
  try {
    fd = fs.openSync(path, 'r')
  } catch {
    return undefined
  }
  try {
    const buffer = new ArrayBuffer(bytes) // A typed array of more than 4 GiB does not exist on Node 20.
    for (let done = 0; done < bytes; ) {
      const part = new Uint8Array(buffer, done, Math.min(bytes - done, READ_BYTES_MAX))
      const read = fs.readSync(fd, part, 0, part.byteLength, offset + HEADER_BYTES + done)
      if (read === 0) return undefined
      done += read
    }
    return { buffer, byteOffset: 0, byteLength: bytes }
  } finally {
    fs.closeSync(fd)
  }
}
