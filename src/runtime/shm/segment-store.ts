// Stored values as this process writes and reads them: one file per value in the node's shared memory folder.
//
//     <shmDir>/<owner tag>-<sequence>      the serialized value, from its first byte
//
// Invariants:
//   M1. A file is complete before anybody hears of it: it is written under this process's own id and announced afterwards.
//   M2. Names carry their maker, so that the node can sweep after a crash.
//   M3. What a reader got stays readable after the file is unlinked.

import fs from 'node:fs'
import path from 'node:path'
import { makeError } from '../../errors/index.ts'
import { type ObjectId, ownerOf, sequenceOf } from '../../ids/ids.ts'
import type { SpillLocation } from '../../wire/messages.ts'

export interface StoreFolders {
  readonly shmDir: string
  readonly spillDirs: readonly string[]
  readonly capacityBytes: number
}

export function segmentName(id: ObjectId): string {
  return `${ownerOf(id)}-${sequenceOf(id)}`
}

export class SegmentStore {
  readonly #folders: StoreFolders
  #nextSpill = 0

  constructor(folders: StoreFolders) {
    this.#folders = folders
  }

  /** Writes a value; where it went when not into shared memory. Throws ObjectStoreFullError. */
  write(id: ObjectId, bytes: Uint8Array): SpillLocation | null {
    const file = path.join(this.#folders.shmDir, segmentName(id))
    try {
      this.#refuseOverCapacity(bytes.byteLength)
      writeWhole(file, bytes)
      return null
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      fs.rmSync(file, { force: true })
      return this.#writeToDisk(id, bytes)
    }
  }

  /** The value's bytes, or undefined when the file is not there (spilled, or gone). */
  open(id: ObjectId, size: number): Buffer | undefined {
    return this.openAt({ path: path.join(this.#folders.shmDir, segmentName(id)), offset: 0 }, size)
  }

  openAt(location: SpillLocation, size: number): Buffer | undefined {
    let fd: number
    try {
      fd = fs.openSync(location.path, 'r')
    } catch {
      return undefined
    }
    try {
      const bytes = Buffer.from(new ArrayBuffer(size))
      for (let done = 0; done < size; ) {
        const read = fs.readSync(fd, bytes, done, Math.min(size - done, 1 << 30), location.offset + done)
        if (read === 0) return undefined
        done += read
      }
      return bytes
    } finally {
      fs.closeSync(fd)
    }
  }

  free(ids: readonly ObjectId[]): void {
    for (const id of ids) fs.rmSync(path.join(this.#folders.shmDir, segmentName(id)), { force: true })
  }

  #refuseOverCapacity(size: number): void {
    const { shmDir, capacityBytes } = this.#folders
    if (size > capacityBytes) throw Object.assign(new Error('over capacity'), { code: 'ENOSPC' })
    let used = 0
    for (const name of fs.readdirSync(shmDir)) used += sizeOf(path.join(shmDir, name))
    if (used + size > capacityBytes) throw Object.assign(new Error('over capacity'), { code: 'ENOSPC' })
  }

  #writeToDisk(id: ObjectId, bytes: Uint8Array): SpillLocation {
    const { spillDirs } = this.#folders
    let last: unknown
    for (let i = 0; i < spillDirs.length; i++) {
      const dir = spillDirs[this.#nextSpill++ % spillDirs.length] as string
      const file = path.join(dir, segmentName(id))
      try {
        writeWhole(file, bytes)
        return { path: file, offset: 0 }
      } catch (error) {
        last = error
        fs.rmSync(file, { force: true })
      }
    }
    const detail = `shared memory and every spill directory refuse it (${(last as Error | undefined)?.message ?? 'no directory'})`
    const code = (last as NodeJS.ErrnoException | undefined)?.code === 'ENOSPC' ? 'OUT_OF_DISK' : 'OBJECT_STORE_FULL'
    throw makeError(code, { size: bytes.byteLength, detail }, { cause: last })
  }
}

function sizeOf(file: string): number {
  try {
    return fs.statSync(file).size
  } catch {
    return 0
  }
}

function writeWhole(file: string, bytes: Uint8Array): void {
  const fd = fs.openSync(file, 'w', 0o600)
  try {
    for (let done = 0; done < bytes.byteLength; ) {
      done += fs.writeSync(fd, bytes, done, Math.min(bytes.byteLength - done, 1 << 30))
    }
  } finally {
    fs.closeSync(fd)
  }
}
