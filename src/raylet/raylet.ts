// The node's machine: worker processes, leases, the directory of objects, and the hub between core workers. Composes this room.
//
// Invariants:
//   N1. A worker is idle, leased, or on its way out; never two of these.
//   N2. Everyone hears of every process that ends (`worker.died`), after the last message that came from it.
//   N4. No hold is counted for a borrower, or in the name of its giver, after their end was told.
//   N3. A dead owner's requests and leases end; the workers it had leased are killed, since nobody waits for what they do.

import type { JobId, NodeId, ObjectId, WorkerTag } from '../ids/ids.ts'
import { ownerOf } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import type { Effect, Input, Ms } from '../kernel/machine.ts'
import { formatResources } from '../scheduling/resources.ts'
import type { GcsToRaylet, RayletToGcs } from '../wire/gcs-raylet.ts'
import type { ExitInfo, FromNode, LeaseId, LeaseSpec, Resources, ToNode, WorkerAddress } from '../wire/messages.ts'
import { type Granted, LeaseManager, type Request } from './lease-manager.ts'
import { MemoryGuard, type MemoryReading } from './memory-guard.ts'
import { ObjectDirectory } from './object-directory.ts'
import { DEFAULT_ENV_KEY, type EndReason, type PooledWorker, type StartOrder, WorkerPool } from './worker-pool.ts'

/** What the raylet asks of its shell. */
export type RayletEffect =
  | ({ readonly t: 'spawnWorker' } & StartOrder)
  /** It has not registered in time; its end is then reported as `startFailed`. */
  | { readonly t: 'killStarting'; readonly startupToken: string }
  | { readonly t: 'killProcess'; readonly tag: WorkerTag; readonly signal: 'SIGKILL' | 'SIGTERM' }
  | { readonly t: 'toGcs'; readonly message: RayletToGcs }
  | { readonly t: 'freeStored'; readonly storageIds: readonly ObjectId[]; readonly from: WorkerTag }
  | { readonly t: 'broadcast'; readonly message: FromNode }

export type RayletInput =
  | { readonly t: 'fromGcs'; readonly message: GcsToRaylet }
  | {
      readonly t: 'registered'
      readonly kind: 'driver' | 'worker' | 'thread'
      readonly startupToken: string
      readonly address: WorkerAddress
      /** Of a driver. */
      readonly job?: { readonly jobId: JobId; readonly namespace: string }
    }
  /** The process is gone, or its connection broke for good. */
  | {
      readonly t: 'gone'
      readonly tag: WorkerTag
      readonly pid: number
      readonly code: number | null
      readonly signal: string | null
      /** The end of what it wrote to its standard error. */
      readonly lastLines?: readonly string[]
    }
  | { readonly t: 'startFailed'; readonly startupToken: string; readonly detail: string }
  /** It runs, but a process that had given it work cannot reach it. */
  | { readonly t: 'unreachable'; readonly tag: WorkerTag; readonly detail: string }
  | { readonly t: 'memory'; readonly reading: MemoryReading }

export interface RayletConfig {
  readonly nodeId: NodeId
  readonly total: Resources
  readonly numWorkersSoftLimit: number
  readonly maxStarting: number
  readonly idleMs: Ms
  readonly idleCheckMs: Ms
  readonly prestart: number
  /** Share of memory above which workers are ended; 1 or more: never. */
  readonly memoryThreshold?: number
  /** Default: one minute. */
  readonly registerTimeoutMs?: Ms
}

type Fx = Effect<FromNode, RayletEffect>[]
const START_FAILURES_MAX = 3
const GCS: WorkerTag = 0
/** What V8 prints before it aborts: the sentence, or the frames that follow it. */
const HEAP_FULL = /JavaScript heap out of memory|FatalProcessOutOfMemory/

export class Raylet {
  readonly leases: LeaseManager
  readonly pool: WorkerPool
  readonly directory = new ObjectDirectory()
  readonly #config: RayletConfig
  readonly #memory: MemoryGuard
  readonly #clients = new Map<WorkerTag, 'driver' | 'worker' | 'thread'>()
  readonly #actorOf = new Map<LeaseId, string>()
  readonly #jobOf = new Map<WorkerTag, JobId>()
  readonly #namespaces = new Map<JobId, string>()
  #isPrestarted = false
  #now: Ms = 0
  #fx: Fx = []

  constructor(config: RayletConfig) {
    this.#config = config
    this.leases = new LeaseManager(config.total)
    this.#memory = new MemoryGuard(config.memoryThreshold ?? 0.95)
    this.pool = new WorkerPool({
      softLimit: config.numWorkersSoftLimit,
      maxStarting: config.maxStarting,
      idleMs: config.idleMs,
      registerTimeoutMs: config.registerTimeoutMs ?? 60_000,
    })
  }

  step(now: Ms, input: Input<ToNode, RayletInput>): Fx {
    this.#now = now
    this.#fx = []
    if (input.kind === 'start') this.#start()
    else if (input.kind === 'timer') this.#onTimer()
    else if (input.kind === 'message') this.#onMessage(input.from, input.message)
    else this.#onLocal(input.event)
    return this.#fx
  }

  stats(): Readonly<Record<string, number>> {
    return {
      workers: this.pool.workers.size,
      starting: this.pool.startingCount,
      leases: this.leases.leases.size,
      waiting: this.leases.waiting,
      published: this.directory.size,
      asked: this.directory.waitingCount,
    }
  }

  check(): void {
    this.leases.check()
    for (const { address, state } of this.pool.workers.values()) {
      const lease = this.leases.leaseOf(address.tag)
      const isRight = state === 'exiting' || (state === 'leased') === (lease !== undefined)
      invariant(isRight, `N1: worker ${address.tag} is ${state}, its lease is ${lease?.leaseId ?? 'none'}`)
    }
  }

  #start(): void {
    this.#prestart()
    this.#fx.push({ kind: 'timer', key: 'idle', at: this.#now + this.#config.idleCheckMs })
  }

  /** In steps, when fewer may start at once than are wanted. */
  #prestart(): void {
    const missing = this.#config.prestart - this.pool.workers.size
    if (this.#isPrestarted || missing <= 0) {
      this.#isPrestarted = true
      return
    }
    for (const order of this.pool.start(this.#now, DEFAULT_ENV_KEY, missing))
      this.#local({ t: 'spawnWorker', ...order })
  }

  #onTimer(): void {
    this.#exitAll(this.pool.surplus(this.#now))
    for (const startupToken of this.pool.overdue(this.#now)) this.#local({ t: 'killStarting', startupToken })
    this.#fx.push({ kind: 'timer', key: 'idle', at: this.#now + this.#config.idleCheckMs })
  }

  #onMessage(from: WorkerTag, message: ToNode): void {
    switch (message.t) {
      case 'lease.request':
        return this.#request(from, message.leaseId, message.spec)
      case 'lease.cancel':
        if (!this.leases.withdraw(message.leaseId)) this.#endLease(message.leaseId, false)
        return
      case 'lease.return':
        return this.#endLease(message.leaseId, message.dispose)
      case 'lease.kill': {
        const lease = this.leases.leases.get(message.leaseId)
        if (lease) this.#kill(lease.worker, message.reason, message.detail)
        return
      }
      case 'worker.blocked':
        if (this.leases.block(from)) this.#grantAll()
        return
      case 'worker.unblocked':
        return this.leases.unblock(from)
      case 'worker.exiting': {
        const worker = this.pool.workers.get(from)
        if (!worker) return
        const reason = message.isFailure ? 'crashed' : 'intended'
        worker.endReason = { reason, detail: message.detail, isOwnWish: !message.isFailure }
        return
      }
      case 'worker.stays':
        if (this.pool.stays(this.#now, from)) this.#grantAll()
        return
      case 'object.publish':
        return this.#answer(this.directory.publish(message.id, message.location))
      case 'object.unpublish':
        return this.directory.unpublish(message.ids)
      case 'object.resolve':
        return this.#answer(this.directory.resolve(from, message.id, this.#clients.has(ownerOf(message.id))))
      case 'object.free':
        return this.#local({ t: 'freeStored', storageIds: message.storageIds, from })
      case 'ref.route': {
        const { body } = message
        // N4: its owner has been told of the end; a hold that comes later would never be given back.
        if (body.t === 'ref.lost') this.directory.giveUp(body.id, message.to)
        if (body.t === 'ref.add' && !(this.#clients.has(body.borrower) && this.#clients.has(body.via))) return
        if (body.t === 'ref.accept' && !this.#clients.has(body.borrower)) return
        const known = body.t === 'ref.accept' ? { ...body, isLate: !this.#clients.has(body.via) } : body
        if (this.#clients.has(message.to)) this.#send(message.to, { t: 'ref.routed', from, body: known })
        else this.#send(from, { t: 'ref.undeliverable', to: message.to, body })
        return
      }
      default:
        return // The GCS's and the store's.
    }
  }

  #onLocal(event: RayletInput): void {
    switch (event.t) {
      case 'fromGcs':
        return this.#onGcs(event.message)
      case 'registered':
        this.#clients.set(event.address.tag, event.kind)
        if (event.job) {
          this.#jobOf.set(event.address.tag, event.job.jobId)
          this.#namespaces.set(event.job.jobId, event.job.namespace)
        }
        if (event.kind === 'worker') this.#workerReady(event.startupToken, event.address)
        return
      case 'gone':
        return this.#gone(event)
      case 'startFailed':
        return this.#startFailed(event.startupToken, event.detail)
      case 'unreachable':
        return this.#kill(event.tag, 'crashed', event.detail)
      case 'memory':
        return this.#onMemory(event.reading)
    }
  }

  #onMemory(reading: MemoryReading): void {
    const idle = [...this.pool.workers.values()].filter((worker) => worker.state === 'idle')
    const tags = idle.map((worker) => worker.address.tag)
    for (const { tag, detail, retry, isIdle } of this.#memory.onReading(reading, this.leases.leases.values(), tags)) {
      if (isIdle) this.#kill(tag, 'intended', detail)
      else this.#kill(tag, 'outOfMemory', detail, retry)
    }
  }

  #onGcs(message: GcsToRaylet): void {
    switch (message.t) {
      case 'actorLease.request':
        this.#actorOf.set(message.leaseId, message.actorId)
        return this.#request(GCS, message.leaseId, message.spec)
      case 'actorLease.cancel':
        this.#actorOf.delete(message.leaseId)
        if (!this.leases.withdraw(message.leaseId)) this.#endLease(message.leaseId, true)
        return
      case 'actorLease.keepOnly':
        this.leases.keepOnly(message.leaseId, message.resources)
        return this.#grantAll()
      case 'worker.kill':
        return this.#kill(message.tag, message.reason, message.detail)
      case 'worker.tell':
        return this.#send(message.tag, message.message)
    }
  }

  #request(owner: WorkerTag, leaseId: LeaseId, spec: LeaseSpec): void {
    const { strategy, name } = spec
    const isElsewhere = strategy.kind === 'nodeAffinity' && strategy.nodeId !== this.#config.nodeId
    if (isElsewhere && !strategy.soft && spec.onInfeasible === 'fail') {
      this.#refuse(owner, leaseId, { code: 'NODE_NOT_FOUND', params: { name, nodeId: strategy.nodeId } })
      return
    }
    const outcome = this.leases.request(leaseId, owner, spec)
    if (outcome === 'infeasible') {
      const params = {
        name: spec.name,
        asked: formatResources(spec.resources),
        largest: formatResources(this.leases.total),
      }
      this.#refuse(owner, leaseId, { code: 'INFEASIBLE', params })
      return
    }
    const known = this.leases.leases.get(leaseId)
    if (known) this.#tellGranted(known)
    else this.#grantAll()
  }

  #refuse(owner: WorkerTag, leaseId: LeaseId, error: { code: string; params: Record<string, string | number> }): void {
    const actorId = this.#actorOf.get(leaseId)
    if (owner === GCS && actorId !== undefined) {
      this.#actorOf.delete(leaseId)
      this.#local({ t: 'toGcs', message: { t: 'actorLease.refused', leaseId, actorId, error } })
    } else this.#send(owner, { t: 'lease.refused', leaseId, error })
  }

  #grantAll(): void {
    const wanted = new Map<string, number>()
    // What the waiting ones would take, in order: no worker is started for what could not run beside them.
    const room: Record<string, number> = { ...this.leases.free }
    for (const request of this.leases.candidates()) {
      const { jobId, resources } = request.spec
      const worker = this.pool.idle(request.envKey, jobId, (resources.GPU ?? 0) > 0, request.owner)
      if (worker) {
        const granted = this.leases.grant(request, worker.address.tag)
        if (!granted) continue
        worker.state = 'leased'
        worker.jobId = jobId
        worker.isActor = request.owner === GCS
        for (const name in request.spec.resources)
          room[name] = (room[name] ?? 0) - (request.spec.resources[name] as number)
        this.#tellGranted(granted)
        continue
      }
      if (!Object.entries(request.spec.resources).every(([name, units]) => units <= (room[name] ?? 0))) continue
      for (const name in request.spec.resources)
        room[name] = (room[name] ?? 0) - (request.spec.resources[name] as number)
      wanted.set(request.envKey, (wanted.get(request.envKey) ?? 0) + 1)
    }
    for (const [envKey, count] of wanted) {
      for (const order of this.pool.start(this.#now, envKey, count)) this.#local({ t: 'spawnWorker', ...order })
    }
  }

  #tellGranted(granted: Granted): void {
    const worker = this.pool.workers.get(granted.worker)
    if (!worker) return
    const { leaseId, gpuIds } = granted
    const { resources, jobId } = granted.spec
    const namespace = this.#namespaces.get(jobId) ?? ''
    this.#send(granted.worker, { t: 'worker.assigned', leaseId, resources, gpuIds, jobId, namespace })
    const actorId = this.#actorOf.get(leaseId)
    if (granted.owner === GCS && actorId !== undefined) {
      this.#local({ t: 'toGcs', message: { t: 'actorLease.granted', leaseId, actorId, worker: worker.address } })
    } else this.#send(granted.owner, { t: 'lease.granted', leaseId, worker: worker.address, gpuIds })
  }

  #endLease(leaseId: LeaseId, dispose: boolean): void {
    const granted = this.leases.end(leaseId)
    if (!granted) return
    const worker = this.pool.workers.get(granted.worker)
    if (worker && worker.state === 'leased') {
      if (dispose) this.#kill(granted.worker, 'intended', 'disposed of by its owner')
      else this.pool.release(this.#now, worker)
    }
    this.#grantAll()
  }

  #workerReady(startupToken: string, address: WorkerAddress): void {
    if (this.pool.register(this.#now, startupToken, address)) {
      this.#grantAll()
      this.#prestart()
    } else this.#send(address.tag, { t: 'worker.exit', detail: 'it registered too late' })
  }

  #startFailed(startupToken: string, detail: string): void {
    const failed = this.pool.startFailed(startupToken)
    if (!failed) return
    if (failed.count >= START_FAILURES_MAX) {
      this.pool.clearFailures(failed.envKey)
      const hopeless: Request[] = [...this.leases.candidates()].filter((request) => request.envKey === failed.envKey)
      for (const request of hopeless) {
        this.leases.withdraw(request.leaseId)
        const params = { name: request.spec.name, detail }
        this.#refuse(request.owner, request.leaseId, { code: 'WORKER_START_FAILED', params })
      }
    }
    this.#grantAll()
  }

  #kill(tag: WorkerTag, reason: EndReason['reason'], detail: string, retry?: EndReason['retry']): void {
    const worker = this.pool.workers.get(tag)
    if (!worker) return
    worker.endReason ??= retry === undefined ? { reason, detail } : { reason, detail, retry }
    worker.state = 'exiting'
    this.#local({ t: 'killProcess', tag, signal: 'SIGKILL' })
  }

  #gone(event: RayletInput & { t: 'gone' }): void {
    const kind = this.#clients.get(event.tag)
    if (kind === undefined) return
    this.#clients.delete(event.tag)
    const worker = this.pool.remove(event.tag)
    this.#memory.onGone(event.tag)
    const held = this.leases.leaseOf(event.tag)
    if (held) this.leases.end(held.leaseId)
    this.#endOwnedBy(event.tag)
    this.#endJobOf(event.tag)
    const { answers, storageIds } = this.directory.onWorkerDied(event.tag)
    this.#answer(answers)
    if (storageIds.length > 0) this.#local({ t: 'freeStored', storageIds, from: GCS })
    const exit = exitOf(event, worker)
    this.#local({ t: 'broadcast', message: { t: 'worker.died', exit } })
    this.#local({ t: 'toGcs', message: { t: 'worker.gone', exit, kind } })
    this.#grantAll()
  }

  #endOwnedBy(owner: WorkerTag): void {
    this.leases.withdrawOf(owner)
    for (const lease of [...this.leases.leases.values()]) {
      if (lease.owner === owner) this.#kill(lease.worker, 'ownerDied', 'the process that had leased it is gone')
    }
  }

  #endJobOf(driver: WorkerTag): void {
    const jobId = this.#jobOf.get(driver)
    if (jobId === undefined) return
    this.#jobOf.delete(driver)
    this.#exitAll(this.pool.retire(jobId))
  }

  #exitAll(workers: readonly PooledWorker[]): void {
    for (const { address, endReason } of workers)
      this.#send(address.tag, { t: 'worker.exit', detail: endReason?.detail ?? 'idle' })
  }

  #answer(answers: readonly { to: WorkerTag; message: FromNode }[]): void {
    for (const { to, message } of answers) this.#send(to, message)
  }

  #send(to: WorkerTag, message: FromNode): void {
    this.#fx.push({ kind: 'send', to, message })
  }

  #local(event: RayletEffect): void {
    this.#fx.push({ kind: 'local', event })
  }
}

function exitOf(event: RayletInput & { t: 'gone' }, worker: PooledWorker | undefined): ExitInfo {
  const { tag, pid, code, signal, lastLines = [] } = event
  const how = signal ? `it was ended by ${signal}` : `it exited with code ${code ?? 'unknown'}`
  const exit = { tag, pid, code, signal, lastLines }
  const isCutShort = signal !== null && worker?.endReason?.isOwnWish === true // What it had still to answer is lost.
  if (worker?.endReason?.reason === 'intended' && !isCutShort) return { ...exit, ...worker.endReason, lastLines: [] }
  if (worker?.endReason && !isCutShort) return { ...exit, ...worker.endReason }
  if (lastLines.some((line) => HEAP_FULL.test(line)))
    return { ...exit, reason: 'outOfMemory', retry: 'counted', detail: `its JavaScript heap was full, and ${how}` }
  return { ...exit, reason: 'crashed', detail: how }
}
