// Leases of one node: who may use which worker with which resources.
//
// Invariants:
//   L1. free + granted + reserved by bundles = total, for every resource, except CPU given back early by blocked workers (then free may be below zero
//       for a while, after they go on: Ray oversubscribes likewise, so that a nested task can never deadlock).
//   L2. Requests are idempotent by lease id.
//   L3. A request that no node can ever fit is refused at once, unless it asked to wait.
//   L3'. A lease in a bundle of a placement group takes from the bundle, under the bundle's names (see bundles.ts).
//   L4. Requests of one scheduling class are served in order, higher priority first; a class that does not fit does not hold up others.

import type { PlacementGroupId, WorkerTag } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import { bundleDemand } from '../scheduling/bundle-names.ts'
import { add, fits, pickGpus, subtract, UNITS } from '../scheduling/resources.ts'
import type { Demand } from '../wire/cluster.ts'
import type { LeaseId, LeaseSpec, Resources } from '../wire/messages.ts'
import { Bundles, type HeldBundle } from './bundles.ts'
import { envKeyOf } from './worker-pool.ts'

export interface Request {
  readonly leaseId: LeaseId
  readonly owner: WorkerTag
  readonly spec: LeaseSpec
  readonly envKey: string
  readonly order: number
}

export interface Granted {
  readonly leaseId: LeaseId
  readonly owner: WorkerTag
  readonly spec: LeaseSpec
  readonly worker: WorkerTag
  /** Counts grants: the larger, the newer. */
  readonly order: number
  readonly gpuIds: readonly number[]
  /** In which it runs. */
  readonly bundle: HeldBundle | null
  /** How much is taken now: changes while blocked, and for actors once placed. */
  held: Record<string, number>
  blocked: number
  /** CPU given back while blocked: its own, or its bundle's. */
  lent: Record<string, number>
}

/** What a lease would take, and the GPUs that it would take them from. */
interface Demanded {
  readonly resources: Resources
  readonly gpuFree: number[]
  readonly bundle: HeldBundle | null
}

const NOTHING: Record<string, number> = {}

export class LeaseManager {
  /** Of the node itself. */
  readonly own: Resources
  /** With the bundles that are here. */
  readonly total: Record<string, number>
  readonly free: Record<string, number>
  readonly bundles: Bundles
  readonly leases = new Map<LeaseId, Granted>()
  readonly #byWorker = new Map<WorkerTag, Granted>()
  readonly #queue = new Map<LeaseId, Request>()
  /** Not all that wait have the same: they have to be sorted. */
  #hasPriorities = false
  #lastPriority = 0
  readonly #gpuFree: number[]
  /** What waiting requests will take that fit, and wait for a worker to start only. */
  #claimed: Resources | null = null
  #room: Resources
  #roomAt = 0
  /** Counts what changed of what is free or waits. */
  changes = 0
  #order = 0
  #grants = 0

  constructor(total: Resources) {
    this.own = total
    this.total = { ...total }
    this.free = { ...total }
    this.#room = this.free
    this.#gpuFree = new Array(Math.floor((total.GPU ?? 0) / UNITS)).fill(UNITS)
    this.bundles = new Bundles({ total: this.total, free: this.free, gpuFree: this.#gpuFree })
  }

  /** Those that wait. */
  queue(): Iterable<Request> {
    return this.#queue.values()
  }

  /** What the bundles that are here have in all, under the names of their groups. */
  bundled(): Resources {
    return Object.fromEntries(Object.entries(this.total).filter(([name]) => this.own[name] === undefined))
  }

  get waiting(): number {
    return this.#queue.size
  }

  claim(claimed: Resources | null): void {
    if (claimed === null && this.#claimed === null) return
    this.#claimed = claimed
    this.changes++
  }

  /** What is free and not claimed: for those that ask from now on. */
  get room(): Resources {
    if (this.#claimed === null) return this.free
    if (this.#roomAt !== this.changes) {
      const room = { ...this.free }
      subtract(room, this.#claimed)
      this.#room = room
      this.#roomAt = this.changes
    }
    return this.#room
  }

  /** 'infeasible': refuse it (L3). */
  request(leaseId: LeaseId, owner: WorkerTag, spec: LeaseSpec): 'queued' | 'known' | 'infeasible' {
    if (this.#queue.has(leaseId) || this.leases.has(leaseId)) return 'known'
    const isElastic = spec.onInfeasible === 'wait' || spec.strategy.kind === 'bundle'
    if (!isElastic && !fits(spec.resources, this.total)) return 'infeasible'
    this.changes++
    const envKey = envKeyOf(spec.runtimeEnv, spec.heapMiB)
    if (this.#queue.size === 0) this.#hasPriorities = false
    else if (spec.priority !== this.#lastPriority) this.#hasPriorities = true
    this.#lastPriority = spec.priority
    this.#queue.set(leaseId, { leaseId, owner, spec, envKey, order: ++this.#order })
    return 'queued'
  }

  knows(leaseId: LeaseId): boolean {
    return this.#queue.has(leaseId) || this.leases.has(leaseId)
  }

  /** What it would take here, if that is in `free`. */
  demandOf(spec: LeaseSpec, free: Resources = this.free): Demanded | undefined {
    const { strategy, resources } = spec
    if (strategy.kind !== 'bundle')
      return fits(resources, free) ? { resources, gpuFree: this.#gpuFree, bundle: null } : undefined
    const bundle = this.bundles.find(spec, free)
    if (!bundle) return undefined
    const named = bundleDemand(resources, bundle.id.groupId, bundle.id.index)
    return { resources: named, gpuFree: bundle.gpuFree, bundle }
  }

  /** A bundle that is here has room for it, and nobody of that group waits. */
  bundleIsFree(spec: LeaseSpec): boolean {
    const { strategy } = spec
    if (strategy.kind !== 'bundle' || !this.demandOf(spec)) return false
    return this.#queue.size === 0 || this.waitingFor(strategy.groupId).length === 0
  }

  /** It waits, and does not fit into what is free. */
  isStuck(leaseId: LeaseId): boolean {
    const request = this.#queue.get(leaseId)
    return request !== undefined && !this.demandOf(request.spec)
  }

  /** Waiting ones that do not fit into what is free, best first. */
  *stuck(): Iterable<Request> {
    for (const request of this.#ordered()) if (!this.demandOf(request.spec)) yield request
  }

  /** Waiting ones that are to run in the group's bundles. */
  waitingFor(groupId: PlacementGroupId): Request[] {
    const waiting = [...this.#queue.values()]
    return waiting.filter(({ spec: { strategy } }) => strategy.kind === 'bundle' && strategy.groupId === groupId)
  }

  /** What waits here. */
  demand(): Demand[] {
    return summed([...this.#queue.values()].map(({ spec }) => spec))
  }

  withdrawWhere(isGone: (owner: WorkerTag) => boolean): void {
    for (const request of [...this.#queue.values()]) if (isGone(request.owner)) this.#queue.delete(request.leaseId)
  }

  withdraw(leaseId: LeaseId): Request | undefined {
    const request = this.#queue.get(leaseId)
    if (this.#queue.delete(leaseId)) this.changes++
    return request
  }

  withdrawOf(owner: WorkerTag): void {
    for (const request of [...this.#queue.values()]) if (request.owner === owner) this.#queue.delete(request.leaseId)
  }

  /** Requests that fit into what is free, best first; taking one changes what fits next, so ask again after each grant. */
  *candidates(): Iterable<Request> {
    for (const request of this.#ordered())
      if (this.#queue.has(request.leaseId) && this.demandOf(request.spec)) yield request
  }

  /** L4. Who iterates may take out, but not add. */
  #ordered(): Iterable<Request> {
    if (!this.#hasPriorities) return this.#queue.values() // They wait in the order in which they came.
    return [...this.#queue.values()].sort((a, b) => b.spec.priority - a.spec.priority || a.order - b.order)
  }

  grant(request: Request, worker: WorkerTag): Granted | undefined {
    const demanded = this.demandOf(request.spec)
    const gpuUnits = request.spec.resources.GPU ?? 0
    const gpuIds = demanded && pickGpus(demanded.gpuFree, gpuUnits)
    if (!gpuIds) return undefined
    this.changes++
    this.#queue.delete(request.leaseId)
    const { bundle, gpuFree } = demanded
    const held = { ...demanded.resources }
    subtract(this.free, held)
    for (const id of gpuIds) gpuFree[id] = (gpuFree[id] as number) - Math.min(gpuUnits, UNITS)
    if (bundle) bundle.users++
    const granted: Granted = {
      ...{ ...request, order: ++this.#grants, worker, gpuIds, bundle },
      ...{ held, blocked: 0, lent: NOTHING },
    }
    this.leases.set(request.leaseId, granted)
    this.#byWorker.set(worker, granted)
    return granted
  }

  leaseOf(worker: WorkerTag): Granted | undefined {
    return this.#byWorker.get(worker)
  }

  end(leaseId: LeaseId): Granted | undefined {
    const granted = this.leases.get(leaseId)
    if (!granted) return undefined
    this.changes++
    this.leases.delete(leaseId)
    this.#byWorker.delete(granted.worker)
    add(this.free, granted.held)
    const gpu = Math.min(granted.spec.resources.GPU ?? 0, UNITS)
    const gpuFree = granted.bundle?.gpuFree ?? this.#gpuFree
    for (const id of granted.gpuIds) gpuFree[id] = (gpuFree[id] as number) + gpu
    if (granted.bundle) this.bundles.leftBy(granted.bundle)
    return granted
  }

  /** An actor was placed: from now on it holds `resources` only. */
  keepOnly(leaseId: LeaseId, resources: Resources): void {
    const granted = this.leases.get(leaseId)
    if (!granted) return
    this.changes++
    add(this.free, granted.held)
    const id = granted.bundle?.id
    granted.held = id ? bundleDemand(resources, id.groupId, id.index) : { ...resources }
    subtract(this.free, granted.held)
  }

  block(worker: WorkerTag): boolean {
    const granted = this.#byWorker.get(worker)
    if (!granted || granted.blocked++ > 0) return false
    this.changes++
    const lent: Record<string, number> = {}
    for (const name in granted.held) {
      if (name !== 'CPU' && !name.startsWith('CPU_group_')) continue
      lent[name] = granted.held[name] as number
      granted.held[name] = 0
    }
    granted.lent = lent
    add(this.free, lent)
    return Object.values(lent).some((units) => units > 0)
  }

  unblock(worker: WorkerTag): void {
    const granted = this.#byWorker.get(worker)
    if (!granted || granted.blocked === 0 || --granted.blocked > 0) return
    this.changes++
    Object.assign(granted.held, granted.lent)
    subtract(this.free, granted.lent)
    granted.lent = NOTHING
  }

  check(): void {
    const sum: Record<string, number> = { ...this.free }
    add(sum, this.bundles.reserved())
    for (const granted of this.leases.values()) {
      add(sum, granted.held)
      invariant(!this.#queue.has(granted.leaseId), `L2: ${granted.leaseId} is granted and waits`)
      invariant(this.#byWorker.get(granted.worker) === granted, `L2: ${granted.worker} has another lease`)
      invariant(
        granted.blocked > 0 || granted.lent === NOTHING,
        `L1: ${granted.leaseId} lends its CPU but does not wait`,
      )
    }
    invariant(this.#byWorker.size === this.leases.size, 'L2: a worker without a lease counts as leased')
    for (const name of Object.keys(this.total)) {
      invariant(
        (sum[name] ?? 0) === (this.total[name] ?? 0),
        `L1: ${name}: ${sum[name]} of ${this.total[name]} accounted for`,
      )
    }
  }
}

/** Two requests of one shape can be met in the same places. */
export function shapeOf({ resources, strategy, selectors }: LeaseSpec): string {
  return JSON.stringify([resources, strategy, selectors])
}

/** How many ask for the same. */
export function summed(specs: readonly LeaseSpec[]): Demand[] {
  const byShape = new Map<string, Demand & { count: number }>()
  for (const spec of specs) {
    const { resources, strategy } = spec
    const key = shapeOf(spec)
    const known = byShape.get(key)
    if (known) known.count++
    else byShape.set(key, { resources, strategy, count: 1 })
  }
  return [...byShape.values()]
}
