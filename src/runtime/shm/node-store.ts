// The node's book of stored values: which copies exist, how much they take, and which of them lie on disk.
//
// Invariants:
//   B1. A copy is in shared memory, on disk, or both for the moment of its move; never in neither while its owner needs it.
//   B2. What its owner freed is removed from wherever it is, also when the move was under way.

import fs from 'node:fs'
import path from 'node:path'
import type { ObjectId } from '../../ids/ids.ts'
import type { SpillLocation } from '../../wire/messages.ts'
import { type StoreFolders, segmentName } from './segment-store.ts'

interface Copy {
  readonly id: ObjectId
  readonly size: number
  spilled: SpillLocation | null
  isMoving: boolean
  isFreed: boolean
}

export class NodeStore {
  readonly #folders: StoreFolders
  readonly #threshold: number
  readonly #copies = new Map<ObjectId, Copy>()
  /** Owners are asked to let go of what they do not need. */
  onPressure: (() => void) | null = null
  #shmBytes = 0
  #nextDir = 0
  #isSpilling = false

  constructor(folders: StoreFolders, threshold: number) {
    this.#folders = folders
    this.#threshold = threshold
  }

  created(id: ObjectId, size: number, spilled: SpillLocation | null): void {
    if (this.#copies.has(id)) return
    this.#copies.set(id, { id, size, spilled, isMoving: false, isFreed: false })
    if (spilled === null) this.#shmBytes += size
    if (this.#shmBytes > this.#threshold * this.#folders.capacityBytes) {
      this.onPressure?.()
      void this.#spill()
    }
  }

  locate(id: ObjectId): SpillLocation | 'shm' | null {
    const copy = this.#copies.get(id)
    if (!copy) return fs.existsSync(this.#shmPath(id)) ? 'shm' : null
    return copy.spilled ?? 'shm'
  }

  free(ids: readonly ObjectId[]): void {
    for (const id of ids) {
      const copy = this.#copies.get(id)
      fs.rmSync(this.#shmPath(id), { force: true })
      if (!copy) continue
      if (copy.isMoving) {
        copy.isFreed = true
        continue
      }
      this.#copies.delete(id)
      if (copy.spilled) fs.rmSync(copy.spilled.path, { force: true })
      else this.#shmBytes -= copy.size
    }
  }

  stats(): Readonly<Record<string, number>> {
    let spilledBytes = 0
    for (const copy of this.#copies.values()) if (copy.spilled) spilledBytes += copy.size
    return {
      objects: this.#copies.size,
      shmBytes: this.#shmBytes,
      spilledBytes,
      capacityBytes: this.#folders.capacityBytes,
    }
  }

  /** Moves the oldest copies to disk until the store is below its threshold. */
  async #spill(): Promise<void> {
    if (this.#isSpilling) return
    this.#isSpilling = true
    try {
      for (const copy of this.#copies.values()) {
        if (this.#shmBytes <= this.#threshold * this.#folders.capacityBytes) return
        if (copy.spilled === null && !copy.isMoving && !(await this.#move(copy))) return
      }
    } finally {
      this.#isSpilling = false
    }
  }

  async #move(copy: Copy): Promise<boolean> {
    const { spillDirs } = this.#folders
    const dir = spillDirs[this.#nextDir++ % spillDirs.length] as string
    const target = path.join(dir, segmentName(copy.id))
    copy.isMoving = true
    try {
      await fs.promises.copyFile(this.#shmPath(copy.id), target)
    } catch {
      copy.isMoving = false
      fs.rmSync(target, { force: true })
      if (copy.isFreed) this.free([copy.id])
      return false
    }
    copy.isMoving = false
    copy.spilled = { path: target, offset: 0 }
    this.#shmBytes -= copy.size
    fs.rmSync(this.#shmPath(copy.id), { force: true })
    if (copy.isFreed) this.free([copy.id])
    return true
  }

  #shmPath(id: ObjectId): string {
    return path.join(this.#folders.shmDir, segmentName(id))
  }
}
