// The node's book of stored values: which copies exist, for whom, and which of them lie on disk.
//
// Invariants:
//   B1. A copy is in shared memory, on disk, or both for the moment of its move; never in neither while its owner needs it.
//   B2. What its owner freed, or a dead owner left, is removed from wherever it is, also when the move was under way.
//   B3. A freed segment goes back to its maker, which may write it anew; a dead maker's files are unlinked here.

import fs from 'node:fs'
import path from 'node:path'
import { type ObjectId, ownerOf, type WorkerTag } from '../../ids/ids.ts'
import type { SpillLocation } from '../../wire/messages.ts'
import { ShmControl } from './control.ts'
import { type StoreFolders, segmentName } from './segment-store.ts'

interface Copy {
  readonly id: ObjectId
  readonly owner: WorkerTag
  readonly size: number
  spilled: SpillLocation | null
  isMoving: boolean
  isFreed: boolean
}

export interface NodeStoreEvents {
  /** The store is nearly full: owners should let go of what they do not need. */
  onPressure(): void
  /** To the maker: these are freed. False when it is gone. */
  recycle(maker: WorkerTag, ids: readonly ObjectId[]): boolean
}

export class NodeStore {
  readonly #folders: StoreFolders
  readonly #threshold: number
  readonly #events: NodeStoreEvents
  readonly #control: ShmControl
  readonly #copies = new Map<ObjectId, Copy>()
  #nextDir = 0
  #isSpilling = false

  constructor(folders: StoreFolders, threshold: number, events: NodeStoreEvents) {
    this.#folders = folders
    this.#threshold = threshold
    this.#events = events
    this.#control = new ShmControl(folders.shmDir)
  }

  created(id: ObjectId, owner: WorkerTag, size: number, spilled: SpillLocation | null): void {
    if (this.#copies.has(id)) return
    this.#copies.set(id, { id, owner, size, spilled, isMoving: false, isFreed: false })
    if (!this.#isOverThreshold()) return
    this.#events.onPressure()
    void this.#spill()
  }

  locate(id: ObjectId): SpillLocation | 'shm' | null {
    const copy = this.#copies.get(id)
    if (copy) return copy.spilled ?? 'shm'
    return fs.existsSync(this.#shmPath(id)) ? 'shm' : null
  }

  /** `from` has dealt with the segments that it made itself. */
  free(ids: readonly ObjectId[], from: WorkerTag): void {
    const byMaker = new Map<WorkerTag, ObjectId[]>()
    for (const id of ids) {
      const copy = this.#copies.get(id)
      if (copy?.isMoving) {
        copy.isFreed = true
        continue
      }
      this.#copies.delete(id)
      if (copy?.spilled) fs.rmSync(copy.spilled.path, { force: true })
      else if (ownerOf(id) !== from) byMaker.set(ownerOf(id), [...(byMaker.get(ownerOf(id)) ?? []), id])
    }
    for (const [maker, freed] of byMaker) {
      if (!this.#events.recycle(maker, freed)) for (const id of freed) this.#control.unlink(this.#shmPath(id))
    }
  }

  /** What the dead process owned is freed; files of its making that nobody else owns are unlinked. */
  onWorkerDied(tag: WorkerTag): void {
    const owned = [...this.#copies.values()].filter((copy) => copy.owner === tag).map((copy) => copy.id)
    this.free(owned, -1)
    const prefixes = [`${tag}-`, `pool-${tag}-`]
    for (const name of fs.readdirSync(this.#folders.shmDir)) {
      if (!prefixes.some((prefix) => name.startsWith(prefix))) continue
      const isNeeded = [...this.#copies.values()].some((copy) => segmentName(copy.id) === name)
      if (!isNeeded) this.#control.unlink(path.join(this.#folders.shmDir, name))
    }
  }

  stats(): Readonly<Record<string, number>> {
    let spilledBytes = 0
    for (const copy of this.#copies.values()) if (copy.spilled) spilledBytes += copy.size
    const { capacityBytes } = this.#folders
    return { objects: this.#copies.size, shmBytes: this.#control.used(), spilledBytes, capacityBytes }
  }

  #isOverThreshold(): boolean {
    return this.#control.used() > this.#threshold * this.#folders.capacityBytes
  }

  /** Moves the oldest copies to disk until the store is below its threshold. */
  async #spill(): Promise<void> {
    if (this.#isSpilling) return
    this.#isSpilling = true
    try {
      for (const copy of this.#copies.values()) {
        if (!this.#isOverThreshold()) return
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
    let isMoved = true
    try {
      await fs.promises.copyFile(this.#shmPath(copy.id), target)
    } catch {
      isMoved = false
      fs.rmSync(target, { force: true })
    }
    copy.isMoving = false
    if (isMoved) {
      copy.spilled = { path: target, offset: 0 }
      this.#control.unlink(this.#shmPath(copy.id))
    }
    if (copy.isFreed) this.free([copy.id], -1)
    return isMoved || copy.isFreed
  }

  #shmPath(id: ObjectId): string {
    return path.join(this.#folders.shmDir, segmentName(id))
  }
}
