// Room where all nodes are full: who has requests that wait asks some nodes for theirs, and these offer it in turn when a lease ends. (By
// the GCS's word alone room stood empty until all had heard of it, and then all but one came in vain: two rejections a task with 50 drivers.)
//
//     a request waits here ── room.want ──► a node … room is left there ── room.offer ──► lease.request
//                                             └─ the next one ◄── room.decline ── nothing waits here any more
//
// Invariants:
//   O1. Hints only: room is not kept for who is offered it, and nobody relies on an offer: the GCS tells of all room too.
//   O2. A want is answered by one offer, in the order in which they came, but for those that need more than there is.
//   O3. What was offered and not taken up yet is not offered to another.
//   O4. While requests wait here, an offer that was taken up is followed by another want.

import type { NodeId } from '../ids/ids.ts'
import { choosingFrom } from '../scheduling/policies.ts'
import { fits, subtract } from '../scheduling/resources.ts'
import type { LeaseSpec, Resources } from '../wire/messages.ts'
import type { ClusterView } from './cluster-view.ts'
import type { LeaseManager } from './lease-manager.ts'
import type { Outbox } from './outbox.ts'

/** So many nodes owe this one an offer, at most. */
const WANTS_MAX = 64
/** So many are drawn to find one that could hold it. */
const DRAWS = 4

export class Offers {
  readonly #view: ClusterView
  readonly #leases: LeaseManager
  readonly #out: Outbox
  readonly #random: () => number
  /** Of others. */
  readonly #asked = new Map<NodeId, Resources>()
  /** By others. */
  readonly #wanted = new Map<NodeId, Resources>()
  readonly #offered = new Map<NodeId, Resources>()
  /** Of `leases.changes`: nothing can be offered since. */
  #lookedAt = -1

  constructor(view: ClusterView, leases: LeaseManager, out: Outbox) {
    this.#view = view
    this.#leases = leases
    this.#out = out
    this.#random = choosingFrom(`offers ${view.nodeId}`).random
  }

  /** It waits here. */
  seek({ resources, strategy, selectors }: LeaseSpec): void {
    const isPlain = (strategy.kind === 'DEFAULT' || strategy.kind === 'SPREAD') && !selectors?.length
    const { table, nodeId: ownId } = this.#view
    if (!isPlain || this.#asked.size >= WANTS_MAX) return
    for (let i = 0; i < DRAWS && table.size > 0; i++) {
      const { nodeId, total } = table.at(Math.floor(this.#random() * table.size))
      const before = this.#asked.get(nodeId)
      const isAsked = before !== undefined && fits(before, resources)
      if (nodeId === ownId || isAsked || !fits(resources, total)) continue
      this.#asked.set(nodeId, resources)
      return this.#out.toPeer(nodeId, { t: 'room.want', resources })
    }
  }

  /** An offer of that node has come. */
  answered(nodeId: NodeId): void {
    this.#asked.delete(nodeId)
  }

  onWant(nodeId: NodeId, resources: Resources): void {
    this.#wanted.set(nodeId, resources)
    this.#lookedAt = -1
  }

  /** It has taken up what it was offered, or it does not want it. */
  settled(nodeId: NodeId): void {
    if (this.#offered.delete(nodeId)) this.#lookedAt = -1
  }

  nodeDied(nodeId: NodeId): void {
    this.#asked.delete(nodeId)
    this.#wanted.delete(nodeId)
    this.settled(nodeId)
  }

  /** After each step: what nobody here takes goes to those that want it. */
  offer(): void {
    if (this.#wanted.size === 0 || this.#lookedAt === this.#leases.changes) return
    this.#lookedAt = this.#leases.changes
    let left: Record<string, number> | undefined
    for (const [nodeId, resources] of this.#wanted) {
      if (!fits(resources, left ?? this.#leases.room)) continue
      left ??= this.#unoffered() // Copied only when something may fit: a node of many bundles has many names.
      if (!fits(resources, left)) continue
      subtract(left, resources)
      this.#wanted.delete(nodeId)
      this.#offered.set(nodeId, resources) // O3
      this.#out.toPeer(nodeId, { t: 'room.offer', resources })
    }
  }

  #unoffered(): Record<string, number> {
    const left = { ...this.#leases.room }
    for (const resources of this.#offered.values()) subtract(left, resources)
    return left
  }
}
