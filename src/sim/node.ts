// One simulated node: a raylet process with its connections, workers and store, as `runtime/node-server.ts` drives them.
//
//   S1. A process that registered is reported gone once, when its connection has closed and (for workers) the process has ended.
//   S2. When the raylet's process ends, its workers end soon after; when the machine crashes, all of it ends at once.

import { formatJobId, type NodeId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import { Raylet } from '../raylet/raylet.ts'
import type { RayletEffect, RayletInput } from '../raylet/shell.ts'
import type { GcsToNode, NodeToGcs, RayletToRaylet } from '../wire/cluster.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import { type FromNode, PROTOCOL_VERSION, type Resources, type ToNode } from '../wire/messages.ts'
import type { Cluster } from './cluster.ts'
import { type GcsPort, LocalPort, RemotePort } from './gcs-server.ts'
import { describe } from './link.ts'
import { connect, type Socket } from './network.ts'
import { PeerLinks } from './peers.ts'
import { SimProcess } from './processes.ts'
import { Spilling } from './spilling.ts'
import { SimStore } from './store.ts'
import { isOfTransfer, SimTransfer } from './transfer.ts'
import { WorkerProcess } from './workers.ts'

/** More processes than a seed starts. */
const NO_TAG: WorkerTag = 2 ** 21 - 1
/** How long the node waits for a worker whose connection closed, before it kills it. */
const CLOSED_GRACE_MS: Ms = 200
/** How long the node waits for the end of a worker whose connection to an owner broke. */
const UNREACHABLE_PATIENCE_MS: Ms = 1000
/** From the end of a raylet to the ends of those that it leaves. */
const ORPHAN_MS: Ms = 5

interface Client {
  readonly socket: Socket
  readonly os: SimProcess
  tag: WorkerTag
  kind: 'driver' | 'worker' | 'thread' | null
  registration: (ToNode & { t: 'register' }) | null
  isAdopted: boolean
  isDisconnected: boolean
  isReported: boolean
  pending: Buffer[]
}

export class SimNode {
  readonly cluster: Cluster
  readonly index: number
  readonly nodeId: NodeId
  readonly os: SimProcess
  readonly raylet: Raylet
  readonly store = new SimStore()
  readonly spilling: Spilling
  readonly total: Resources
  readonly peers: PeerLinks | null
  readonly transfer: SimTransfer | null
  readonly #gcs: GcsPort
  readonly #clients = new Map<WorkerTag, Client>()
  readonly #clientsOf = new Map<SimProcess, Client>()
  /** Registered before a tag was there. */
  #tagless: { readonly client: Client; readonly message: ToNode & { t: 'register' } }[] = []
  readonly #timers = new Map<string, number>()
  /** Before the names of its processes. */
  readonly #prefix: string
  #jobs = 0
  #clusterId = ''
  /** Of the processes that a crash takes along. */
  readonly processes = new Set<SimProcess>()

  constructor(cluster: Cluster, index: number, total: Resources) {
    this.cluster = cluster
    this.index = index
    this.total = total
    this.nodeId = index.toString(16).padStart(2, '0').repeat(28)
    const { world, faults, isAlone } = cluster
    this.#prefix = isAlone ? '' : `n${index}.`
    this.os = new SimProcess(world, 1, isAlone ? 'node' : `node${index}`)
    this.spilling = new Spilling(this)
    this.os.onTurnEnd = () => this.#flushAll()
    this.os.onEnd = () => this.#ended()
    this.raylet = new Raylet({
      nodeId: this.nodeId,
      total,
      numWorkersSoftLimit: faults.softLimit,
      maxStarting: faults.maxStarting,
      idleMs: faults.idleMs,
      idleCheckMs: 20,
      prestart: faults.prestart,
    })
    cluster.bugs.raylet?.(this.raylet, cluster)
    cluster.bugs.node?.(this)
    const onMessage = (message: GcsToNode): void => this.#fromGcs(message)
    const onConnected = (): void => this.#gcs.send(this.#registration())
    const events = { onConnected, onMessage, onGone: (detail: string) => this.#end(detail) }
    this.#gcs = isAlone ? new LocalPort(cluster, this, events) : new RemotePort(cluster, this, events)
    this.transfer = cluster.net.hasTransfers ? new SimTransfer(this) : null
    this.peers = isAlone
      ? null
      : new PeerLinks(this, {
          hello: (peer) => {
            const hello = this.raylet.hello(this.#clusterId, PROTOCOL_VERSION, peer)
            return cluster.bugs.toPeer?.(hello, this)[0] ?? hello
          },
          onMessage: (nodeId, message) => {
            for (const one of cluster.bugs.fromPeer?.(message, this) ?? [message])
              if (this.transfer && isOfTransfer(one)) this.transfer.step({ t: 'peer', from: nodeId, message: one })
              else this.#local({ t: 'fromPeer', nodeId, message: one })
          },
          onLost: (nodeId, detail) => this.#local({ t: 'peerLost', nodeId, detail }),
        })
  }

  start(): void {
    this.os.enter(() => {
      this.#gcs.start()
      if (this.cluster.isAlone) this.#startRaylet()
    })
  }

  #startRaylet(): void {
    this.#perform(this.raylet.step(this.cluster.world.now, { kind: 'start' }))
  }

  #local(event: RayletInput): void {
    this.#perform(this.raylet.step(this.cluster.world.now, { kind: 'local', event }))
  }

  /** Tags of the processes that are connected. */
  get tags(): WorkerTag[] {
    return [...this.#clients.keys()]
  }

  // Ends

  /** The power goes. */
  crash(): void {
    this.cluster.world.log(`node${this.index} crashes`)
    this.os.die({ code: null, signal: 'SIGKILL' }, false)
    for (const os of [...this.processes]) os.die({ code: null, signal: 'SIGKILL' }, false)
  }

  /** It is of no use any more (`NodeServer.end`). */
  #end(detail: string): void {
    this.cluster.world.log(`node${this.index} ends: ${detail}`)
    this.#gcs.send({ t: 'node.leaving', detail })
    this.#gcs.close()
    this.os.die({ code: 0, signal: null }, true)
  }

  #ended(): void {
    this.cluster.world.after(ORPHAN_MS, () => {
      for (const os of [...this.processes]) os.die({ code: null, signal: 'SIGKILL' }, false)
    })
  }

  // Processes

  startDriver(name: string): SimProcess {
    const os = this.cluster.makeProcess(name)
    this.processes.add(os)
    os.onEnd = () => this.#driverEnded(os)
    return os
  }

  #driverEnded(os: SimProcess): void {
    this.processes.delete(os)
    const tag = this.#clientsOf.get(os)?.tag ?? -1
    if (tag >= 0) this.cluster.judge.onProcessEnd(tag)
  }

  #spawn(token: string): void {
    const { cluster } = this
    const os = cluster.makeProcess(`${this.#prefix}${token}`)
    const worker = new WorkerProcess(cluster, this, os, token)
    this.processes.add(os)
    cluster.workers.set(os.name, worker)
    os.onEnd = () => {
      this.processes.delete(os)
      this.#workerEnded(worker)
    }
    worker.start()
  }

  // Connections

  dial(from: SimProcess): Socket {
    const { world, latency } = this.cluster
    const [own, theirs] = connect(world, latency, from, this.os)
    from.sockets.add(own)
    if (!this.os.isAlive) {
      theirs.close()
      return own
    }
    this.os.sockets.add(theirs)
    const client: Client = {
      socket: theirs,
      os: from,
      tag: -1,
      kind: null,
      registration: null,
      isAdopted: false,
      isDisconnected: false,
      isReported: false,
      pending: [],
    }
    this.#clientsOf.set(from, client)
    const reader = new FrameReader((buffer, start, end) => {
      this.#receive(client, decodeMessage<ToNode>(buffer.subarray(start, end)))
    }, CONTROL_FRAME_BYTES_MAX)
    theirs.listen({ onData: (chunk) => reader.push(chunk), onClose: () => this.#disconnected(client) })
    return own
  }

  #receive(client: Client, message: ToNode): void {
    const { cluster } = this
    cluster.world.log(`${this.os.name} < ${client.tag} ${describe(message)}`)
    if (client.kind === null) {
      if (message.t === 'register') this.#register(client, message)
      return
    }
    if (message.t === 'worker.unreachable') {
      this.os.after(UNREACHABLE_PATIENCE_MS, () => this.#unreachable(message.tag))
      return
    }
    if (message.t === 'object.created') {
      this.store.created(message.storageId, message.owner)
      this.spilling.relieve()
      cluster.judge.onCreated(message.storageId, message.owner)
      this.transfer?.step({ t: 'made', storageId: message.storageId })
      if (!this.raylet.hub.isAlive(message.owner)) this.freeStored([message.storageId], -1)
      return
    }
    if (this.transfer && this.#isForTransfer(client.tag, message, this.transfer)) return
    if (message.t === 'object.rescue') {
      // Readers open copies where their makers are: there is no other one.
      for (const storageId of message.storageIds) this.send(client.tag, { t: 'object.rescued', storageId, copy: null })
      return
    }
    cluster.judge.onNodeMessage(client.tag, message)
    const input = { kind: 'message', from: client.tag, message } as const
    const isForGcs = /^(actor|kv|pg)\./.test(message.t)
    if (isForGcs) this.#gcs.send({ t: 'forward', from: client.tag, message })
    else this.#perform(this.raylet.step(cluster.world.now, input))
  }

  #isForTransfer(tag: WorkerTag, message: ToNode, transfer: SimTransfer): boolean {
    if (message.t === 'object.rescue') {
      this.cluster.judge.onRescue(this, message.storageIds)
      transfer.step({ ...message, owner: tag, t: 'rescue' })
    } else if (message.t === 'object.unlocate') transfer.step({ ...message, reader: tag, t: 'unwant' })
    else if (message.t === 'object.locate') {
      const { storageId } = message
      const isHere = !this.raylet.view.isRemote(ownerOf(storageId))
      const where = this.store.open(storageId) ? 'shm' : null
      if (isHere) this.send(tag, { t: 'object.located', storageId, where })
      else transfer.step({ t: 'want', storageId, reader: tag })
    } else return false
    return true
  }

  /** Ask of `runtime/node-server.ts`: of a process of another node its own raylet is asked. */
  #unreachable(tag: WorkerTag): void {
    if (!this.#clients.has(tag) && !this.raylet.view.isRemote(tag)) return
    this.#local({ t: 'unreachable', tag, detail: 'its connection broke' })
  }

  #register(client: Client, message: ToNode & { t: 'register' }): void {
    const tag = this.raylet.takeTag() ?? (this.cluster.isAlone ? NO_TAG : undefined)
    if (tag === undefined) {
      this.#tagless.push({ client, message })
      return
    }
    client.kind = message.kind
    client.tag = tag
    client.registration = message
    this.#clients.set(tag, client)
    if (this.cluster.isAlone) this.#adopted(client, message.kind === 'driver' ? formatJobId(++this.#jobs) : '01000000')
    else if (message.kind !== 'driver') this.#adopted(client, '01000000')
    else this.#gcs.send({ t: 'job.begin', tag, pid: message.pid, name: '', namespace: 'sim' })
  }

  #adopted(client: Client, jobId: string): void {
    const { registration, tag, kind } = client
    if (!registration || !kind || client.isAdopted) return
    client.isAdopted = true
    const { nodeId } = this
    this.#write(client, { t: 'registered', tag, nodeId, jobId, namespace: 'sim', token: null, config: {} })
    const { workerId, pid, socket, startupToken } = registration
    const address = { tag, workerId, pid, socket, nodeId }
    this.#local({ t: 'registered', kind, startupToken, address })
  }

  #disconnected(client: Client): void {
    client.isDisconnected = true
    if (client.kind === 'worker') {
      this.os.after(CLOSED_GRACE_MS, () => client.os.die({ code: null, signal: 'SIGKILL' }, false))
    }
    this.#reportIfGone(client)
  }

  /** The node hears of the end a little later than it happens. */
  #workerEnded(worker: WorkerProcess): void {
    const { world, judge } = this.cluster
    const tag = this.#clientsOf.get(worker.os)?.tag ?? -1
    if (tag >= 0) judge.onProcessEnd(tag)
    this.os.after(world.random.next() * 3, () => {
      const client = this.#clientsOf.get(worker.os)
      if (!client || client.kind === null) {
        // What it sent before it died may still be on its way: the connection's close tells.
        if (client && !client.isDisconnected) this.#awaitClose(client, worker)
        else this.#startFailed(worker.token)
      } else this.#reportIfGone(client)
    })
  }

  #awaitClose(client: Client, worker: WorkerProcess): void {
    this.os.after(1, () => {
      if (!client.isDisconnected) this.#awaitClose(client, worker)
      else if (client.kind === null) this.#startFailed(worker.token)
      else this.#reportIfGone(client)
    })
  }

  #startFailed(startupToken: string): void {
    this.#local({ t: 'startFailed', startupToken, detail: 'it would not start' })
  }

  #reportIfGone(client: Client): void {
    const { end } = client.os
    if (client.kind === null || client.isReported || !client.isDisconnected || end === null) return
    client.isReported = true
    const { tag } = client
    this.#clients.delete(tag)
    this.cluster.world.log(`${this.os.name}: ${tag} is gone`)
    for (const [owner, storageIds] of this.store.madeBy(tag)) this.#tellLeft(owner, tag, storageIds)
    const owned = this.store.onDied(tag)
    if (owned.length > 0) this.freeStored(owned, -1)
    const { code, signal } = end
    this.transfer?.step({ t: 'readerGone', reader: tag })
    this.transfer?.step({ t: 'ownerGone', owner: tag })
    this.#local({ t: 'gone', tag, pid: client.os.pid, code, signal })
  }

  #tellLeft(owner: WorkerTag, maker: WorkerTag, storageIds: readonly ObjectId[]): void {
    const { view } = this.raylet
    const nodeId = view.isRemote(owner) ? view.nodeOf(owner) : undefined
    if (nodeId === undefined) this.send(owner, { t: 'object.left', maker, storageIds })
    else this.toPeer(nodeId, { t: 'object.left', owner, maker, storageIds })
  }

  // The GCS

  #registration(): NodeToGcs {
    return {
      t: 'node.register',
      ...{ nodeId: this.nodeId, protocol: PROTOCOL_VERSION, version: '', address: { host: 'sim', port: this.index } },
      ...{ pid: 1, hostname: 'sim', sessionDir: '', isHead: this.index === 0, total: this.total, labels: {} },
      state: this.raylet.state(),
    }
  }

  #fromGcs(message: GcsToNode): void {
    const { cluster } = this
    for (const one of cluster.bugs.toRaylet?.(message, cluster) ?? [message]) {
      if (one.t === 'job.made') {
        const client = this.#clients.get(one.tag)
        if (client) this.#adopted(client, one.jobId)
        continue
      }
      const isFirst = one.t === 'node.registered' && this.#clusterId === ''
      if (one.t === 'node.registered') this.#clusterId = one.clusterId
      if (one.t === 'node.drainIfIdle') this.#local({ ...one, t: 'drainIfIdle', holdsValues: this.store.size > 0 })
      else this.#local({ t: 'fromGcs', message: one })
      if (isFirst && !cluster.isAlone) this.#startRaylet()
      if (one.t === 'node.registered' || one.t === 'tags.granted') this.#registerWaiting()
    }
  }

  #registerWaiting(): void {
    const waiting = this.#tagless
    this.#tagless = []
    for (const { client, message } of waiting) if (!client.isDisconnected) this.#register(client, message)
  }

  /** As who asks for `cluster.resources` makes it. */
  askRooms(): void {
    this.#perform(this.raylet.step(this.cluster.world.now, { kind: 'local', event: { t: 'askRooms' } }))
  }

  // Effects

  #perform(effects: ReturnType<Raylet['step']>): void {
    this.raylet.check()
    this.cluster.judge.onRayletStep(this)
    for (const effect of effects) {
      if (effect.kind === 'send') this.send(effect.to, effect.message)
      else if (effect.kind === 'timer') {
        this.setTimer(`raylet:${effect.key}`, effect.at, () => {
          this.#perform(this.raylet.step(this.cluster.world.now, { kind: 'timer', key: effect.key }))
        })
      } else if (effect.kind === 'local') this.#performLocal(effect.event)
    }
  }

  #performLocal(event: RayletEffect): void {
    const { cluster } = this
    switch (event.t) {
      case 'spawnWorker':
        return this.#spawn(event.startupToken)
      case 'killProcess': {
        cluster.judge.onKill(this, event.tag)
        const os = cluster.shells.get(event.tag)?.os ?? this.#clients.get(event.tag)?.os
        cluster.world.after(0.05, () => os?.die({ code: null, signal: event.signal }, false))
        return
      }
      case 'toGcs':
        for (const message of cluster.bugs.toGcs?.(event.message, cluster) ?? [event.message]) this.#gcs.send(message)
        return
      case 'freeStored':
        return this.freeStored(event.storageIds, event.from)
      case 'broadcast':
        for (const client of this.#clients.values()) this.#write(client, event.message)
        return
      case 'toPeer':
        return this.toPeer(event.nodeId, event.message)
      case 'meet':
        return this.peers?.meet(event.nodeId)
      case 'peerDied':
        this.peers?.end(event.nodeId)
        return this.transfer?.nodeDied(event.nodeId)
      case 'ownerGone': {
        const owned = this.store.ownedBy(event.tag, event.count)
        if (owned.length > 0) this.freeStored(owned, -1)
        return
      }
      case 'doubt':
        this.os.after(UNREACHABLE_PATIENCE_MS, () => this.#unreachable(event.tag))
        return
      case 'leaveIfEmpty':
        if (this.store.size === 0) this.#gcs.send({ t: 'node.leaving', detail: event.detail })
        return
      case 'endNode':
        return this.#end(event.detail)
      default:
        return // `killStarting`: slow ones register in the end.
    }
  }

  toPeer(nodeId: NodeId, message: RayletToRaylet): void {
    for (const one of this.cluster.bugs.toPeer?.(message, this) ?? [message]) this.peers?.send(nodeId, one)
  }

  freeStored(storageIds: readonly ObjectId[], from: WorkerTag): void {
    const isCopy = (id: ObjectId): boolean => this.transfer !== null && this.raylet.view.isRemote(ownerOf(id))
    const made = storageIds.filter((id) => !isCopy(id))
    const byMaker = this.store.free(made, from, (maker) => this.#clients.has(maker))
    this.transfer?.step({ t: 'freed', storageIds })
    for (const [maker, freed] of byMaker) this.send(maker, { t: 'object.recycle', storageIds: freed })
  }

  /** Replaces a timer of the same key. */
  setTimer(key: string, at: Ms, run: () => void): void {
    const life = (this.#timers.get(key) ?? 0) + 1
    this.#timers.set(key, life)
    this.os.at(at, () => {
      if (this.#timers.get(key) === life) run()
    })
  }

  send(to: WorkerTag, message: FromNode): void {
    const client = this.#clients.get(to)
    if (!client) return
    for (const one of this.cluster.bugs.fromNode?.(message, to, this.cluster) ?? [message]) this.#write(client, one)
  }

  #write(client: Client, message: FromNode): void {
    const body = encodeMessage(message)
    const head = Buffer.alloc(4)
    head.writeUInt32LE(body.length)
    client.pending.push(head, body)
  }

  #flushAll(): void {
    for (const client of this.#clients.values()) {
      if (client.pending.length === 0) continue
      client.socket.write(Buffer.concat(client.pending))
      client.pending = []
    }
  }
}
