// Gets tasks run on leased workers: queues by scheduling class, leases asked of the raylet, a window of tasks in flight.
//
//     submit ─► queue ─► (lease.request … lease.granted) ─► push, many in flight ─► reply ─► queue empty? ─► lease.return
//
// How many tasks are pushed ahead to one worker follows from how long the function usually runs: a hundred and more of the short
// ones, one of the slow or unknown ones, and never more than the worker's fair share of what waits. A worker that finds itself
// busy longer than expected gives the rest back (`bounced`), so that nothing waits behind a slow task or deadlocks behind a
// task that waits for it.
//
// Work is not spread thinner than it is worth: a second worker is used, and asked for, only when the first has `SPREAD_MICROS` of
// work before it. Where a function runs shorter than its owner needs to submit it, one worker outruns the owner and others would
// only take its processor (1,000 no-ops a batch on 2 cores: 4.6 ms with one worker, 10.6 ms with two).
//
// Invariants:
//   S1. A task is in one place: in its class's queue, or in flight on one target.
//   S2. For every class with waiting tasks a request is on its way, or a worker has more than one before it: it gives the others back when
//       the first turns out slow. A single one may wait for what waits here, and nobody would notice.
//   S3. A lease is returned once. An idle one is kept `IDLE_LEASE_MS`, so that call after call finds it.
//   S5. Tasks whose stored arguments lie mostly on another node have a pool of their own by that node, so that the worker that is asked for
//       there (locality) is not given to others.
//   S4. Of a dead worker's tasks only the first in flight had begun; only it pays with a retry.
//   S6. No more workers are asked for than tasks wait: who could take one already has been looked at before.

import { invariant } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import type { LeaseId, WorkerAddress } from '../wire/messages.ts'
import { blockOf } from '../wire/tag-map.ts'
import type { Effects, SchedulingClass, Target, Task } from './effects.ts'
import { Queue } from './queue.ts'
import { TaskList } from './task-list.ts'

export const IDLE_LEASE_MS: Ms = 5
/** After this long an owner gives a busy lease back and asks anew, so that others get their turn. */
const LEASE_AGE_MAX_MS: Ms = 1000
/** Requests on their way beside the leases held: growth doubles, and little has to be cancelled when the queue runs dry. */
const REQUESTS_SPARE = 2
const WINDOW_MAX = 1024
/** About how much work may wait at a worker. */
const WINDOW_MICROS = 4000
/** So much work waits at one worker before a second is worth its wake-up and its messages. */
const SPREAD_MICROS = 500
/** What one task costs its owner and, beside its run time, its worker. */
const OVERHEAD_MICROS = 5

interface Lease extends Target {
  readonly leaseId: LeaseId
  readonly pool: ClassPool
  /** Estimated run time of what is in flight. */
  backlogMicros: number
  grantedAt: Ms
  idleSince: Ms
  /** It gave tasks back: nothing more for it until it has finished one. */
  isStuck: boolean
}

interface ClassPool {
  readonly key: string
  readonly schedulingClass: SchedulingClass
  readonly queue: Queue<Task>
  readonly leases: Lease[]
  readonly requests: Set<LeaseId>
}

export class TaskSubmitter {
  readonly #tag: number
  readonly #pools = new Map<string, ClassPool>()
  readonly #leases = new Map<LeaseId, Lease>()
  readonly #requests = new Map<LeaseId, ClassPool>()
  #leaseCounter = 0
  #isTimerSet = false
  /** A lease ended with its worker, and what it had is to be asked for anew. */
  #hasLost = false

  constructor(tag: number) {
    this.#tag = tag
  }

  submit(now: Ms, task: Task, effects: Effects): void {
    invariant(task.schedulingClass !== null, 'a normal task has a scheduling class')
    const pool = this.#poolOf(task, task.schedulingClass)
    pool.queue.push(task)
    this.#pump(now, pool, effects)
  }

  onGranted(now: Ms, leaseId: LeaseId, address: WorkerAddress, effects: Effects): void {
    const known = this.#leases.get(leaseId)
    if (known && known.address.tag === address.tag) return
    const pool = known ? undefined : this.#requests.get(leaseId)
    if (!pool) {
      // Nobody waits for it any more; or a repeated request was taken for a new one after its first worker had died.
      effects.push({ t: 'toNode', message: { t: 'lease.return', leaseId, dispose: false } })
      return
    }
    this.#requests.delete(leaseId)
    pool.requests.delete(leaseId)
    const lease: Lease = {
      leaseId,
      address,
      pool,
      inflight: new TaskList(),
      backlogMicros: 0,
      isClosed: false,
      grantedAt: now,
      idleSince: now,
      isStuck: false,
    }
    this.#leases.set(leaseId, lease)
    pool.leases.push(lease)
    effects.push({ t: 'connect', address })
    this.#pump(now, pool, effects)
    if (lease.inflight.size === 0) this.#arm(now, effects)
  }

  /**
   * `mayAskAgain`: another try may succeed. Else no lease of this class will ever come, and all that waits fails, also where leases are
   * open still: what runs there may wait for what waits here.
   */
  onRefused(now: Ms, leaseId: LeaseId, mayAskAgain: boolean, effects: Effects): readonly Task[] {
    const pool = this.#requests.get(leaseId)
    if (!pool) return []
    this.#requests.delete(leaseId)
    pool.requests.delete(leaseId)
    if (mayAskAgain && pool.leases.some((lease) => !lease.isClosed)) {
      this.#pump(now, pool, effects)
      return []
    }
    const failed: Task[] = []
    for (let task = pool.queue.shift(); task; task = pool.queue.shift()) failed.push(task)
    this.#cancelSurplus(pool, effects)
    this.#dropIfEmpty(pool)
    return failed
  }

  /** The task's reply has come: `microseconds` of run time, or -1 where it says nothing about speed. */
  onDone(now: Ms, task: Task, microseconds: number, effects: Effects): void {
    const lease = task.target as Lease | null
    if (!lease) return
    this.#take(lease, task)
    lease.isStuck = false
    if (microseconds >= 0) {
      const { fn } = task
      fn.averageMicros = fn.averageMicros < 0 ? microseconds : fn.averageMicros * 0.8 + microseconds * 0.2
    }
    this.#pump(now, lease.pool, effects)
    if (lease.inflight.size === 0 && !lease.isClosed) this.#idle(now, lease, effects)
  }

  /** The worker gave the task back unstarted: it is busy with something slow. */
  onBounced(now: Ms, task: Task, effects: Effects): void {
    const lease = task.target as Lease | null
    if (!lease) return
    this.#take(lease, task)
    lease.isStuck = lease.inflight.size > 0
    task.fn.averageMicros = Math.max(task.fn.averageMicros, 2 * WINDOW_MICROS)
    lease.pool.queue.unshift(task)
    this.#pump(now, lease.pool, effects)
  }

  /** Takes a waiting task out; false when it is already on a worker. */
  remove(task: Task, effects: Effects): boolean {
    if (task.target !== null || task.schedulingClass === null) return false
    const pool = this.#pools.get(this.#keyOf(task, task.schedulingClass))
    if (pool?.queue.remove((other) => other === task) === undefined) return false
    this.#cancelSurplus(pool, effects)
    return true
  }

  /** Puts a task back after its worker died. */
  resubmit(now: Ms, task: Task, effects: Effects): void {
    this.submit(now, task, effects)
  }

  /** The connection to a worker broke, or the node says that it died. Tasks come back in order; the first had begun. */
  onWorkerGone(tag: number): readonly Task[] {
    const lost: Task[] = []
    for (const lease of [...this.#leases.values()]) {
      if (lease.address.tag !== tag) continue
      lease.isClosed = true
      this.#hasLost = true
      this.#forget(lease)
      for (const task of lease.inflight.takeAll()) {
        task.target = null
        lost.push(task)
      }
    }
    return lost
  }

  /** Its connection broke, or it is said to be dead: nothing more is pushed there, and what is in flight is judged later. */
  suspend(now: Ms, tag: number, effects: Effects): void {
    for (const lease of [...this.#leases.values()]) {
      if (lease.address.tag !== tag || lease.isClosed) continue
      lease.isClosed = true
      this.#pump(now, lease.pool, effects)
    }
  }

  /** Those that are leased. */
  workers(): number[] {
    return [...this.#leases.values()].map(({ address }) => address.tag)
  }

  /** After tasks of a dead worker were dealt with: S2 again. */
  afterWorkerGone(now: Ms, effects: Effects): void {
    if (!this.#hasLost) return // Most ends are of workers that were not leased here.
    this.#hasLost = false
    for (const pool of this.#pools.values()) this.#pump(now, pool, effects)
  }

  onTimer(now: Ms, effects: Effects): void {
    this.#isTimerSet = false
    let mustArm = false
    for (const lease of [...this.#leases.values()]) {
      if (lease.inflight.size > 0 || lease.isClosed) continue
      if (now - lease.idleSince >= IDLE_LEASE_MS) this.#return(lease, effects)
      else mustArm = true
    }
    if (mustArm) this.#arm(now, effects)
  }

  stats(): { queued: number; inflight: number; leases: number; requests: number } {
    let queued = 0
    let inflight = 0
    for (const pool of this.#pools.values()) queued += pool.queue.length
    for (const lease of this.#leases.values()) inflight += lease.inflight.size
    return { queued, inflight, leases: this.#leases.size, requests: this.#requests.size }
  }

  check(): void {
    for (const pool of this.#pools.values()) {
      const isWatched = pool.leases.some(({ isClosed, inflight }) => !isClosed && inflight.size > 1)
      const isServed = pool.queue.length === 0 || isWatched || pool.requests.size > 0
      invariant(isServed, `S2: ${pool.queue.length} tasks of ${pool.key} wait for nothing`)
      const { length } = pool.queue
      invariant(pool.requests.size <= length, `S6: ${pool.requests.size} workers are asked for ${length} tasks`)
      for (const lease of pool.leases) {
        for (const task of lease.inflight) invariant(task.target === lease, `S1: task ${task.sequence}`)
      }
    }
  }

  #poolOf(task: Task, schedulingClass: SchedulingClass): ClassPool {
    const key = this.#keyOf(task, schedulingClass)
    let pool = this.#pools.get(key)
    if (!pool) {
      pool = { key, schedulingClass, queue: new Queue(), leases: [], requests: new Set() }
      this.#pools.set(key, pool)
    }
    return pool
  }

  /** S5 */
  #keyOf({ locality }: Task, { key }: SchedulingClass): string {
    if (locality === null) return key
    let most = 0
    let where = blockOf(this.#tag)
    for (const [tag, bytes] of locality) {
      if (bytes <= most) continue
      most = bytes
      where = blockOf(tag)
    }
    return where === blockOf(this.#tag) ? key : `${where} ${key}`
  }

  /** Those by node come and go with the arguments. */
  #dropIfEmpty(pool: ClassPool): void {
    const { key, queue, leases, requests } = pool
    const isPlain = key === pool.schedulingClass.key
    if (!isPlain && queue.length === 0 && leases.length === 0 && requests.size === 0) this.#pools.delete(key)
  }

  #pump(now: Ms, pool: ClassPool, effects: Effects): void {
    const { queue, leases } = pool
    let hasAsked = false
    while (queue.length > 0) {
      const task = queue.peek() as Task
      const cost = costOf(task)
      const lease = this.#leaseFor(now, pool, task, cost, hasAsked)
      if (!lease && hasAsked) break
      if (!lease) {
        this.#request(now, pool, effects)
        hasAsked = true
        continue
      }
      queue.shift()
      task.target = lease
      task.costMicros = cost
      lease.backlogMicros += cost
      lease.inflight.add(task)
      effects.push({ t: 'push', target: lease, task })
    }
    this.#cancelSurplus(pool, effects)
    if (leases.length > 0 && queue.length === 0) this.#yieldToOthers(pool, effects)
  }

  /** The task is not in flight any more. */
  #take(lease: Lease, task: Task): void {
    lease.inflight.remove(task)
    lease.backlogMicros -= task.costMicros
    task.target = null
  }

  /**
   * One that is busy but has not enough to do yet, else the least busy one: one with nothing to do, or, once others were asked for (`mayQueue`),
   * one that has less than its share, if only of what no other worker is worth. Linear: one owner holds few leases of a class.
   */
  #leaseFor(now: Ms, pool: ClassPool, task: Task, cost: number, mayQueue: boolean): Lease | undefined {
    const { leases } = pool
    const enough = isTiny(task) ? WINDOW_MICROS : SPREAD_MICROS
    let best: Lease | undefined
    for (let i = 0; i < leases.length; i++) {
      const lease = leases[i] as Lease
      if (lease.isStuck || lease.isClosed || isOld(now, lease) || lease.inflight.size >= WINDOW_MAX) continue
      if (lease.inflight.size > 0 && lease.backlogMicros + cost <= enough) return lease
      if (!best || lease.backlogMicros < best.backlogMicros) best = lease
    }
    if (!best || best.inflight.size === 0) return best
    const share = pool.requests.size > 0 ? fairShare(pool, cost) : WINDOW_MICROS
    return mayQueue && best.backlogMicros + cost <= Math.min(WINDOW_MICROS, share) ? best : undefined
  }

  #request(now: Ms, pool: ClassPool, effects: Effects): void {
    const wanted = Math.min(pool.leases.length + REQUESTS_SPARE, wantedMore(now, pool))
    if (pool.requests.size >= wanted) return
    const { spec } = pool.schedulingClass
    const { fn, locality } = pool.queue.peek() as Task
    // Functions share classes: people look for the one that waits (`ray why`).
    const asked = { ...spec, name: fn.name, ...(locality ? { locality } : {}) }
    while (pool.requests.size < wanted) {
      const leaseId = `${this.#tag}.${++this.#leaseCounter}`
      pool.requests.add(leaseId)
      this.#requests.set(leaseId, pool)
      effects.push({ t: 'toNode', message: { t: 'lease.request', leaseId, spec: asked } })
    }
  }

  /** S6. The oldest stay: they come first. */
  #cancelSurplus(pool: ClassPool, effects: Effects): void {
    const { length } = pool.queue
    if (pool.requests.size <= length) return
    for (const leaseId of [...pool.requests].slice(length)) {
      pool.requests.delete(leaseId)
      this.#requests.delete(leaseId)
      effects.push({ t: 'toNode', message: { t: 'lease.cancel', leaseId } })
    }
    this.#dropIfEmpty(pool)
  }

  #idle(now: Ms, lease: Lease, effects: Effects): void {
    lease.idleSince = now
    const isOver = isOld(now, lease) && lease.pool.queue.length > 0
    if (isOver || this.#othersWait(lease.pool)) this.#return(lease, effects)
    else this.#arm(now, effects)
    if (isOver) this.#pump(now, lease.pool, effects)
  }

  /** Another class of this owner waits for resources that idle leases of this one hold. */
  #othersWait(pool: ClassPool): boolean {
    for (const other of this.#pools.values()) {
      if (other !== pool && other.queue.length > 0 && other.leases.length === 0) return true
    }
    return false
  }

  #yieldToOthers(pool: ClassPool, effects: Effects): void {
    if (this.#pools.size === 1 || !this.#othersWait(pool)) return
    for (const lease of [...pool.leases]) if (lease.inflight.size === 0 && !lease.isClosed) this.#return(lease, effects)
  }

  #arm(now: Ms, effects: Effects): void {
    if (this.#isTimerSet) return
    this.#isTimerSet = true
    effects.push({ t: 'timer', key: 'idleLeases', at: now + IDLE_LEASE_MS })
  }

  #return(lease: Lease, effects: Effects): void {
    this.#forget(lease)
    effects.push({ t: 'toNode', message: { t: 'lease.return', leaseId: lease.leaseId, dispose: false } })
  }

  #forget(lease: Lease): void {
    this.#leases.delete(lease.leaseId)
    const at = lease.pool.leases.indexOf(lease)
    if (at >= 0) lease.pool.leases.splice(at, 1)
    this.#dropIfEmpty(lease.pool)
  }
}

/** Given back as soon as it is empty, if there is more to do: others get their turn. */
function isOld(now: Ms, lease: Lease): boolean {
  return now - lease.grantedAt > LEASE_AGE_MAX_MS
}

function costOf(task: Task): number {
  const { averageMicros } = task.fn
  return averageMicros < 0 ? WINDOW_MICROS : Math.max(1, Math.round(averageMicros))
}

/** A worker runs such tasks faster than this owner submits them. */
function isTiny(task: Task): boolean {
  const { averageMicros } = task.fn
  return averageMicros >= 0 && averageMicros < OVERHEAD_MICROS
}

function workOf(pool: ClassPool, cost: number): number {
  let work = pool.queue.length * cost
  for (const lease of pool.leases) work += lease.backlogMicros
  return work
}

function fairShare(pool: ClassPool, cost: number): number {
  return workOf(pool, cost) / (pool.leases.length + Math.min(pool.requests.size, REQUESTS_SPARE))
}

/** How many more workers what there is to do is worth; at least one when nobody takes any of it, or has more than one to do (S2). */
function wantedMore(now: Ms, pool: ClassPool): number {
  const head = pool.queue.peek() as Task
  const cost = costOf(head)
  let takers = 0
  for (const lease of pool.leases) {
    if (lease.isStuck || lease.isClosed || isOld(now, lease)) continue
    if (lease.backlogMicros + cost <= WINDOW_MICROS || lease.inflight.size > 1) takers++
  }
  const worth = isTiny(head) ? 0 : Math.ceil(workOf(pool, cost) / SPREAD_MICROS) - takers
  return Math.min(pool.queue.length, Math.max(takers > 0 ? 0 : 1, worth))
}
