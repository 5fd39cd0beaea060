// The serving side: who watches our copies, and their requests for chunks.
//
// Invariants:
//   S1. A chunk is sent only when it is here; who asks for another is told that it is gone, and looks elsewhere.
//   S2. A watcher is forgotten when it says so, when its connection closes, and when there is no copy any more.

import type { NodeId, ObjectId } from '../ids/ids.ts'
import type { PullerToHolder } from '../wire/transfer.ts'
import { type ChunkSet, chunksIn } from './chunks.ts'
import type { TransferEffect } from './transfer.ts'

interface Surroundings {
  /** `have` null: all of it. */
  look(storageId: ObjectId): { readonly size: number; readonly have: ChunkSet | null } | null
  emit(effect: TransferEffect): void
}

export class ChunkServer {
  readonly #chunkBytes: number
  readonly #around: Surroundings
  /** Of copies that are still coming: nobody needs to hear of whole ones. */
  readonly #watchers = new Map<ObjectId, Set<NodeId>>()

  constructor(chunkBytes: number, around: Surroundings) {
    this.#chunkBytes = chunkBytes
    this.#around = around
  }

  get size(): number {
    return this.#watchers.size
  }

  onPuller(from: NodeId, message: PullerToHolder): void {
    const { storageId } = message
    if (message.t === 'chunk.unwatch') return this.#unwatch(storageId, from)
    const copy = this.#around.look(storageId)
    if (!copy) return this.#around.emit({ t: 'toPuller', nodeId: from, message: { t: 'chunk.gone', storageId } })
    if (message.t === 'chunk.request') return this.#send(from, storageId, message.index, copy)
    const bits = copy.have === null ? null : copy.have.toBytes()
    this.#around.emit({ t: 'toPuller', nodeId: from, message: { t: 'chunk.has', storageId, bits } })
    if (bits === null) return
    const watchers = this.#watchers.get(storageId)
    if (watchers) watchers.add(from)
    else this.#watchers.set(storageId, new Set([from]))
  }

  chunkCame(storageId: ObjectId, index: number): void {
    for (const nodeId of this.#watchers.get(storageId) ?? [])
      this.#around.emit({ t: 'toPuller', nodeId, message: { t: 'chunk.have', storageId, index } })
  }

  /** Watchers of a copy that came in chunks have heard of each; of one that came otherwise they hear now. */
  isWhole(storageId: ObjectId, isTold: boolean): void {
    const message = { t: 'chunk.has', storageId, bits: null } as const
    if (!isTold)
      for (const nodeId of this.#watchers.get(storageId) ?? []) this.#around.emit({ t: 'toPuller', nodeId, message })
    this.#watchers.delete(storageId)
  }

  /** It is dropped here. */
  end(storageId: ObjectId): void {
    for (const nodeId of this.#watchers.get(storageId) ?? [])
      this.#around.emit({ t: 'toPuller', nodeId, message: { t: 'chunk.gone', storageId } })
    this.#watchers.delete(storageId)
  }

  forget(nodeId: NodeId): void {
    for (const storageId of [...this.#watchers.keys()]) this.#unwatch(storageId, nodeId)
  }

  #unwatch(storageId: ObjectId, nodeId: NodeId): void {
    const watchers = this.#watchers.get(storageId)
    if (watchers?.delete(nodeId) && watchers.size === 0) this.#watchers.delete(storageId)
  }

  #send(
    nodeId: NodeId,
    storageId: ObjectId,
    index: number,
    copy: { readonly size: number; readonly have: ChunkSet | null },
  ): void {
    const isThere = copy.have ? copy.have.has(index) : index >= 0 && index < chunksIn(copy.size, this.#chunkBytes)
    if (!isThere || !Number.isInteger(index)) {
      this.#around.emit({ t: 'toPuller', nodeId, message: { t: 'chunk.gone', storageId } }) // S1
      return
    }
    const offset = index * this.#chunkBytes
    const bytes = Math.min(this.#chunkBytes, copy.size - offset)
    this.#around.emit({ t: 'sendChunk', nodeId, storageId, index, offset, bytes })
  }
}
