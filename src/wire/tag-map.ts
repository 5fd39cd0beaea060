// Which node a worker tag belongs to (K2 of cluster.ts): blocks are aligned, so that this is one look-up.
//
//   T1. A block belongs to one node for ever.
//   T2. Tag 0 is nobody's, although it lies in the first block: so the GCS is named where it leases workers.

import type { NodeId, WorkerTag } from '../ids/ids.ts'
import type { TagBlock } from './cluster.ts'

export const TAGS_PER_BLOCK = 256

export class TagMap {
  readonly #nodes: (NodeId | undefined)[] = []

  add(block: TagBlock, nodeId: NodeId): void {
    this.#nodes[blockOf(block.first)] = nodeId
  }

  nodeOf(tag: WorkerTag): NodeId | undefined {
    return tag === 0 ? undefined : this.#nodes[blockOf(tag)] // T2
  }
}

/** Two tags of one block belong to one node. */
export function blockOf(tag: WorkerTag): number {
  return Math.floor(tag / TAGS_PER_BLOCK)
}

/** The tag is in one of these blocks. */
export function isAmong(blocks: readonly TagBlock[], tag: WorkerTag): boolean {
  return blocks.some(({ first, count }) => tag >= first && tag < first + count)
}

/** The `index`th block; tag 0 is nobody's. */
export function blockAt(index: number): TagBlock {
  return index === 0
    ? { first: 1, count: TAGS_PER_BLOCK - 1 }
    : { first: index * TAGS_PER_BLOCK, count: TAGS_PER_BLOCK }
}
