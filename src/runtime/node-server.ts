// The node process: drives the GCS and raylet machines with real sockets, processes and timers.
//
// Invariants:
//   S1. A process that registered is reported gone once, when its connection has closed and (for workers) the process has ended.
//   S2. The node ends with the driver that started it, however that ends, and leaves no process, socket or file.
//   S3. A worker leads a process group of its own. What user code started in it ends with the worker; a child that is to live on
//       must leave the group (`detached: true`).

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { type JobId, makeObjectId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import { InvariantError } from '../kernel/invariant.ts'
import type { PeerMessage } from '../object-store/transfer.ts'
import { debugState } from '../raylet/debug-state.ts'
import { Raylet } from '../raylet/raylet.ts'
import { lessStored } from '../raylet/reports.ts'
import type { RayletEffect } from '../raylet/shell.ts'
import { workOf } from '../raylet/work.ts'
import type { GcsToNode, NodeAddress, NodeToGcs, NodeView, RayletToRaylet } from '../wire/cluster.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import { type FromNode, type NodeInfo, PROTOCOL_VERSION, type ToNode } from '../wire/messages.ts'
import { monotonicMs, msUntil } from './clock.ts'
import { type GcsPort, LocalGcs, RemoteGcs } from './gcs-port.ts'
import { type LogMessage, LogRoads } from './log-roads.ts'
import { startMemoryMonitor } from './memory-monitor.ts'
import { type JoinInfo, type NodeConfig, WORKER_CONFIG_VARIABLE, type WorkerConfig } from './node-config.ts'
import { ObjectTransfer } from './object-transfer.ts'
import { Peers } from './peers.ts'
import { RoomQuestions } from './room-questions.ts'
import { noteProcess, randomHex, removeSession } from './session.ts'
import { NodeStore } from './shm/node-store.ts'
import { offerFolder } from './shm/shared-folder.ts'
import { Survey } from './survey.ts'
import { type OutputLines, WorkerOutput } from './worker-output.ts'

/** A dead worker's pipes stay open when a child that left its group inherited them: its end is reported all the same. */
const OUTPUT_PATIENCE_MS = 200
/** A worker whose connection closed is ending, mostly. Only one that has not ended by then is killed. */
const UNREACHABLE_PATIENCE_MS = 1000
/** The driver that started this node knows its tag beforehand. */
const FIRST_DRIVER: WorkerTag = 1
/** How long the node waits at its end for the last words of its workers. */
const LAST_WORDS_MS = 250
const STORED_EVERY_MS = 1000

interface Client {
  readonly socket: net.Socket
  tag: WorkerTag
  kind: 'driver' | 'worker' | 'thread' | null
  pid: number
  startupToken: string
  pending: Buffer[]
  isScheduled: boolean
  registration: (ToNode & { t: 'register' }) | null
  isAdopted: boolean
}

interface WorkerProcess {
  readonly child: ChildProcess
  tag: WorkerTag
  exit: { code: number | null; signal: string | null } | null
  isDisconnected: boolean
  readonly stderr: WorkerOutput
  /** Gives the log files the name of its job, once known. */
  nameLogs: ((jobId: JobId) => void) | null
}

export class NodeServer {
  readonly #config: NodeConfig
  /** Set by `listen`. */
  #gcs!: GcsPort
  readonly #connectGcs: () => RemoteGcs | LocalGcs
  #peers: Peers | null = null
  readonly #raylet: Raylet
  readonly #store: NodeStore
  readonly #transfer: ObjectTransfer
  readonly #logs: LogRoads
  readonly #survey: Survey
  readonly #clients = new Map<WorkerTag, Client>()
  readonly #processes = new Map<string, WorkerProcess>()
  readonly #byTag = new Map<WorkerTag, WorkerProcess>()
  readonly #timers = new Map<string, NodeJS.Timeout>()
  readonly #server = net.createServer((socket) => this.#accept(socket))
  #ownTag: WorkerTag | undefined
  #ownSequence = 0
  #isEnding = false
  #hasDriver = false
  #clusterId = ''
  #onRegistered: () => void = () => {}
  readonly #questions: RoomQuestions
  /** Registered before a tag was there. */
  #tagless: { readonly client: Client; readonly message: ToNode & { t: 'register' } }[] = []

  constructor(config: NodeConfig) {
    this.#config = config
    const { system } = config
    const perCpu = Math.max(1, Math.ceil(config.cpus))
    const { nodeId, cluster } = config
    const events = {
      onConnected: () => this.#gcs.send(this.#registration()),
      onMessage: (message: GcsToNode) => this.#fromGcs(message),
      onGone: (detail: string) => {
        console.error(`this node ends: ${detail}`)
        this.end(detail)
      },
    }
    this.#connectGcs = () => {
      if (cluster) return new RemoteGcs(nodeId, cluster, system, events)
      return new LocalGcs(nodeId, system, events)
    }
    this.#raylet = new Raylet({
      nodeId: config.nodeId,
      total: config.total,
      numWorkersSoftLimit: system.numWorkersSoftLimit < 0 ? perCpu : system.numWorkersSoftLimit,
      maxStarting: system.workerMaximumStartupConcurrency || perCpu,
      idleMs: system.idleWorkerKillingTimeThresholdMs,
      idleCheckMs: system.killIdleWorkersIntervalMs,
      prestart: Math.min(Math.ceil(config.cpus), 64),
      registerTimeoutMs: system.workerRegisterTimeoutSeconds * 1000,
      memoryThreshold: system.memoryUsageThreshold,
      labels: config.labels,
    })
    this.#store = new NodeStore(config.store, {
      onPressure: () => this.#broadcast({ t: 'object.collect' }),
      recycle: (maker, storageIds) => {
        if (!this.#clients.has(maker)) return false
        this.#send(maker, { t: 'object.recycle', storageIds })
        return true
      },
      spilled: (maker, storageIds) => this.#send(maker, { t: 'object.spilled', storageIds }),
      freed: (storageIds) => this.#peers && this.#transfer.freed(storageIds),
      evicted: (storageIds) => this.#transfer.evicted(storageIds),
    })
    this.#survey = new Survey({
      send: (to, message) => this.#send(to, message),
      processes: () => this.#clients.values(),
      here: () => workOf(this.#raylet),
      status: () => (this.#gcs instanceof LocalGcs ? this.#gcs.gcs.status() : null),
    })
    this.#transfer = this.#makeTransfer()
    this.#questions = new RoomQuestions({
      learn: () => {
        this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event: { t: 'askRooms' } }))
      },
      nodes: () => [this.#nodeInfo(), ...[...this.#raylet.view.all()].map(infoOf)], // Others as they were last heard of.
    })
    this.#logs = new LogRoads({
      host: cluster?.host ?? '',
      send: (to, message, address) => this.#peers?.send(to, message, address),
      keptBytes: (peer) => this.#peers?.keptBytes(peer) ?? 0,
      others: () => this.#raylet.view.others(),
    })
  }

  #makeTransfer(): ObjectTransfer {
    const { nodeId, cluster, system } = this.#config
    const { view } = this.#raylet
    return new ObjectTransfer({
      nodeId,
      token: cluster?.token ?? null,
      store: this.#store,
      folder: cluster ? offerFolder(this.#config.store.shmDir) : null,
      budgetBytes: system.objectManagerMaxBytesInFlight,
      stallMs: system.objectManagerPullTimeoutMs,
      nodeOf: (tag) => view.nodeOf(tag),
      hasEnded: (owner) => !this.#raylet.hub.isAlive(owner),
      addressOf: (peer) => view.get(peer)?.address,
      toPeer: (peer, message) => this.#peers?.send(peer, message, view.get(peer)?.address ?? null),
      promote: (storageId, owner, size) => this.#promote(storageId, owner, size),
      rescued: (owner, storageId, copy) => this.#send(owner, { t: 'object.rescued', storageId, copy }),
      located: (reader, storageId, where) => this.#send(reader, { t: 'object.located', storageId, where }),
    })
  }

  get socketPath(): string {
    return path.join(this.#config.session.socketsDir, 'raylet')
  }

  async listen(): Promise<void> {
    const { session, store, nodeId, system } = this.#config
    noteProcess(path.join(session.dir, 'node.pid'))
    // What programs need that join by address.
    const shared: JoinInfo = { store, nodeId, system }
    fs.writeFileSync(path.join(session.dir, 'node.json'), JSON.stringify(shared), { mode: 0o600 })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.socketPath, resolve)
    })
    await this.#join()
    this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'start' }))
    this.#watchMemory()
    this.#watchStore()
  }

  /** Becomes a member; alone, of a cluster of one. */
  async #join(): Promise<void> {
    const { cluster, nodeId } = this.#config
    if (cluster) {
      this.#peers = await Peers.listen(nodeId, cluster, {
        hello: (peer) => this.#raylet.hello(this.#clusterId, PROTOCOL_VERSION, peer),
        onBulk: this.#transfer.accept,
        work: (question) => this.#survey.work(question),
        onLost: (nodeId, detail) => {
          const event = { t: 'peerLost', nodeId, detail } as const
          this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
        },
        onMessage: (peer, message) => {
          if (isOfTransfer(message)) return this.#transfer.onPeer(peer, message)
          if (isOfLogs(message)) return this.#logs.onPeer(peer, message)
          const event = { t: 'fromPeer', nodeId: peer, message } as const
          this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
        },
      })
    }
    const registered = new Promise<void>((resolve) => {
      this.#onRegistered = resolve
    })
    this.#gcs = this.#connectGcs()
    if (this.#gcs instanceof LocalGcs) {
      this.#gcs.start()
      this.#raylet.takeTag() // FIRST_DRIVER
    }
    await registered
  }

  #fromGcs(message: GcsToNode): void {
    if (message.t === 'job.made') {
      const client = this.#clients.get(message.tag)
      if (client) this.#adopted(client, message.jobId, message.namespace)
      return
    }
    if (message.t === 'node.registered') this.#clusterId = message.clusterId
    if (message.t === 'node.registered' || message.t === 'nodes.changed') this.#meet(message.nodes)
    const isQuestion = message.t === 'node.drainIfIdle'
    const event = isQuestion
      ? ({ ...message, t: 'drainIfIdle', holdsValues: !this.#store.isEmpty } as const)
      : ({ t: 'fromGcs', message } as const)
    this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
    if (message.t === 'node.registered') this.#onRegistered()
    if (message.t === 'node.registered' || message.t === 'tags.granted') this.#registerWaiting()
  }

  #meet(views: readonly NodeView[]): void {
    const others = views.filter(({ nodeId }) => nodeId !== this.#config.nodeId)
    for (const { nodeId, address } of others) this.#peers?.learnAddress(nodeId, address)
    this.#logs.nodes(others)
  }

  #watchMemory(): void {
    const { memoryMonitorRefreshMs, memoryUsageThreshold, nodeMemoryLimitBytes } = this.#config.system
    startMemoryMonitor({
      refreshMs: memoryMonitorRefreshMs,
      threshold: memoryUsageThreshold,
      limitBytes: nodeMemoryLimitBytes,
      workers: () => [...this.#byTag].map(([tag, { child }]) => [tag, child.pid ?? 0] as const),
      mustMeasure: () => [...this.#raylet.leases.leases.values()].some(({ spec }) => spec.heapMiB !== undefined),
      onReading: (reading) => {
        const event = { t: 'memory', reading } as const
        this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
      },
    })
  }

  /** Ray's name for it, among the logs: leases, workers and what this node knows of others, for people who look for what is stuck. */
  writeDebugState(): void {
    const state = { ...debugState(this.#raylet), store: this.#store.stats(), transfer: this.#transfer.stats() }
    fs.writeFileSync(path.join(this.#config.session.logsDir, 'debug_state.txt'), `${JSON.stringify(state, null, 1)}\n`)
  }

  get #storedBytes(): number {
    return Number(this.#store.stats().shmBytes ?? 0)
  }

  /** For the GCS, which shows what all nodes store. */
  #watchStore(): void {
    setInterval(() => {
      const event = { t: 'stored', bytes: this.#storedBytes } as const
      this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
    }, STORED_EVERY_MS).unref()
  }

  /** Ends everything (S2). */
  end(detail: string): void {
    if (this.#isEnding) return
    this.#isEnding = true
    this.#broadcast({ t: 'node.ending', detail })
    for (const { child } of this.#processes.values()) killGroup(child, 'SIGKILL')
    this.#server.close()
    this.#gcs?.send({ t: 'node.leaving', detail })
    this.#gcs?.close()
    this.#peers?.close()
    this.#transfer.close()
    this.#store.close()
    removeSession(this.#config.session)
    const leave = (): void => {
      // Workers that died in the middle of a write may have made files after the first sweep.
      removeSession(this.#config.session)
      setImmediate(() => process.exit(0)) // The last lines for drivers have left by then.
    }
    setTimeout(leave, LAST_WORDS_MS)
    const ends = [...this.#processes.values()].map(
      ({ child }) => new Promise((resolve) => child.once('close', resolve)),
    )
    void Promise.all(ends).then(() => setImmediate(leave))
  }

  #accept(socket: net.Socket): void {
    const client: Client = {
      socket,
      tag: -1,
      kind: null,
      pid: 0,
      startupToken: '',
      pending: [],
      isScheduled: false,
      registration: null,
      isAdopted: false,
    }
    const reader = new FrameReader((buffer, start, end) => {
      this.#receive(client, decodeMessage<ToNode>(buffer.subarray(start, end)))
    }, CONTROL_FRAME_BYTES_MAX)
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk)
      } catch (error) {
        if (error instanceof InvariantError) throw error
        console.error(`a connection sent what is no message and is closed: ${String(error)}`)
        socket.destroy()
      }
    })
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#disconnected(client))
  }

  #receive(client: Client, message: ToNode): void {
    if (client.kind === null) {
      if (message.t === 'register') this.#register(client, message)
      else if (message.t === 'ask') void this.#survey.answer(message).then((answer) => this.#write(client, answer))
      else client.socket.destroy()
      return
    }
    switch (message.t) {
      case 'object.created':
        this.#store.created(message.storageId, message.owner, message.size, message.spilled)
        if (this.#peers) this.#transfer.made(message.storageId)
        // Its owner died before the word of it came: nobody would free it.
        if (!this.#raylet.hub.isAlive(message.owner)) this.#store.free([message.storageId], -1)
        return
      case 'object.locate':
        return this.#transfer.locate(client.tag, message.storageId)
      case 'object.rescue':
        return this.#transfer.rescue(client.tag, message.storageIds, message.of)
      case 'object.unlocate':
        return this.#transfer.unlocate(client.tag, message.storageId)
      case 'cluster.resources':
      case 'cluster.nodes':
        return this.#questions.ask(message, (answer) => this.#send(client.tag, answer))
      case 'node.stats': {
        const stats = {
          ...this.#raylet.stats(),
          ...(this.#gcs instanceof LocalGcs ? { actors: this.#gcs.gcs.actors.size } : {}),
          ...this.#store.stats(),
          ...this.#transfer.stats(),
        }
        this.#send(client.tag, { t: 'node.statsAre', requestId: message.requestId, stats })
        return
      }
      case 'work.is':
        return this.#survey.onAnswer(client.tag, message)
      case 'log.flush':
        return this.#logs.flush(() => this.#send(client.tag, { t: 'log.flushed', requestId: message.requestId }))
      case 'worker.unreachable':
        setTimeout(() => this.#unreachable(message.tag), UNREACHABLE_PATIENCE_MS).unref()
        return
      case 'node.shutdown':
        return this.end('ray.shutdown()')
      default:
        this.#step(client.tag, message)
    }
  }

  #step(from: WorkerTag, message: ToNode): void {
    const now = monotonicMs()
    if (isForGcs(message)) this.#gcs.send({ t: 'forward', from, message })
    else this.#performRaylet(this.#raylet.step(now, { kind: 'message', from, message }))
  }

  #register(client: Client, message: ToNode & { t: 'register' }): void {
    client.pid = message.pid
    client.startupToken = message.startupToken
    if (message.protocol !== PROTOCOL_VERSION) {
      const params = { own: message.protocol, theirs: PROTOCOL_VERSION }
      this.#write(client, { t: 'register.refused', error: { code: 'PROTOCOL_MISMATCH', params } })
      client.socket.end()
      return
    }
    const isFirst = message.kind === 'driver' && !this.#hasDriver && !this.#config.cluster
    const tag = isFirst ? FIRST_DRIVER : this.#raylet.takeTag()
    if (tag === undefined) {
      this.#tagless.push({ client, message })
      return
    }
    client.kind = message.kind
    client.tag = tag
    client.registration = message
    this.#clients.set(tag, client)
    const worker = this.#processes.get(message.startupToken)
    if (worker) {
      worker.tag = tag
      this.#byTag.set(tag, worker)
    }
    if (message.kind !== 'driver') return this.#adopted(client, '01000000', message.namespace ?? this.#config.namespace)
    this.#hasDriver = true
    const { pid, jobName: name } = message
    this.#gcs.send({ t: 'job.begin', tag, pid, name, namespace: message.namespace ?? this.#config.namespace })
  }

  #registerWaiting(): void {
    const waiting = this.#tagless
    this.#tagless = []
    for (const { client, message } of waiting) if (!client.socket.destroyed) this.#register(client, message)
  }

  /** Its job is known: it is a member. */
  #adopted(client: Client, jobId: JobId, namespace: string): void {
    const { registration: message, tag } = client
    if (!message || client.isAdopted) return
    client.isAdopted = true
    const { nodeId, cluster } = this.#config
    if (client.kind === 'driver') this.#adoptDriver(client, jobId)
    this.#send(tag, { t: 'registered', tag, nodeId, jobId, namespace, token: cluster?.token ?? null, config: {} })
    const { workerId, pid, socket, tcp } = message
    const address = { tag, workerId, pid, socket, nodeId, ...(tcp ? { tcp } : {}) }
    const job = client.kind === 'driver' ? { job: { jobId, namespace } } : {}
    const event = { t: 'registered', kind: message.kind, startupToken: message.startupToken, address, ...job } as const
    this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
  }

  #adoptDriver(client: Client, jobId: JobId): void {
    if (!this.#config.logToDriver || client.registration?.logToDriver === false) return
    const send = (message: FromNode): void => this.#write(client, message)
    this.#logs.add(client.tag, { jobId, send, unreadBytes: () => client.socket.writableLength })
  }

  #disconnected(client: Client): void {
    if (client.kind === null) return
    const worker = this.#byTag.get(client.tag)
    if (worker) {
      worker.isDisconnected = true
      this.#reportIfGone(worker)
      // A worker without its node is of no use; most are ending already.
      if (worker.exit === null) setTimeout(() => killGroup(worker.child, 'SIGKILL'), 200).unref()
      return
    }
    this.#gone(client.tag, client.pid, null, null, [])
  }

  #unreachable(tag: WorkerTag): void {
    if (this.#isEnding || !(this.#byTag.has(tag) || this.#raylet.view.isRemote(tag))) return
    const detail = 'its connection to a process that had given it work was closed'
    const event = { t: 'unreachable', tag, detail } as const
    this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
  }

  #reportIfGone(worker: WorkerProcess): void {
    if (!worker.isDisconnected || !worker.exit || worker.tag < 0) return
    const { code, signal } = worker.exit
    this.#byTag.delete(worker.tag)
    this.#gone(worker.tag, worker.child.pid ?? 0, code, signal, worker.stderr.tail)
  }

  #gone(tag: WorkerTag, pid: number, code: number | null, signal: string | null, lastLines: readonly string[]): void {
    this.#clients.delete(tag)
    if (this.#isEnding) return
    this.#logs.remove(tag)
    this.#survey.onGone(tag)
    for (const [owner, storageIds] of this.#store.madeBy(tag)) this.#tellLeft(owner, tag, storageIds)
    this.#store.onWorkerDied(tag)
    this.#transfer.readerGone(tag)
    this.#transfer.ownerGone(tag)
    const event = { t: 'gone', tag, pid, code, signal, lastLines } as const
    this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
  }

  get #address(): NodeAddress {
    return this.#peers?.address ?? { host: '127.0.0.1', port: 0 }
  }

  #registration(): NodeToGcs {
    const { nodeId, labels, session } = this.#config
    return {
      t: 'node.register',
      ...{ nodeId, labels, protocol: PROTOCOL_VERSION, version: '', address: this.#address },
      ...{
        hostname: os.hostname(),
        pid: process.pid,
        sessionDir: session.dir,
        isHead: this.#config.cluster?.isHead ?? true,
      },
      total: this.#raylet.leases.own,
      state: this.#raylet.state(),
    }
  }

  #tellLeft(owner: WorkerTag, maker: WorkerTag, storageIds: readonly ObjectId[]): void {
    const { view } = this.#raylet
    const nodeId = view.isRemote(owner) ? view.nodeOf(owner) : undefined
    if (nodeId === undefined) return this.#send(owner, { t: 'object.left', maker, storageIds })
    this.#peers?.send(nodeId, { t: 'object.left', owner, maker, storageIds }, view.get(nodeId)?.address ?? null)
  }

  #performRaylet(effects: ReturnType<Raylet['step']>): void {
    for (const effect of effects) {
      if (effect.kind === 'send') {
        if (effect.message.t === 'worker.assigned') this.#nameLogs(effect.to, effect.message.jobId)
        this.#send(effect.to, effect.message)
      } else if (effect.kind === 'timer') {
        this.#setTimer(`raylet:${effect.key}`, effect.at, () => {
          this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'timer', key: effect.key }))
        })
      } else if (effect.kind === 'local') this.#performLocal(effect.event)
    }
  }

  #performLocal(event: RayletEffect): void {
    switch (event.t) {
      case 'spawnWorker':
        return this.#spawn(event)
      case 'killProcess':
        return killGroup(this.#byTag.get(event.tag)?.child, event.signal)
      case 'killStarting':
        return killGroup(this.#processes.get(event.startupToken)?.child, 'SIGKILL')
      case 'toGcs':
        return this.#gcs.send(event.message)
      case 'freeStored':
        return this.#free(event.storageIds, event.from)
      case 'broadcast':
        return this.#broadcast(event.message)
      case 'toPeer':
        return this.#peers?.send(event.nodeId, event.message, this.#raylet.view.get(event.nodeId)?.address ?? null)
      case 'meet':
        return this.#peers?.meet(event.nodeId, this.#raylet.view.get(event.nodeId)?.address ?? null)
      case 'peerDied':
        this.#peers?.end(event.nodeId)
        return this.#transfer.nodeDied(event.nodeId)
      case 'ownerGone':
        return this.#store.onOwnersDied(event.tag, event.count)
      case 'doubt':
        setTimeout(() => this.#unreachable(event.tag), UNREACHABLE_PATIENCE_MS).unref()
        return
      case 'leaveIfEmpty':
        if (!this.#store.isEmpty) return
        return this.#gcs.send({ t: 'node.leaving', detail: event.detail })
      case 'roomsKnown':
        return this.#questions.known()
      case 'endNode':
        return this.end(event.detail)
    }
  }

  /** Values of this node's makers, or copies of others', whose home says so. */
  #free(storageIds: readonly ObjectId[], from: WorkerTag): void {
    const isCopy = (id: ObjectId): boolean => this.#raylet.view.isRemote(ownerOf(id))
    this.#store.free(
      storageIds.filter((id) => !isCopy(id)),
      from,
    )
    this.#transfer.freed(storageIds.filter(isCopy))
  }

  /** Such copies have a maker's tag that no process has: theirs is the node itself. */
  #promote(storageId: ObjectId, owner: WorkerTag, size: number): ObjectId | null {
    this.#ownTag ??= this.#raylet.takeTag()
    if (this.#ownTag === undefined) return null
    const copy = makeObjectId(this.#ownTag, ++this.#ownSequence)
    if (!this.#store.promote(storageId, copy, owner, size)) return null
    if (!this.#raylet.hub.isAlive(owner)) this.#store.free([copy], -1)
    return copy
  }

  #setTimer(key: string, at: number, run: () => void): void {
    clearTimeout(this.#timers.get(key))
    this.#timers.set(
      key,
      setTimeout(() => {
        this.#timers.delete(key)
        if (!this.#isEnding) run()
      }, msUntil(at)),
    )
  }

  #spawn(order: RayletEffect & { t: 'spawnWorker' }): void {
    const { session, execArgv, workerEntry, cwd, store, gpus, system, logging, cluster } = this.#config
    const workerId = randomHex(28)
    const config: WorkerConfig = {
      startupToken: order.startupToken,
      workerId,
      nodeSocket: this.socketPath,
      nodePid: process.pid,
      ownSocket: path.join(session.socketsDir, order.startupToken),
      store,
      runtimeEnv: order.runtimeEnv,
      gpus,
      system,
      logging,
      ...(cluster ? { network: { listenHost: cluster.host, host: cluster.host, token: cluster.token } } : {}),
    }
    const args = [...execArgv, ...(order.heapMiB > 0 ? [`--max-old-space-size=${order.heapMiB}`] : []), workerEntry]
    const child = spawn(process.execPath, args, {
      cwd: order.runtimeEnv.workingDir ?? cwd,
      env: {
        ...process.env,
        // Without a GPU of its own, a task sees none.
        ...(gpus.length > 0 ? { CUDA_VISIBLE_DEVICES: '' } : {}),
        ...order.runtimeEnv.envVars,
        [WORKER_CONFIG_VARIABLE]: JSON.stringify(config),
        RAY_TS_CODE_CACHE: path.join(session.dir, 'worker.code'), // Read by what scripts/cached-core.ts makes.
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // S3
    })
    const { stderr, nameLogs } = this.#watchOutput(child, order.startupToken, workerId)
    const worker: WorkerProcess = { child, tag: -1, exit: null, isDisconnected: false, stderr, nameLogs }
    this.#processes.set(order.startupToken, worker)
    child.on('error', (error) => this.#startFailed(order.startupToken, error.message))
    const ended = (): void => this.#ended(order.startupToken, worker)
    child.on('close', ended)
    child.on('exit', () => {
      killGroup(child, 'SIGKILL') // S3: only what it left behind is still there.
      setTimeout(ended, OUTPUT_PATIENCE_MS).unref()
    })
  }

  /** The process is gone, and its last output read. */
  #ended(startupToken: string, worker: WorkerProcess): void {
    if (worker.exit) return
    const { exitCode: code, signalCode: signal } = worker.child
    worker.exit = { code, signal }
    this.#processes.delete(startupToken)
    fs.rmSync(path.join(this.#config.session.socketsDir, startupToken), { force: true })
    if (worker.tag < 0) this.#startFailed(startupToken, worker.stderr.tail.join('\n') || `exit code ${code ?? signal}`)
    else this.#reportIfGone(worker)
  }

  /** Log files by Ray's names, and lines for the drivers of the worker's job. */
  #watchOutput(
    child: ChildProcess,
    startupToken: string,
    workerId: string,
  ): { stderr: WorkerOutput; nameLogs: (jobId: JobId) => void } {
    const { session, system, cluster } = this.#config
    const fileOf = (jobId: JobId, kind: string): string =>
      path.join(session.logsDir, `worker-${workerId}-${jobId}-${child.pid}.${kind}`)
    const nobody = 'ffffffff' // A worker may serve any job, until its first lease.
    const limits = { bytesMax: system.logRotationMaxBytes, backups: system.logRotationBackupCount }
    const onLines = (lines: OutputLines): void => {
      const jobId = this.#jobOf(startupToken)
      this.#logs.lines(jobId, { ...lines, pid: child.pid ?? 0, jobId: jobId ?? '', ip: cluster?.host ?? '' })
    }
    if (!child.stdout || !child.stderr) throw new Error('a worker has no output pipes')
    const stdout = new WorkerOutput(child.stdout, { file: fileOf(nobody, 'out'), limits, isError: false, onLines })
    const stderr = new WorkerOutput(child.stderr, { file: fileOf(nobody, 'err'), limits, isError: true, onLines })
    const nameLogs = (jobId: JobId): void => {
      stdout.renameFile(fileOf(jobId, 'out'))
      stderr.renameFile(fileOf(jobId, 'err'))
    }
    return { stderr, nameLogs }
  }

  #nameLogs(tag: WorkerTag, jobId: JobId): void {
    const worker = this.#byTag.get(tag)
    worker?.nameLogs?.(jobId)
    if (worker) worker.nameLogs = null
  }

  /** null: any job's, so far. */
  #jobOf(startupToken: string): JobId | null {
    const tag = this.#processes.get(startupToken)?.tag ?? -1
    return this.#raylet.pool.workers.get(tag)?.jobId ?? null
  }

  #startFailed(startupToken: string, detail: string): void {
    if (this.#isEnding) return
    const event = { t: 'startFailed', startupToken, detail } as const
    this.#performRaylet(this.#raylet.step(monotonicMs(), { kind: 'local', event }))
  }

  #send(to: WorkerTag, message: FromNode): void {
    const client = this.#clients.get(to)
    if (client) this.#write(client, message)
  }

  #broadcast(message: FromNode): void {
    for (const client of this.#clients.values()) this.#write(client, message)
  }

  #write(client: Client, message: FromNode): void {
    const body = encodeMessage(message)
    const head = Buffer.allocUnsafe(4)
    head.writeUInt32LE(body.length)
    client.pending.push(head, body)
    if (client.isScheduled) return
    client.isScheduled = true
    process.nextTick(() => {
      client.isScheduled = false
      client.socket.write(Buffer.concat(client.pending))
      client.pending = []
    })
  }

  #nodeInfo(): NodeInfo {
    const { nodeId, labels, session } = this.#config
    const { total, free } = this.#raylet.leases
    return {
      nodeId,
      alive: true,
      isDraining: this.#raylet.draining.isOn,
      address: this.#address.host,
      hostname: os.hostname(),
      pid: process.pid,
      total,
      available: lessStored(free, this.#storedBytes),
      labels,
      sessionDir: session.dir,
      deathReason: null,
    }
  }
}

function killGroup(child: ChildProcess | undefined, signal: 'SIGKILL' | 'SIGTERM'): void {
  if (!child?.pid) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    child.kill(signal) // Its group is gone, or not made yet.
  }
}

function infoOf(view: NodeView): NodeInfo {
  const { nodeId, state, address, hostname, pid, bundled, available, labels, sessionDir, deathReason } = view
  const alive = state !== 'DEAD'
  const total = { ...view.total, ...bundled }
  const isDraining = state === 'DRAINING'
  return {
    nodeId,
    alive,
    isDraining,
    address: address.host,
    hostname,
    pid,
    total,
    available,
    labels,
    sessionDir,
    deathReason,
  }
}

const OF_TRANSFER: ReadonlySet<string> = new Set([
  'object.find',
  'object.holders',
  'object.dropped',
  'object.copied',
  'object.promote',
  'object.promoted',
])

function isOfTransfer(message: RayletToRaylet): message is PeerMessage {
  return OF_TRANSFER.has(message.t)
}

function isOfLogs(message: RayletToRaylet): message is LogMessage {
  return message.t.startsWith('log.')
}

function isForGcs(message: ToNode): boolean {
  return message.t.startsWith('actor.') || message.t.startsWith('kv.') || message.t.startsWith('pg.')
}
