// Stored values as this process writes and reads them: one segment file per value in the node's shared memory folder.
//
//     <shmDir>/<tag>-<sequence>     a value, as layout.ts says
//     <shmDir>/pool-<tag>-<n>       a segment that its maker may write anew
//
// Fresh pages of shared memory cost more than the copy into them (3.3 GB/s by write(2), against 16 and more into pages that are
// mapped already), so a freed segment that nobody reads is kept for a short while and written again.
//
// Invariants:
//   M1. A segment is complete before anybody hears of it: it is announced after it was written.
//   M2. Names carry their maker, so that the node can sweep after a crash.
//   M3. What a reader got stays readable, and unchanged, as long as it holds it: segments with live readers are unlinked, not reused.
//   M4. `write` never waits: what does not fit into shared memory is written to disk at once.
//   M5. A segment with another name on another node of this machine is never written anew: it may be read there. Who frees a value
//       renames it first, and what is renamed gets no more names.

import fs from 'node:fs'
import path from 'node:path'
import type { ObjectId } from '../../ids/ids.ts'
import type { ByteRange, SerializedValue } from '../../values/index.ts'
import type { SpillLocation } from '../../wire/messages.ts'
import { monotonicMs } from '../clock.ts'
import { shmBackend } from './backend.ts'
import { collectSoon } from './collect.ts'
import { ShmControl } from './control.ts'
import { DiskGuard, noRoomError } from './disk-guard.ts'
import { FLAG_NO_RECYCLE, HEADER_BYTES, makeHeader, segmentName, WORD } from './layout.ts'

/** Smaller segments are not worth keeping. */
const POOL_MIN_BYTES = 256 * 1024
/** Larger ones fit no view on Node 20. */
const POOL_MAX_BYTES = 4 * 1024 ** 3 - HEADER_BYTES
const POOL_IDLE_MS = 3000
/** Parts for which it pays to ask for large pages: 1 GiB that nobody has written takes 0.5 s of processor time, not 1.5 s. */
const ADVISED_MIN_BYTES = 8 * 1024 * 1024

export interface StoreFolders {
  readonly shmDir: string
  readonly spillDirs: readonly string[]
  readonly capacityBytes: number
  /** A spill folder's file system may be filled up to this fraction. */
  readonly diskThreshold: number
  readonly diskCheckMs: number
}

interface Segment {
  file: string
  /** Of the whole file. */
  readonly bytes: number
  mapping: ArrayBuffer | null
  idleSince: number
}

export class SegmentStore {
  readonly #folders: StoreFolders
  readonly #tag: number
  readonly #isAlone: boolean
  readonly #control: ShmControl
  readonly #guard: DiskGuard
  readonly #backend = shmBackend()
  readonly #own = new Map<ObjectId, Segment>()
  #pool: Segment[] = []
  #poolCounter = 0
  #poolTimer: NodeJS.Timeout | null = null
  #nextSpill = 0

  /** `isAlone`: this process writes while the other cores wait for it (a driver): large values are copied by two threads. */
  constructor(folders: StoreFolders, tag: number, isAlone = false) {
    this.#folders = folders
    this.#tag = tag
    this.#isAlone = isAlone
    this.#control = new ShmControl(folders.shmDir)
    this.#guard = new DiskGuard(folders.diskThreshold, folders.diskCheckMs)
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
  open(id: ObjectId, bytes: number): ByteRange | undefined {
    const file = path.join(this.#folders.shmDir, segmentName(id))
    return this.#backend.openReader(file, { offset: 0, bytes, isCounted: true })
  }

  /** The same for a copy on disk. */
  openAt(location: SpillLocation, bytes: number): ByteRange | undefined {
    return this.#backend.openReader(location.path, { offset: location.offset, bytes, isCounted: false })
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

  /** The node moved these to disk and unlinked them: their pages go when our mapping does. */
  spilled(ids: readonly ObjectId[]): void {
    for (const id of ids) this.#own.delete(id)
  }

  /** The store runs full: gives back what is kept for reuse, and has V8 find the references that nobody holds. */
  collect(): void {
    this.trim()
    collectSoon()
  }

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
    if (best < 0) return false
    const [segment] = this.#pool.splice(best, 1) as [Segment]
    if (!this.#isUnread(segment)) {
      this.#control.unlink(segment.file)
      return false
    }
    try {
      fs.renameSync(segment.file, file)
      segment.file = file
      segment.mapping ??= this.#backend.openShared(file, segment.bytes)
    } catch {
      segment.mapping = null
    }
    if (!segment.mapping) {
      this.#control.unlink(segment.file)
      return false
    }
    const target = new Uint8Array(segment.mapping)
    let at = HEADER_BYTES
    for (const part of value.parts) {
      this.#backend.copy(target, at, part, this.#isAlone) // Workers fill the cores already: a helper would only wait for its turn.
      at += part.byteLength
    }
    this.#own.set(id, segment)
    return true
  }

  #mayReuse(segment: Segment): boolean {
    if (!this.#backend.canRecycle || segment.bytes < POOL_MIN_BYTES || segment.bytes > POOL_MAX_BYTES) return false
    // What all processes keep counts as used: together they leave room for others' values.
    return this.#control.used() <= this.#folders.capacityBytes / 2 && this.#isUnread(segment)
  }

  /** M3, M5 */
  #isUnread(segment: Segment): boolean {
    if ((fs.statSync(segment.file, { throwIfNoEntry: false })?.nlink ?? 2) > 1) return false
    if (segment.mapping) {
      const words = new Int32Array(segment.mapping, 0, 3)
      return Atomics.load(words, WORD.readers) === 0 && Atomics.load(words, WORD.flags) === 0
    }
    return isUnread(segment.file)
  }

  #keep(segment: Segment): void {
    const file = path.join(this.#folders.shmDir, `pool-${this.#tag}-${++this.#poolCounter}`)
    try {
      fs.renameSync(segment.file, file)
    } catch {
      return // Spilled, hence counted out by the node.
    }
    segment.file = file
    segment.idleSince = monotonicMs()
    this.#pool.push(segment)
    this.#armPool()
  }

  #armPool(): void {
    if (this.#poolTimer) return
    this.#poolTimer = setTimeout(() => {
      this.#poolTimer = null
      const limit = monotonicMs() - POOL_IDLE_MS
      for (const segment of this.#pool) if (segment.idleSince <= limit) this.#control.unlink(segment.file)
      this.#pool = this.#pool.filter((segment) => segment.idleSince > limit)
      if (this.#pool.length > 0) this.#armPool()
    }, POOL_IDLE_MS)
    this.#poolTimer.unref()
  }

  #writeToDisk(id: ObjectId, value: SerializedValue): SpillLocation {
    const { spillDirs } = this.#folders
    const refusals: string[] = []
    let last: unknown
    for (let i = 0; i < spillDirs.length; i++) {
      const dir = spillDirs[this.#nextSpill++ % spillDirs.length] as string
      const refusal = this.#guard.refusal(dir, HEADER_BYTES + value.byteLength)
      if (refusal !== null) {
        refusals.push(refusal)
        continue
      }
      const file = path.join(dir, segmentName(id))
      try {
        writeFile(file, value)
        return { path: file, offset: 0 }
      } catch (error) {
        last = error
        fs.rmSync(file, { force: true })
      }
    }
    collectSoon() // Views that nobody holds keep the space of removed files.
    throw noRoomError(value.byteLength, refusals, last)
  }
}

/** False also when it is not there: it was spilled meanwhile. */
export function isUnread(file: string): boolean {
  try {
    const fd = fs.openSync(file, 'r')
    const header = Buffer.alloc(12)
    fs.readSync(fd, header, 0, header.length, 0)
    fs.closeSync(fd)
    return header.readInt32LE(WORD.readers * 4) === 0 && (header.readInt32LE(WORD.flags * 4) & FLAG_NO_RECYCLE) === 0
  } catch {
    return false
  }
}

function writeFile(file: string, value: SerializedValue): void {
  const fd = fs.openSync(file, 'w', 0o600)
  try {
    fs.ftruncateSync(fd, HEADER_BYTES + value.byteLength) // K1
    writeAll(fd, makeHeader())
    for (const part of value.parts) {
      if (part.byteLength >= ADVISED_MIN_BYTES) shmBackend().willRead(part)
      writeAll(fd, part)
    }
  } finally {
    fs.closeSync(fd)
  }
}

function writeAll(fd: number, part: Uint8Array): void {
  for (let done = 0; done < part.byteLength; ) done += fs.writeSync(fd, part, done)
}
