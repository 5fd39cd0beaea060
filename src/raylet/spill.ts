// Leases that other nodes grant for owners of this one: where each was asked for, and what becomes of it when that node says no or dies.
//
//     request ──► here, when it fits now ──► the lease manager
//        └──► another node ──granted──► the owner        ──rejected──► another one, or waits here, or is parked until nodes change
//
// Invariants:
//   F1. A request is in one place: here, at one other node, or parked.
//   F2. A grant whose owner is gone, or that was withdrawn meanwhile, is given back at once.
//   F3. What was asked of a node that died is asked again, unless it had been granted: then the owner judges (its worker died).
//   F4. Refused is only what no living node could ever hold. The GCS is asked first whether there are others: a node that has just
//       joined is known to it, and here a moment later.
//   F5. What this node knows of others is older than what many askers have taken there meanwhile: after REJECTIONS_MAX rejections in a row
//       what could run here waits here, for offers and news, and so does at once what was rejected after it had waited here.

import type { NodeId, WorkerTag } from '../ids/ids.ts'
import { isBundleResource } from '../scheduling/bundle-names.ts'
import type { NodeTable } from '../scheduling/node-table.ts'
import { type Choosing, choosingFrom, pickNode } from '../scheduling/policies.ts'
import { fits, subtract } from '../scheduling/resources.ts'
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

const HERE: Choice = { kind: 'here' }
const PARK: Choice = { kind: 'park' }

/** What ends a lease, or a request for one. */
export type LeaseMessage = Extract<RayletToRaylet, { t: 'lease.cancel' | 'lease.return' | 'lease.kill' }>

export interface Request {
  readonly leaseId: LeaseId
  readonly owner: WorkerTag
  readonly spec: LeaseSpec
}

export interface Away {
  readonly owner: WorkerTag
  readonly spec: LeaseSpec
  readonly nodeId: NodeId
  readonly mayWait: boolean
  readonly group: FollowedGroup | undefined
  /** It had waited here. */
  readonly hasWaited: boolean
  /** Its worker, once granted. */
  worker: WorkerTag | null
}

interface Parked {
  readonly owner: WorkerTag
  readonly spec: LeaseSpec
  /** The question whose answer it waits for; 0: none, it waits for nodes. */
  readonly question: number
}

/** F5. (Without it each of 25 drivers' nodes found one by one that 500 nodes were full: 0.28 rejections a task, 0.065 with it.) */
const REJECTIONS_MAX = 2
/** So many of the raylets that wait look at a node that has got room, on average. */
const CHANCES = 2

export class Spill {
  readonly #view: ClusterView
  readonly #out: Outbox
  readonly #away = new Map<LeaseId, Away>()
  readonly #parked = new Map<LeaseId, Parked>()
  /** Of the GCS (F4). */
  #questions = 0
  readonly #choosing: Choosing
  /** By what is asked for: where it waits, as no node had room. It holds until one may have (`ClusterView.gains`). */
  readonly #full = new Map<string, NodeId>()
  #fullAt = 0
  /** By what is asked for: rejections since another node granted a request that had not waited here (F5). */
  readonly #rejections = new Map<string, number>()

  constructor(view: ClusterView, out: Outbox) {
    this.#view = view
    this.#out = out
    this.#choosing = choosingFrom(view.nodeId)
  }

  get parked(): number {
    return this.#parked.size
  }

  /** Asked of other nodes, which have not answered. */
  get asked(): number {
    let asked = 0
    for (const { worker } of this.#away.values()) if (worker === null) asked++
    return asked
  }

  /** Something is granted nowhere yet. */
  get isAsking(): boolean {
    return this.#parked.size > 0 || this.asked > 0
  }

  /** Asked of other nodes, or granted by them. */
  get away(): number {
    return this.#away.size
  }

  /** For people: where each is. */
  list(): { readonly leaseId: LeaseId; readonly owner: WorkerTag; readonly where: string }[] {
    const away = [...this.#away].map(([leaseId, { owner, nodeId, worker, mayWait }]) => {
      return { leaseId, owner, where: `${nodeId.slice(0, 8)} ${worker ?? (mayWait ? 'may wait' : 'asked')}` }
    })
    return [...away, ...[...this.#parked].map(([leaseId, { owner }]) => ({ leaseId, owner, where: 'parked' }))]
  }

  /** What is parked. */
  demand(): Demand[] {
    return summed(this.waiting())
  }

  /** What waits for nodes, and for nobody's answer. */
  waiting(): LeaseSpec[] {
    return [...this.#parked.values()].filter(({ question }) => question === 0).map(({ spec }) => spec)
  }

  /** It is elsewhere, or parked: nothing is to be done here. */
  knows(leaseId: LeaseId): boolean {
    return this.#away.has(leaseId) || this.#parked.has(leaseId)
  }

  /** Among all nodes, or those of `nodes`: by the rules of scheduling/policies.ts. */
  choose(spec: LeaseSpec, nodes: NodeTable = this.#view.table): Choice {
    const { name, resources, strategy, selectors } = spec
    const localityBytes = this.#bytesByNode(spec)
    const ask = {
      ...{ name, resources, strategy, localNodeId: this.#view.nodeId },
      ...(selectors ? { selectors } : {}),
      ...(localityBytes ? { localityBytes } : {}),
    }
    const key = nodes === this.#view.table ? this.#keyOf(spec) : null
    const full = key === null ? undefined : this.#full.get(key)
    if (full !== undefined) return this.#at(full, true)
    const decision = pickNode(nodes, ask, this.#choosing)
    if (decision.kind === 'wait' && decision.nodeId !== null && key !== null) this.#full.set(key, decision.nodeId)
    switch (decision.kind) {
      case 'node':
        return this.#at(decision.nodeId, false)
      case 'wait':
        return decision.nodeId === null ? PARK : this.#at(decision.nodeId, true)
      default:
        return spec.onInfeasible === 'wait' ? PARK : { kind: 'refuse', error: decision.error }
    }
  }

  #bytesByNode({ locality }: LeaseSpec): Map<NodeId, number> | undefined {
    if (!locality) return undefined
    const bytesOf = new Map<NodeId, number>()
    for (const [tag, bytes] of locality) {
      const nodeId = this.#view.nodeOf(tag)
      if (nodeId !== undefined) bytesOf.set(nodeId, (bytesOf.get(nodeId) ?? 0) + bytes)
    }
    return bytesOf
  }

  /** `null`: look, since it may fit here, or where it wants to be. */
  #keyOf({ resources, strategy, selectors }: LeaseSpec): string | null {
    if (this.#fullAt !== this.#view.gains) this.#full.clear()
    this.#fullAt = this.#view.gains
    const isPlain = (strategy.kind === 'DEFAULT' || strategy.kind === 'SPREAD') && !selectors?.length
    if (!isPlain || fits(resources, this.#view.table.get(this.#view.nodeId)?.available ?? {})) return null
    return JSON.stringify(resources)
  }

  /**
   * All hear at once that a node has room: a raylet where `waiting` requests wait looks at its share of such nodes, and at the others
   * when notes are over. (Each looking at all, 25 raylets were rejected 16 times for a lease, 10 nine times.)
   */
  shareOf(changed: readonly NodeView[], waiting: number): readonly NodeView[] {
    const share = (CHANCES * waiting) / (waiting + this.#view.waitingElsewhere)
    if (share >= 1) return changed
    return changed.filter(({ nodeId, available }) => {
      const isOurs = this.#choosing.random() < share
      if (!isOurs) this.#view.note(nodeId, bundlesAmong(available))
      return isOurs
    })
  }

  #at(nodeId: NodeId, mayWait: boolean): Choice {
    return nodeId === this.#view.nodeId ? HERE : { kind: 'node', nodeId, mayWait }
  }

  send(
    leaseId: LeaseId,
    owner: WorkerTag,
    spec: LeaseSpec,
    choice: Choice & { kind: 'node' },
    hasWaited = false,
  ): void {
    const { nodeId, mayWait, group, takes = spec.resources } = choice
    this.#parked.delete(leaseId)
    this.#away.set(leaseId, { owner, spec, nodeId, mayWait, group, hasWaited, worker: null })
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
    this.#parked.set(leaseId, { owner, spec, question: 0 })
  }

  /** No node known here could hold it: the GCS is asked (F4). */
  doubt(leaseId: LeaseId, owner: WorkerTag, spec: LeaseSpec): void {
    const question = ++this.#questions
    this.#parked.set(leaseId, { owner, spec, question })
    this.#out.toGcs({ t: 'nodes.ask', question })
  }

  /** Doubted ones, to be decided now that all nodes are known; up to that question, or all. */
  takeDoubted(upTo: number = this.#questions): { leaseId: LeaseId; owner: WorkerTag; spec: LeaseSpec }[] {
    const taken: { leaseId: LeaseId; owner: WorkerTag; spec: LeaseSpec }[] = []
    for (const [leaseId, { owner, spec, question }] of this.#parked)
      if (question > 0 && question <= upTo) taken.push({ leaseId, owner, spec })
    for (const { leaseId } of taken) this.#parked.delete(leaseId)
    return taken
  }

  /** Parked ones of these, to be asked for anew. */
  takeParked(isMeant: (spec: LeaseSpec) => boolean = () => true): Request[] {
    const taken: Request[] = []
    for (const [leaseId, one] of this.#parked) if (isMeant(one.spec)) taken.push({ leaseId, ...one })
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
    if (this.#rejections.size > 0 && away?.hasWaited === false) this.#hasRoom(away.spec)
    if (away?.nodeId !== nodeId) {
      this.#out.toPeer(nodeId, { t: 'lease.return', leaseId, dispose: false })
      return
    }
    away.worker = worker.tag
    this.#out.send(away.owner, { t: 'lease.granted', leaseId, worker, gpuIds })
  }

  /** F5. True: it waits here. */
  rejected({ spec, mayWait, hasWaited }: Away): boolean {
    const { nodeId, table } = this.#view
    const own = table.get(nodeId)
    const key = mayWait ? null : this.#keyOf(spec)
    if (key === null || own?.state !== 'ALIVE' || !fits(spec.resources, own.total)) return false
    const count = (this.#rejections.get(key) ?? 0) + 1
    this.#rejections.set(key, count)
    if (count >= REJECTIONS_MAX) this.#full.set(key, nodeId)
    return hasWaited || count >= REJECTIONS_MAX
  }

  /** There is room that nobody had offered. */
  #hasRoom({ resources }: LeaseSpec): void {
    const key = JSON.stringify(resources)
    this.#rejections.delete(key)
    this.#full.delete(key)
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
  nodeDied(nodeId: NodeId): Request[] {
    const again: Request[] = []
    for (const [leaseId, away] of this.#away) {
      if (away.nodeId !== nodeId) continue
      this.#away.delete(leaseId)
      if (away.worker === null) again.push({ leaseId, owner: away.owner, spec: away.spec })
    }
    return again
  }
}

/** What leases in bundles go by. */
function bundlesAmong(available: Resources): Resources {
  return Object.fromEntries(Object.entries(available).filter(([name]) => isBundleResource(name)))
}
