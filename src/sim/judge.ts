// What must hold in a simulated world, told by somebody who sees everything.
//
// Safety, at once:
//   J1. A value that is got is the one that its task returns; a failure is one that something in this world explains.
//   J2. A task begins at most once more than it may be retried; a call of an actor starts in the order of submission.
//   J3. A task arrives at a worker that its owner has leased. An actor has at most one live incarnation.
//   J5. A worker's CPU is lent exactly while it waits.
//   J7. A copy that came from another node is what its maker wrote; a lost one is replaced by a whole one at its owner's node.
//   J6. A node that is being drained grants nothing new, but in bundles that it has. One that is drained because it is idle has said so itself,
//       and has nothing; everyone who asked for it has an answer.
//   J4. An object lives while a living process holds a reference to it; its stored copy too.
// Liveness, at the end (`checkEnd`): nothing waits, and when all references are dropped all tables are empty.

import type { Target, Task } from '../core-worker/effects.ts'
import {
  type ActorId,
  makeObjectId,
  type NodeId,
  type ObjectId,
  ownerOf,
  type TaskId,
  type WorkerTag,
} from '../ids/ids.ts'
import { InvariantError, invariant } from '../kernel/invariant.ts'
import type { Granted } from '../raylet/lease-manager.ts'
import type { NodeView } from '../wire/cluster.ts'
import type { ActorSpec, LeaseId, Resources, ToNode } from '../wire/messages.ts'
import type { LinkEnd } from '../wire/resume.ts'
import { STREAMING } from '../wire/task-frames.ts'
import type { Cluster } from './cluster.ts'
import type { CoreShell } from './core-shell.ts'
import { GroupJudge } from './group-judge.ts'
import type { FailureInfo } from './handles.ts'
import type { SimNode } from './node.ts'
import { numberOf, type Script } from './programs.ts'
import type { CallOptions } from './submit.ts'

const GCS: WorkerTag = 0

interface TaskRecord {
  readonly id: TaskId
  readonly order: number
  readonly script: Script
  readonly options: CallOptions
  readonly actorId: ActorId | null
  readonly parent: ObjectId
  begun: number
  /** Workers that died while it was in flight on them. */
  deaths: number
  isCancelled: boolean
  hasFailedItem: boolean
}

interface ActorRecord {
  readonly spec: ActorSpec
  readonly script: Script
  /** Incarnations whose process ended without anybody's wish. */
  deaths: number
  /** By users, who let it come back: perhaps before it had begun. */
  kills: number
  isEnded: boolean
}

interface Life {
  readonly actorId: ActorId
  readonly incarnation: number
  /** The latest first-time call that began, by caller. */
  readonly last: Map<string, number>
}

export class Judge {
  readonly #cluster: Cluster
  readonly #tasks = new Map<TaskId, TaskRecord>()
  readonly #scripts = new Map<number, Script>()
  readonly #actors = new Map<ActorId, ActorRecord>()
  readonly #expected = new Map<ObjectId, number>()
  readonly #taskOf = new Map<ObjectId, TaskRecord>()
  readonly #freed = new Set<ObjectId>()
  /** Who owned each stored copy. */
  readonly #madeFor = new Map<ObjectId, WorkerTag>()
  readonly #lives = new Map<WorkerTag, Life>()
  /** What dead processes held or had given away: their word of it may be lost with them, and the object with it. */
  readonly #tainted = new Set<ObjectId>()
  /** In the arguments of actors that have ended: nobody waits for what their constructors, and tasks of those, still do with them. */
  readonly #given = new Set<ObjectId>()
  /** How often a leased worker has said that it waits, and not yet that it goes on. */
  readonly #waits = new Map<WorkerTag, { readonly lease: Granted; readonly count: number }>()
  readonly #declared = new Set<SimNode>()
  /** Processes that have ended, or whose nodes were declared dead. */
  readonly #ended = new Set<WorkerTag>()
  /** Leases that nodes had granted before they were drained. */
  readonly #drained = new Map<SimNode, ReadonlySet<LeaseId>>()
  /** What makers wrote into stored copies. */
  readonly #bytes = new Map<ObjectId, Buffer>()
  /** Lost copies of which the owner's node had another. */
  readonly #saved = new Set<ObjectId>()
  readonly groups: GroupJudge
  #order = 0
  readonly counts: Record<string, number> = {}

  constructor(cluster: Cluster) {
    this.#cluster = cluster
    this.groups = new GroupJudge(cluster)
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }

  expect(id: ObjectId, n: number): void {
    this.#expected.set(id, n)
  }

  expectItem(id: ObjectId, n: number, task: TaskId): void {
    this.#expected.set(id, n)
    const record = this.#tasks.get(task)
    if (record) this.#taskOf.set(id, record)
  }

  onSubmit(shell: CoreShell, task: Task, script: Script, options: CallOptions): void {
    const id = makeObjectId(shell.tag, task.sequence)
    const record: TaskRecord = {
      id,
      order: ++this.#order,
      script,
      options,
      actorId: task.actorId,
      parent: task.parent,
      begun: 0,
      deaths: 0,
      isCancelled: false,
      hasFailedItem: false,
    }
    this.#tasks.set(id, record)
    this.#scripts.set(script.n, script)
    this.count(task.actorId === null ? 'tasks' : 'calls')
    this.#cluster.world.log(
      `${shell.os.name} submits ${id} script ${script.n} retries ${options.retries}${task.actorId === null ? '' : ` to ${task.actorId.slice(-4)}`}`,
    )
    if (task.numReturns === STREAMING) return
    for (let i = 0; i < task.numReturns; i++) {
      this.#expected.set(id + i, numberOf(script.n, i))
      this.#taskOf.set(id + i, record)
    }
  }

  onCreate(shell: CoreShell, spec: ActorSpec, script: Script): void {
    this.#scripts.set(script.n, script)
    this.#actors.set(spec.actorId, { spec, script, deaths: 0, kills: 0, isEnded: false })
    this.count('actors')
    this.#cluster.world.log(`${shell.os.name} creates actor ${spec.actorId} handle ${spec.handleId}`)
  }

  /** Somebody else may have handles of it under another id. */
  isNamed(actorId: ActorId | null): boolean {
    return this.#actors.get(actorId ?? '')?.spec.name != null
  }

  onCancel(id: ObjectId): void {
    const record = this.#taskOf.get(id) ?? this.#tasks.get(id)
    if (record) record.isCancelled = true
    this.count('cancels')
  }

  onFree(id: ObjectId): void {
    this.#freed.add(id)
  }

  /** It may die from now on: killed, out of scope, ended by itself. */
  onActorEnded(actorId: ActorId): void {
    const record = this.#actors.get(actorId)
    if (!record) return
    record.isEnded = true
    for (const id of record.spec.argRefs) this.#given.add(id)
  }

  onPush(shell: CoreShell, target: Target, task: Task): void {
    this.count('pushes')
    if (this.#cluster.isAlive(target.address.tag)) return
    const record = this.#tasks.get(makeObjectId(shell.tag, task.sequence))
    if (record) record.deaths++
  }

  /** J3 */
  onArrival(worker: CoreShell, owner: WorkerTag, sequence: number, isMethod: boolean): void {
    if (isMethod || !this.#cluster.isAlive(owner) || this.#isOut(worker)) return
    const lease = worker.node.raylet.leases.leaseOf(worker.tag)
    const whose = lease ? `is leased to ${lease.owner}` : 'is not leased'
    invariant(lease?.owner === owner, `J3: task ${sequence} of ${owner} arrives at ${worker.tag}, which ${whose}`)
  }

  /** J2 */
  onBegin(worker: CoreShell, id: TaskId, actor: { readonly spec: ActorSpec } | null): void {
    const record = this.#tasks.get(id)
    if (!record) throw new InvariantError(`J2: ${id} begins, but nobody submitted it`)
    this.#cluster.world.log(`${worker.os.name} begins ${id}`)
    if (this.#isOut(worker)) return
    record.begun++
    const { retries } = record.options
    // Of a dead worker's quick tasks, done in one turn, only the first pays; where no retry is left, each is alone in its turn (`once`).
    const begunMax = retries === 0 ? 1 : retries + 1 + record.deaths
    invariant(retries < 0 || record.begun <= begunMax, `J2: ${id} with ${retries} retries begins ${record.begun} times`)
    if (!actor || record.begun > 1 || actor.spec.options.maxConcurrency > 1) return
    const life = this.#lives.get(worker.tag)
    if (!life) return
    const queue = `${ownerOf(id)} ${record.actorId}` // Handles made by getIfExists have queues of their own.
    const last = life.last.get(queue) ?? 0
    invariant(record.order > last, `J2: call ${id} overtakes another of ${queue}`)
    life.last.set(queue, record.order)
  }

  /** J3 */
  onIncarnation(worker: CoreShell, actorId: ActorId, incarnation: number): void {
    for (const [tag, life] of this.#lives) {
      if (life.actorId !== actorId || !this.#cluster.isAlive(tag)) continue
      throw new InvariantError(`J3: incarnation ${incarnation} of ${actorId} starts while ${life.incarnation} lives`)
    }
    const maxRestarts = this.#actors.get(actorId)?.spec.maxRestarts ?? 0
    const free = maxRestarts > 0 ? this.#drained.size : 0 // The end of a drained node costs it none.
    const isRight = maxRestarts < 0 || incarnation <= maxRestarts + free
    invariant(isRight, `J3: ${actorId} restarts more than ${maxRestarts} times`)
    this.#lives.set(worker.tag, { actorId, incarnation, last: new Map() })
    this.count('incarnations')
  }

  actorOn(tag: WorkerTag): Life | undefined {
    return this.#lives.get(tag)
  }

  /** Its node was declared dead: what it still does counts for nobody. */
  #isOut(shell: CoreShell): boolean {
    return this.#cluster.isDeclaredDead(shell.node)
  }

  /** To be called before its effects: a node that it has just declared dead is no more, whatever still runs there. */
  onGcsStep(): void {
    const { nodes, shells, net } = this.#cluster
    if (net.groupMakers > 0) this.groups.check()
    this.#checkIdleEnds()
    for (const node of nodes) {
      if (this.#declared.has(node) || !this.#cluster.isDeclaredDead(node)) continue
      this.#declared.add(node)
      this.count('nodesDead')
      this.#cluster.world.log(`node${node.index} is declared dead`)
      for (const shell of shells.values()) if (shell.node === node) this.onProcessEnd(shell.tag)
    }
  }

  /** J6, after a step. */
  onRayletStep(node: SimNode): void {
    if (this.#cluster.net.groupMakers > 0) this.groups.check()
    const { leases, draining } = node.raylet
    if (!draining.isOn) return
    const before = this.#drained.get(node) ?? this.#drainBegins(node)
    const bundles = leases.bundles.list().length
    invariant(!draining.isOfIdle || bundles === 0, `J6: ${node.os.name} is drained as idle, and has ${bundles} bundles`)
    for (const { leaseId, spec } of leases.leases.values()) {
      const isOld = before.has(leaseId) || spec.strategy.kind === 'bundle'
      invariant(isOld, `J6: ${node.os.name} is drained, and grants ${leaseId}`)
    }
  }

  #drainBegins(node: SimNode): ReadonlySet<LeaseId> {
    const { leases, draining } = node.raylet
    if (draining.isOfIdle) {
      const { os, store } = node
      const bundles = leases.bundles.list().length
      const has = `${leases.leases.size} leases, ${leases.waiting} requests, ${bundles} bundles, ${store.size} copies`
      const isIdle = leases.leases.size + leases.waiting + bundles + store.size === 0
      invariant(isIdle, `J6: ${os.name} is drained because it is idle, with ${has}`)
      this.count('idleEnds')
    }
    const before = new Set(leases.leases.keys())
    this.#drained.set(node, before)
    return before
  }

  /** J6: whoever asked for it is told. */
  onDrainAnswered(node: SimNode, refusal: string | null): void {
    this.count(refusal === null ? 'drains' : 'drainsRefused')
    if (refusal !== null || !this.#cluster.isNodeAlive(node)) return
    const view = this.#cluster.gcs.nodes.get(node.nodeId)
    invariant(view?.state === 'DRAINING', `J6: ${node.os.name} is said to be drained, and is ${view?.state}`)
  }

  /** J6, after a step of the GCS: the node has said yes. */
  #checkIdleEnds(): void {
    const { nodes, gcs } = this.#cluster
    for (const node of nodes) {
      const view = gcs.nodes.get(node.nodeId)
      if (view?.state !== 'DRAINING' || view.drain?.reason !== 'IDLE_TERMINATION' || !node.os.isAlive) continue
      invariant(node.raylet.draining.isOn, `J6: the GCS drains ${node.os.name}, which has not said that it is idle`)
    }
  }

  onLinkEnded(node: SimNode, peer: NodeId, { by, detail }: LinkEnd): void {
    if (by === 'own' || !this.#cluster.isNodeAlive(node)) return
    const other = this.#cluster.nodeById(peer)
    const isOver = !this.#cluster.isNodeAlive(other) || this.#cluster.isSpoilt(node.nodeId, peer)
    invariant(isOver, `K1: the link of node${node.index} to node${other.index} has ended: ${by}, ${detail}`)
  }

  /** J3: the GCS has leased the workers of actors, and outlives its process. */
  onKill({ raylet }: SimNode, tag: WorkerTag): void {
    const isOfActor = raylet.leases.leaseOf(tag)?.owner === GCS
    const isOrphan = raylet.pool.workers.get(tag)?.endReason?.reason === 'ownerDied'
    invariant(!(isOfActor && isOrphan), `J3: the worker ${tag} of an actor is killed for the death of an owner`)
  }

  /** A process has ended; whatever was in flight on it met a death. */
  onProcessEnd(tag: WorkerTag): void {
    if (this.#ended.has(tag)) return
    this.#ended.add(tag)
    for (const shell of this.#cluster.shells.values()) {
      if (!shell.os.isAlive) continue
      for (const record of this.#tasks.values()) {
        if (ownerOf(record.id) !== shell.tag) continue
        if (shell.core.task(record.id % 2 ** 32)?.target?.address.tag === tag) record.deaths++
      }
    }
    const dead = this.#cluster.shells.get(tag)
    for (const id of dead?.core.table.borrowed.keys() ?? []) this.#tainted.add(id)
    const life = this.#lives.get(tag)
    const actor = life && this.#actors.get(life.actorId)
    if (actor) actor.deaths++
  }

  onValue(shell: CoreShell, id: ObjectId, value: unknown): void {
    if (this.#isOut(shell)) return
    this.count('values')
    const expected = this.#expected.get(id)
    if (expected === undefined) return
    const got = typeof value === 'number' ? value : (value as { n?: unknown } | undefined)?.n
    invariant(got === expected, `J1: ${shell.tag} got ${String(got)} from ${id}, not ${expected}`)
  }

  onFailure(shell: CoreShell, id: ObjectId, failure: FailureInfo): void {
    if (this.#isOut(shell)) return
    this.count(failure.kind)
    this.#cluster.world.log(`${shell.os.name} get ${id} fails: ${failure.kind} of ${failure.origin || failure.of}`)
    const isExplained = this.#explains(shell, id, failure)
    invariant(
      isExplained,
      `J1: ${shell.tag} got ${failure.kind} (of ${failure.origin || failure.of}) from ${id} without a reason`,
    )
    const record = this.#taskOf.get(id)
    if (record) record.hasFailedItem = true
  }

  #explains(shell: CoreShell, id: ObjectId, failure: FailureInfo): boolean {
    const { origin, kind } = failure
    const record = this.#taskOf.get(origin) ?? this.#taskOf.get(id)
    switch (kind) {
      case 'thrown':
        return this.#scripts.get(failure.of ?? -1)?.ops.some((op) => op.t === 'throw') === true
      case 'cancelled':
        return record?.isCancelled === true
      case 'workerCrashed':
      case 'actorUnavailable':
        return (
          this.groups.isGone(record?.options.strategy) ||
          (record !== undefined && record.options.retries >= 0 && record.deaths + record.begun > record.options.retries)
        )
      case 'refused':
        if (this.#cluster.hadStartFailures || record === undefined) return true
        if (record.options.strategy?.kind === 'bundle') return this.groups.isGone(record.options.strategy)
        return !this.#fitsSomewhere(record.options)
      case 'actorDied':
        return this.#mayBeDead(record?.actorId ?? null)
      case 'createRefused':
        return true
      case 'ownerDied':
        return !this.#cluster.isAlive(ownerOf(origin))
      case 'lost':
      case 'argumentLost':
      case 'freed':
        return (
          this.#freed.has(origin) ||
          this.#hasDeadNode ||
          (record !== undefined && this.#tainted.size > 0) || // It may be an argument's.
          this.#tainted.has(id) ||
          this.#tainted.has(origin) ||
          !this.#cluster.isAlive(this.#madeFor.get(origin) ?? ownerOf(origin)) ||
          !this.#cluster.isAlive(ownerOf(origin)) ||
          !this.#cluster.isAlive(ownerOf(id))
        )
      case 'nodeDied':
        return !shell.node.os.isAlive
      default:
        return false
    }
  }

  #mayBeDead(actorId: ActorId | null): boolean {
    const actor = this.#actors.get(actorId ?? '')
    if (!actor) return false
    const { spec } = actor
    if (this.groups.isGone(spec.lease.strategy)) return true
    if (actor.isEnded || spec.name !== null || this.#cluster.hadStartFailures) return true
    if (!this.#cluster.isAlive(spec.owner)) return true
    if (actor.script.ops.some((op) => op.t === 'throw')) return true
    const asked = { resources: spec.placementResources, strategy: spec.lease.strategy } as CallOptions
    if (spec.lease.strategy.kind !== 'bundle' && !this.#fitsSomewhere(asked)) return true
    const deadNodes = this.#cluster.nodes.filter((node) => !this.#cluster.isNodeAlive(node)).length
    return spec.maxRestarts >= 0 && actor.deaths + actor.kills + deadNodes > spec.maxRestarts
  }

  get #hasDeadNode(): boolean {
    return this.#cluster.nodes.some((node) => !this.#cluster.isNodeAlive(node))
  }

  /** On a living node that its strategy admits. */
  #fitsSomewhere({ resources, strategy }: CallOptions): boolean {
    const { nodes, net } = this.#cluster
    const isHard = strategy?.kind === 'nodeAffinity' && !strategy.soft
    return nodes.some(
      (node) =>
        (node.index !== net.lateNode || resources?.late !== undefined) && // It may not be there yet.
        fitsTotal(resources ?? {}, node.total) &&
        this.#cluster.isNodeAlive(node) &&
        this.#cluster.gcs.nodes.get(node.nodeId)?.state !== 'DRAINING' &&
        (!isHard || strategy.nodeId === node.nodeId),
    )
  }

  onLostArgument(worker: CoreShell, owner: WorkerTag, storageId: ObjectId): void {
    const isExcused =
      this.#hasDeadNode ||
      !this.#cluster.isAlive(owner) ||
      !this.#cluster.isAlive(this.#madeFor.get(storageId) ?? owner) ||
      !this.#cluster.isAlive(ownerOf(storageId)) ||
      this.#freed.size > 0 ||
      this.#tainted.size > 0
    invariant(isExcused, `J4: an argument in ${storageId} is gone when ${worker.tag} needs it`)
  }

  onCreated(storageId: ObjectId, owner: WorkerTag): void {
    this.#madeFor.set(storageId, owner)
  }

  onWritten(storageId: ObjectId, bytes: Buffer): void {
    if (this.#cluster.net.hasTransfers) this.#bytes.set(storageId, Buffer.from(bytes))
  }

  /** J7 */
  onPulled(storageId: ObjectId, bytes: Buffer | undefined): void {
    this.count('pulled')
    const isRight = bytes !== undefined && this.#bytes.get(storageId)?.equals(bytes) === true
    invariant(isRight, `J7: the copy of ${storageId} is not what its maker wrote`)
  }

  /** J7: an answer without a copy would be wrong. */
  onRescue({ transfer }: SimNode, storageIds: readonly ObjectId[]): void {
    for (const storageId of storageIds) if (transfer?.machine.holds(storageId)) this.#saved.add(storageId)
  }

  onRescued(storageId: ObjectId, copy: ObjectId | null): void {
    const isRight = copy !== null || !this.#saved.has(storageId)
    invariant(isRight, `J7: ${storageId} counts as lost, but its owner's node has a whole copy`)
  }

  onStreamEnd(task: TaskId, taken: number): void {
    const record = this.#tasks.get(task)
    const owner = this.#cluster.shells.get(ownerOf(task))
    if (!record || record.isCancelled || record.hasFailedItem || !owner || this.#isOut(owner)) return
    invariant(
      taken === record.script.items,
      `J1: the stream ${task} ends after ${taken} of ${record.script.items} items`,
    )
  }

  onToNode(message: ToNode): void {
    if (message.t === 'actor.outOfScope') this.onActorEnded(message.actorId)
  }

  onNodeMessage(from: WorkerTag, message: ToNode): void {
    this.#followWaits(from, message)
    if (message.t === 'actor.kill') {
      const actor = this.#actors.get(message.actorId)
      if (actor) actor.kills++
      if (message.noRestart) this.onActorEnded(message.actorId)
    }
    // One whose constructor threw is killed: what it kept of its arguments is nobody's.
    if (message.t === 'actor.exited' || (message.t === 'actor.started' && message.error))
      this.onActorEnded(message.actorId)
  }

  /** J5, told before the raylet hears the message: so far it must agree with what the worker has said. */
  #followWaits(from: WorkerTag, message: ToNode): void {
    if (message.t !== 'worker.blocked' && message.t !== 'worker.unblocked') return
    const lease = this.#cluster.nodeOf(from)?.raylet.leases.leaseOf(from)
    if (!lease) return
    const known = this.#waits.get(from)
    const count = known?.lease === lease ? known.count : lease.blocked
    invariant(lease.blocked === count, `J5: ${from} waits ${count} times, but counts as waiting ${lease.blocked} times`)
    const next = message.t === 'worker.blocked' ? count + 1 : Math.max(0, count - 1)
    this.#waits.set(from, { lease, count: next })
  }

  /** J4, after a turn of `owner`. */
  onTurn(owner: CoreShell): void {
    const { owned } = owner.core.table
    if (this.#isOut(owner)) return
    for (const holder of this.#cluster.shells.values()) {
      if (!holder.os.isAlive || this.#isOut(holder) || this.#hasEndedActor(holder.tag)) continue
      for (const ref of holder.refs) {
        if (ownerOf(ref.id) !== owner.tag || this.#tainted.has(ref.id) || this.#given.has(ref.id)) continue
        const object = owned.get(ref.id)
        invariant(object !== undefined, `J4: ${ref.id} is dropped by its owner while ${holder.tag} holds it`)
        if (object.state.kind !== 'stored') continue
        const { storageId } = object.state
        invariant(this.#cluster.hasCopy(storageId), `J4: the copy ${storageId} of ${ref.id} is gone`)
      }
    }
  }

  #hasEndedActor(tag: WorkerTag): boolean {
    const life = this.#lives.get(tag)
    return life !== undefined && this.#actors.get(life.actorId)?.isEnded === true
  }

  /** No task is open any more. */
  get isQuiet(): boolean {
    for (const shell of this.#cluster.shells.values()) if (shell.os.isAlive && shell.core.openTasks > 0) return false
    return true
  }

  /** For people: who still holds what. */
  left(): string {
    const alive = [...this.#cluster.shells.values()].filter((shell) => shell.os.isAlive)
    return alive.map((shell) => `${shell.os.name}=${shell.tag}: ${leftIn(shell)}`).join(' | ')
  }

  /** For people: what is still open, and where. */
  openTasks(): string {
    const lines: string[] = []
    for (const shell of this.#cluster.shells.values()) {
      if (!shell.os.isAlive) continue
      for (const record of this.#tasks.values()) {
        if (ownerOf(record.id) !== shell.tag) continue
        const task = shell.core.task(record.id % 2 ** 32)
        if (!task) continue
        const ops = record.script.ops.map((op) => op.t).join(' ')
        const where = `on ${task.target?.address.tag ?? 'none'}, args ${task.args !== null}, actor ${record.actorId}`
        lines.push(`${shell.os.name}: ${record.id} (${ops}) ${where}, begun ${record.begun}`)
      }
    }
    const raylets = this.#cluster.nodes.map(({ raylet }) => JSON.stringify(raylet.stats()))
    return `${lines.join('; ')}; raylet ${raylets.join(' ')}`
  }

  /** When everything has ended and all references are dropped: what is left over? */
  checkEnd(): void {
    const { gcs, shells, workers, nodes } = this.#cluster
    for (const shell of shells.values()) {
      if (!shell.os.isAlive) continue
      const left = Object.entries(shell.core.stats()).filter(([name, count]) => count > 0 && name !== 'actors')
      if (left.length === 0) continue
      invariant(
        left.length === 0,
        `leak: ${shell.os.name} keeps ${JSON.stringify(left)} ${this.left()} ${this.openTasks()}`,
      )
    }
    for (const node of nodes) if (node.os.isAlive) this.#checkNode(node)
    const { asking } = this.#cluster.gcsProcess
    invariant(asking === 0, `J6: ${asking} wait for what became of a drain`)
    const alive = gcs.actors.list(null).filter((actor) => actor.state !== 'DEAD')
    invariant(alive.length === 0, `leak: actor ${alive[0]?.actorId} is ${alive[0]?.state}`)
    for (const worker of workers.values()) {
      if (worker.os.isAlive && worker.executor)
        invariant(worker.executor.isIdle, `leak: ${worker.os.name} still runs something`)
    }
  }

  #checkNode(node: SimNode): void {
    const { raylet, store, os } = node
    const { gcs } = this.#cluster
    invariant(!this.#cluster.isDeclaredDead(node), `K4: ${os.name} was declared dead, and goes on`)
    invariant(!raylet.draining.isOn, `J6: ${os.name} was drained, and goes on`)
    const { workers: _, starting, ...rest } = raylet.stats()
    const left = Object.entries(rest).filter(([, count]) => count > 0)
    invariant(
      left.length === 0,
      `leak: the raylet of ${os.name} keeps ${JSON.stringify(left)}: ${[...raylet.leases.leases.keys()].slice(0, 5)}`,
    )
    invariant(
      store.size === 0 && store.booked === 0,
      `leak: stored copies ${store.ids()}, ${store.booked} booked in ${os.name}`,
    )
    if (this.#cluster.isAlone) return
    this.groups.checkEnd(node)
    node.transfer?.checkEnd()
    for (const { nodeId, keptBytes } of node.peers?.open() ?? []) {
      const isLiving = this.#cluster.isNodeAlive(this.#cluster.nodeById(nodeId))
      invariant(isLiving && keptBytes === 0, `leak: ${os.name} keeps ${keptBytes} bytes for ${nodeId.slice(0, 2)}`)
    }
    const free = listed(raylet.leases.free)
    const bundled = listed(raylet.leases.bundled())
    const seen = (view: NodeView | undefined): boolean =>
      listed(view?.available ?? {}) === free && listed(view?.bundled ?? {}) === bundled
    invariant(seen(gcs.nodes.get(node.nodeId)), `views: the GCS does not know what ${os.name} has free: ${free}`)
    for (const other of this.#cluster.nodes) {
      if (other === node || !other.os.isAlive) continue
      const known = other.raylet.view.get(node.nodeId)
      invariant(seen(known), `views: ${other.os.name} does not know what ${os.name} has free: ${free}`)
    }
    const known = [...gcs.nodes.processesOf(node.nodeId)].sort()
    const there = node.tags.sort()
    invariant(`${known}` === `${there}`, `views: of ${os.name} the GCS knows ${known}, but there are ${there}`)
  }
}

function leftIn(shell: CoreShell): string {
  const { owned, borrowed } = shell.core.table
  const first = [...owned].slice(0, 3).map(([id, object]) => {
    const borrowers = JSON.stringify([...(object.borrowers ?? [])])
    return `owned ${id} holds ${object.holds} borrowers ${borrowers} actor ${object.actorId}`
  })
  const second = [...borrowed].slice(0, 3).map(([id, object]) => `borrowed ${id} ${object.holds}/${object.granted}`)
  return [...first, ...second].join('; ')
}

function fitsTotal(resources: Resources, total: Resources): boolean {
  return Object.entries(resources).every(([name, units]) => units <= (total[name] ?? 0))
}

/** Names of which there is nothing may be missing. */
function listed(resources: Resources): string {
  return JSON.stringify(
    Object.entries(resources)
      .filter(([, units]) => units !== 0)
      .sort(),
  )
}
