// The node's book of stored values: which copies exist, for whom, and which of them lie on disk.
//
// When the store runs full, owners are asked to collect first; after a moment the oldest values that nobody reads move to disk.
//
// Invariants:
//   B1. A copy is in shared memory, on disk, or both for the moment of its move; never in neither while its owner needs it.
//   B2. What its owner freed, or a dead owner left, is removed from wherever it is, also when the move was under way.
//   B3. A freed segment goes back to its maker, which may write it anew; a dead maker's files are unlinked here.
//   B4. What is being read stays in shared memory: its pages would not become free anyway.
//   B5. A disk that takes nothing is asked again after a while, not at once.
//   B6. What killed processes left wrong in the count of used bytes is put right within seconds (`ShmControl.drift`).

import fs from 'node:fs'
import path from 'node:path'
import { type ObjectId, ownerOf, type WorkerTag } from '../../ids/ids.ts'
import type { SpillLocation } from '../../wire/messages.ts'
import { monotonicMs } from '../clock.ts'
import { listDir } from '../files.ts'
import { ShmControl } from './control.ts'
import { DiskGuard } from './disk-guard.ts'
import { segmentName } from './layout.ts'
import { PulledCopies } from './pulled-copies.ts'
import { isUnread, type StoreFolders } from './segment-store.ts'
import { SpillFiles } from './spill-files.ts'

export interface StoreConfig extends StoreFolders {
  /** Spilling starts when more than this fraction is in use. */
  readonly spillThreshold: number
  /** So many bytes are moved together, where there are so many. */
  readonly minSpillingBytes: number
  readonly maxFusedObjects: number
  /** Files written at once. */
  readonly maxIoWorkers: number
  /** Copied at once. */
  readonly spillBufferBytes: number
  /** What owners get to collect before values are moved. */
  readonly collectGraceMs: number
}

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
  /** To the maker: these lie on disk now. */
  spilled(maker: WorkerTag, ids: readonly ObjectId[]): void
  /** For whoever else knows of them: other nodes may have copies. */
  freed?(ids: readonly ObjectId[]): void
  /** Whole copies of values of other nodes are given up for lack of room. */
  evicted?(ids: readonly ObjectId[]): void
}

/** Collections that free nothing become rarer: each costs every process a pause. */
const COLLECT_MS_MIN = 100
const COLLECT_MS_MAX = 10_000
const DISK_RETRY_MS = 1000
const PINNED_RETRY_MS = 200
/** Copies that were used a moment ago may go in a while, also when nothing new is stored. */
const PULLED_RETRY_MS = 1000
const DRIFT_EVERY_MS = 300
const DRIFT_TIMES = 3
const DRIFT_TRIES_MAX = 200

/** A maker's word is under way for a moment only; more than these are not remembered. */
const FREED_EARLY_MAX = 10_000

export class NodeStore {
  readonly #config: StoreConfig
  readonly #events: NodeStoreEvents
  readonly #control: ShmControl
  readonly #files: SpillFiles
  /** Of values of other nodes. */
  readonly pulled: PulledCopies
  readonly #copies = new Map<ObjectId, Copy>()
  /** Freed before their makers' word of them arrived: the two come over different connections. */
  readonly #freedEarly = new Set<ObjectId>()
  /** Those in shared memory, oldest first. */
  readonly #resident = new Set<Copy>()
  readonly #timers = new Set<NodeJS.Timeout>()
  #isWatchingDrift = false
  #movingBytes = 0
  #jobs = 0
  #isPlanned = false
  #retryAt = 0
  #collectAt = 0
  #collectEveryMs = COLLECT_MS_MIN
  #freedBytes = 0
  #freedAtCollect = 0
  #spilledEver = 0

  constructor(config: StoreConfig, events: NodeStoreEvents) {
    this.#config = config
    this.#events = events
    this.#control = new ShmControl(config.shmDir)
    const guard = new DiskGuard(config.diskThreshold, config.diskCheckMs)
    this.#files = new SpillFiles({ dirs: config.spillDirs, guard, bufferBytes: config.spillBufferBytes })
    const onEvicted = (ids: readonly ObjectId[]): void => events.evicted?.(ids)
    this.pulled = new PulledCopies(config, { control: this.#control, guard, onEvicted })
  }

  created(id: ObjectId, owner: WorkerTag, size: number, spilled: SpillLocation | null): void {
    if (this.#copies.has(id)) return
    if (this.#freedEarly.delete(id)) {
      if (spilled) this.#files.free(spilled)
      return
    }
    const copy = { id, owner, size, spilled, isMoving: false, isFreed: false }
    this.#copies.set(id, copy)
    if (!spilled) this.#resident.add(copy)
    if (spilled || this.#excessBytes() > 0) this.#relieve()
  }

  locate(id: ObjectId): SpillLocation | 'shm' | null {
    const copy = this.#copies.get(id)
    if (copy) return copy.spilled ?? 'shm'
    const pulled = this.pulled.locate(id)
    if (pulled) return pulled
    return fs.existsSync(this.#shmPath(id)) ? 'shm' : null
  }

  /** A value that was made here, for other nodes; 'soon': it is written, but its maker's word of it is still under way. */
  look(id: ObjectId): { readonly size: number; readonly owner: WorkerTag } | 'soon' | null {
    const copy = this.#copies.get(id)
    if (copy) return copy.isFreed ? null : { size: copy.size, owner: copy.owner }
    if (this.#freedEarly.has(id)) return null
    const dirs = [this.#config.shmDir, ...this.#config.spillDirs]
    return dirs.some((dir) => fs.existsSync(path.join(dir, segmentName(id)))) ? 'soon' : null
  }

  /** Where the bytes of a value lie now, behind a header page at `offset`; also of a copy that is still coming. */
  fileOf(id: ObjectId): SpillLocation | null {
    const copy = this.#copies.get(id)
    if (copy) return copy.spilled ?? { path: this.#shmPath(id), offset: 0 }
    const file = this.pulled.fileOf(id)
    return file === null ? null : { path: file, offset: 0 }
  }

  /** Room for a copy of a value of another node. */
  beginPulled(id: ObjectId, size: number): boolean {
    const isMade = this.pulled.begin(id, size)
    if (!isMade || this.#excessBytes() > 0) this.#relieve()
    return isMade
  }

  /** The same without a copy: another node of this machine has it in `folder`. False: no. */
  adoptPulled(id: ObjectId, size: number, folder: string): boolean {
    const isTaken = this.pulled.adopt(id, size, folder)
    if (isTaken && this.#excessBytes() > 0) this.#relieve()
    return isTaken
  }

  /** A pulled copy becomes one of this node's own, for `owner`. False: it is not there. */
  promote(id: ObjectId, to: ObjectId, owner: WorkerTag, size: number): boolean {
    const where = this.pulled.handOver(id, to)
    if (where === null) return false
    this.created(to, owner, size, where === 'shm' ? null : where)
    return true
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
      if (copy) this.#resident.delete(copy)
      else if (ownerOf(id) !== from) this.#rememberEarly(id)
      this.#freedBytes += copy?.size ?? 0
      if (copy?.spilled) this.#files.free(copy.spilled)
      else if (ownerOf(id) !== from) byMaker.set(ownerOf(id), [...(byMaker.get(ownerOf(id)) ?? []), id])
    }
    for (const [maker, freed] of byMaker) {
      if (!this.#events.recycle(maker, freed)) for (const id of freed) this.#control.unlink(this.#shmPath(id))
    }
    this.#events.freed?.(ids)
  }

  #rememberEarly(id: ObjectId): void {
    this.#freedEarly.add(id)
    if (this.#freedEarly.size <= FREED_EARLY_MAX) return
    for (const oldest of this.#freedEarly) {
      this.#freedEarly.delete(oldest)
      return
    }
  }

  /** Copies that a process made for others, by owner. */
  madeBy(maker: WorkerTag): ReadonlyMap<WorkerTag, readonly ObjectId[]> {
    const byOwner = new Map<WorkerTag, ObjectId[]>()
    for (const { id, owner } of this.#copies.values()) {
      if (ownerOf(id) !== maker || owner === maker) continue
      const ids = byOwner.get(owner)
      if (ids) ids.push(id)
      else byOwner.set(owner, [id])
    }
    return byOwner
  }

  /** Processes of another node have ended: `count` tags from `first` on. */
  onOwnersDied(first: WorkerTag, count: number): void {
    const isGone = (owner: WorkerTag): boolean => owner >= first && owner < first + count
    const owned = [...this.#copies.values()].filter((copy) => isGone(copy.owner)).map((copy) => copy.id)
    if (owned.length > 0) this.free(owned, -1)
  }

  /** What the dead process owned is freed; files of its making that nobody else owns are unlinked. */
  onWorkerDied(tag: WorkerTag): void {
    const owned = [...this.#copies.values()].filter((copy) => copy.owner === tag).map((copy) => copy.id)
    this.free(owned, -1)
    for (const id of this.#freedEarly) if (ownerOf(id) === tag) this.#freedEarly.delete(id)
    const needed = new Set([...[...this.#copies.keys()].map(segmentName), ...this.pulled.names()])
    const isLeft = (name: string): boolean =>
      (name.startsWith(`${tag}-`) || name.startsWith(`pool-${tag}-`)) && !needed.has(name)
    const { shmDir, spillDirs } = this.#config
    for (const name of listDir(shmDir)) if (isLeft(name)) this.#control.unlink(path.join(shmDir, name))
    this.#watchDrift()
    for (const dir of spillDirs) {
      for (const name of listDir(dir)) if (isLeft(name)) fs.rmSync(path.join(dir, name), { force: true })
    }
  }

  /** B6: a difference that stays the same belongs to nobody who is making or unlinking a file now. */
  #watchDrift(): void {
    if (this.#isWatchingDrift) return
    this.#isWatchingDrift = true
    let last: number | null = null
    let times = 0
    let tries = 0
    const timer = setInterval(() => {
      const drift = this.#control.drift()
      times = drift !== null && drift === last ? times + 1 : 0
      if (drift !== null) last = drift
      if (times < DRIFT_TIMES && ++tries < DRIFT_TRIES_MAX) return
      if (times >= DRIFT_TIMES && drift) this.#control.release(drift)
      clearInterval(timer)
      this.#timers.delete(timer)
      this.#isWatchingDrift = false
    }, DRIFT_EVERY_MS)
    timer.unref()
    this.#timers.add(timer)
  }

  /** No value lies here that is this node's own: copies of others' do not count. */
  get isEmpty(): boolean {
    return this.#copies.size === 0
  }

  stats(): Readonly<Record<string, number>> {
    let spilledBytes = 0
    let spilledObjects = 0
    for (const copy of this.#copies.values()) {
      if (!copy.spilled) continue
      spilledBytes += copy.size
      spilledObjects++
    }
    return {
      objects: this.#copies.size,
      shmBytes: this.#control.used(),
      spilledBytes,
      spilledObjects,
      spilledObjectsEver: this.#spilledEver,
      pulledObjects: this.pulled.size,
      fusedFiles: this.#files.count,
      capacityBytes: this.#config.capacityBytes,
    }
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.pulled.close()
  }

  #excessBytes(): number {
    return this.#control.used() - this.#movingBytes - this.#config.spillThreshold * this.#config.capacityBytes
  }

  /** Owners first, then the disk. */
  #relieve(): void {
    const now = monotonicMs()
    if (now >= this.#collectAt) {
      const hasHelped = this.#freedBytes - this.#freedAtCollect > this.#config.capacityBytes / 20
      this.#collectEveryMs = hasHelped ? COLLECT_MS_MIN : Math.min(this.#collectEveryMs * 2, COLLECT_MS_MAX)
      this.#collectAt = now + this.#collectEveryMs
      this.#freedAtCollect = this.#freedBytes
      this.#events.onPressure()
    }
    this.#plan(this.#config.collectGraceMs)
  }

  #plan(afterMs: number): void {
    if (this.#isPlanned) return
    this.#isPlanned = true
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#isPlanned = false
      this.#spill()
    }, afterMs)
    this.#timers.add(timer)
  }

  /** Starts as many moves as are needed and allowed. */
  #spill(): void {
    if (this.#excessBytes() > 0) this.pulled.evict(this.#excessBytes())
    const wait = this.#retryAt - monotonicMs()
    if (wait > 0) {
      if (this.#excessBytes() > 0) this.#plan(wait)
      return
    }
    while (this.#jobs < this.#config.maxIoWorkers && this.#excessBytes() > 0) {
      const batch = this.#nextBatch()
      if (batch.length === 0) {
        this.#retryAt = monotonicMs() + PINNED_RETRY_MS // Looking costs a file each.
        if (this.pulled.size > 0) this.#plan(PULLED_RETRY_MS)
        return
      }
      this.#jobs++
      void this.#move(batch).then((hasMoved) => {
        this.#jobs--
        if (!hasMoved) this.#retryAt = monotonicMs() + DISK_RETRY_MS // B5
        this.#spill()
      })
    }
  }

  /** The oldest ones that may move: enough for one file. */
  #nextBatch(): Copy[] {
    const { minSpillingBytes, maxFusedObjects, capacityBytes } = this.#config
    // A small store keeps more than half of what it has when it begins to spill.
    const target = Math.min(minSpillingBytes, Math.max(this.#excessBytes(), capacityBytes / 4))
    const batch: Copy[] = []
    let bytes = 0
    for (const copy of this.#resident) {
      if (bytes >= target || batch.length >= maxFusedObjects) break
      if (copy.isMoving || !isUnread(this.#shmPath(copy.id))) continue // B4
      batch.push(copy)
      bytes += copy.size
    }
    return batch
  }

  async #move(batch: readonly Copy[]): Promise<boolean> {
    let bytes = 0
    for (const copy of batch) {
      copy.isMoving = true
      bytes += copy.size
    }
    this.#movingBytes += bytes
    const locations = await this.#files.write(batch.map((copy) => ({ file: this.#shmPath(copy.id), size: copy.size })))
    this.#movingBytes -= bytes
    const byMaker = new Map<WorkerTag, ObjectId[]>()
    batch.forEach((copy, i) => {
      copy.isMoving = false
      const location = locations?.[i]
      if (location) {
        copy.spilled = location
        this.#resident.delete(copy)
        this.#spilledEver++
        this.#control.unlink(this.#shmPath(copy.id))
        byMaker.set(ownerOf(copy.id), [...(byMaker.get(ownerOf(copy.id)) ?? []), copy.id])
      }
    })
    for (const [maker, ids] of byMaker) this.#events.spilled(maker, ids)
    for (const copy of batch) if (copy.isFreed) this.free([copy.id], -1)
    return locations !== null
  }

  #shmPath(id: ObjectId): string {
    return path.join(this.#config.shmDir, segmentName(id))
  }
}
