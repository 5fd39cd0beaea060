// Calls to actors: one queue per actor in the order of submission, pushed straight to the actor's worker.
//
// The GCS tells where the actor lives (`actor.state`); nothing else is asked of it. While an actor is being created or restarted
// its calls wait here; when it is dead for good they fail.
//
// Invariants:
//   A1. Calls of this process reach an actor in the order of submission, unless the actor allows otherwise.
//   A2. A call in flight on an incarnation that ended is sent again only if it may be retried; else it fails once.
//   A3. What was in flight is judged when the GCS has spoken, not when the connection breaks: only then is it known whether the
//       actor comes back.

import { type ActorId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import type { ActorInfo, WorkerAddress } from '../wire/messages.ts'
import type { Effects, Target, Task } from './effects.ts'
import { Queue } from './queue.ts'
import { TaskList } from './task-list.ts'

interface ActorClient {
  readonly actorId: ActorId
  info: ActorInfo | null
  target: Target | null
  readonly queue: Queue<Task>
  isSubscribed: boolean
  hasWarned: boolean
}

export type ActorFailure = {
  readonly task: Task
  readonly kind: 'actorDied' | 'actorUnavailable'
  readonly info: ActorInfo | null
}

/** So many dead actors are remembered before those that nobody holds are looked for. */
const DEAD_MIN = 64

export class ActorSubmitter {
  readonly #clients = new Map<ActorId, ActorClient>()
  /** By worker: thousands of ends may be heard of, few of which concern an actor of ours. */
  readonly #targets = new Map<number, Target>()
  #dead = 0
  #sweepAt = DEAD_MIN
  readonly #warnAt: number

  constructor(excessQueueingWarnThreshold = 5000) {
    this.#warnAt = excessQueueingWarnThreshold
  }

  /** Starts to follow the actor. Idempotent. `owner`: whose death means that it will never be made, if it is not yet. */
  subscribe(actorId: ActorId, owner: WorkerTag, effects: Effects): void {
    const client = this.#client(actorId)
    if (client.isSubscribed) return
    client.isSubscribed = true
    effects.push({ t: 'toNode', message: { t: 'actor.subscribe', actorId, owner } })
  }

  info(actorId: ActorId): ActorInfo | null {
    return this.#clients.get(actorId)?.info ?? null
  }

  /** The worker on which calls of this actor are in flight, or would be. */
  targetTag(actorId: ActorId): number | undefined {
    return this.#clients.get(actorId)?.target?.address.tag
  }

  /** Calls that have no answer yet. */
  pending(actorId: ActorId): number {
    const client = this.#clients.get(actorId)
    return client ? client.queue.length + (client.target?.inflight.size ?? 0) : 0
  }

  /** The task may still wait for its arguments; it keeps its place (A1). */
  submit(task: Task, effects: Effects): ActorFailure | undefined {
    const client = this.#client(task.actorId as ActorId)
    if (client.info?.state === 'DEAD') return { task, kind: 'actorDied', info: client.info }
    if (!client.isSubscribed) this.subscribe(client.actorId, ownerOf(task.handleId), effects)
    client.queue.push(task)
    if (client.queue.length >= this.#warnAt && !client.hasWarned) {
      client.hasWarned = true
      const name = client.info?.className ?? task.fn.name
      effects.push({
        t: 'warn',
        text: `${client.queue.length} calls wait for the actor ${name} (${client.actorId}): it is slower than its callers. Bound them with maxPendingCalls, or await results now and then.`,
      })
    }
    this.#flush(client, effects)
    return undefined
  }

  /** Its arguments are written now. */
  onResolved(task: Task, effects: Effects): void {
    const client = this.#clients.get(task.actorId as ActorId)
    if (client) this.#flush(client, effects)
  }

  /** Takes a waiting call out; false when it is in flight or unknown. */
  remove(task: Task): boolean {
    if (task.target !== null) return false
    return this.#clients.get(task.actorId as ActorId)?.queue.remove((other) => other === task) !== undefined
  }

  onDone(task: Task): void {
    task.target?.inflight.remove(task)
    task.target = null
  }

  /** Sends a call again (its exception is retried), before all that wait here: one of them may wait for its value. */
  resubmit(task: Task, effects: Effects): ActorFailure | undefined {
    const client = this.#client(task.actorId as ActorId)
    if (client.info?.state === 'DEAD') return { task, kind: 'actorDied', info: client.info }
    client.queue.unshift(task)
    this.#flush(client, effects)
    return undefined
  }

  onState(info: ActorInfo, effects: Effects): readonly ActorFailure[] {
    const client = this.#client(info.actorId)
    const previous = client.info
    if (previous && (info.incarnation < previous.incarnation || previous.state === 'DEAD')) return []
    client.info = info
    effects.push({ t: 'actorChanged', info })
    if (info.state === 'ALIVE' && info.address) {
      const failures = client.target?.address.tag === info.address.tag ? [] : this.#judge(client, 'actorUnavailable')
      this.#attach(client, info.address, effects)
      return failures
    }
    if (info.state === 'RESTARTING') return this.#judge(client, 'actorUnavailable')
    if (info.state !== 'DEAD') return []
    this.#dead++
    const failures: ActorFailure[] = []
    for (const task of client.target?.inflight.takeAll() ?? []) {
      task.target = null
      failures.push({ task, kind: 'actorDied', info })
    }
    client.target = null
    for (let task = client.queue.shift(); task; task = client.queue.shift()) {
      failures.push({ task, kind: 'actorDied', info })
    }
    return failures
  }

  /** Forgets dead actors that nobody here holds a handle of. The GCS tells about them again, should a handle come back. */
  sweep(isHeld: (handleId: ObjectId) => boolean): void {
    if (this.#dead < this.#sweepAt) return
    this.#dead = 0
    for (const { actorId, info } of this.#clients.values()) {
      if (info?.state !== 'DEAD') continue
      if (isHeld(info.handleId)) this.#dead++
      else this.#clients.delete(actorId)
    }
    this.#sweepAt = 2 * this.#dead + DEAD_MIN
  }

  get known(): number {
    return this.#clients.size
  }

  /** It is being killed by this process: later calls wait for what becomes of it. */
  suspend(actorId: ActorId): void {
    const target = this.#clients.get(actorId)?.target
    if (target) target.isClosed = true
  }

  /** A3: only stop sending. */
  onWorkerGone(tag: number): void {
    const target = this.#targets.get(tag)
    if (target) target.isClosed = true
    this.#targets.delete(tag)
  }

  #client(actorId: ActorId): ActorClient {
    let client = this.#clients.get(actorId)
    if (!client) {
      client = { actorId, info: null, target: null, queue: new Queue(), isSubscribed: false, hasWarned: false }
      this.#clients.set(actorId, client)
    }
    return client
  }

  #attach(client: ActorClient, address: WorkerAddress, effects: Effects): void {
    if (client.target?.address.tag !== address.tag) {
      client.target = { address, leaseId: null, inflight: new TaskList(), isClosed: false }
      this.#targets.set(address.tag, client.target)
      effects.push({ t: 'connect', address })
    }
    this.#flush(client, effects)
  }

  /** What was in flight on the incarnation that ended: retried in order, or failed (A2). */
  #judge(client: ActorClient, kind: 'actorUnavailable'): readonly ActorFailure[] {
    const { target } = client
    client.target = null
    if (!target) return []
    target.isClosed = true
    const failures: ActorFailure[] = []
    const again: Task[] = []
    for (const task of target.inflight.takeAll()) {
      task.target = null
      if (task.retriesLeft === 0 || task.cancel !== 'no') failures.push({ task, kind, info: client.info })
      else again.push(task)
    }
    for (const task of again.reverse()) {
      if (task.retriesLeft > 0) task.retriesLeft--
      task.attempt++
      client.queue.unshift(task)
    }
    return failures
  }

  #flush(client: ActorClient, effects: Effects): void {
    const { target, queue } = client
    if (!target || target.isClosed) return
    const isOrdered = client.info?.options.allowOutOfOrder !== true
    for (let task = queue.peek(); task?.args != null; task = queue.peek()) {
      queue.shift()
      this.#push(target, task, effects)
    }
    if (isOrdered || queue.length === 0) return
    for (const task of [...queue]) {
      if (task.args === null) continue
      queue.remove((other) => other === task)
      this.#push(target, task, effects)
    }
  }

  #push(target: Target, task: Task, effects: Effects): void {
    task.target = target
    target.inflight.add(task)
    effects.push({ t: 'push', target, task })
  }
}
