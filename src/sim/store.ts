// Shared memory of the simulated node, and its book of stored copies: as `runtime/shm/` keeps them, without files.
//
//   B1. A copy that its owner needs is there; what was freed, or belonged to a dead owner, goes.

import { type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'

export class SimStore {
  readonly #segments = new Map<ObjectId, Buffer>()
  /** Copies of values that other nodes made. */
  readonly pulled = new Map<ObjectId, { readonly bytes: Buffer; isWhole: boolean }>()
  readonly #book = new Map<ObjectId, WorkerTag>()
  /** Freed before the maker's word of them came. */
  readonly #freedEarly = new Set<ObjectId>()

  get size(): number {
    return this.#segments.size
  }

  get booked(): number {
    return this.#book.size
  }

  ids(): ObjectId[] {
    return [...this.#segments.keys()]
  }

  // In the processes

  write(storageId: ObjectId, bytes: Buffer): void {
    this.#segments.set(storageId, bytes)
  }

  open(storageId: ObjectId): Buffer | undefined {
    const pulled = this.pulled.get(storageId)
    return this.#segments.get(storageId) ?? (pulled?.isWhole ? pulled.bytes : undefined)
  }

  /** 'soon': written, and not announced. */
  look(storageId: ObjectId): { readonly size: number; readonly owner: WorkerTag } | 'soon' | null {
    const bytes = this.#segments.get(storageId)
    const owner = this.#book.get(storageId)
    return bytes === undefined ? null : owner === undefined ? 'soon' : { size: bytes.length, owner }
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
}
