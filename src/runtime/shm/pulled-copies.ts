// Files of copies that were pulled from other nodes: as any stored value once they are whole, and counted like these.
//
//     <shmDir>/pull-<tag>-<sequence>     still coming
//     <shmDir>/<tag>-<sequence>          whole: readers find it where they look for every value
//     <spillDir>/…                       the same, when shared memory has no room
//
// Invariants:
//   Q1. Nobody finds a copy under its own name before it is whole.
//   Q2. Another node has the value too: where room is needed, whole copies that nobody reads are removed, not moved to disk.
//   Q3. A copy that was asked for a moment ago is kept: its reader is about to open it.
//   Q4. A segment that another node of this machine shares with us counts here with all its bytes, as if it were a copy: each node
//       keeps its own limit, and gives its name up by itself. The pages are free when the last name and the last reader have gone.

import fs from 'node:fs'
import path from 'node:path'
import type { ObjectId } from '../../ids/ids.ts'
import type { SpillLocation } from '../../wire/messages.ts'
import { monotonicMs } from '../clock.ts'
import type { ShmControl } from './control.ts'
import type { DiskGuard } from './disk-guard.ts'
import { HEADER_BYTES, makeHeader, padToPage, segmentName } from './layout.ts'
import { isUnread, type StoreFolders } from './segment-store.ts'

const KEEP_MS = 1000

interface PulledCopy {
  readonly id: ObjectId
  /** Of the whole file. */
  readonly bytes: number
  readonly isInShm: boolean
  file: string
  /** Open while it comes. */
  fd: number
  usedAt: number
}

export class PulledCopies {
  readonly #folders: StoreFolders
  readonly #control: ShmControl
  readonly #guard: DiskGuard
  readonly #onEvicted: (ids: readonly ObjectId[]) => void
  /** The one that was used last at the end. */
  readonly #copies = new Map<ObjectId, PulledCopy>()

  constructor(
    folders: StoreFolders,
    world: { control: ShmControl; guard: DiskGuard; onEvicted: (ids: readonly ObjectId[]) => void },
  ) {
    this.#folders = folders
    this.#control = world.control
    this.#guard = world.guard
    this.#onEvicted = world.onEvicted
  }

  get size(): number {
    return this.#copies.size
  }

  /** Names of their files. */
  *names(): Iterable<string> {
    for (const { file } of this.#copies.values()) yield path.basename(file)
  }

  /** Room for a value; false: there is none, neither in shared memory nor on disk. */
  begin(id: ObjectId, size: number): boolean {
    if (this.#copies.has(id)) return true
    const bytes = HEADER_BYTES + size
    const made = this.#makeInShm(id, bytes) ?? this.#makeOnDisk(id, bytes)
    if (made) this.#copies.set(id, made)
    return made !== null
  }

  /** Takes the whole segment that another node of this machine has in `folder` (Q4); false: it is not there, or has no room here. */
  adopt(id: ObjectId, size: number, folder: string): boolean {
    const name = segmentName(id)
    const [source, file] = [path.join(folder, name), path.join(this.#folders.shmDir, name)]
    const bytes = fs.statSync(source, { throwIfNoEntry: false })?.size ?? 0 // A used segment may be larger than its value.
    if (this.#copies.has(id) || bytes < HEADER_BYTES + size || !this.#reserve(bytes)) return false
    try {
      fs.linkSync(source, file)
    } catch {
      this.#control.release(bytes)
      return false
    }
    this.#copies.set(id, { id, bytes, isInShm: true, file, fd: -1, usedAt: monotonicMs() })
    return true
  }

  /** Bytes of the value, `at` from its beginning. 'gone': it was dropped meanwhile. */
  write(id: ObjectId, at: number, bytes: Uint8Array): 'written' | 'failed' | 'gone' {
    const copy = this.#copies.get(id)
    if (!copy || copy.fd < 0) return 'gone'
    try {
      for (let done = 0; done < bytes.length; )
        done += fs.writeSync(copy.fd, bytes, done, bytes.length - done, HEADER_BYTES + at + done)
      return 'written'
    } catch {
      return 'failed'
    }
  }

  /** Q1 */
  seal(id: ObjectId): void {
    const copy = this.#copies.get(id)
    if (!copy || copy.fd < 0) return
    fs.closeSync(copy.fd)
    copy.fd = -1
    const file = path.join(path.dirname(copy.file), segmentName(id))
    fs.renameSync(copy.file, file)
    copy.file = file
    copy.usedAt = monotonicMs()
  }

  /** A whole one gets another name, and is no pulled copy any more. */
  handOver(id: ObjectId, to: ObjectId): SpillLocation | 'shm' | null {
    const copy = this.#copies.get(id)
    if (!copy || copy.fd >= 0) return null
    const file = path.join(path.dirname(copy.file), segmentName(to))
    try {
      fs.renameSync(copy.file, file)
    } catch {
      return null
    }
    this.#copies.delete(id)
    return copy.isInShm ? 'shm' : { path: file, offset: 0 }
  }

  drop(id: ObjectId): void {
    const copy = this.#copies.get(id)
    if (!copy) return
    this.#copies.delete(id)
    if (copy.fd >= 0) fs.closeSync(copy.fd)
    if (copy.isInShm) this.#control.unlink(copy.file)
    else fs.rmSync(copy.file, { force: true })
  }

  /** Of a whole copy, for its readers. */
  locate(id: ObjectId): SpillLocation | 'shm' | null {
    const copy = this.#copies.get(id)
    if (!copy || copy.fd >= 0) return null
    this.#copies.delete(id)
    this.#copies.set(id, copy)
    copy.usedAt = monotonicMs() // Q3
    return copy.isInShm ? 'shm' : { path: copy.file, offset: 0 }
  }

  /** Whole or not, for other nodes. */
  fileOf(id: ObjectId): string | null {
    return this.#copies.get(id)?.file ?? null
  }

  /** Q2: makes so many bytes free, if it can. */
  evict(bytes: number): void {
    const evicted: ObjectId[] = []
    const limit = monotonicMs() - KEEP_MS
    let left = bytes
    for (const copy of this.#copies.values()) {
      if (left <= 0) break
      if (!copy.isInShm || copy.fd >= 0 || copy.usedAt > limit || !isUnread(copy.file)) continue
      evicted.push(copy.id)
      left -= copy.bytes
    }
    for (const id of evicted) this.drop(id)
    if (evicted.length > 0) this.#onEvicted(evicted)
  }

  close(): void {
    for (const { fd } of this.#copies.values()) if (fd >= 0) fs.closeSync(fd)
    this.#copies.clear()
  }

  #reserve(bytes: number): boolean {
    const { capacityBytes } = this.#folders
    if (this.#control.reserve(bytes, capacityBytes)) return true
    this.evict(bytes)
    return this.#control.reserve(bytes, capacityBytes)
  }

  #makeInShm(id: ObjectId, bytes: number): PulledCopy | null {
    if (!this.#reserve(bytes)) return null
    const file = path.join(this.#folders.shmDir, `pull-${segmentName(id)}`)
    try {
      return { id, bytes, isInShm: true, file, fd: openNew(file, bytes), usedAt: 0 }
    } catch {
      fs.rmSync(file, { force: true })
      this.#control.release(bytes)
      return null
    }
  }

  #makeOnDisk(id: ObjectId, bytes: number): PulledCopy | null {
    for (const dir of this.#folders.spillDirs) {
      if (this.#guard.refusal(dir, bytes) !== null) continue
      const file = path.join(dir, `pull-${segmentName(id)}`)
      try {
        // The last page whole: a mapping ends inside of the file.
        return { id, bytes, isInShm: false, file, fd: openNew(file, padToPage(bytes)), usedAt: 0 }
      } catch {
        fs.rmSync(file, { force: true })
      }
    }
    return null
  }
}

function openNew(file: string, bytes: number): number {
  const fd = fs.openSync(file, 'w', 0o600)
  try {
    fs.ftruncateSync(fd, bytes) // K1
    fs.writeSync(fd, makeHeader())
    return fd
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
}
