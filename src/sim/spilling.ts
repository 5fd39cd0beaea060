// A node's store that runs full, as `runtime/shm/node-store.ts` keeps it: copies of other nodes' values are given up, values of its own move to
// disk, unless somebody reads them; a disk may take nothing for a while.
//
//   Z1. A value is in shared memory, on disk, or both while it moves; what was freed meanwhile goes when the move is over.

import type { ObjectId } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import type { SimNode } from './node.ts'
import { Random } from './random.ts'

const THRESHOLD = 0.8
const MOVES_MAX = 2
const GRACE_MS: Ms = 3
const KEEP_MS: Ms = 20
const RETRY_MS: Ms = 40
const DISK_FULL_CHANCE = 0.3

export class Spilling {
  readonly #node: SimNode
  readonly #random: Random
  #isPlanned = false
  #moves = 0

  constructor(node: SimNode) {
    this.#node = node
    this.#random = new Random(node.cluster.world.seed ^ (0x3c6ef372 + node.index))
  }

  /** Room for a copy of another node's value. */
  allocate(storageId: ObjectId, size: number): boolean {
    const { store, cluster } = this.#node
    const { storeBytes } = cluster.net
    const over = store.usedBytes + size - storeBytes
    if (storeBytes > 0 && over > 0) this.#evict(over)
    const isInShm = storeBytes === 0 || store.usedBytes + size <= storeBytes
    if (!isInShm && this.#isDiskFull) return false
    store.pulled.set(storageId, { bytes: Buffer.alloc(size), isWhole: false, isInShm, usedAt: 0 })
    this.relieve()
    return true
  }

  relieve(): void {
    if (this.#excess <= 0 || this.#isPlanned) return
    this.#plan(GRACE_MS)
  }

  get #excess(): number {
    const { storeBytes } = this.#node.cluster.net
    return storeBytes === 0 ? 0 : this.#node.store.usedBytes - this.#node.store.movingBytes - THRESHOLD * storeBytes
  }

  get #isDiskFull(): boolean {
    return !this.#node.cluster.areFaultsOver && this.#random.chance(DISK_FULL_CHANCE)
  }

  #plan(afterMs: Ms): void {
    this.#isPlanned = true
    this.#node.os.after(afterMs, () => {
      this.#isPlanned = false
      this.#spill()
    })
  }

  #spill(): void {
    if (this.#excess > 0) this.#evict(this.#excess)
    const { store } = this.#node
    while (this.#moves < MOVES_MAX && this.#excess > 0) {
      const storageId = store.mayMove()
      if (storageId === undefined || this.#isDiskFull) {
        if (!this.#isPlanned) this.#plan(RETRY_MS)
        return
      }
      this.#move(storageId)
    }
  }

  #move(storageId: ObjectId): void {
    const { store, os, cluster } = this.#node
    this.#moves++
    store.beginMove(storageId)
    os.after(1 + this.#random.next() * 15, () => {
      this.#moves--
      cluster.judge.count('spilled')
      cluster.world.log(`${os.name} spills ${storageId}`)
      if (store.endMove(storageId)) this.#node.freeStored([storageId], -1)
      this.#spill()
    })
  }

  #evict(bytes: number): void {
    const { store, cluster, transfer } = this.#node
    const storageIds = store.evict(bytes, cluster.world.now - KEEP_MS)
    if (storageIds.length === 0) return
    cluster.judge.count('evicted')
    cluster.world.log(`${this.#node.os.name} gives up ${storageIds}`)
    transfer?.step({ t: 'evicted', storageIds })
  }
}
