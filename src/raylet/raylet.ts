// The node's machine: worker processes, leases, the directory of objects, and the hub between core workers. Composes this room.
//
// Invariants:
//   N1. A worker is idle, leased, or on its way out; never two of these.
//   N2. Everyone hears of every process that ends (`worker.died`), after the last message that came from it.
//   N3. A dead owner's requests and leases end; the workers it had leased are killed, since nobody waits for what they do.
//   N5. Other nodes hear of the end of a process of this one after all that came from it, on the same connection.
//   N6. Between nodes ends are told to those that have met, which learn of one another's processes by a hello; before a core worker
//       hears of a process of another node from here, the nodes meet. (Told to all, ends would cost what a cluster has of nodes.)

import { type JobId, type NodeId, type ObjectId, ownerOf, type PlacementGroupId, type WorkerTag } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import type { Effect, Input, Ms } from '../kernel/machine.ts'
import { NodeTable, type SchedulableNode } from '../scheduling/node-table.ts'
import { add, fits, formatResources, subtract } from '../scheduling/resources.ts'
import {
  type BundleSet,
  type BundleStep,
  type GcsToNode,
  type NodeDrain,
  type NodeState,
  type NodeView,
  type RayletToRaylet,
  roomEveryMs,
} from '../wire/cluster.ts'
import type { FollowedGroup } from '../wire/groups.ts'
import type { ExitInfo, FromNode, LeaseId, LeaseSpec, ToNode, WireError, WorkerAddress } from '../wire/messages.ts'
import { ClusterView } from './cluster-view.ts'
import { Draining } from './draining.ts'
import { endedBefore, exitOf } from './exits.ts'
import { Groups } from './groups.ts'
import { Hub } from './hub.ts'
import { type Granted, LeaseManager, type Request, shapeOf } from './lease-manager.ts'
import { MemoryGuard, type MemoryReading } from './memory-guard.ts'
import { nodeStateOf } from './node-state.ts'
import { Offers } from './offers.ts'
import { Outbox } from './outbox.ts'
import { Reports } from './reports.ts'
import { RoomWatch } from './room-watch.ts'
import type { RayletConfig, RayletEffect, RayletInput } from './shell.ts'
import { type Away, type LeaseMessage, Spill } from './spill.ts'
import { type EndReason, type PooledWorker, WorkerPool } from './worker-pool.ts'

type Fx = Effect<FromNode, RayletEffect>[]
const START_FAILURES_MAX = 3
export const GCS: WorkerTag = 0

export class Raylet {
  readonly leases: LeaseManager
  readonly pool: WorkerPool
  readonly view: ClusterView
  readonly hub: Hub
  readonly spill: Spill
  readonly draining: Draining
  readonly watch: RoomWatch
  readonly #offers: Offers
  readonly #groups: Groups
  readonly #reports: Reports
  readonly #out = new Outbox()
  readonly #config: RayletConfig
  readonly #memory: MemoryGuard
  readonly #clients = new Map<WorkerTag, 'driver' | 'worker' | 'thread'>()
  /** Handed out, and not yet taken up: they may live. */
  readonly #promised = new Set<WorkerTag>()
  readonly #actorOf = new Map<LeaseId, string>()
  readonly #jobOf = new Map<WorkerTag, JobId>()
  readonly #namespaces = new Map<JobId, string>()
  #areNotesPlanned = false
  #now: Ms = 0

  constructor(config: RayletConfig) {
    this.#config = config
    this.leases = new LeaseManager(config.total)
    this.view = new ClusterView(this.#self())
    this.hub = new Hub(this.view, this.#out, (tag) => this.#clients.has(tag))
    this.spill = new Spill(this.view, this.#out)
    this.draining = new Draining(this.leases, this.spill, this.#out)
    this.watch = new RoomWatch(this.#out)
    this.#offers = new Offers(this.view, this.leases, this.#out)
    this.#reports = new Reports(this.leases, this.spill, this.#out)
    this.#groups = new Groups(this.view, this.#out, this.leases)
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
    if (input.kind === 'start') this.#start()
    else if (input.kind === 'timer') this.#onTimer(input.key)
    else if (input.kind === 'message') this.#onMessage(input.from, input.message)
    else this.#onLocal(input.event)
    if (!this.draining.isOn) this.#offers.offer()
    this.#planReport()
    return this.#out.take()
  }

  stats(): Readonly<Record<string, number>> {
    return {
      workers: this.pool.workers.size,
      starting: this.pool.startingCount,
      leases: this.leases.leases.size,
      waiting: this.leases.waiting + this.spill.parked,
      published: this.hub.directory.size,
      away: this.spill.away,
      asked: this.hub.asked,
    }
  }

  check(): void {
    this.leases.check()
    this.hub.check()
    for (const { leaseId, owner } of this.leases.queue())
      invariant(owner === GCS || this.hub.isAlive(owner), `N3: ${leaseId} waits, but its owner ${owner} has ended`)
    for (const { address, state } of this.pool.workers.values()) {
      const lease = this.leases.leaseOf(address.tag)
      const isRight = state === 'exiting' || (state === 'leased') === (lease !== undefined)
      invariant(isRight, `N1: worker ${address.tag} is ${state}, its lease is ${lease?.leaseId ?? 'none'}`)
    }
  }

  #start(): void {
    this.#prestart()
    this.#out.timer('idle', this.#now + this.#config.idleCheckMs)
  }

  #prestart(): void {
    const orders = this.pool.prestart(this.#now, this.#config.prestart)
    for (const order of orders) this.#local({ t: 'spawnWorker', ...order })
  }

  #onTimer(key: string): void {
    if (key === 'report') return this.#reports.send()
    if (key === 'leave') return this.draining.leaveIfDone(this.#now, this.#hasDrivers)
    if (key === 'watch') return this.watch.onTimer(this.#now, this.#hasWorkToPlace())
    if (key === 'notes') {
      this.#areNotesPlanned = false
      this.view.forgetNotes()
      // Nobody says again that a node is free. One is enough to find out: many would come back, and cost what they gain.
      this.#moveWaiting(this.view.table, 1)
      return
    }
    this.#exitAll(this.pool.surplus(this.#now))
    for (const startupToken of this.pool.overdue(this.#now)) this.#local({ t: 'killStarting', startupToken })
    this.#out.timer('idle', this.#now + this.#config.idleCheckMs)
  }

  #onMessage(from: WorkerTag, message: ToNode): void {
    switch (message.t) {
      case 'lease.request':
        return this.#request(from, message.leaseId, message.spec)
      case 'lease.cancel':
      case 'lease.return':
      case 'lease.kill':
        if (!this.spill.forward(message.leaseId, message)) this.#onLeaseHere(message)
        return
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
        return this.hub.publish(message.id, message.location)
      case 'object.unpublish':
        return this.hub.unpublish(message.ids)
      case 'object.withdraw':
        return this.hub.directory.withdraw(message.ids)
      case 'object.resolve':
        return this.hub.resolve(from, message.id)
      case 'object.unresolve':
        return this.hub.unresolve(from, message.id)
      case 'object.free':
        return this.#free(message.storageIds, from)
      case 'ref.route':
        return this.hub.route(from, message.to, message.body)
      default:
        return // The GCS's and the store's.
    }
  }

  #onLocal(event: RayletInput): void {
    switch (event.t) {
      case 'fromGcs':
        return this.#onGcs(event.message)
      case 'drainIfIdle':
        if (this.draining.answer(event, this.#hasDrivers)) this.#drain(event.drain)
        return
      case 'fromPeer':
        return this.#onPeer(event.nodeId, event.message)
      case 'peerLost':
        if (this.view.isNodeAlive(event.nodeId))
          this.#out.toGcs({ t: 'peer.lost', nodeId: event.nodeId, detail: event.detail })
        return
      case 'registered':
        this.#promised.delete(event.address.tag)
        this.#clients.set(event.address.tag, event.kind)
        if (event.job) {
          this.#jobOf.set(event.address.tag, event.job.jobId)
          this.#namespaces.set(event.job.jobId, event.job.namespace)
        }
        this.#out.toGcs({ t: 'worker.joined', tag: event.address.tag, kind: event.kind })
        if (event.kind === 'worker') this.#workerReady(event.startupToken, event.address)
        return
      case 'gone':
        return this.#gone(event)
      case 'startFailed':
        return this.#startFailed(event.startupToken, event.detail)
      case 'unreachable':
        return this.#unreachable(event.tag, event.detail)
      case 'memory':
        return this.#onMemory(event.reading)
      case 'stored':
        return this.#reports.stored(event.bytes)
      case 'askRooms':
        return this.watch.ask(this.#now, this.view.size > 0)
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

  #onGcs(message: GcsToNode): void {
    switch (message.t) {
      case 'node.registered':
        this.view.addTags(message.tags)
        this.#groups.followAgain()
        this.#reports.forget()
        this.watch.again()
        this.#nodesChanged(message.nodes)
        return this.#askDoubted() // The answers may be lost with the connection.
      case 'tags.granted':
        return this.view.addTags(message.tags)
      case 'nodes.changed':
        return this.#nodesChanged(message.nodes)
      case 'nodes.room':
        this.watch.heard()
        return this.#roomChanged(this.view.updateRooms(message.rooms), false)
      case 'nodes.told':
        return this.#askDoubted(message.question)
      case 'node.drain':
        return this.#drain(message.drain)
      case 'ping':
        return this.#out.toGcs({ t: 'pong', count: message.count })
      case 'node.end':
        return this.#local({ t: 'endNode', detail: message.detail })
      case 'node.refused':
        return this.#local({ t: 'endNode', detail: String(message.error.params.detail ?? message.error.code) })
      case 'deliver':
        if (message.message.t === 'actor.state') this.hub.meet(message.message.info.address?.tag ?? GCS) // N6
        return this.#send(message.to, message.message)
      case 'actorLease.request':
        this.#actorOf.set(message.leaseId, message.actorId)
        if (!this.#takes(message.leaseId, message.spec, message.mayWait)) return this.#rejectActor(message.leaseId)
        return this.#request(GCS, message.leaseId, message.spec)
      case 'actorLease.cancel':
        this.#actorOf.delete(message.leaseId)
        return this.#cancel(message.leaseId, true)
      case 'actorLease.keepOnly':
        this.leases.keepOnly(message.leaseId, message.resources)
        return this.#grantAll()
      case 'worker.kill':
        return this.#kill(message.tag, message.reason, message.detail)
      case 'bundles.do':
        return this.#onBundles(message.steps)
      case 'group.is':
        return this.#onGroup(message.group)
      default:
        return // Jobs are the shell's.
    }
  }

  // Other nodes

  #nodesChanged(views: readonly NodeView[]): void {
    const changes = this.view.update(views)
    if (changes.length === 0) return
    let haveMembersChanged = false
    for (const { before, now } of changes) {
      if (now.state !== before?.state) haveMembersChanged = true
      if (now.state === 'DEAD' && before?.state !== 'DEAD') this.#nodeDied(now)
    }
    this.hub.introduce()
    const changed = changes.flatMap(({ now }) => this.view.get(now.nodeId) ?? [])
    this.#roomChanged(changed, haveMembersChanged)
  }

  #roomChanged(changed: readonly NodeView[], haveMembersChanged: boolean): void {
    if (changed.length === 0) return
    if (!this.watch.isOn && this.#hasWorkToPlace()) this.watch.need(this.#now)
    // Those that no node could hold wait for others to join; those of bundles also for room in them.
    this.#askParked((spec) => haveMembersChanged || spec.strategy.kind === 'bundle')
    if (this.leases.waiting > 0) this.#moveWaiting(new NodeTable(this.spill.shareOf(changed, this.leases.waiting)))
  }

  #nodeDied({ nodeId, tagBlocks, deathReason }: NodeView): void {
    const reason = deathReason ?? 'no reason is known'
    this.hub.onNodeDied(nodeId)
    for (const lease of [...this.leases.leases.values()]) {
      if (this.view.nodeOf(lease.owner) === nodeId) this.#endOwnedBy(lease.owner)
    }
    this.leases.withdrawWhere((owner) => this.view.nodeOf(owner) === nodeId)
    this.view.met.delete(nodeId)
    this.#offers.nodeDied(nodeId)
    this.#out.broadcast({ t: 'node.died', nodeId, tagBlocks, detail: reason })
    for (const { first, count } of tagBlocks) this.#local({ t: 'ownerGone', tag: first, count })
    this.#local({ t: 'peerDied', nodeId })
    for (const { leaseId, owner, spec } of this.spill.nodeDied(nodeId)) this.#request(owner, leaseId, spec)
    this.#grantAll()
  }

  #onPeer(nodeId: NodeId, message: RayletToRaylet): void {
    this.view.learnFrom(nodeId, message)
    this.hub.introduce()
    switch (message.t) {
      case 'hello':
        for (const exit of endedBefore(message)) this.#remoteDied(exit)
        return
      case 'lease.request':
        this.#offers.settled(nodeId)
        return this.#requestOfPeer(nodeId, message)
      case 'lease.cancel':
      case 'lease.return':
      case 'lease.kill':
        return this.#onLeaseHere(message)
      case 'lease.granted':
        return this.spill.granted(nodeId, message.leaseId, message.worker, message.gpuIds)
      case 'lease.refused': {
        const back = this.spill.takeBack(nodeId, message.leaseId)
        if (back) this.#send(back.owner, { t: 'lease.refused', leaseId: message.leaseId, error: message.error })
        return
      }
      case 'lease.rejected': {
        const back = this.spill.takeBack(nodeId, message.leaseId)
        // It has room, and said no: others wait there. Until it reports again it has none for us, or we would ask for ever.
        const isBusy = back !== undefined && fits(back.spec.resources, message.available)
        if (back?.group) this.#groups.onRejected(nodeId, message.available, back.group)
        else this.view.note(nodeId, isBusy ? {} : message.available)
        if (!back) return
        if (this.spill.rejected(back)) return this.#waitHere(back.owner, message.leaseId, back.spec)
        return this.#sentBack(message.leaseId, back)
      }
      case 'room.want':
        return this.#offers.onWant(nodeId, message.resources)
      case 'room.offer':
        return this.#onOffer(nodeId, message)
      case 'room.decline':
        return this.#offers.settled(nodeId)
      case 'worker.died':
        return this.#remoteDied(message.exit)
      case 'worker.unreachable':
        return this.#local({ t: 'doubt', tag: message.tag })
      case 'object.free':
        return this.#local({ t: 'freeStored', storageIds: message.storageIds, from: GCS })
      case 'object.left': {
        const { owner, maker, storageIds } = message
        return this.#send(owner, { t: 'object.left', maker, storageIds })
      }
      default:
        return this.hub.onPeer(nodeId, message)
    }
  }

  /** What its owner says of a lease of this node. */
  #onLeaseHere(message: LeaseMessage): void {
    const { leaseId } = message
    if (message.t === 'lease.return') return this.#endLease(leaseId, message.dispose)
    if (message.t === 'lease.cancel') return this.#cancel(leaseId, false)
    const lease = this.leases.leases.get(leaseId)
    if (lease) this.#kill(lease.worker, message.reason, message.detail)
  }

  #remoteDied(exit: ExitInfo): void {
    if (!this.view.died(exit.tag)) return
    this.spill.workerDied(exit.tag)
    this.#endOwnedBy(exit.tag)
    const storageIds = this.hub.onWorkerDied(exit.tag)
    if (storageIds.length > 0) this.#local({ t: 'freeStored', storageIds, from: GCS })
    this.#local({ t: 'ownerGone', tag: exit.tag, count: 1 })
    this.#out.broadcast({ t: 'worker.died', exit })
    this.#grantAll()
  }

  #requestOfPeer(nodeId: NodeId, message: RayletToRaylet & { t: 'lease.request' }): void {
    const { owner, leaseId, spec, mayWait } = message
    // Also when nobody wants it any more: the asker counts on what is free here.
    if (!this.view.mayLive(owner) || !this.#takes(leaseId, spec, mayWait)) {
      this.#out.toPeer(nodeId, { t: 'lease.rejected', owner, leaseId, available: this.leases.room })
      return
    }
    this.#requestHere(owner, leaseId, spec)
  }

  #askParked(isMeant: (spec: LeaseSpec) => boolean): void {
    for (const { leaseId, owner, spec } of this.spill.takeParked(isMeant)) this.#request(owner, leaseId, spec)
  }

  #onOffer(nodeId: NodeId, { resources }: RayletToRaylet & { t: 'room.offer' }): void {
    this.#offers.answered(nodeId)
    this.view.note(nodeId, resources)
    const node = this.view.get(nodeId)
    const moved = node && this.leases.waiting > 0 ? this.#moveWaiting(new NodeTable([node]), 1) : 0
    if (moved === 0) return this.#out.toPeer(nodeId, { t: 'room.decline' })
    for (const { owner, spec } of this.leases.stuck()) if (this.#isOfHere(owner)) return this.#offers.seek(spec) // O4
  }

  /** Something that was asked for here is granted nowhere (V4). */
  #hasWorkToPlace(): boolean {
    return this.spill.isAsking || [...this.leases.queue()].some(({ owner }) => this.#isOfHere(owner))
  }

  #isOfHere(owner: WorkerTag): boolean {
    return owner !== GCS && !this.view.isRemote(owner)
  }

  #askDoubted(upTo?: number): void {
    for (const { leaseId, owner, spec } of this.spill.takeDoubted(upTo)) this.#request(owner, leaseId, spec, true)
  }

  /** Requests that wait here although another node has become free: only those that changed can have. Returns how many go. */
  #moveWaiting(changed: NodeTable, countMax = Number.POSITIVE_INFINITY): number {
    const hopeless = new Set<string>()
    let count = 0
    for (const request of this.leases.stuck()) {
      const { leaseId, owner, spec } = request
      if (!this.#isOfHere(owner)) continue
      const shape = shapeOf(spec)
      if (hopeless.has(shape)) continue
      const { strategy } = spec
      const choice = strategy.kind === 'bundle' ? this.#groups.choose(spec, strategy) : this.spill.choose(spec, changed)
      if (choice.kind !== 'node' || choice.mayWait) {
        hopeless.add(shape)
        continue
      }
      this.leases.withdraw(leaseId)
      this.spill.send(leaseId, owner, spec, choice, true)
      if (++count >= countMax) break
    }
    return count
  }

  // Placement groups

  #onBundles(steps: readonly BundleStep[]): void {
    this.leases.changes++ // The GCS counts on a report, also when nothing was reserved.
    const answers = steps.flatMap((step) => this.draining.refusalOf(step) ?? this.leases.bundles.perform(step) ?? [])
    if (answers.length > 0) this.#out.toGcs({ t: 'bundles.done', answers })
    for (const step of steps) if (step.t === 'return') this.#endIn(step.bundles, step.detail)
    this.#grantAll()
  }

  /** Who uses bundles that were given back. */
  #endIn({ groupId, indices }: BundleSet, detail: string): void {
    for (const lease of [...this.leases.leases.values()]) {
      const id = lease.bundle?.id
      if (id?.groupId === groupId && indices.includes(id.index))
        this.#kill(lease.worker, 'groupRemoved', `its placement group is gone: ${detail}`, 'never')
    }
    this.#askAgain(groupId)
  }

  #onGroup(group: FollowedGroup): void {
    this.#groups.onGroup(group)
    this.#askAgain(group.groupId)
    this.#askParked(({ strategy }) => strategy.kind === 'bundle' && strategy.groupId === group.groupId)
    if (group.state === 'REMOVED') this.#groups.forget(group.groupId)
  }

  /** What waits here for a bundle that is not here any more goes back to who asked. */
  #askAgain(groupId: PlacementGroupId): void {
    for (const request of this.leases.waitingFor(groupId))
      if (!this.leases.bundles.has(request.spec)) this.#sendBack(request)
  }

  /** It cannot wait here any more. */
  #sendBack({ leaseId, owner, spec }: Request): void {
    this.leases.withdraw(leaseId)
    const nodeId = this.view.isRemote(owner) ? this.view.nodeOf(owner) : undefined
    if (owner === GCS) this.#rejectActor(leaseId)
    else if (nodeId === undefined) this.#request(owner, leaseId, spec)
    else this.#out.toPeer(nodeId, { t: 'lease.rejected', owner, leaseId, available: this.leases.room })
  }

  #drain(drain: NodeDrain): void {
    if (!this.draining.begin(drain)) return
    this.view.changeSelf(this.#self('DRAINING'))
    for (const request of [...this.leases.queue()]) if (this.draining.refuses(request.spec)) this.#sendBack(request)
    this.#grantAll()
    this.draining.leaveIfDone(this.#now, this.#hasDrivers)
  }

  get #hasDrivers(): boolean {
    return [...this.#clients.values()].includes('driver')
  }

  /** Asked for elsewhere, unless that was on the latest word: then newer word is awaited (Q3). */
  #sentBack(leaseId: LeaseId, back: Away): void {
    const { owner, spec, group, mayWait } = back
    if (mayWait && this.#groups.isLatest(group)) this.spill.park(leaseId, owner, spec)
    else this.#request(owner, leaseId, spec)
  }

  #free(storageIds: readonly ObjectId[], from: WorkerTag): void {
    const away = new Map<NodeId, ObjectId[]>()
    const here: ObjectId[] = []
    for (const id of storageIds) {
      const maker = ownerOf(id)
      const nodeId = this.view.isRemote(maker) ? this.view.nodeOf(maker) : undefined
      if (nodeId === undefined) here.push(id)
      else if (away.has(nodeId)) away.get(nodeId)?.push(id)
      else away.set(nodeId, [id])
    }
    if (here.length > 0) this.#local({ t: 'freeStored', storageIds: here, from })
    for (const [nodeId, ids] of away) {
      if (this.view.isNodeAlive(nodeId)) this.#out.toPeer(nodeId, { t: 'object.free', storageIds: ids })
    }
  }

  #unreachable(tag: WorkerTag, detail: string): void {
    const nodeId = this.view.nodeOf(tag)
    if (nodeId === undefined || !this.view.isRemote(tag)) return this.#kill(tag, 'crashed', detail)
    if (this.view.isNodeAlive(nodeId)) this.#out.toPeer(nodeId, { t: 'worker.unreachable', tag })
  }

  /** For a GCS that has (come) back, and for new connections. */
  state(): NodeState {
    return nodeStateOf(this, { clients: this.#clients, jobOf: this.#jobOf, actorOf: this.#actorOf })
  }

  /** The first words of the link with `to`. */
  hello(clusterId: string, protocol: number, to: NodeId): RayletToRaylet {
    const { nodeId, tagBlocks, nextTag } = this.view
    this.view.met.add(to)
    const living = [...this.#clients.keys(), ...this.#promised]
    return { t: 'hello', nodeId, clusterId, protocol, living, tagBlocks, next: nextTag }
  }

  takeTag(): WorkerTag | undefined {
    const tag = this.view.takeTag()
    if (tag !== undefined) this.#promised.add(tag)
    return tag
  }

  // Reports to the GCS

  #planReport(): void {
    if (this.view.mustAskForTags()) this.#out.toGcs({ t: 'tags.request' })
    if (this.view.hasNotes && !this.#areNotesPlanned) {
      this.#areNotesPlanned = true
      this.#out.timer('notes', this.#now + this.view.notesMs)
    }
    this.#reports.plan(this.#now, roomEveryMs(this.view.size))
  }

  // Leases

  /** This node, as it is at any moment. */
  #self(state: SchedulableNode['state'] = 'ALIVE'): SchedulableNode {
    const { leases } = this
    const { nodeId, labels = {} } = this.#config
    const { total } = leases
    return {
      ...{ nodeId, state, total, labels },
      get available() {
        return leases.room
      },
      get waiting() {
        return leases.waiting
      },
    }
  }

  /** Of another node, or the GCS: may it wait here, or be granted at once? */
  #takes(leaseId: LeaseId, spec: LeaseSpec, mayWait: boolean): boolean {
    if (this.leases.knows(leaseId)) return true
    if (this.draining.refuses(spec)) return false
    if (spec.strategy.kind === 'bundle') return mayWait ? this.leases.bundles.has(spec) : this.leases.bundleIsFree(spec)
    return mayWait || fits(spec.resources, this.leases.room)
  }

  #rejectActor(leaseId: LeaseId): void {
    const actorId = this.#actorOf.get(leaseId) ?? ''
    this.#actorOf.delete(leaseId)
    this.#out.toGcs({ t: 'actorLease.rejected', leaseId, actorId, available: this.leases.room })
  }

  /** `isSure`: all nodes are known here (F4 of spill.ts). */
  #request(owner: WorkerTag, leaseId: LeaseId, spec: LeaseSpec, isSure = false): void {
    if (owner === GCS || this.leases.knows(leaseId)) return this.#requestHere(owner, leaseId, spec)
    if (this.spill.knows(leaseId)) return
    const { strategy } = spec
    const choice = strategy.kind === 'bundle' ? this.#groups.choose(spec, strategy) : this.spill.choose(spec)
    if (choice.kind === 'here') return this.#waitHere(owner, leaseId, spec)
    if (choice.kind === 'node') this.spill.send(leaseId, owner, spec, choice)
    else if (choice.kind === 'park') this.spill.park(leaseId, owner, spec)
    else if (isSure || strategy.kind === 'bundle') return this.#refuse(owner, leaseId, choice.error)
    else this.spill.doubt(leaseId, owner, spec)
    if (this.view.size > 0) this.watch.need(this.#now)
  }

  /** Unless it fits now. */
  #waitHere(owner: WorkerTag, leaseId: LeaseId, spec: LeaseSpec): void {
    this.#requestHere(owner, leaseId, spec)
    if (!this.leases.isStuck(leaseId)) return
    this.#offers.seek(spec)
    if (this.view.size > 0) this.watch.need(this.#now)
  }

  #requestHere(owner: WorkerTag, leaseId: LeaseId, spec: LeaseSpec): void {
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

  #refuse(owner: WorkerTag, leaseId: LeaseId, error: WireError): void {
    const actorId = this.#actorOf.get(leaseId)
    const nodeId = this.view.isRemote(owner) ? this.view.nodeOf(owner) : undefined
    if (owner === GCS && actorId !== undefined) {
      this.#actorOf.delete(leaseId)
      this.#out.toGcs({ t: 'actorLease.refused', leaseId, actorId, error })
    } else if (nodeId !== undefined) this.#out.toPeer(nodeId, { t: 'lease.refused', owner, leaseId, error })
    else this.#send(owner, { t: 'lease.refused', leaseId, error })
  }

  #grantAll(): void {
    if (this.leases.waiting === 0) return this.leases.claim(null) // A node of many bundles has many names: copying what is free costs up to 0.5 ms.
    const wanted = new Map<string, number>()
    const claimed: Record<string, number> = {}
    // What the waiting ones would take, in order: no worker is started for what could not run beside them.
    const room: Record<string, number> = { ...this.leases.free }
    for (const request of this.leases.candidates()) {
      const { jobId, resources } = request.spec
      const takes = this.leases.demandOf(request.spec, room)?.resources
      const worker = this.pool.idle(request.envKey, jobId, (resources.GPU ?? 0) > 0, request.owner)
      if (worker) {
        const granted = this.leases.grant(request, worker.address.tag)
        if (!granted) continue
        worker.state = 'leased'
        worker.jobId = jobId
        worker.isActor = request.owner === GCS
        subtract(room, granted.held)
        this.#tellGranted(granted)
        continue
      }
      if (!takes) continue
      subtract(room, takes)
      add(claimed, takes)
      wanted.set(request.envKey, (wanted.get(request.envKey) ?? 0) + 1)
    }
    this.leases.claim(wanted.size > 0 ? claimed : null)
    for (const [envKey, count] of wanted) {
      for (const order of this.pool.start(this.#now, envKey, count)) this.#local({ t: 'spawnWorker', ...order })
    }
  }

  #tellGranted(granted: Granted): void {
    const worker = this.pool.workers.get(granted.worker)
    if (!worker) return
    const { leaseId, gpuIds } = granted
    const { resources, jobId, strategy } = granted.spec
    const namespace = this.#namespaces.get(jobId) ?? ''
    this.#send(granted.worker, { t: 'worker.assigned', leaseId, strategy, resources, gpuIds, jobId, namespace })
    const actorId = this.#actorOf.get(leaseId)
    if (granted.owner === GCS && actorId !== undefined) {
      this.#out.toGcs({ t: 'actorLease.granted', leaseId, actorId, worker: worker.address })
      return
    }
    const { owner } = granted
    const nodeId = this.view.isRemote(owner) ? this.view.nodeOf(owner) : undefined
    if (nodeId === undefined) this.#send(owner, { t: 'lease.granted', leaseId, worker: worker.address, gpuIds })
    else this.#out.toPeer(nodeId, { t: 'lease.granted', owner, leaseId, worker: worker.address, gpuIds })
  }

  /** Waiting or granted. */
  #cancel(leaseId: LeaseId, dispose: boolean): void {
    if (this.leases.withdraw(leaseId)) this.#grantAll()
    else this.#endLease(leaseId, dispose)
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
    // Only drivers are known to the GCS before they are clients: they wait for their jobs.
    const isWaiting = this.#promised.delete(event.tag)
    const kind = this.#clients.get(event.tag) ?? (isWaiting ? 'driver' : undefined)
    if (kind === undefined) return
    this.#clients.delete(event.tag)
    const worker = this.pool.remove(event.tag)
    this.#memory.onGone(event.tag)
    const held = this.leases.leaseOf(event.tag)
    if (held) this.leases.end(held.leaseId)
    this.#endOwnedBy(event.tag)
    this.#endJobOf(event.tag)
    const storageIds = this.hub.onWorkerDied(event.tag)
    if (storageIds.length > 0) this.#local({ t: 'freeStored', storageIds, from: GCS })
    const exit = exitOf(event, worker)
    const died = { t: 'worker.died', exit } as const // One object for all: it is encoded once.
    this.#out.broadcast(died)
    for (const nodeId of this.view.met) this.#out.toPeer(nodeId, died) // N6
    this.#out.toGcs({ t: 'worker.gone', exit, kind })
    this.#grantAll()
  }

  #endOwnedBy(owner: WorkerTag): void {
    this.spill.ownerDied(owner)
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

  #send(to: WorkerTag, message: FromNode): void {
    this.#out.send(to, message)
  }

  #local(event: RayletEffect): void {
    this.#out.local(event)
  }
}
