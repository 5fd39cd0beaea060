// The nodes that a scheduler chooses from, kept so that a choice need not look at all of them.
//
//   N1. Only ALIVE nodes are in the lists: a draining or dead one gets nothing new.
//   N2. An alive node is in exactly one of the two lists, by whether it has GPUs.
//   N3. `set`, `delete`, `get` and `at` take constant time. (The order of a list changes when a node leaves it.)

import type { NodeId } from '../ids/ids.ts'
import type { Resources } from '../wire/messages.ts'
import type { Labels } from './labels.ts'

/** What a scheduler needs to know of a node; `NodeView` of wire/cluster.ts is one. */
export interface SchedulableNode {
  readonly nodeId: NodeId
  readonly state: 'ALIVE' | 'DRAINING' | 'DEAD'
  readonly total: Resources
  readonly available: Resources
  readonly labels: Labels
  /** Requests that wait there; absent: none. */
  readonly waiting?: number
}

export class NodeTable<N extends SchedulableNode = SchedulableNode> {
  readonly withoutGpu: N[] = []
  readonly withGpu: N[] = []
  readonly #known = new Map<NodeId, N>()
  /** Place in its list. */
  readonly #places = new Map<NodeId, number>()

  constructor(nodes: Iterable<N> = []) {
    for (const node of nodes) this.set(node)
  }

  /** Alive ones. */
  get size(): number {
    return this.withoutGpu.length + this.withGpu.length
  }

  /** Of any state. */
  get(nodeId: NodeId): N | undefined {
    return this.#known.get(nodeId)
  }

  /** The alive ones, `0 … size - 1`. */
  at(index: number): N {
    const plain = this.withoutGpu.length
    return (index < plain ? this.withoutGpu[index] : this.withGpu[index - plain]) as N
  }

  set(node: N): void {
    const before = this.#known.get(node.nodeId)
    this.#known.set(node.nodeId, node)
    const place = this.#places.get(node.nodeId)
    const list = this.#listOf(node)
    if (before && place !== undefined) {
      if (node.state === 'ALIVE' && this.#listOf(before) === list) {
        list[place] = node
        return
      }
      this.#unlist(before, place)
    }
    if (node.state !== 'ALIVE') return
    this.#places.set(node.nodeId, list.length)
    list.push(node)
  }

  delete(nodeId: NodeId): void {
    const node = this.#known.get(nodeId)
    const place = this.#places.get(nodeId)
    if (node && place !== undefined) this.#unlist(node, place)
    this.#known.delete(nodeId)
  }

  #listOf(node: N): N[] {
    return hasGpu(node) ? this.withGpu : this.withoutGpu
  }

  #unlist(node: N, place: number): void {
    const list = this.#listOf(node)
    const last = list.pop() as N
    this.#places.delete(node.nodeId)
    if (last.nodeId === node.nodeId) return
    list[place] = last
    this.#places.set(last.nodeId, place)
  }
}

export function hasGpu(node: SchedulableNode): boolean {
  return (node.total.GPU ?? 0) > 0
}
