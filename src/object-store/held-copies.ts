// Whole copies here of values that other nodes made: who was told of them, and what becomes of them when their home is gone.
//
// Invariants:
//   C1. The owner's node hears of a copy when it is whole, and when it is no more; unless it is the home, which dies with the owner.
//   C2. A copy whose home is dead stays while its owner's node lives: that one has it promoted, or dropped.
//   C3. A request to promote is answered once.

import type { NodeId, ObjectId, WorkerTag } from '../ids/ids.ts'
import type { Pull } from './pull.ts'
import { SurvivorBook } from './survivors.ts'
import type { TransferEffect } from './transfer.ts'

interface Held {
  readonly size: number
  readonly owner: WorkerTag
  /** C1 */
  readonly isTold: boolean
}

export interface HeldWorld {
  readonly own: NodeId
  nodeOf(tag: WorkerTag): NodeId | undefined
  homeOf(storageId: ObjectId): NodeId | undefined
  isDead(nodeId: NodeId): boolean
  hasEnded(owner: WorkerTag): boolean
  emit(effect: TransferEffect): void
  onDropped(storageId: ObjectId): void
}

export class HeldCopies {
  readonly survivors: SurvivorBook
  readonly #world: HeldWorld
  readonly #held = new Map<ObjectId, Held>()
  /** Who asked. */
  readonly #promoting = new Map<ObjectId, NodeId>()

  constructor(world: HeldWorld) {
    this.#world = world
    this.survivors = new SurvivorBook({
      ...world,
      promoteHere: (storageId, owner) => this.promote(world.own, storageId, owner),
      dropHere: (storageId) => this.drop(storageId),
    })
  }

  get size(): number {
    return this.#held.size
  }

  sizeOf(storageId: ObjectId): number | undefined {
    return this.#held.get(storageId)?.size
  }

  has(storageId: ObjectId): boolean {
    return this.#held.has(storageId)
  }

  add({ storageId, size, owner, home }: Pull): void {
    const { own, nodeOf, isDead, emit } = this.#world
    const ownerNode = nodeOf(owner)
    const isTold = ownerNode !== undefined && ownerNode !== home && !isDead(ownerNode)
    this.#held.set(storageId, { size, owner, isTold })
    if (!isTold) return
    if (ownerNode === own) this.survivors.copied(storageId, owner, own)
    else emit({ t: 'toPeer', nodeId: ownerNode, message: { t: 'object.copied', storageId, owner } })
  }

  drop(storageId: ObjectId): void {
    if (!this.forget(storageId)) return
    this.#world.onDropped(storageId)
    this.#world.emit({ t: 'drop', storageId })
  }

  /** It is not a whole copy of another node's any more. False: it was none. */
  forget(storageId: ObjectId): boolean {
    const held = this.#held.get(storageId)
    if (!held) return false
    this.#held.delete(storageId)
    const ownerNode = this.#ownerNode(held)
    if (ownerNode === this.#world.own) this.survivors.dropped(storageId, ownerNode)
    else if (ownerNode !== undefined)
      this.#world.emit({ t: 'toPeer', nodeId: ownerNode, message: { t: 'object.dropped', storageId } })
    return true
  }

  promote(asker: NodeId, storageId: ObjectId, owner: WorkerTag): void {
    const held = this.#held.get(storageId)
    if (!held || this.#promoting.has(storageId)) return this.#answer(asker, storageId, null)
    this.#promoting.set(storageId, asker)
    this.#world.emit({ t: 'promote', storageId, owner, size: held.size })
  }

  promoted(storageId: ObjectId, copy: ObjectId | null): void {
    const asker = this.#promoting.get(storageId)
    this.#promoting.delete(storageId)
    if (copy === null) this.drop(storageId)
    else if (this.forget(storageId)) this.#world.onDropped(storageId)
    if (asker !== undefined) this.#answer(asker, storageId, copy)
  }

  nodeDied(nodeId: NodeId): void {
    for (const [storageId, held] of [...this.#held]) {
      const home = this.#world.homeOf(storageId)
      const isHomeDead = home === undefined || this.#world.isDead(home)
      if (isHomeDead && this.#ownerNode(held) === undefined) this.drop(storageId) // C2
    }
    this.survivors.nodeDied(nodeId)
  }

  /** That was told of it, and lives. */
  #ownerNode({ owner, isTold }: Held): NodeId | undefined {
    const nodeId = isTold ? this.#world.nodeOf(owner) : undefined
    return nodeId === undefined || this.#world.isDead(nodeId) ? undefined : nodeId
  }

  #answer(asker: NodeId, storageId: ObjectId, copy: ObjectId | null): void {
    if (asker === this.#world.own) return this.survivors.promoted(storageId, asker, copy)
    if (this.#world.isDead(asker)) return
    this.#world.emit({ t: 'toPeer', nodeId: asker, message: { t: 'object.promoted', storageId, copy } })
  }
}
