// Where the bundles of a placement group go: all of them or none. Pure.
//
//     STRICT_PACK    one node for all                     SPREAD         as many nodes as can be, then the emptiest again
//     PACK           as few nodes as can be               STRICT_SPREAD  a node of its own for each
//
// Bundles are placed in order of scarcity: those with GPUs first, then the most demanding. Distinct nodes are found by matching, so
// that STRICT_SPREAD finds a way whenever there is one; packing is a heuristic (the exact problem is bin packing).
//
//   U1. The bundles that a plan gives a node fit into what that node has available, together.
//   U2. Only ALIVE nodes that satisfy a bundle's labels get it.
//   U3. 'infeasible': it would not fit either if all nodes were idle. Then `reason`, `asked` and `largest` say what is short.
//   U4. Bundles already `placed` stay; STRICT_PACK and STRICT_SPREAD hold for them and the new ones together.

import type { NodeId } from '../ids/ids.ts'
import type { LabelConditions, Resources } from '../wire/messages.ts'
import { formatConditions, satisfies } from './labels.ts'
import type { NodeTable, SchedulableNode } from './node-table.ts'
import { isCloser } from './policies.ts'
import { add, fits, formatResources, subtract } from './resources.ts'

export type GroupStrategy = 'PACK' | 'SPREAD' | 'STRICT_PACK' | 'STRICT_SPREAD'

export interface GroupAsk {
  readonly strategy: GroupStrategy
  readonly bundles: readonly Resources[]
  /** By bundle; absent: any node. */
  readonly selectors?: readonly LabelConditions[]
  /** Of bundles that have their node already and keep it (U4). */
  readonly placed?: ReadonlyMap<number, NodeId>
  /** STRICT_PACK: this one if it has room. */
  readonly softTargetNodeId?: NodeId
}

export type GroupPlan =
  /** Bundle index → node, for all that were not placed. */
  | { readonly kind: 'planned'; readonly nodeOf: ReadonlyMap<number, NodeId> }
  | { readonly kind: 'wait'; readonly reason: string }
  | { readonly kind: 'infeasible'; readonly reason: string; readonly asked: Resources; readonly largest: Resources }

type Assignment = Map<number, NodeId>

export function planGroup(nodes: NodeTable, ask: GroupAsk): GroupPlan {
  const nodeOf = new Planner(nodes, ask, 'available').plan()
  if (nodeOf) return { kind: 'planned', nodeOf }
  const idle = new Planner(nodes, ask, 'total')
  const { asked, largest, short } = idle.shortage()
  if (idle.plan())
    return {
      kind: 'wait',
      reason: `its resources are in use: it asks for ${askedInWords(ask)}, and no nodes have that free`,
    }
  return { kind: 'infeasible', reason: short, asked, largest }
}

/** Of what was asked for only: nodes have much else. */
function ofThem(asked: Resources, has: Resources): string {
  return formatResources(Object.fromEntries(Object.keys(asked).map((name) => [name, has[name] ?? 0])))
}

/** What one node must have at once: the sum for STRICT_PACK. */
export function sumOf(bundles: Iterable<Resources>): Record<string, number> {
  const sum: Record<string, number> = {}
  for (const bundle of bundles) add(sum, bundle)
  return sum
}

function askedInWords(ask: GroupAsk): string {
  const list = ask.bundles.slice(0, 8).map(formatResources).join(' + ')
  return `${list}${ask.bundles.length > 8 ? ` + ${ask.bundles.length - 8} more` : ''} (${ask.strategy})`
}

/** One attempt, over what nodes have `available` or, to learn whether it could ever, over their `total`. */
class Planner {
  readonly #nodes: NodeTable
  readonly #ask: GroupAsk
  readonly #side: 'available' | 'total'
  /** What is left on nodes that the plan uses. */
  readonly #left = new Map<NodeId, Record<string, number>>()
  /** Indices of the bundles to place, scarcest first. */
  readonly #order: readonly number[]
  /** All that is asked for: of a node's hundreds of names (those of its bundles) nothing else is looked at. */
  readonly #names: ReadonlySet<string>

  constructor(nodes: NodeTable, ask: GroupAsk, side: 'available' | 'total') {
    this.#nodes = nodes
    this.#ask = ask
    this.#side = side
    this.#order = byScarcity(ask)
    this.#names = new Set(ask.bundles.flatMap((bundle) => Object.keys(bundle)))
    // An idle node would still hold the bundles that stay.
    if (side === 'total')
      for (const [index, nodeId] of ask.placed ?? []) {
        const node = nodes.get(nodeId)
        if (node) this.#take(node, ask.bundles[index] as Resources)
      }
  }

  plan(): Assignment | undefined {
    switch (this.#ask.strategy) {
      case 'STRICT_PACK':
        return this.#onOne(this.#order)
      case 'PACK':
        return this.#pack()
      case 'STRICT_SPREAD':
        return this.#distinct(true)
      case 'SPREAD':
        return this.#distinct(false) ?? new Planner(this.#nodes, this.#ask, this.#side).#pack()
    }
  }

  /** U3, in words. */
  shortage(): { readonly short: string; readonly asked: Resources; readonly largest: Resources } {
    const { bundles, strategy } = this.#ask
    const isStrictPack = strategy === 'STRICT_PACK'
    const largestOf = (asked: Resources, conditions: LabelConditions): Resources | undefined => {
      let largest: Resources | undefined
      for (let i = 0; i < this.#nodes.size; i++) {
        const node = this.#nodes.at(i)
        if (satisfies(node.labels, conditions) && (!largest || isCloser(asked, node.total, largest)))
          largest = node.total
      }
      return largest
    }
    const units = isStrictPack ? [sumOf(bundles)] : this.#order.map((index) => bundles[index] as Resources)
    for (const [place, asked] of units.entries()) {
      const conditions = isStrictPack ? this.#allConditions() : this.#conditions(this.#order[place] as number)
      const largest = largestOf(asked, conditions)
      if (largest && fits(asked, largest)) continue
      const what = isStrictPack ? 'its bundles together ask for' : 'one of its bundles asks for'
      const labels = conditions.length > 0 ? ` with the labels ${formatConditions(conditions)}` : ''
      const has = largest ? `the largest node${labels} has ${ofThem(asked, largest)}` : `there is no node${labels}`
      return { short: `${what} ${formatResources(asked)} on one node, but ${has}`, asked, largest: largest ?? {} }
    }
    const asked = sumOf(bundles)
    const whole = sumOf(Array.from({ length: this.#nodes.size }, (_, i) => this.#nodes.at(i).total))
    const short =
      strategy === 'STRICT_SPREAD'
        ? `it asks for ${bundles.length} nodes, one a bundle, but of ${this.#nodes.size} only ${this.#fitting()} fit`
        : `it asks for ${askedInWords(this.#ask)}, but all nodes together have ${ofThem(asked, whole)}`
    return { short, asked, largest: largestOf(asked, []) ?? {} }
  }

  #fitting(): number {
    return this.#matching().holder.size + new Set(this.#ask.placed?.values()).size
  }

  /** All on one node, or not at all. */
  #onOne(indices: readonly number[]): Assignment | undefined {
    const { placed, bundles, softTargetNodeId } = this.#ask
    const sum = sumOf(indices.map((index) => bundles[index] as Resources))
    const conditions = this.#allConditions()
    const kept = placed?.values().next().value
    const first = kept ?? softTargetNodeId
    const target = first === undefined ? undefined : this.#alive(first)
    const canTarget = target && satisfies(target.labels, conditions) && fits(sum, this.#room(target))
    const node = canTarget ? target : kept === undefined ? this.#emptiest(sum, conditions) : undefined
    if (!node) return undefined
    return new Map(indices.map((index) => [index, node.nodeId]))
  }

  /** Node after node, each time the one that takes most of what is left; those that the group uses already come first. */
  #pack(): Assignment | undefined {
    const { bundles } = this.#ask
    const nodeOf: Assignment = new Map()
    let rest = this.#order
    for (const nodeId of new Set(this.#ask.placed?.values())) {
      const node = this.#alive(nodeId)
      if (node) rest = this.#fill(node, rest, nodeOf)
    }
    while (rest.length > 0) {
      // Usually one node takes all: the emptiest that can, so that groups do not pile up.
      const whole = this.#emptiest(sumOf(rest.map((index) => bundles[index] as Resources)), this.#allConditions(rest))
      const node = whole ?? this.#roomiest(rest)
      if (!node) return undefined
      rest = this.#fill(node, rest, nodeOf)
    }
    return nodeOf
  }

  /** Puts on `node` what fits of `indices`; returns what does not. */
  #fill(node: SchedulableNode, indices: readonly number[], nodeOf: Assignment): number[] {
    return indices.filter((index) => {
      const bundle = this.#ask.bundles[index] as Resources
      if (!this.#takes(node, index)) return true
      this.#take(node, bundle)
      nodeOf.set(index, node.nodeId)
      return false
    })
  }

  /** The node that could take most of these bundles. */
  #roomiest(indices: readonly number[]): SchedulableNode | undefined {
    let best: SchedulableNode | undefined
    let most = 0
    for (let i = 0; i < this.#nodes.size; i++) {
      const node = this.#nodes.at(i)
      if (!indices.some((index) => this.#takes(node, index))) continue
      let count = 0
      const left = this.#copyRoom(node)
      for (const index of indices) {
        const bundle = this.#ask.bundles[index] as Resources
        if (!fits(bundle, left) || !satisfies(node.labels, this.#conditions(index))) continue
        subtract(left, bundle)
        count++
      }
      if (count <= most) continue
      best = node
      most = count
    }
    return best
  }

  /** A node of its own for each; unless `isStrict`, those for which none is left share. */
  #distinct(isStrict: boolean): Assignment | undefined {
    const { bundles } = this.#ask
    const { holder, without: sharing } = this.#matching()
    if (isStrict && sharing.length > 0) return undefined
    const nodeOf: Assignment = new Map()
    for (const [nodeId, index] of holder) {
      nodeOf.set(index, nodeId)
      this.#take(this.#nodes.get(nodeId) as SchedulableNode, bundles[index] as Resources)
    }
    for (const index of sharing) {
      const bundle = bundles[index] as Resources
      const node = this.#emptiest(bundle, this.#conditions(index))
      if (!node) return undefined
      this.#take(node, bundle)
      nodeOf.set(index, node.nodeId)
    }
    return nodeOf
  }

  /** Which bundle each node would hold alone, and the bundles for which there is no node of their own. */
  #matching(): { readonly holder: ReadonlyMap<NodeId, number>; readonly without: readonly number[] } {
    const holder = new Map<NodeId, number>()
    const taken = new Set(this.#ask.placed?.values())
    const without = this.#order.filter((index) => !this.#match(index, holder, taken))
    return { holder, without }
  }

  /** Finds a free node for the bundle, if need be by moving others on (augmenting paths). */
  #match(index: number, holder: Map<NodeId, number>, taken: ReadonlySet<NodeId>): boolean {
    const seen = new Set<NodeId>(taken)
    const free = this.#emptiest(this.#ask.bundles[index] as Resources, this.#conditions(index), (nodeId) => {
      return !taken.has(nodeId) && !holder.has(nodeId)
    })
    if (free) {
      holder.set(free.nodeId, index)
      return true
    }
    const move = (mover: number): boolean => {
      for (let i = 0; i < this.#nodes.size; i++) {
        const node = this.#nodes.at(i)
        if (seen.has(node.nodeId) || !this.#takes(node, mover)) continue
        seen.add(node.nodeId)
        const other = holder.get(node.nodeId)
        if (other !== undefined && !move(other)) continue
        holder.set(node.nodeId, mover)
        return true
      }
      return false
    }
    return move(index)
  }

  /** Of the nodes that can take it, the one with the largest share of what is asked left over (Ray's LeastResourceScorer). */
  #emptiest(
    asked: Resources,
    conditions: LabelConditions,
    isAllowed?: (nodeId: NodeId) => boolean,
  ): SchedulableNode | undefined {
    let best: SchedulableNode | undefined
    let most = Number.NEGATIVE_INFINITY
    for (let i = 0; i < this.#nodes.size; i++) {
      const node = this.#nodes.at(i)
      const room = this.#room(node)
      if (!fits(asked, room) || !satisfies(node.labels, conditions) || isAllowed?.(node.nodeId) === false) continue
      let share = 0
      for (const name in asked) share -= (asked[name] as number) / Math.max(1, room[name] ?? 0)
      if (share <= most) continue
      best = node
      most = share
    }
    return best
  }

  #takes(node: SchedulableNode, index: number): boolean {
    return (
      fits(this.#ask.bundles[index] as Resources, this.#room(node)) && satisfies(node.labels, this.#conditions(index))
    )
  }

  #take(node: SchedulableNode, bundle: Resources): void {
    const left = this.#left.get(node.nodeId) ?? this.#copyRoom(node)
    subtract(left, bundle)
    this.#left.set(node.nodeId, left)
  }

  #copyRoom(node: SchedulableNode): Record<string, number> {
    const room = this.#room(node)
    const copy: Record<string, number> = {}
    for (const name of this.#names) copy[name] = room[name] ?? 0
    return copy
  }

  #room(node: SchedulableNode): Resources {
    return this.#left.get(node.nodeId) ?? node[this.#side]
  }

  #conditions(index: number): LabelConditions {
    return this.#ask.selectors?.[index] ?? []
  }

  #allConditions(indices: readonly number[] = this.#order): LabelConditions {
    return this.#ask.selectors ? indices.flatMap((index) => this.#conditions(index)) : []
  }

  #alive(nodeId: NodeId): SchedulableNode | undefined {
    const node = this.#nodes.get(nodeId)
    return node?.state === 'ALIVE' ? node : undefined
  }
}

/** GPUs first, then how many kinds of resources beside CPU and memory, then memory, then CPU. */
function byScarcity(ask: GroupAsk): readonly number[] {
  const { bundles, placed } = ask
  const kinds = (bundle: Resources): number =>
    Object.keys(bundle).filter((name) => name !== 'CPU' && name !== 'memory').length
  const indices = bundles.map((_, index) => index).filter((index) => !placed?.has(index))
  return indices.sort((left, right) => {
    const a = bundles[left] as Resources
    const b = bundles[right] as Resources
    return (
      (b.GPU ?? 0) - (a.GPU ?? 0) ||
      kinds(b) - kinds(a) ||
      (b.memory ?? 0) - (a.memory ?? 0) ||
      (b.CPU ?? 0) - (a.CPU ?? 0) ||
      left - right
    )
  })
}
