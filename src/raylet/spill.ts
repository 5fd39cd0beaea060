// Leases that other nodes grant for owners of this one: where each was asked for, and what becomes of it when that node says no or dies.
//
//     request ──► here, when it fits now ──► the lease manager
//        └──► another node ──granted──► the owner        ──rejected──► another one, or waits here, or is parked until nodes change
//
// Invariants:
//   F1. A request is in one place: here, at one other node, or parked.
//   F2. A grant whose owner is gone, or that was withdrawn meanwhile, is given back at once.
//   F3. What was asked of a node that died is asked again, unless it had been granted: then the owner judges (its worker died).
//   F4. Refused is only what no living node could ever hold.

import type { NodeId, PlacementGroupId, WorkerTag } from '../ids/ids.ts'
import { fits, formatResources, subtract } from '../scheduling/resources.ts'
import type { Demand, NodeView, RayletToRaylet } from '../wire/cluster.ts'
import type { FollowedGroup } from '../wire/groups.ts'
import type { LeaseId, LeaseSpec, Resources, WireError, WorkerAddress } from '../wire/messages.ts'
import type { ClusterView } from './cluster-view.ts'
import { summed } from './lease-manager.ts'
import type { Outbox } from './outbox.ts'

export type Choice =
  | { readonly kind: 'here' }
  | {
      readonly kind: 'node'
      readonly nodeId: NodeId
      readonly mayWait: boolean
      /** What it will take there; absent: what it asks for. */
      readonly takes?: Resources
      /** On whose word it goes there, when it is to run in a bundle. */
      readonly group?: FollowedGroup
    }
  /** Until nodes change. */
  | { readonly kind: 'park' }
  | { readonly kind: 'refuse'; readonly error: WireError }

/** What ends a lease, or a request for one. */
export type LeaseMessage = Extract<RayletToRaylet, { t: 'lease.cancel' | 'lease.return' | 'lease.kill' }>

export interface Away {
  readonly owner: WorkerTag
  readonly spec: LeaseSpec
  readonly nodeId: NodeId
  readonly mayWait: boolean
  readonly group: FollowedGroup | undefined
  /** Its worker, once granted. */
  worker: WorkerTag | null
}

export interface LocalNode {
  readonly nodeId: NodeId
  readonly total: Resources
  readonly free: Resources
  readonly labels: Readonly<Record<string, string>>
  /** Requests that wait here. */
  readonly waiting: number
}

export class Spill {
  readonly #view: ClusterView
  readonly #out: Outbox
  readonly #away = new Map<LeaseId, Away>()
  readonly #parked = new Map<LeaseId, { readonly owner: WorkerTag; readonly spec: LeaseSpec }>()
  #turn = 0

  constructor(view: ClusterView, out: Outbox) {
    this.#view = view
    this.#out = out
  }

  get parked(): number {
    return this.#parked.size
  }

  /** Asked of other nodes, or granted by them. */
  get away(): number {
    return this.#away.size
  }

  /** What is parked. */
  demand(): Demand[] {
    return summed([...this.#parked.values()].map(({ spec }) => spec))
  }

  /** It is elsewhere, or parked: nothing is to be done here. */
  knows(leaseId: LeaseId): boolean {
    return this.#away.has(leaseId) || this.#parked.has(leaseId)
  }

  choose(spec: LeaseSpec, here: LocalNode, isHereExcluded = false): Choice {
    const { strategy, name } = spec
    if (strategy.kind === 'nodeAffinity') {
      const isHere = strategy.nodeId === here.nodeId
      if (isHere && (fits(spec.resources, here.total) || !strategy.soft)) return this.#hereIf(spec, here)
      const named = this.#view.get(strategy.nodeId)
      if (named?.state === 'ALIVE' && (fits(spec.resources, named.total) || !strategy.soft))
        return { kind: 'node', nodeId: named.nodeId, mayWait: true }
      if (!strategy.soft) {
        if (spec.onInfeasible === 'wait') return { kind: 'park' }
        return { kind: 'refuse', error: { code: 'NODE_NOT_FOUND', params: { name, nodeId: strategy.nodeId } } }
      }
    }
    const fitsHere = fits(spec.resources, here.total)
    if (strategy.kind !== 'SPREAD' && !isHereExcluded && fits(spec.resources, here.free) && here.waiting === 0)
      return { kind: 'here' }
    return this.#elsewhere(spec, here, fitsHere)
  }

  #hereIf(spec: LeaseSpec, here: LocalNode): Choice {
    if (fits(spec.resources, here.total) || spec.onInfeasible === 'wait') return { kind: 'here' }
    return { kind: 'refuse', error: infeasible(spec, [here.total]) }
  }

  #elsewhere(spec: LeaseSpec, here: LocalNode, fitsHere: boolean): Choice {
    const free: NodeView[] = []
    let feasible: NodeView | undefined
    for (const node of this.#view.others()) {
      if (!fits(spec.resources, node.total)) continue
      if (!feasible || node.waiting < feasible.waiting) feasible = node
      if (fits(spec.resources, node.available)) free.push(node)
    }
    if (spec.strategy.kind === 'SPREAD') return this.#nextInTurn(spec, here, free, fitsHere)
    const best = free.reduce<NodeView | undefined>((a, b) => (a && a.waiting <= b.waiting ? a : b), undefined)
    if (best) return { kind: 'node', nodeId: best.nodeId, mayWait: false }
    if (fitsHere) return { kind: 'here' }
    if (feasible) return { kind: 'node', nodeId: feasible.nodeId, mayWait: true }
    if (spec.onInfeasible === 'wait') return { kind: 'park' }
    const totals = [here.total, ...[...this.#view.others()].map(({ total }) => total)]
    return { kind: 'refuse', error: infeasible(spec, totals) }
  }

  #nextInTurn(spec: LeaseSpec, here: LocalNode, free: readonly NodeView[], fitsHere: boolean): Choice {
    const isFreeHere = fits(spec.resources, here.free) && here.waiting === 0
    const count = free.length + (isFreeHere ? 1 : 0)
    if (count === 0) return this.#elsewhere({ ...spec, strategy: { kind: 'DEFAULT' } }, here, fitsHere)
    const at = this.#turn++ % count
    const node = free[at]
    return node ? { kind: 'node', nodeId: node.nodeId, mayWait: false } : { kind: 'here' }
  }

  send(leaseId: LeaseId, owner: WorkerTag, spec: LeaseSpec, choice: Choice & { kind: 'node' }): void {
    const { nodeId, mayWait, group, takes = spec.resources } = choice
    this.#parked.delete(leaseId)
    this.#away.set(leaseId, { owner, spec, nodeId, mayWait, group, worker: null })
    const view = this.#view.get(nodeId)
    if (view && !mayWait) {
      // Until it reports: else all that is asked in one go would meet there.
      const available = { ...view.available }
      subtract(available, takes)
      this.#view.note(nodeId, available)
    }
    this.#out.toPeer(nodeId, { t: 'lease.request', owner, leaseId, spec, mayWait })
  }

  park(leaseId: LeaseId, owner: WorkerTag, spec: LeaseSpec): void {
    this.#parked.set(leaseId, { owner, spec })
  }

  /** Parked ones, to be asked for anew: all, or those that are to run in that group's bundles. */
  takeParked(groupId?: PlacementGroupId): { leaseId: LeaseId; owner: WorkerTag; spec: LeaseSpec }[] {
    const parked = [...this.#parked].map(([leaseId, one]) => ({ leaseId, ...one }))
    const taken = parked.filter(({ spec: { strategy } }) => {
      return groupId === undefined || (strategy.kind === 'bundle' && strategy.groupId === groupId)
    })
    for (const { leaseId } of taken) this.#parked.delete(leaseId)
    return taken
  }

  /** Withdrawn, returned, or its worker to be killed. False: it is not away. */
  forward(leaseId: LeaseId, message: LeaseMessage): boolean {
    if (this.#parked.delete(leaseId)) return true
    const away = this.#away.get(leaseId)
    if (!away) return false
    if (message.t !== 'lease.kill') this.#away.delete(leaseId)
    this.#out.toPeer(away.nodeId, message)
    return true
  }

  /** F2 */
  granted(nodeId: NodeId, leaseId: LeaseId, worker: WorkerAddress, gpuIds: readonly number[]): void {
    const away = this.#away.get(leaseId)
    if (away?.nodeId !== nodeId) {
      this.#out.toPeer(nodeId, { t: 'lease.return', leaseId, dispose: false })
      return
    }
    away.worker = worker.tag
    this.#out.send(away.owner, { t: 'lease.granted', leaseId, worker, gpuIds })
  }

  /** What was refused or rejected there, if we still want it. */
  takeBack(nodeId: NodeId, leaseId: LeaseId): Away | undefined {
    const away = this.#away.get(leaseId)
    if (away?.nodeId !== nodeId || away.worker !== null) return undefined
    this.#away.delete(leaseId)
    return away
  }

  ownerDied(owner: WorkerTag): void {
    for (const [leaseId, one] of this.#parked) if (one.owner === owner) this.#parked.delete(leaseId)
    // Where they are, the end of their owner is heard of too.
    for (const [leaseId, away] of this.#away) if (away.owner === owner) this.#away.delete(leaseId)
  }

  workerDied(tag: WorkerTag): void {
    for (const [leaseId, away] of this.#away) if (away.worker === tag) this.#away.delete(leaseId)
  }

  /** F3 */
  nodeDied(nodeId: NodeId): { leaseId: LeaseId; owner: WorkerTag; spec: LeaseSpec }[] {
    const again: { leaseId: LeaseId; owner: WorkerTag; spec: LeaseSpec }[] = []
    for (const [leaseId, away] of this.#away) {
      if (away.nodeId !== nodeId) continue
      this.#away.delete(leaseId)
      if (away.worker === null) again.push({ leaseId, owner: away.owner, spec: away.spec })
    }
    return again
  }
}

function infeasible(spec: LeaseSpec, totals: readonly Resources[]): WireError {
  let largest: Resources = {}
  const has = (total: Resources): number => Object.keys(spec.resources).filter((name) => (total[name] ?? 0) > 0).length
  for (const total of totals) {
    const [a, b] = [has(total), has(largest)]
    if (a > b || (a === b && sumOf(total, spec) > sumOf(largest, spec))) largest = total
  }
  const params = { name: spec.name, asked: formatResources(spec.resources), largest: formatResources(largest) }
  return { code: 'INFEASIBLE', params }
}

function sumOf(total: Resources, spec: LeaseSpec): number {
  return Object.keys(spec.resources).reduce((sum, name) => sum + (total[name] ?? 0), 0)
}
