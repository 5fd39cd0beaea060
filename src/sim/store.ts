// Shared memory of the simulated node, and its book of stored copies: as `runtime/shm/` keeps them, without files.
//
//   B1. A copy that its owner needs is there; what was freed, or belonged to a dead owner, goes.
//   B2. What a living process reads is neither moved nor given up (spilling.ts).

import { type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import type { SimProcess } from './processes.ts'

interface Pulled {
  readonly bytes: Buffer
  readonly isInShm: boolean
  isWhole: boolean
  usedAt: Ms
}

export class SimStore {
  readonly #segments = new Map<ObjectId, Buffer>()
  /** Values that were made here, and moved. */
  readonly #disk = new Map<ObjectId, Buffer>()
  /** What is under way to disk, and whether it was freed meanwhile. */
  readonly #moving = new Map<ObjectId, { readonly bytes: Buffer; isFreed: boolean }>()
  readonly #pins = new Map<ObjectId, SimProcess[]>()
  /** Copies of values that other nodes made. */
  readonly pulled = new Map<ObjectId, Pulled>()
  readonly #book = new Map<ObjectId, WorkerTag>()
  /** Freed before the maker's word of them came. */
  readonly #freedEarly = new Set<ObjectId>()

  get size(): number {
    return this.#segments.size + this.#disk.size
  }

  get booked(): number {
    return this.#book.size
  }

  ids(): ObjectId[] {
    return [...this.#segments.keys(), ...this.#disk.keys()]
  }

  // In the processes

  write(storageId: ObjectId, bytes: Buffer): void {
    this.#segments.set(storageId, bytes)
  }

  open(storageId: ObjectId): Buffer | undefined {
    const pulled = this.pulled.get(storageId)
    return this.#segments.get(storageId) ?? this.#disk.get(storageId) ?? (pulled?.isWhole ? pulled.bytes : undefined)
  }

  /** It can be read without asking the node. */
  isAtHand(storageId: ObjectId): boolean {
    const pulled = this.pulled.get(storageId)
    return this.#segments.has(storageId) || (pulled?.isWhole === true && pulled.isInShm)
  }

  pin(storageId: ObjectId, reader: SimProcess): void {
    const readers = this.#pins.get(storageId)
    if (readers) readers.push(reader)
    else this.#pins.set(storageId, [reader])
  }

  unpin(storageId: ObjectId, reader: SimProcess): void {
    const readers = this.#pins.get(storageId) ?? []
    readers.splice(readers.indexOf(reader), 1)
    if (readers.length === 0) this.#pins.delete(storageId)
  }

  #isRead(storageId: ObjectId): boolean {
    return this.#pins.get(storageId)?.some(({ isAlive }) => isAlive) === true
  }

  /** 'soon': written, and not announced. */
  look(storageId: ObjectId): { readonly size: number; readonly owner: WorkerTag } | 'soon' | null {
    const bytes = this.#segments.get(storageId) ?? this.#disk.get(storageId)
    const owner = this.#book.get(storageId)
    return bytes === undefined || this.#moving.get(storageId)?.isFreed
      ? null
      : owner === undefined
        ? 'soon'
        : { size: bytes.length, owner }
  }

  /** The maker does away with its own segments. */
  freeOwn(maker: WorkerTag, storageIds: readonly ObjectId[]): void {
    for (const id of storageIds) if (ownerOf(id) === maker) this.#segments.delete(id)
  }

  // In the node

  created(storageId: ObjectId, owner: WorkerTag): void {
    if (!this.#freedEarly.delete(storageId)) this.#book.set(storageId, owner)
  }

  /** Which makers are to be told. */
  free(
    storageIds: readonly ObjectId[],
    from: WorkerTag,
    isAlive: (maker: WorkerTag) => boolean,
  ): Map<WorkerTag, ObjectId[]> {
    const byMaker = new Map<WorkerTag, ObjectId[]>()
    for (const id of storageIds) {
      const maker = ownerOf(id)
      const moving = this.#moving.get(id)
      if (moving) {
        moving.isFreed = true
        continue
      }
      if (this.#disk.delete(id)) {
        this.#book.delete(id)
        continue
      }
      if (!this.#book.delete(id) && maker !== from && isAlive(maker)) this.#freedEarly.add(id)
      if (maker === from) continue
      if (isAlive(maker)) byMaker.set(maker, [...(byMaker.get(maker) ?? []), id])
      else this.#segments.delete(id)
    }
    return byMaker
  }

  /** Copies that a process made for others, by owner. */
  madeBy(maker: WorkerTag): Map<WorkerTag, ObjectId[]> {
    const byOwner = new Map<WorkerTag, ObjectId[]>()
    for (const [id, owner] of this.#book) {
      if (ownerOf(id) === maker && owner !== maker) byOwner.set(owner, [...(byOwner.get(owner) ?? []), id])
    }
    return byOwner
  }

  /** Of processes of another node, which have ended. */
  ownedBy(first: WorkerTag, count: number): ObjectId[] {
    return [...this.#book].filter(([, owner]) => owner >= first && owner < first + count).map(([id]) => id)
  }

  /** What the dead one owned is to be freed; what it made and nobody owns goes. */
  onDied(tag: WorkerTag): ObjectId[] {
    const owned = [...this.#book].filter(([, owner]) => owner === tag).map(([id]) => id)
    for (const id of [...this.#segments.keys()])
      if (ownerOf(id) === tag && !this.#book.has(id)) this.#segments.delete(id)
    for (const id of [...this.#freedEarly]) if (ownerOf(id) === tag) this.#freedEarly.delete(id)
    return owned
  }

  // When it runs full

  get usedBytes(): number {
    let used = 0
    for (const bytes of this.#segments.values()) used += bytes.length
    for (const { bytes, isInShm } of this.pulled.values()) if (isInShm) used += bytes.length
    return used
  }

  get movingBytes(): number {
    let moving = 0
    for (const id of this.#moving.keys()) moving += this.#segments.get(id)?.length ?? 0
    return moving
  }

  /** The oldest that is announced and that nobody reads. */
  mayMove(): ObjectId | undefined {
    for (const id of this.#book.keys())
      if (this.#segments.has(id) && !this.#moving.has(id) && !this.#isRead(id)) return id
    return undefined
  }

  beginMove(storageId: ObjectId): void {
    this.#moving.set(storageId, { bytes: this.#segments.get(storageId) as Buffer, isFreed: false })
  }

  /** True: it was freed meanwhile, and is to be freed now. */
  endMove(storageId: ObjectId): boolean {
    const moved = this.#moving.get(storageId)
    if (!moved) return false
    this.#moving.delete(storageId)
    this.#segments.delete(storageId)
    this.#disk.set(storageId, moved.bytes)
    return moved.isFreed
  }

  /** Copies of other nodes' values that were not used since. */
  evict(bytes: number, unusedSince: Ms): ObjectId[] {
    const evicted: ObjectId[] = []
    let left = bytes
    for (const [id, copy] of this.pulled) {
      if (left <= 0) break
      if (!copy.isWhole || !copy.isInShm || copy.usedAt > unusedSince || this.#isRead(id)) continue
      evicted.push(id)
      left -= copy.bytes.length
    }
    for (const id of evicted) this.pulled.delete(id)
    return evicted
  }
}
