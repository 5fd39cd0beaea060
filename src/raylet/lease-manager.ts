// Leases of one node: who may use which worker with which resources.
//
// Invariants:
//   L1. free + granted = total, for every resource, except CPU given back early by blocked workers (then free may be below zero
//       for a while, after they go on: Ray oversubscribes likewise, so that a nested task can never deadlock).
//   L2. Requests are idempotent by lease id.
//   L3. A request that no node can ever fit is refused at once, unless it asked to wait.
//   L4. Requests of one scheduling class are served in order, higher priority first; a class that does not fit does not hold up others.

import type { WorkerTag } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import { add, fits, pickGpus, subtract, UNITS } from '../scheduling/resources.ts'
import type { Demand } from '../wire/cluster.ts'
import type { LeaseId, LeaseSpec, Resources } from '../wire/messages.ts'
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
  /** How much is taken now: changes while blocked, and for actors once placed. */
  held: Record<string, number>
  blocked: number
  /** CPU given back while blocked. */
  lent: number
}

export class LeaseManager {
  readonly total: Resources
  readonly free: Record<string, number>
  readonly leases = new Map<LeaseId, Granted>()
  readonly #byWorker = new Map<WorkerTag, Granted>()
  readonly #queue = new Map<LeaseId, Request>()
  readonly #gpuFree: number[]
  /** Counts what changed of what is free or waits. */
  changes = 0
  #order = 0
  #grants = 0

  constructor(total: Resources) {
    this.total = total
    this.free = { ...total }
    this.#gpuFree = new Array(Math.floor((total.GPU ?? 0) / UNITS)).fill(UNITS)
  }

  get waiting(): number {
    return this.#queue.size
  }

  /** 'infeasible': refuse it (L3). */
  request(leaseId: LeaseId, owner: WorkerTag, spec: LeaseSpec): 'queued' | 'known' | 'infeasible' {
    if (this.#queue.has(leaseId) || this.leases.has(leaseId)) return 'known'
    if (!fits(spec.resources, this.total) && spec.onInfeasible === 'fail') return 'infeasible'
    this.changes++
    const envKey = envKeyOf(spec.runtimeEnv, spec.heapMiB)
    this.#queue.set(leaseId, { leaseId, owner, spec, envKey, order: ++this.#order })
    return 'queued'
  }

  knows(leaseId: LeaseId): boolean {
    return this.#queue.has(leaseId) || this.leases.has(leaseId)
  }

  /** Waiting ones that do not fit into what is free. */
  stuck(): Request[] {
    return [...this.#queue.values()].filter(({ spec }) => !fits(spec.resources, this.free))
  }

  /** What waits, by what it asks for. */
  demand(): Demand[] {
    const byShape = new Map<string, Demand & { count: number }>()
    for (const { spec } of this.#queue.values()) {
      const key = JSON.stringify([spec.resources, spec.strategy])
      const known = byShape.get(key)
      if (known) known.count++
      else byShape.set(key, { resources: spec.resources, strategy: spec.strategy, count: 1 })
    }
    return [...byShape.values()]
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
    const ordered = [...this.#queue.values()].sort((a, b) => b.spec.priority - a.spec.priority || a.order - b.order)
    for (const request of ordered)
      if (this.#queue.has(request.leaseId) && fits(request.spec.resources, this.free)) yield request
  }

  grant(request: Request, worker: WorkerTag): Granted | undefined {
    const gpuIds = pickGpus(this.#gpuFree, request.spec.resources.GPU ?? 0)
    if (!gpuIds) return undefined
    this.changes++
    this.#queue.delete(request.leaseId)
    const held = { ...request.spec.resources }
    subtract(this.free, held)
    for (const id of gpuIds) this.#gpuFree[id] = (this.#gpuFree[id] as number) - Math.min(held.GPU ?? 0, UNITS)
    const granted: Granted = { ...request, order: ++this.#grants, worker, gpuIds, held, blocked: 0, lent: 0 }
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
    for (const id of granted.gpuIds) this.#gpuFree[id] = (this.#gpuFree[id] as number) + gpu
    return granted
  }

  /** An actor was placed: from now on it holds `resources` only. */
  keepOnly(leaseId: LeaseId, resources: Resources): void {
    const granted = this.leases.get(leaseId)
    if (!granted) return
    this.changes++
    add(this.free, granted.held)
    granted.held = { ...resources }
    subtract(this.free, granted.held)
  }

  block(worker: WorkerTag): boolean {
    const granted = this.#byWorker.get(worker)
    if (!granted || granted.blocked++ > 0) return false
    this.changes++
    granted.lent = granted.held.CPU ?? 0
    granted.held.CPU = 0
    this.free.CPU = (this.free.CPU ?? 0) + granted.lent
    return granted.lent > 0
  }

  unblock(worker: WorkerTag): void {
    const granted = this.#byWorker.get(worker)
    if (!granted || granted.blocked === 0 || --granted.blocked > 0) return
    this.changes++
    granted.held.CPU = granted.lent
    this.free.CPU = (this.free.CPU ?? 0) - granted.lent
    granted.lent = 0
  }

  check(): void {
    const sum: Record<string, number> = { ...this.free }
    for (const granted of this.leases.values()) {
      add(sum, granted.held)
      invariant(!this.#queue.has(granted.leaseId), `L2: ${granted.leaseId} is granted and waits`)
      invariant(this.#byWorker.get(granted.worker) === granted, `L2: ${granted.worker} has another lease`)
      invariant(granted.blocked > 0 || granted.lent === 0, `L1: ${granted.leaseId} lends its CPU but does not wait`)
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
