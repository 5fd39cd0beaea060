// Which node a lease goes to. Pure: randomness and what is remembered between choices come with the question.
//
//     bundle        the nodes of the group's bundles                             O(bundles)
//     nodeAffinity  that node; soft: DEFAULT when it is gone or too small        O(1)
//     nodeLabels    any that matches hard and soft, else hard                    O(nodes passed over)
//     SPREAD        the next one, in turn, that has room                         O(nodes passed over)
//     DEFAULT       the preferred node (most bytes of arguments, else the local one) while it is less than half used: O(1).
//                   Else the first that is less than half used, from a random start among the first fifth; when all are used
//                   more, a random one of the least used.                        O(2 WINDOW), or until one has room
//
// Only when no node has room are all looked at, once, without allocation: the answer is then 'wait', with a node to wait at, or
// 'infeasible'. Who keeps questions that wait asks again over the nodes that changed (a small table), not over all.
//
//   P1. A node that is not ALIVE, does not satisfy the labels, or has no room now, is never chosen.
//   P2. 'infeasible' and 'refused': no alive node could take it even if it were idle.
//   P3. What asks for no GPU goes to a node with GPUs only when no other node has room (Ray's scheduler_avoid_gpu_nodes).

import type { NodeId } from '../ids/ids.ts'
import type { LabelConditions, Resources, SchedulingStrategy, WireError } from '../wire/messages.ts'
import { bundleDemand } from './bundle-names.ts'
import { formatConditions, satisfies } from './labels.ts'
import { hasGpu, type NodeTable, type SchedulableNode } from './node-table.ts'
import { fits, formatResources } from './resources.ts'

/** A placed or waiting bundle, as its group knows it. */
export interface PlacedBundle {
  readonly resources: Resources
  readonly nodeId: NodeId | null
}

export interface Ask {
  /** For messages to people. */
  readonly name: string
  readonly resources: Resources
  readonly strategy: SchedulingStrategy
  /** A label selector and its fallbacks: the first that a node with room satisfies. Absent or empty: any node. */
  readonly selectors?: readonly LabelConditions[]
  /** Where it was asked; null for the GCS. */
  readonly localNodeId: NodeId | null
  /** Bytes of its arguments, by the node they lie on. */
  readonly localityBytes?: ReadonlyMap<NodeId, number>
  /** For 'bundle': those of its group. */
  readonly bundles?: readonly PlacedBundle[]
}

/** What choices remember and draw from. */
export interface Choosing {
  /** 0 ≤ x < 1 */
  readonly random: () => number
  /** Where SPREAD goes on. */
  spreadNext: number
}

export type Decision =
  | { readonly kind: 'node'; readonly nodeId: NodeId }
  /** Some node could take it, but not now: this one, or one of several unless it `isOnly`. null: a bundle that has no node yet. */
  | { readonly kind: 'wait'; readonly nodeId: NodeId | null; readonly isOnly: boolean }
  /** `largest`: the node (or bundle) that comes closest. `labels`: what no alive node has, when that is why. */
  | {
      readonly kind: 'infeasible'
      readonly asked: Resources
      readonly largest: Resources
      readonly labels: string | null
      readonly error: WireError
    }
  | { readonly kind: 'refused'; readonly error: WireError }

/** Ray's scheduler_spread_threshold. */
export const SPREAD_THRESHOLD = 0.5
/** Ray's scheduler_top_k_fraction. */
export const TOP_FRACTION = 0.2
/** In a larger cluster this many nodes, twice, stand for all of them: the cost of a choice does not grow with the cluster. */
const WINDOW = 64

const WAIT: Decision = { kind: 'wait', nodeId: null, isOnly: false }
/** Of the nodes that could take it later, so many are compared. */
const WAITED_AT_MAX = 8
const ANYWHERE: LabelConditions = []
const ANY_NODE: readonly LabelConditions[] = [ANYWHERE]

export function pickNode(nodes: NodeTable, ask: Ask, choosing: Choosing): Decision {
  const { strategy } = ask
  if (strategy.kind === 'bundle') return pickBundle(nodes, ask, strategy.groupId, strategy.bundleIndex)
  const search = new Search(nodes, ask, choosing)
  const selectors = ask.selectors?.length ? ask.selectors : ANY_NODE
  for (const selector of selectors) {
    search.selector = selector
    const found = search.run(strategy)
    if (found) return { kind: 'node', nodeId: found.nodeId }
  }
  const { waitAt, isOnly } = search
  if (waitAt) return { kind: 'wait', nodeId: waitAt.nodeId, isOnly }
  return search.refusal ? { kind: 'refused', error: search.refusal } : infeasible(nodes, ask, selectors)
}

/** What one chooser draws from: the same for the same seed. */
export function choosingFrom(seed: string): Choosing {
  let state = 1
  for (let i = 0; i < seed.length; i++) state = Math.imul(state ^ seed.charCodeAt(i), 0x01000193)
  const random = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return { random, spreadNext: Math.floor(random() * 1000) }
}

/** One question; `waitAt` and `refusal` say why nothing was found. */
class Search {
  /** Could take it, if it were idle: the local one, else one where few wait. */
  waitAt: SchedulableNode | undefined
  isOnly = true
  #waitedAt = 0
  refusal: WireError | undefined
  selector: LabelConditions = ANYWHERE
  readonly #nodes: NodeTable
  readonly #ask: Ask
  readonly #choosing: Choosing
  readonly #resources: Resources
  #best: Best | undefined

  constructor(nodes: NodeTable, ask: Ask, choosing: Choosing) {
    this.#nodes = nodes
    this.#ask = ask
    this.#choosing = choosing
    this.#resources = ask.resources
  }

  run(strategy: SchedulingStrategy): SchedulableNode | undefined {
    switch (strategy.kind) {
      case 'SPREAD':
        return this.#spread()
      case 'nodeAffinity':
        return this.#affinity(strategy)
      case 'nodeLabels':
        return this.#labels(strategy.hard, strategy.soft)
      default:
        return this.#hybrid()
    }
  }

  /** P1; notes on the way which could ever. */
  #hasRoom(node: SchedulableNode): boolean {
    if (this.selector.length > 0 && !satisfies(node.labels, this.selector)) return false
    if (fits(this.#resources, node.available)) return true
    const isLocal = node.nodeId === this.#ask.localNodeId
    if ((this.#waitedAt < WAITED_AT_MAX || isLocal) && fits(this.#resources, node.total)) this.#mayWaitAt(node, isLocal)
    return false
  }

  #mayWaitAt(node: SchedulableNode, isLocal: boolean): void {
    const { waitAt } = this
    if (node === waitAt) return
    this.#waitedAt++
    if (waitAt) this.isOnly = false
    const isBetter = !waitAt || (waitAt.nodeId !== this.#ask.localNodeId && (node.waiting ?? 0) < (waitAt.waiting ?? 0))
    if (isBetter || isLocal) this.waitAt = node
  }

  #hybrid(): SchedulableNode | undefined {
    const { withoutGpu, withGpu } = this.#nodes
    const preferred = this.#preferred()
    const hasRoom = preferred !== undefined && this.#hasRoom(preferred)
    const wanted = hasRoom ? preferred : undefined
    if ((this.#resources.GPU ?? 0) > 0) return this.#leastUsed(withGpu, wanted)
    const onGpu = wanted !== undefined && hasGpu(wanted) // P3
    return this.#leastUsed(withoutGpu, onGpu ? undefined : wanted) ?? this.#leastUsed(withGpu, wanted)
  }

  /** The node with most bytes of the arguments, else the local one. */
  #preferred(): SchedulableNode | undefined {
    const { localityBytes, localNodeId } = this.#ask
    let best = localNodeId === null ? undefined : this.#alive(localNodeId)
    if (!localityBytes) return best
    let most = best ? (localityBytes.get(best.nodeId) ?? 0) : 0
    for (const [nodeId, bytes] of localityBytes) {
      const node = bytes > most ? this.#alive(nodeId) : undefined
      if (!node) continue
      best = node
      most = bytes
    }
    return best
  }

  /** `wanted` has room; it wins unless another is used less. */
  #leastUsed(list: readonly SchedulableNode[], wanted: SchedulableNode | undefined): SchedulableNode | undefined {
    const wantedUse = wanted ? score(wanted) : Number.POSITIVE_INFINITY
    if (wantedUse === 0) return wanted
    const count = list.length
    if (count === 0) return wanted
    this.#best ??= new Best()
    const best = this.#best
    const { random } = this.#choosing
    best.clear(Math.max(1, Math.floor(TOP_FRACTION * Math.min(count, 2 * WINDOW))))
    const start = Math.floor(random() * Math.max(1, Math.floor(TOP_FRACTION * count)))
    const near = Math.min(count, WINDOW)
    for (let step = 0; step < near; step++) {
      const node = list[(start + step) % count] as SchedulableNode
      if (!this.#hasRoom(node)) continue
      const use = score(node)
      if (use === 0) return node
      best.offer(node, use)
    }
    const far = count > near ? this.#farther(list, start, best) : undefined
    if (far) return far
    return wanted && wantedUse <= best.lowest ? wanted : best.draw(random())
  }

  /** The second window, at random among the rest, and on from there while none had room. */
  #farther(list: readonly SchedulableNode[], start: number, best: Best): SchedulableNode | undefined {
    const count = list.length
    const rest = count - WINDOW
    const second = Math.floor(this.#choosing.random() * rest)
    for (let step = 0; step < rest; step++) {
      if (step >= WINDOW && !best.isEmpty) return undefined
      const node = list[(start + WINDOW + ((second + step) % rest)) % count] as SchedulableNode
      if (!this.#hasRoom(node)) continue
      const use = score(node)
      if (use === 0) return node
      best.offer(node, use)
    }
    return undefined
  }

  #spread(): SchedulableNode | undefined {
    const count = this.#nodes.size
    for (let step = 0; step < count; step++) {
      const index = (this.#choosing.spreadNext + step) % count
      const node = this.#nodes.at(index)
      if (!this.#hasRoom(node)) continue
      this.#choosing.spreadNext = index + 1
      return node
    }
    return undefined
  }

  #affinity(strategy: SchedulingStrategy & { readonly kind: 'nodeAffinity' }): SchedulableNode | undefined {
    const node = this.#alive(strategy.nodeId)
    if (node && this.#hasRoom(node)) return node
    const couldEver = node !== undefined && this.waitAt !== undefined
    if (strategy.soft) return couldEver && !strategy.spillOnUnavailable ? undefined : this.#hybrid()
    if (!couldEver) this.refusal = refusal(this.#nodes.get(strategy.nodeId), this.#ask, strategy.nodeId)
    else if (strategy.failOnUnavailable) {
      this.waitAt = undefined
      this.refusal = nodeError('NODE_BUSY', this.#ask, node, node.available)
    }
    return undefined
  }

  /** All that match both are equal, and a node that matches `hard` alone is second best: the first found from a random start. */
  #labels(hard: LabelConditions, soft: LabelConditions): SchedulableNode | undefined {
    const count = this.#nodes.size
    const start = Math.floor(this.#choosing.random() * count)
    let second: SchedulableNode | undefined
    for (let step = 0; step < count; step++) {
      const node = this.#nodes.at((start + step) % count)
      if (!satisfies(node.labels, hard) || !this.#hasRoom(node)) continue
      if (satisfies(node.labels, soft)) return node
      second ??= node
    }
    return second
  }

  #alive(nodeId: NodeId): SchedulableNode | undefined {
    const node = this.#nodes.get(nodeId)
    return node?.state === 'ALIVE' ? node : undefined
  }
}

/** The least used nodes seen, `limit` at most, sorted. */
class Best {
  readonly #nodes: SchedulableNode[] = []
  readonly #uses: number[] = []
  #limit = 1

  get isEmpty(): boolean {
    return this.#nodes.length === 0
  }

  get lowest(): number {
    return this.#uses[0] ?? Number.POSITIVE_INFINITY
  }

  clear(limit: number): void {
    this.#limit = limit
    this.#nodes.length = 0
    this.#uses.length = 0
  }

  offer(node: SchedulableNode, use: number): void {
    const nodes = this.#nodes
    const uses = this.#uses
    let place = nodes.length
    if (place === this.#limit) {
      if (use >= (uses[place - 1] as number)) return
      place--
    }
    for (; place > 0 && (uses[place - 1] as number) > use; place--) {
      nodes[place] = nodes[place - 1] as SchedulableNode
      uses[place] = uses[place - 1] as number
    }
    nodes[place] = node
    uses[place] = use
  }

  draw(random: number): SchedulableNode | undefined {
    return this.#nodes[Math.floor(random * this.#nodes.length)]
  }
}

/** How much of its scarcest resource is used, 0 … 1; all below the threshold are equal, so that nodes are packed until then. */
function score(node: SchedulableNode): number {
  const use = Math.max(used(node, 'CPU'), used(node, 'memory'), used(node, 'object_store_memory'))
  return use < SPREAD_THRESHOLD ? 0 : use
}

function used(node: SchedulableNode, name: string): number {
  const total = node.total[name] ?? 0
  return total > 0 ? 1 - (node.available[name] ?? 0) / total : 0
}

/** In a bundle that can hold it, on the node where that bundle lies: on the local one if there is a choice. */
function pickBundle(nodes: NodeTable, ask: Ask, groupId: string, bundleIndex: number): Decision {
  const bundles = ask.bundles ?? []
  let isFeasible = false
  let chosen: NodeId | undefined
  let largest: Resources = {}
  for (let index = Math.max(0, bundleIndex); index < (bundleIndex < 0 ? bundles.length : bundleIndex + 1); index++) {
    const bundle = bundles[index]
    if (!bundle) break
    if (closeness(ask.resources, bundle.resources) > closeness(ask.resources, largest)) largest = bundle.resources
    if (!fits(ask.resources, bundle.resources)) continue
    isFeasible = true
    const node = bundle.nodeId === null ? undefined : nodes.get(bundle.nodeId)
    if (node?.state !== 'ALIVE' || !fits(bundleDemand(ask.resources, groupId, index), node.available)) continue
    if (chosen === undefined || node.nodeId === ask.localNodeId) chosen = node.nodeId
  }
  if (chosen !== undefined) return { kind: 'node', nodeId: chosen }
  if (isFeasible) return WAIT
  const params = { name: ask.name, asked: formatResources(ask.resources), largest: formatResources(largest) }
  return {
    kind: 'infeasible',
    asked: ask.resources,
    largest,
    labels: null,
    error: { code: 'BUNDLE_TOO_SMALL', params },
  }
}

function refusal(node: SchedulableNode | undefined, ask: Ask, nodeId: NodeId): WireError {
  if (node?.state === 'DRAINING') return { code: 'NODE_DRAINING', params: { name: ask.name, nodeId } }
  if (!node || node.state === 'DEAD') return { code: 'NODE_NOT_FOUND', params: { name: ask.name, nodeId } }
  if (fits(ask.resources, node.total)) return labelError(ask, ask.selectors ?? [])
  return nodeError('NODE_TOO_SMALL', ask, node, node.total)
}

function nodeError(code: string, ask: Ask, node: SchedulableNode, has: Resources): WireError {
  const params = {
    name: ask.name,
    nodeId: node.nodeId,
    asked: formatResources(ask.resources),
    has: formatResources(has),
  }
  return { code, params }
}

function labelError(ask: Ask, selectors: readonly LabelConditions[]): WireError {
  return { code: 'NO_SUCH_LABELS', params: { name: ask.name, labels: selectors.map(formatConditions).join(', or ') } }
}

function infeasible(nodes: NodeTable, ask: Ask, selectors: readonly LabelConditions[]): Decision {
  const hard = ask.strategy.kind === 'nodeLabels' ? ask.strategy.hard : ANYWHERE
  const wanted = hard.length === 0 ? selectors : selectors.map((selector) => [...selector, ...hard])
  let largest: Resources | undefined
  for (let i = 0; i < nodes.size; i++) {
    const { labels, total } = nodes.at(i)
    if (!wanted.some((conditions) => satisfies(labels, conditions))) continue
    if (!largest || isCloser(ask.resources, total, largest)) largest = total
  }
  const asked = ask.resources
  if (!largest && wanted.every((conditions) => conditions.length > 0)) {
    const error = labelError(ask, wanted)
    return { kind: 'infeasible', asked, largest: {}, labels: String(error.params.labels), error }
  }
  largest ??= {}
  const params = { name: ask.name, asked: formatResources(asked), largest: formatResources(largest) }
  return { kind: 'infeasible', asked, largest, labels: null, error: { code: 'INFEASIBLE', params } }
}

/** Does `total` come closer to `asked` than `than` does? */
export function isCloser(asked: Resources, total: Resources, than: Resources): boolean {
  const difference = closeness(asked, total) - closeness(asked, than)
  return difference > 0 || (difference === 0 && (total.CPU ?? 0) > (than.CPU ?? 0))
}

/** The scarcest resource counts most: how much of it is there, 0 … 1; what there is of the others decides between equals. */
function closeness(asked: Resources, total: Resources): number {
  let scarcest = 1
  let sum = 0
  let count = 0
  for (const name in asked) {
    const units = asked[name] as number
    const share = units > 0 ? Math.min(1, (total[name] ?? 0) / units) : 1
    scarcest = Math.min(scarcest, share)
    sum += share
    count++
  }
  return count === 0 ? 1 : scarcest * 1000 + sum / count
}
