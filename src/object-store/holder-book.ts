// At the node where values were made: which other nodes have, or are getting, a copy of each.
//
// Invariants:
//   H1. A node that asked is in the book until it says that it dropped its copy, dies, or the value is freed.
//   H2. A freed value's holders are told, each once.
//   H3. A question about a value whose maker has not announced it yet waits for that word; it is answered once.

import type { NodeId, ObjectId } from '../ids/ids.ts'

/** Who asks is told of so many at most: each costs it a connection. */
const TOLD_MAX = 8

export class HolderBook {
  readonly #holders = new Map<ObjectId, Set<NodeId>>()
  readonly #parked = new Map<ObjectId, Set<NodeId>>()
  #turn = 0

  get size(): number {
    return this.#holders.size + this.#parked.size
  }

  /** Others that it can be had from; the asker is one of them from now on. */
  add(storageId: ObjectId, asker: NodeId): NodeId[] {
    const holders = this.#holders.get(storageId) ?? new Set<NodeId>()
    const others = [...holders].filter((holder) => holder !== asker)
    holders.add(asker)
    this.#holders.set(storageId, holders)
    if (others.length <= TOLD_MAX) return others
    const from = this.#turn++ * TOLD_MAX // Each asker others: no holder serves them all.
    return Array.from({ length: TOLD_MAX }, (_, i) => others[(from + i) % others.length] as NodeId)
  }

  park(storageId: ObjectId, asker: NodeId): void {
    const parked = this.#parked.get(storageId)
    if (parked) parked.add(asker)
    else this.#parked.set(storageId, new Set([asker]))
  }

  /** H3 */
  takeParked(storageId: ObjectId): readonly NodeId[] {
    const parked = this.#parked.get(storageId)
    this.#parked.delete(storageId)
    return parked ? [...parked] : []
  }

  parked(): ObjectId[] {
    return [...this.#parked.keys()]
  }

  drop(storageId: ObjectId, holder: NodeId): void {
    for (const map of [this.#holders, this.#parked]) {
      const nodes = map.get(storageId)
      if (nodes?.delete(holder) && nodes.size === 0) map.delete(storageId)
    }
  }

  /** H2 */
  free(storageId: ObjectId): readonly NodeId[] {
    const holders = this.#holders.get(storageId)
    this.#holders.delete(storageId)
    return holders ? [...holders] : []
  }

  nodeDied(nodeId: NodeId): void {
    for (const map of [this.#holders, this.#parked])
      for (const storageId of [...map.keys()]) this.drop(storageId, nodeId)
  }
}
