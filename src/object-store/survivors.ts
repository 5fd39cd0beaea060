// At the node where values are owned: which other nodes have whole copies of what was made elsewhere for this node's processes. When the
// copy at the maker's node is lost, another one takes its place.
//
//     holder ──copied, dropped──► [owner's node] ◄──rescue── owner
//                                       │  ──promote──► a holder ──promoted──► │ ──rescued──► owner
//                                       ╰──free──► the other holders
//
// Invariants:
//   V1. A rescue is answered once: with the id of the copy that takes the lost one's place, or null when there is none.
//   V2. Holders are asked one after the other, until one has it. The others are told to drop theirs, and the maker's node if it lives.
//   V3. What nobody will ask for any more (its owner is gone, or needs it no more) is dropped by its holders once its home is dead. While
//       the home lives, that one tells them; it may die before it has.

import type { NodeId, ObjectId, WorkerTag } from '../ids/ids.ts'
import type { TransferEffect } from './transfer.ts'

interface Survivors {
  readonly owner: WorkerTag
  readonly nodes: Set<NodeId>
  isOwnerGone: boolean
}

interface Rescue {
  readonly owner: WorkerTag
  readonly left: NodeId[]
  asked: NodeId
}

export interface SurvivorsWorld {
  readonly own: NodeId
  homeOf(storageId: ObjectId): NodeId | undefined
  isDead(nodeId: NodeId): boolean
  /** Of this node. */
  hasEnded(owner: WorkerTag): boolean
  emit(effect: TransferEffect): void
  /** This node's own copy. */
  promoteHere(storageId: ObjectId, owner: WorkerTag): void
  dropHere(storageId: ObjectId): void
}

export class SurvivorBook {
  readonly #world: SurvivorsWorld
  readonly #known = new Map<ObjectId, Survivors>()
  readonly #rescues = new Map<ObjectId, Rescue>()

  constructor(world: SurvivorsWorld) {
    this.#world = world
  }

  get size(): number {
    return this.#known.size + this.#rescues.size
  }

  copied(storageId: ObjectId, owner: WorkerTag, holder: NodeId): void {
    // Its owner has had its answer, or is about to have it: what comes later is of no use.
    if (this.#isHomeDead(storageId) || this.#rescues.has(storageId)) return this.#drop(storageId, holder)
    const known = this.#known.get(storageId)
    if (known) known.nodes.add(holder)
    else this.#known.set(storageId, { owner, nodes: new Set([holder]), isOwnerGone: this.#world.hasEnded(owner) })
  }

  dropped(storageId: ObjectId, holder: NodeId): void {
    const known = this.#known.get(storageId)
    if (known?.nodes.delete(holder) && known.nodes.size === 0) this.#known.delete(storageId)
  }

  /** `of`: a dead node, of which the owner needs nothing else. */
  rescue(owner: WorkerTag, storageIds: readonly ObjectId[], of: NodeId | null): void {
    for (const storageId of storageIds) {
      const nodes = [...(this.#known.get(storageId)?.nodes ?? [])].filter((nodeId) => !this.#world.isDead(nodeId))
      this.#known.delete(storageId)
      this.#rescues.set(storageId, { owner, left: nodes, asked: this.#world.own })
      this.#askNext(storageId)
    }
    if (of !== null) this.#forget((storageId, known) => known.owner === owner && this.#world.homeOf(storageId) === of)
  }

  promoted(storageId: ObjectId, from: NodeId, copy: ObjectId | null): void {
    const rescue = this.#rescues.get(storageId)
    if (rescue?.asked !== from) return
    if (copy === null) return this.#askNext(storageId)
    this.#rescues.delete(storageId)
    const home = this.#world.homeOf(storageId)
    for (const nodeId of rescue.left) this.#drop(storageId, nodeId)
    if (home !== undefined) this.#drop(storageId, home)
    this.#world.emit({ t: 'rescued', owner: rescue.owner, storageId, copy })
  }

  ownerGone(owner: WorkerTag): void {
    for (const known of this.#known.values()) if (known.owner === owner) known.isOwnerGone = true
    this.#forgetOrphans()
  }

  nodeDied(nodeId: NodeId): void {
    for (const storageId of [...this.#known.keys()]) this.dropped(storageId, nodeId)
    for (const [storageId, { asked }] of [...this.#rescues]) if (asked === nodeId) this.#askNext(storageId)
    this.#forgetOrphans()
  }

  #forgetOrphans(): void {
    this.#forget((storageId, known) => known.isOwnerGone && this.#isHomeDead(storageId))
  }

  /** V2 */
  #askNext(storageId: ObjectId): void {
    const rescue = this.#rescues.get(storageId)
    if (!rescue) return
    const { own } = this.#world
    const here = rescue.left.indexOf(own)
    const [next] = rescue.left.splice(Math.max(here, 0), 1)
    if (next === undefined) {
      this.#rescues.delete(storageId)
      this.#world.emit({ t: 'rescued', owner: rescue.owner, storageId, copy: null })
      return
    }
    rescue.asked = next
    if (next === own) return this.#world.promoteHere(storageId, rescue.owner)
    if (this.#world.isDead(next)) return this.#askNext(storageId)
    const message = { t: 'object.promote', storageId, owner: rescue.owner } as const
    this.#world.emit({ t: 'toPeer', nodeId: next, message })
  }

  /** V3 */
  #forget(isOver: (storageId: ObjectId, known: Survivors) => boolean): void {
    for (const [storageId, known] of [...this.#known]) {
      if (!isOver(storageId, known)) continue
      this.#known.delete(storageId)
      if (this.#isHomeDead(storageId)) for (const nodeId of known.nodes) this.#drop(storageId, nodeId)
    }
  }

  #drop(storageId: ObjectId, holder: NodeId): void {
    if (holder === this.#world.own) return this.#world.dropHere(storageId)
    if (this.#world.isDead(holder)) return
    this.#world.emit({ t: 'toPeer', nodeId: holder, message: { t: 'object.free', storageIds: [storageId] } })
  }

  #isHomeDead(storageId: ObjectId): boolean {
    const home = this.#world.homeOf(storageId)
    return home === undefined || this.#world.isDead(home)
  }
}
