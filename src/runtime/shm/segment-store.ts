// Stored values as this process writes and reads them: one segment file per value in the node's shared memory folder.
//
//     <shmDir>/<tag>-<sequence>     | header page: magic, live readers | the serialized value |
//     <shmDir>/pool-<tag>-<n>       a segment that its maker may write anew
//
// Fresh pages of shared memory cost more than the copy into them (3.3 GB/s by write(2), against 8 to 10 GB/s into pages that are
// mapped already), so a freed segment that nobody reads is kept for a short while and written again.
//
// Invariants:
//   M1. A segment is complete before anybody hears of it: it is announced after it was written.
//   M2. Names carry their maker, so that the node can sweep after a crash.
//   M3. What a reader got stays readable, and unchanged, as long as it holds it: segments with live readers are unlinked, not reused.
//   M4. `put` never waits: what does not fit into shared memory is written to disk at once.

import fs from 'node:fs'
import path from 'node:path'
import { makeError } from '../../errors/index.ts'
import { type ObjectId, ownerOf, sequenceOf } from '../../ids/ids.ts'
import type { SerializedValue } from '../../values/index.ts'
import type { SpillLocation } from '../../wire/messages.ts'
import { ShmControl } from './control.ts'
import { nativeShm } from './native.ts'

export const HEADER_BYTES = 4096
const MAGIC = 0x53595252
/** Smaller segments are not worth keeping. */
const POOL_MIN_BYTES = 256 * 1024
const POOL_IDLE_MS = 3000
/** The kernel allows a process about 65,000 mappings: near it, values are copied instead. */
const MAPPINGS_MAX = 50_000
const WRITE_BYTES_MAX = 1 << 30

export interface StoreFolders {
  readonly shmDir: string
  readonly spillDirs: readonly string[]
  readonly capacityBytes: number
}

interface Segment {
  file: string
  /** Of the whole file. */
  readonly bytes: number
  mapping: ArrayBuffer | null
  idleSince: number
}

export function segmentName(id: ObjectId): string {
  return `${ownerOf(id)}-${sequenceOf(id)}`
}

export class SegmentStore {
  readonly #folders: StoreFolders
  readonly #tag: number
  readonly #control: ShmControl
  readonly #native = nativeShm()
  readonly #own = new Map<ObjectId, Segment>()
  #pool: Segment[] = []
  #poolCounter = 0
  #poolTimer: NodeJS.Timeout | null = null
  #nextSpill = 0

  constructor(folders: StoreFolders, tag: number) {
    this.#folders = folders
    this.#tag = tag
    this.#control = new ShmControl(folders.shmDir)
  }

  /** Writes a value; where it went when not into shared memory. @throws ObjectStoreFullError, OutOfDiskError */
  write(id: ObjectId, value: SerializedValue): SpillLocation | null {
    const bytes = HEADER_BYTES + value.byteLength
    const file = path.join(this.#folders.shmDir, segmentName(id))
    if (this.#reuse(id, file, bytes, value)) return null
    if (!this.#reserve(bytes)) return this.#writeToDisk(id, value)
    try {
      writeFile(file, value)
    } catch (error) {
      fs.rmSync(file, { force: true })
      this.#control.release(bytes)
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      return this.#writeToDisk(id, value)
    }
    this.#own.set(id, { file, bytes, mapping: null, idleSince: 0 })
    return null
  }

  /** The value's bytes, or undefined when the file is not there (spilled, or gone). */
  open(id: ObjectId, size: number): Uint8Array | undefined {
    return this.openAt({ path: path.join(this.#folders.shmDir, segmentName(id)), offset: 0 }, size)
  }

  openAt(location: SpillLocation, size: number): Uint8Array | undefined {
    if (this.#native && location.offset === 0 && this.#native.liveMappings() < MAPPINGS_MAX) {
      const view = this.#native.openReader(location.path, size)
      return view && new Uint8Array(view)
    }
    return readCopy(location, size)
  }

  /** The owner needs these no more: keeps their pages for the next value, or unlinks them. */
  free(ids: readonly ObjectId[]): void {
    for (const id of ids) {
      const segment = this.#own.get(id)
      this.#own.delete(id)
      if (!segment) continue
      if (this.#mayReuse(segment)) this.#keep(segment)
      else this.#control.unlink(segment.file)
    }
  }

  /** Gives back what is kept for reuse: the store runs full. */
  trim(): void {
    for (const segment of this.#pool) this.#control.unlink(segment.file)
    this.#pool = []
  }

  #reserve(bytes: number): boolean {
    const { capacityBytes } = this.#folders
    if (this.#control.reserve(bytes, capacityBytes)) return true
    if (this.#pool.length === 0) return false
    this.trim()
    return this.#control.reserve(bytes, capacityBytes)
  }

  #reuse(id: ObjectId, file: string, bytes: number, value: SerializedValue): boolean {
    let best = -1
    for (let i = 0; i < this.#pool.length; i++) {
      const { bytes: has } = this.#pool[i] as Segment
      if (has >= bytes && has <= bytes * 2 && (best < 0 || has < (this.#pool[best] as Segment).bytes)) best = i
    }
    if (best < 0 || !this.#native) return false
    const [segment] = this.#pool.splice(best, 1) as [Segment]
    try {
      fs.renameSync(segment.file, file)
      segment.file = file
      segment.mapping ??= this.#native.openWriter(file, segment.bytes)
    } catch {
      this.#control.unlink(segment.file)
      return false
    }
    value.writeTo(new Uint8Array(segment.mapping), HEADER_BYTES)
    this.#own.set(id, segment)
    return true
  }

  #mayReuse(segment: Segment): boolean {
    if (!this.#native || segment.bytes < POOL_MIN_BYTES) return false
    let kept = segment.bytes
    for (const { bytes } of this.#pool) kept += bytes
    return kept <= this.#folders.capacityBytes / 2 && this.#readers(segment) === 0
  }

  #readers(segment: Segment): number {
    if (segment.mapping) return Atomics.load(new Int32Array(segment.mapping, 0, 2), 1)
    try {
      const fd = fs.openSync(segment.file, 'r')
      const header = Buffer.alloc(8)
      fs.readSync(fd, header, 0, 8, 0)
      fs.closeSync(fd)
      return header.readInt32LE(4)
    } catch {
      return -1 // It was spilled meanwhile.
    }
  }

  #keep(segment: Segment): void {
    const file = path.join(this.#folders.shmDir, `pool-${this.#tag}-${++this.#poolCounter}`)
    try {
      fs.renameSync(segment.file, file)
    } catch {
      return // Spilled, hence counted out by the node.
    }
    segment.file = file
    segment.idleSince = performance.now()
    this.#pool.push(segment)
    this.#armPool()
  }

  #armPool(): void {
    if (this.#poolTimer) return
    this.#poolTimer = setTimeout(() => {
      this.#poolTimer = null
      const limit = performance.now() - POOL_IDLE_MS
      for (const segment of this.#pool) if (segment.idleSince <= limit) this.#control.unlink(segment.file)
      this.#pool = this.#pool.filter((segment) => segment.idleSince > limit)
      if (this.#pool.length > 0) this.#armPool()
    }, POOL_IDLE_MS)
    this.#poolTimer.unref()
  }

  #writeToDisk(id: ObjectId, value: SerializedValue): SpillLocation {
    const { spillDirs } = this.#folders
    let last: unknown
    for (let i = 0; i < spillDirs.length; i++) {
      const file = path.join(spillDirs[this.#nextSpill++ % spillDirs.length] as string, segmentName(id))
      try {
        writeFile(file, value)
        return { path: file, offset: 0 }
      } catch (error) {
        last = error
        fs.rmSync(file, { force: true })
      }
    }
    const reason = (last as Error | undefined)?.message ?? 'there is no spill directory'
    const detail = `shared memory is full, and so is every spill directory (${reason})`
    const code = (last as NodeJS.ErrnoException | undefined)?.code === 'ENOSPC' ? 'OUT_OF_DISK' : 'OBJECT_STORE_FULL'
    throw makeError(code, { size: value.byteLength, detail }, { cause: last })
  }
}

function writeFile(file: string, value: SerializedValue): void {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(MAGIC, 0)
  const fd = fs.openSync(file, 'w', 0o600)
  try {
    fs.writeSync(fd, header)
    for (const part of value.parts) {
      for (let done = 0; done < part.byteLength; ) {
        done += fs.writeSync(fd, part, done, Math.min(part.byteLength - done, WRITE_BYTES_MAX))
      }
    }
  } finally {
    fs.closeSync(fd)
  }
}

function readCopy(location: SpillLocation, size: number): Uint8Array | undefined {
  let fd: number
  try {
    fd = fs.openSync(location.path, 'r')
  } catch {
    return undefined
  }
  try {
    const bytes = new Uint8Array(size)
    for (let done = 0; done < size; ) {
      const at = location.offset + HEADER_BYTES + done
      const read = fs.readSync(fd, bytes, done, Math.min(size - done, WRITE_BYTES_MAX), at)
      if (read === 0) return undefined
      done += read
    }
    return bytes
  } finally {
    fs.closeSync(fd)
  }
}
