// One simulated node: GCS and raylet composed as `runtime/node-server.ts` composes them, its processes, its store and its faults.
//
//   S1. A process that registered is reported gone once, when its connection has closed and (for workers) the process has ended.

import type { RemoteFunctionEntry } from '../core-worker/effects.ts'
import { Gcs } from '../gcs/gcs.ts'
import { type ActorId, formatJobId, type WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import { Raylet, type RayletEffect } from '../raylet/raylet.ts'
import type { NodeToGcs } from '../wire/cluster.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import { type FromNode, PROTOCOL_VERSION, type ToNode } from '../wire/messages.ts'
import type { Bug } from './bugs.ts'
import { CoreShell } from './core-shell.ts'
import { SimExecutor } from './executor.ts'
import type { Faults } from './faults.ts'
import { Judge } from './judge.ts'
import { ControlLink, describe } from './link.ts'
import { connect, type Latency, type Receiver, type Socket } from './network.ts'
import { SimProcess } from './processes.ts'
import { SimStore } from './store.ts'
import type { World } from './world.ts'

/** More processes than a seed starts. */
const NO_TAG: WorkerTag = 2 ** 21 - 1
const NODE_ID = '00'.repeat(28)
/** How long the node waits for a worker whose connection closed, before it kills it. */
const CLOSED_GRACE_MS: Ms = 200
/** How long the node waits for the end of a worker whose connection to an owner broke. */
const UNREACHABLE_PATIENCE_MS: Ms = 1000

interface Client {
  readonly socket: Socket
  readonly os: SimProcess
  tag: WorkerTag
  kind: 'driver' | 'worker' | 'thread' | null
  startupToken: string
  isDisconnected: boolean
  isReported: boolean
  pending: Buffer[]
}

export interface WorkerProcess {
  readonly os: SimProcess
  readonly token: string
  shell: CoreShell | null
  executor: SimExecutor | null
}

export class Cluster {
  readonly world: World
  readonly bugs: Bug
  readonly store = new SimStore()
  readonly judge: Judge
  readonly gcs: Gcs
  readonly raylet: Raylet
  readonly shells = new Map<WorkerTag, CoreShell>()
  readonly workers = new Map<string, WorkerProcess>()
  readonly node: SimProcess
  faults: Faults
  readonly hadStartFailures: boolean
  #pids = 100
  #actorIds = 0
  #jobs = 0
  readonly #clients = new Map<WorkerTag, Client>()
  readonly #bySocketPath = new Map<string, WorkerProcess>()
  readonly #functions = new Map<CoreShell, Map<string, RemoteFunctionEntry>>()
  readonly #timers = new Map<string, number>()
  readonly #clientsOf = new Map<SimProcess, Client>()

  constructor(world: World, faults: Faults, bug: Bug) {
    this.world = world
    this.faults = faults
    this.hadStartFailures = faults.startFailureChance > 0 || faults.killEveryMs > 0
    this.bugs = bug
    this.judge = new Judge(this)
    this.node = new SimProcess(world, 1, 'node')
    this.node.onTurnEnd = () => this.#flushAll()
    this.gcs = new Gcs({
      clusterId: 'sim',
      actorGracefulShutdownMs: 400,
      health: { periodMs: 3000, timeoutMs: 10_000, failureThreshold: 5 },
      reconnectGraceMs: 500,
      system: {},
    })
    this.raylet = new Raylet({
      nodeId: NODE_ID,
      total: faults.total,
      numWorkersSoftLimit: faults.softLimit,
      maxStarting: faults.maxStarting,
      idleMs: faults.idleMs,
      idleCheckMs: 20,
      prestart: faults.prestart,
    })
    bug.gcs?.(this.gcs)
    bug.raylet?.(this.raylet)
  }

  readonly latency = (): Latency => this.faults

  /** A worker is about to write: it may be killed just before (P1). */
  mayTear(os: SimProcess): void {
    if (!this.workers.has(os.name) || !this.world.tears.chance(this.faults.tearChance)) return
    os.die({ code: null, signal: 'SIGKILL' }, false)
  }

  start(): void {
    this.node.enter(() => {
      this.#toGcs({
        t: 'node.register',
        ...{ nodeId: NODE_ID, protocol: PROTOCOL_VERSION, version: '', address: { host: 'sim', port: 0 }, pid: 1 },
        ...{ hostname: 'sim', sessionDir: '', isHead: true, total: this.faults.total, labels: {} },
        state: this.raylet.state(),
      })
      this.#performRaylet(this.raylet.step(this.world.now, { kind: 'start' }))
    })
  }

  isAlive(tag: WorkerTag): boolean {
    return this.shells.get(tag)?.os.isAlive === true
  }

  nextActorId(): ActorId {
    return (++this.#actorIds).toString(16).padStart(32, '0')
  }

  /** The entry of a function or method in one process; definitions are put by whoever uses them. */
  functionOf(shell: CoreShell, key: string): RemoteFunctionEntry {
    let known = this.#functions.get(shell)
    if (!known) this.#functions.set(shell, (known = new Map()))
    let entry = known.get(key)
    if (!entry) {
      entry = { key, name: key, averageMicros: -1 }
      known.set(key, entry)
      if (key.startsWith('fn:')) shell.link.send({ t: 'kv.put', key, value: Buffer.from(key), overwrite: false })
    }
    return entry
  }

  // Processes

  startDriver(name: string, onReady: (shell: CoreShell) => void): SimProcess {
    const os = this.#makeProcess(name)
    os.enter(() => this.#boot(os, '', 'driver', name, (shell) => onReady(shell)))
    return os
  }

  exitActor(shell: CoreShell): void {
    const found = [...this.workers.values()].find((worker) => worker.shell === shell)
    const actor = this.judge.actorOn(shell.tag)
    if (found && actor)
      shell.link.send({
        t: 'actor.exited',
        actorId: actor.actorId,
        incarnation: actor.incarnation,
        detail: 'exitActor',
      })
  }

  #makeProcess(name: string): SimProcess {
    return new SimProcess(this.world, ++this.#pids, `${name}`)
  }

  /** Connects to the node and registers; `onReady` when the node has answered. */
  #boot(
    os: SimProcess,
    startupToken: string,
    kind: 'driver' | 'worker',
    socketPath: string,
    onReady: (shell: CoreShell, link: ControlLink) => void,
    onMessage?: (message: FromNode, shell: CoreShell) => boolean,
  ): void {
    let shell: CoreShell | null = null
    const link: ControlLink = new ControlLink(
      this,
      os,
      (message) => {
        if (message.t === 'registered') {
          shell = new CoreShell(this, os, message.tag, link)
          this.shells.set(message.tag, shell)
          onReady(shell, link)
          return
        }
        if (shell && !onMessage?.(message, shell)) shell.onMessage(message)
      },
      () => {
        if (kind === 'worker') os.die({ code: 0, signal: null }, false)
        else shell?.onNodeGone()
      },
    )
    link.send({
      t: 'register',
      kind,
      startupToken,
      workerId: '00'.repeat(28),
      pid: os.pid,
      socket: socketPath,
      namespace: 'sim',
      jobName: '',
      protocol: 1,
    })
    os.onTurnEnd = () => {
      if (shell) shell.turnEnd()
      else link.flush()
    }
  }

  #spawn(token: string): void {
    const { random } = this.world
    const os = this.#makeProcess(token)
    const worker: WorkerProcess = { os, token, shell: null, executor: null }
    this.workers.set(token, worker)
    this.#bySocketPath.set(token, worker)
    os.onEnd = () => this.#workerEnded(worker)
    const delay = 1 + random.next() * (random.chance(0.2) ? this.faults.startMaxMs : 10)
    this.world.after(delay, () => {
      if (random.chance(this.faults.startFailureChance)) os.die({ code: 1, signal: null }, false)
      else os.enter(() => this.#bootWorker(worker))
    })
  }

  #bootWorker(worker: WorkerProcess): void {
    const { os, token } = worker
    const onReady = (shell: CoreShell): void => {
      const executor = new SimExecutor(shell)
      worker.shell = shell
      worker.executor = executor
      const { turnEnd } = { turnEnd: os.onTurnEnd }
      os.onTurnEnd = () => {
        shell.settle()
        executor.turnEnd()
        turnEnd?.()
      }
      for (const socket of this.#early.get(token) ?? []) executor.accept(socket)
    }
    this.#boot(os, token, 'worker', token, onReady, (message) => {
      const { executor } = worker
      if (message.t === 'worker.exit') {
        if (worker.shell?.core.isNeeded) worker.shell.link.send({ t: 'worker.stays' })
        else executor?.exit(message.detail)
      } else if (message.t === 'actor.start') executor?.become(message.spec, message.incarnation)
      else if (message.t === 'actor.finish') executor?.finish()
      else return false
      return true
    })
  }

  readonly #early = new Map<string, Socket[]>()

  /** Connects to the socket on which a worker takes tasks. */
  dial(from: SimProcess, socketPath: string): Socket {
    const worker = this.#bySocketPath.get(socketPath)
    const target: Receiver = worker?.os ?? from
    const [own, theirs] = connect(this.world, this.latency, from, target)
    from.sockets.add(own)
    if (!worker?.os.isAlive) theirs.close()
    else {
      worker.os.sockets.add(theirs)
      if (worker.executor) worker.executor.accept(theirs)
      else this.#early.set(socketPath, [...(this.#early.get(socketPath) ?? []), theirs])
    }
    return own
  }

  // The node's side

  dialNode(from: SimProcess): Socket {
    const [own, theirs] = connect(this.world, this.latency, from, this.node)
    from.sockets.add(own)
    this.node.sockets.add(theirs)
    const client: Client = {
      socket: theirs,
      os: from,
      tag: -1,
      kind: null,
      startupToken: '',
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
    this.world.log(`node < ${client.tag} ${describe(message)}`)
    if (client.kind === null) {
      if (message.t === 'register') this.#register(client, message)
      return
    }
    if (message.t === 'worker.unreachable') {
      this.node.after(UNREACHABLE_PATIENCE_MS, () => {
        if (!this.#clients.has(message.tag)) return
        const event = { t: 'unreachable', tag: message.tag, detail: 'its connection broke' } as const
        this.#performRaylet(this.raylet.step(this.world.now, { kind: 'local', event }))
      })
      return
    }
    if (message.t === 'object.created') {
      this.store.created(message.storageId, message.owner)
      this.judge.onCreated(message.storageId, message.owner)
      if (!this.#clients.has(message.owner)) this.#freeStored([message.storageId], -1)
      return
    }
    this.judge.onNodeMessage(client.tag, message)
    const input = { kind: 'message', from: client.tag, message } as const
    const isForGcs = message.t.startsWith('actor.') || message.t.startsWith('kv.')
    if (isForGcs) this.#toGcs({ t: 'forward', from: client.tag, message })
    else this.#performRaylet(this.raylet.step(this.world.now, input))
  }

  #register(client: Client, message: ToNode & { t: 'register' }): void {
    client.kind = message.kind
    client.startupToken = message.startupToken
    client.tag = this.raylet.takeTag() ?? NO_TAG
    this.#clients.set(client.tag, client)
    const jobId = message.kind === 'driver' ? formatJobId(++this.#jobs) : '01000000'
    const hello = {
      t: 'registered',
      tag: client.tag,
      nodeId: NODE_ID,
      jobId,
      namespace: 'sim',
      token: null,
      config: {},
    } as const
    this.#write(client, hello)
    const { workerId, pid, socket } = message
    const address = { tag: client.tag, workerId, pid, socket, nodeId: NODE_ID }
    const event = { t: 'registered', kind: message.kind, startupToken: message.startupToken, address } as const
    this.#performRaylet(this.raylet.step(this.world.now, { kind: 'local', event }))
  }

  #disconnected(client: Client): void {
    client.isDisconnected = true
    if (client.kind === 'worker') {
      this.node.after(CLOSED_GRACE_MS, () => client.os.die({ code: null, signal: 'SIGKILL' }, false))
    }
    this.#reportIfGone(client)
  }

  /** The node hears of the end a little later than it happens. */
  #workerEnded(worker: WorkerProcess): void {
    const tag = this.#clientsOf.get(worker.os)?.tag ?? -1
    if (tag >= 0) this.judge.onProcessEnd(tag)
    this.world.after(this.world.random.next() * 3, () => {
      this.node.enter(() => {
        const client = this.#clientsOf.get(worker.os)
        if (!client || client.kind === null) {
          // What it sent before it died may still be on its way: the connection's close tells.
          if (client && !client.isDisconnected) {
            this.#awaitClose(client, worker)
            return
          }
          this.#startFailed(worker.token)
        } else this.#reportIfGone(client)
      })
    })
  }

  #awaitClose(client: Client, worker: WorkerProcess): void {
    this.node.after(1, () => {
      if (!client.isDisconnected) this.#awaitClose(client, worker)
      else if (client.kind === null) this.#startFailed(worker.token)
      else this.#reportIfGone(client)
    })
  }

  #startFailed(startupToken: string): void {
    const event = { t: 'startFailed', startupToken, detail: 'it would not start' } as const
    this.#performRaylet(this.raylet.step(this.world.now, { kind: 'local', event }))
  }

  #reportIfGone(client: Client): void {
    const { end } = client.os
    if (client.kind === null || client.isReported || !client.isDisconnected || end === null) return
    client.isReported = true
    const { tag } = client
    this.#clients.delete(tag)
    this.world.log(`node: ${tag} is gone`)
    for (const [owner, storageIds] of this.store.madeBy(tag))
      this.#send(owner, { t: 'object.left', maker: tag, storageIds })
    const owned = this.store.onDied(tag)
    if (owned.length > 0) this.#freeStored(owned, -1)
    const { code, signal } = end
    const event = { t: 'gone', tag, pid: client.os.pid, code, signal } as const
    this.#performRaylet(this.raylet.step(this.world.now, { kind: 'local', event }))
  }

  #toGcs(message: NodeToGcs): void {
    const event = { t: 'fromNode', nodeId: NODE_ID, message } as const
    this.#performGcs(this.gcs.step(this.world.now, { kind: 'local', event }))
  }

  #performGcs(effects: ReturnType<Gcs['step']>): void {
    for (const effect of effects) {
      if (effect.kind === 'timer') {
        this.#setTimer(`gcs:${effect.key}`, effect.at, () => {
          this.#performGcs(this.gcs.step(this.world.now, { kind: 'timer', key: effect.key }))
        })
      } else if (effect.kind === 'local' && effect.event.t === 'toNode') {
        for (const message of this.bugs.toRaylet?.(effect.event.message, this) ?? [effect.event.message]) {
          const event = { t: 'fromGcs', message } as const
          this.#performRaylet(this.raylet.step(this.world.now, { kind: 'local', event }))
        }
      }
    }
  }

  #performRaylet(effects: ReturnType<Raylet['step']>): void {
    this.raylet.check()
    for (const effect of effects) {
      if (effect.kind === 'send') this.#send(effect.to, effect.message)
      else if (effect.kind === 'timer') {
        this.#setTimer(`raylet:${effect.key}`, effect.at, () => {
          this.#performRaylet(this.raylet.step(this.world.now, { kind: 'timer', key: effect.key }))
        })
      } else if (effect.kind === 'local') this.#performLocal(effect.event)
    }
  }

  #performLocal(event: RayletEffect): void {
    switch (event.t) {
      case 'spawnWorker':
        return this.#spawn(event.startupToken)
      case 'killProcess': {
        const os = this.shells.get(event.tag)?.os ?? this.#clients.get(event.tag)?.os
        this.world.after(0.05, () => os?.die({ code: null, signal: event.signal }, false))
        return
      }
      case 'toGcs': {
        for (const message of this.bugs.toGcs?.(event.message, this) ?? [event.message]) this.#toGcs(message)
        return
      }
      case 'freeStored':
        return this.#freeStored(event.storageIds, event.from)
      case 'broadcast':
        for (const client of this.#clients.values()) this.#write(client, event.message)
        return
      default:
        return // Of other nodes: there are none.
    }
  }

  #freeStored(storageIds: readonly number[], from: WorkerTag): void {
    const byMaker = this.store.free(storageIds, from, (maker) => this.#clients.has(maker))
    for (const [maker, freed] of byMaker) this.#send(maker, { t: 'object.recycle', storageIds: freed })
  }

  #setTimer(key: string, at: Ms, run: () => void): void {
    const life = (this.#timers.get(key) ?? 0) + 1
    this.#timers.set(key, life)
    this.world.at(at, () => {
      if (this.#timers.get(key) === life) this.node.enter(run)
    })
  }

  #send(to: WorkerTag, message: FromNode): void {
    const client = this.#clients.get(to)
    if (!client) return
    for (const one of this.bugs.fromNode?.(message, to, this) ?? [message]) this.#write(client, one)
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
