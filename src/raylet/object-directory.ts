// Values of objects whose references have left their owners: anyone on the node may ask here, however busy the owner is.
//
// Invariants:
//   O1. A question is answered once: with the location when it is published, or with OWNER_DIED when its owner is gone.
//   O2. What a dead owner published is forgotten with it.

import { formatObjectId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import type { FromNode, ObjectLocation } from '../wire/messages.ts'

export interface Answer {
  readonly to: WorkerTag
  readonly message: FromNode & { t: 'object.resolved' }
}

export class ObjectDirectory {
  readonly #published = new Map<ObjectId, ObjectLocation>()
  readonly #waiting = new Map<ObjectId, Set<WorkerTag>>()

  get size(): number {
    return this.#published.size
  }

  publish(id: ObjectId, location: ObjectLocation): Answer[] {
    this.#published.set(id, location)
    const waiting = this.#waiting.get(id)
    if (!waiting) return []
    this.#waiting.delete(id)
    return [...waiting].map((to) => ({ to, message: { t: 'object.resolved', id, location, error: null } }))
  }

  /** Questions that waiting processes have asked. */
  get waitingCount(): number {
    return this.#waiting.size
  }

  *questions(): Generator<readonly [ObjectId, WorkerTag]> {
    for (const [id, waiting] of this.#waiting) for (const tag of waiting) yield [id, tag]
  }

  /** Nobody refers to them any more: whoever asked does not care. Those are returned. */
  unpublish(ids: readonly ObjectId[]): Answer[] {
    const forgotten: Answer[] = []
    for (const id of ids) {
      this.#published.delete(id)
      const message = { t: 'object.resolved', id, location: null, error: null } as const
      for (const to of this.#waiting.get(id) ?? []) forgotten.push({ to, message })
      this.#waiting.delete(id)
    }
    return forgotten
  }

  /** Their values are being made again. */
  withdraw(ids: readonly ObjectId[]): void {
    for (const id of ids) this.#published.delete(id)
  }

  /** `tag` was told that there will be no value. */
  giveUp(id: ObjectId, tag: WorkerTag): void {
    const waiting = this.#waiting.get(id)
    if (waiting?.delete(tag) && waiting.size === 0) this.#waiting.delete(id)
  }

  /** These ask no more. */
  forget(isGone: (tag: WorkerTag) => boolean): void {
    for (const [id, waiting] of this.#waiting) {
      for (const tag of waiting) if (isGone(tag)) waiting.delete(tag)
      if (waiting.size === 0) this.#waiting.delete(id)
    }
  }

  resolve(from: WorkerTag, id: ObjectId, isOwnerAlive: boolean): Answer[] {
    const location = this.#published.get(id)
    if (location) return [{ to: from, message: { t: 'object.resolved', id, location, error: null } }]
    if (!isOwnerAlive) return [{ to: from, message: ownerDied(id) }]
    const waiting = this.#waiting.get(id)
    if (waiting) waiting.add(from)
    else this.#waiting.set(id, new Set([from]))
    return []
  }

  /** The stored copies that die with their owner come back too: nobody else will free them. */
  onWorkerDied(tag: WorkerTag): { readonly answers: Answer[]; readonly storageIds: ObjectId[] } {
    const answers: Answer[] = []
    const storageIds: ObjectId[] = []
    for (const [id, location] of this.#published) {
      if (ownerOf(id) !== tag) continue
      if (location.kind === 'stored') storageIds.push(location.storageId)
      this.#published.delete(id)
    }
    for (const [id, waiting] of this.#waiting) {
      waiting.delete(tag)
      if (ownerOf(id) === tag) {
        for (const to of waiting) answers.push({ to, message: ownerDied(id) })
        this.#waiting.delete(id)
      } else if (waiting.size === 0) this.#waiting.delete(id)
    }
    return { answers, storageIds }
  }
}

export function ownerDied(id: ObjectId): Answer['message'] {
  return {
    t: 'object.resolved',
    id,
    location: null,
    error: { code: 'OWNER_DIED', params: { id: formatObjectId(id) } },
  }
}
