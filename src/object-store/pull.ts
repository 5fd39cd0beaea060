// One value that this node is getting: who has which of its chunks, and which to ask for next.
//
//     new ──holders──► queued ──admitted──► allocating ──► pulling ──► (complete)
//          ╰─ same machine ─► adopting ──► (complete), or on to queued
//
// Invariants:
//   P1. A chunk is asked of one holder at a time, of one that has it; one that came is not asked for again.
//   P2. Of what a holder has, the chunks that the fewest others have come first; equally rare ones in an order of this node's own.

import type { NodeId, ObjectId, WorkerTag } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import { ChunkSet, chunkOrder, chunksIn } from './chunks.ts'

export interface Source {
  /** null: it has not said yet. */
  has: ChunkSet | 'all' | null
  readonly inFlight: Set<number>
}

export class Pull {
  readonly storageId: ObjectId
  /** The node of the maker. */
  readonly home: NodeId
  readonly readers = new Set<WorkerTag>()
  readonly sources = new Map<NodeId, Source>()
  phase: 'new' | 'adopting' | 'queued' | 'allocating' | 'pulling' = 'new'
  /** Whom the home named, while it is tried without them. */
  named: readonly NodeId[] = []
  size = 0
  owner: WorkerTag = -1
  have = new ChunkSet(0)
  /** When to ask the home again; null: not before it answers, or the pull stalls. */
  askAt: Ms | null = null
  progressAt: Ms
  /** Times in a row that all whom the home had named did not have it. */
  gone = 0
  /** Times in a row that the home was asked. */
  asked = 0
  readonly #chunkBytes: number
  /** How many partial holders have each chunk: those that have all do not count. */
  #copies = new Uint16Array(0)
  readonly #requested = new Map<number, NodeId>()
  #order = { first: 0, stride: 1 }

  constructor(storageId: ObjectId, home: NodeId, chunkBytes: number, now: Ms) {
    this.storageId = storageId
    this.home = home
    this.#chunkBytes = chunkBytes
    this.progressAt = now
  }

  begin(size: number, own: NodeId): void {
    this.phase = 'queued'
    this.size = size
    const length = chunksIn(size, this.#chunkBytes)
    this.have = new ChunkSet(length)
    this.#copies = new Uint16Array(length)
    this.#order = chunkOrder(own, this.storageId, length)
  }

  bytesOf(index: number): number {
    return Math.min(this.#chunkBytes, this.size - index * this.#chunkBytes)
  }

  get isAdmitted(): boolean {
    return this.phase === 'allocating' || this.phase === 'pulling'
  }

  addSource(nodeId: NodeId, has: Source['has']): void {
    if (!this.sources.has(nodeId)) this.sources.set(nodeId, { has, inFlight: new Set() })
  }

  /** What it said that it has; null: all. */
  learn(nodeId: NodeId, bits: Uint8Array | null): void {
    const source = this.sources.get(nodeId)
    if (!source) return
    this.#uncount(source)
    source.has = bits === null ? 'all' : ChunkSet.from(bits, this.have.length)
    if (source.has === 'all') return
    for (let i = 0; i < this.have.length; i++) if (source.has.has(i)) this.#copies[i] = (this.#copies[i] as number) + 1
  }

  learnOne(nodeId: NodeId, index: number): boolean {
    const has = this.sources.get(nodeId)?.has
    if (!(has instanceof ChunkSet) || !has.add(index)) return false
    this.#copies[index] = (this.#copies[index] as number) + 1
    return true
  }

  /** The chunks that were asked of it may be asked of others. */
  dropSource(nodeId: NodeId): readonly number[] {
    const source = this.sources.get(nodeId)
    if (!source) return []
    this.sources.delete(nodeId)
    this.#uncount(source)
    for (const index of source.inFlight) this.#requested.delete(index)
    return [...source.inFlight]
  }

  /** P1, P2 */
  pick(nodeId: NodeId): number | undefined {
    const source = this.sources.get(nodeId)
    const length = this.have.length
    if (this.phase !== 'pulling' || !source?.has || this.have.count + this.#requested.size >= length) return undefined
    let best: number | undefined
    let rarity = Number.POSITIVE_INFINITY
    const { first, stride } = this.#order
    for (let i = 0, index = first; i < length; i++, index = (index + stride) % length) {
      const copies = this.#copies[index] as number
      if (copies >= rarity || this.have.has(index) || this.#requested.has(index)) continue
      if (source.has !== 'all' && !source.has.has(index)) continue
      best = index
      rarity = copies
      if (copies === 0 || (copies === 1 && source.has !== 'all')) break // Nothing is rarer.
    }
    return best
  }

  request(nodeId: NodeId, index: number): void {
    this.#requested.set(index, nodeId)
    this.sources.get(nodeId)?.inFlight.add(index)
  }

  /** `isNew`: it was missing. `released`: who had been asked for it: another one, if that had been given up and came all the same. */
  arrived(index: number, now: Ms): { isNew: boolean; released: NodeId | undefined } {
    const isNew = this.have.add(index)
    const released = this.#requested.get(index)
    this.#requested.delete(index)
    if (released !== undefined) this.sources.get(released)?.inFlight.delete(index)
    if (isNew) {
      this.progressAt = now
      this.gone = 0
      this.asked = 0
    }
    return { isNew, released }
  }

  check(): void {
    let inFlight = 0
    for (const [nodeId, source] of this.sources) {
      for (const index of source.inFlight) {
        inFlight++
        invariant(this.#requested.get(index) === nodeId, `P1: chunk ${index} is asked of two`)
      }
    }
    invariant(inFlight === this.#requested.size, `P1: ${inFlight} chunks in flight, ${this.#requested.size} requested`)
    for (let i = 0; i < this.have.length; i++) {
      let copies = 0
      for (const { has } of this.sources.values()) if (has instanceof ChunkSet && has.has(i)) copies++
      invariant(copies === this.#copies[i], `P2: chunk ${i} has ${copies} partial holders, not ${this.#copies[i]}`)
    }
  }

  #uncount(source: Source): void {
    if (!(source.has instanceof ChunkSet)) return
    for (let i = 0; i < this.have.length; i++) if (source.has.has(i)) this.#copies[i] = (this.#copies[i] as number) - 1
  }
}
