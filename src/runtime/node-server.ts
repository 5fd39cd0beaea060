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
import { Gcs } from '../gcs/gcs.ts'
import type { WorkerTag } from '../ids/ids.ts'
import { Raylet, type RayletEffect } from '../raylet/raylet.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import { type FromNode, type NodeInfo, PROTOCOL_VERSION, type ToNode } from '../wire/messages.ts'
import { startMemoryMonitor } from './memory-monitor.ts'
import { type NodeConfig, WORKER_CONFIG_VARIABLE, type WorkerConfig } from './node-config.ts'
import { noteProcess, removeSession } from './session.ts'
import { NodeStore } from './shm/node-store.ts'
import { WorkerOutput } from './worker-output.ts'

/** A dead worker's pipes stay open when a child that left its group inherited them: its end is reported all the same. */
const OUTPUT_PATIENCE_MS = 200
/** A worker whose connection closed is ending, mostly. Only one that has not ended by then is killed. */
const UNREACHABLE_PATIENCE_MS = 1000
/** The driver that started this node knows its tag beforehand. */
const FIRST_DRIVER: WorkerTag = 1

interface Client {
  readonly socket: net.Socket
  tag: WorkerTag
  kind: 'driver' | 'worker' | 'thread' | null
  pid: number
  startupToken: string
  pending: Buffer[]
  isScheduled: boolean
}

interface WorkerProcess {
  readonly child: ChildProcess
  tag: WorkerTag
  exit: { code: number | null; signal: string | null } | null
  isDisconnected: boolean
  readonly stderr: WorkerOutput
}

export class NodeServer {
  readonly #config: NodeConfig
  readonly #gcs: Gcs
  readonly #raylet: Raylet
  readonly #store: NodeStore
  readonly #clients = new Map<WorkerTag, Client>()
  readonly #processes = new Map<string, WorkerProcess>()
  readonly #byTag = new Map<WorkerTag, WorkerProcess>()
  readonly #timers = new Map<string, NodeJS.Timeout>()
  readonly #server = net.createServer((socket) => this.#accept(socket))
  #isEnding = false
  #hasDriver = false

  constructor(config: NodeConfig) {
    this.#config = config
    this.#gcs = new Gcs({ actorGracefulShutdownMs: config.gracefulMs })
    this.#gcs.nextTag()
    this.#raylet = new Raylet({
      nodeId: config.nodeId,
      total: config.total,
      numWorkersSoftLimit: config.softLimit,
      maxStarting: config.maxStarting,
      idleMs: config.idleMs,
      idleCheckMs: config.idleCheckMs,
      prestart: config.prestart,
      memoryThreshold: config.memoryThreshold,
    })
    this.#store = new NodeStore(config.store, {
      onPressure: () => this.#broadcast({ t: 'object.collect' }),
      recycle: (maker, storageIds) => {
        if (!this.#clients.has(maker)) return false
        this.#send(maker, { t: 'object.recycle', storageIds })
        return true
      },
      spilled: (maker, storageIds) => this.#send(maker, { t: 'object.spilled', storageIds }),
    })
  }

  get socketPath(): string {
    return path.join(this.#config.session.socketsDir, 'raylet')
  }

  async listen(): Promise<void> {
    const { session, store, nodeId } = this.#config
    noteProcess(path.join(session.dir, 'node.pid'))
    // What programs need that join by address.
    const shared = JSON.stringify({ store, nodeId })
    fs.writeFileSync(path.join(session.dir, 'node.json'), shared, { mode: 0o600 })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.socketPath, resolve)
    })
    this.#performRaylet(this.#raylet.step(performance.now(), { kind: 'start' }))
    this.#watchMemory()
  }

  #watchMemory(): void {
    const { memoryRefreshMs, memoryThreshold, memoryLimitBytes } = this.#config
    startMemoryMonitor({
      refreshMs: memoryRefreshMs,
      threshold: memoryThreshold,
      limitBytes: memoryLimitBytes,
      workers: () => [...this.#byTag].map(([tag, { child }]) => [tag, child.pid ?? 0] as const),
      mustMeasure: () => [...this.#raylet.leases.leases.values()].some(({ spec }) => spec.heapMiB !== undefined),
      onReading: (reading) => {
        const event = { t: 'memory', reading } as const
        this.#performRaylet(this.#raylet.step(performance.now(), { kind: 'local', event }))
      },
    })
  }

  /** Ends everything (S2). */
  end(detail: string): void {
    if (this.#isEnding) return
    this.#isEnding = true
    this.#broadcast({ t: 'node.ending', detail })
    for (const { child } of this.#processes.values()) killGroup(child, 'SIGKILL')
    this.#server.close()
    this.#store.close()
    removeSession(this.#config.session)
    // Workers that died in the middle of a write may have made files after the first sweep.
    setTimeout(() => {
      removeSession(this.#config.session)
      process.exit(0)
    }, 20)
  }

  #accept(socket: net.Socket): void {
    const client: Client = { socket, tag: -1, kind: null, pid: 0, startupToken: '', pending: [], isScheduled: false }
    const reader = new FrameReader((buffer, start, end) => {
      this.#receive(client, decodeMessage<ToNode>(buffer.subarray(start, end)))
    }, CONTROL_FRAME_BYTES_MAX)
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk)
      } catch (error) {
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
      else client.socket.destroy()
      return
    }
    switch (message.t) {
      case 'object.created':
        this.#store.created(message.storageId, message.owner, message.size, message.spilled)
        // Its owner died before the word of it came: nobody would free it.
        if (!this.#clients.has(message.owner)) this.#store.free([message.storageId], -1)
        return
      case 'object.locate':
        this.#send(client.tag, {
          t: 'object.located',
          storageId: message.storageId,
          where: this.#store.locate(message.storageId),
        })
        return
      case 'cluster.resources': {
        const { total, free } = this.#raylet.leases
        this.#send(client.tag, { t: 'cluster.resourcesAre', requestId: message.requestId, total, available: free })
        return
      }
      case 'cluster.nodes':
        this.#send(client.tag, { t: 'cluster.nodesAre', requestId: message.requestId, nodes: [this.#nodeInfo()] })
        return
      case 'node.stats': {
        const stats = { ...this.#raylet.stats(), actors: this.#gcs.actors.size, ...this.#store.stats() }
        this.#send(client.tag, { t: 'node.statsAre', requestId: message.requestId, stats })
        return
      }
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
    const now = performance.now()
    if (isForGcs(message)) this.#performGcs(this.#gcs.step(now, { kind: 'message', from, message }))
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
    client.kind = message.kind
    client.tag = message.kind === 'driver' && !this.#hasDriver ? FIRST_DRIVER : this.#gcs.nextTag()
    if (message.kind === 'driver') this.#hasDriver = true
    this.#clients.set(client.tag, client)
    const { nodeId, namespace } = this.#config
    const jobId = message.kind === 'driver' ? this.#gcs.nextJob() : '01000000'
    const own = message.namespace ?? namespace
    this.#send(client.tag, { t: 'registered', tag: client.tag, nodeId, jobId, namespace: own, config: {} })
    const worker = this.#processes.get(message.startupToken)
    if (worker) {
      worker.tag = client.tag
      this.#byTag.set(client.tag, worker)
    }
    const address = { tag: client.tag, workerId: message.workerId, pid: message.pid, socket: message.socket, nodeId }
    const event = { t: 'registered', kind: message.kind, startupToken: message.startupToken, address } as const
    this.#performRaylet(this.#raylet.step(performance.now(), { kind: 'local', event }))
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
    if (this.#isEnding || !this.#byTag.has(tag)) return
    const detail = 'its connection to a process that had given it work was closed'
    const event = { t: 'unreachable', tag, detail } as const
    this.#performRaylet(this.#raylet.step(performance.now(), { kind: 'local', event }))
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
    this.#store.onWorkerDied(tag)
    const event = { t: 'gone', tag, pid, code, signal, lastLines } as const
    this.#performRaylet(this.#raylet.step(performance.now(), { kind: 'local', event }))
  }

  #performGcs(effects: ReturnType<Gcs['step']>): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.#send(effect.to, effect.message)
      else if (effect.kind === 'timer') {
        this.#setTimer(`gcs:${effect.key}`, effect.at, () => {
          this.#performGcs(this.#gcs.step(performance.now(), { kind: 'timer', key: effect.key }))
        })
      } else if (effect.kind === 'local') {
        const event = { t: 'fromGcs', message: effect.event.message } as const
        this.#performRaylet(this.#raylet.step(performance.now(), { kind: 'local', event }))
      }
    }
  }

  #performRaylet(effects: ReturnType<Raylet['step']>): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.#send(effect.to, effect.message)
      else if (effect.kind === 'timer') {
        this.#setTimer(`raylet:${effect.key}`, effect.at, () => {
          this.#performRaylet(this.#raylet.step(performance.now(), { kind: 'timer', key: effect.key }))
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
      case 'toGcs': {
        const input = { kind: 'local', event: { t: 'fromRaylet', message: event.message } } as const
        return this.#performGcs(this.#gcs.step(performance.now(), input))
      }
      case 'freeStored':
        return this.#store.free(event.storageIds, event.from)
      case 'broadcast':
        return this.#broadcast(event.message)
    }
  }

  #setTimer(key: string, at: number, run: () => void): void {
    clearTimeout(this.#timers.get(key))
    this.#timers.set(
      key,
      setTimeout(
        () => {
          this.#timers.delete(key)
          if (!this.#isEnding) run()
        },
        Math.max(0, at - performance.now()),
      ),
    )
  }

  #spawn(order: RayletEffect & { t: 'spawnWorker' }): void {
    const { session, execArgv, workerEntry, cwd, store } = this.#config
    const config: WorkerConfig = {
      startupToken: order.startupToken,
      nodeSocket: this.socketPath,
      nodePid: process.pid,
      ownSocket: path.join(session.socketsDir, order.startupToken),
      store,
      runtimeEnv: order.runtimeEnv,
    }
    const args = [...execArgv, ...(order.heapMiB > 0 ? [`--max-old-space-size=${order.heapMiB}`] : []), workerEntry]
    const child = spawn(process.execPath, args, {
      cwd: order.runtimeEnv.workingDir ?? cwd,
      env: { ...process.env, ...order.runtimeEnv.envVars, [WORKER_CONFIG_VARIABLE]: JSON.stringify(config) },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // S3
    })
    const base = path.join(session.logsDir, `worker-${order.startupToken}-${child.pid}`)
    const onBatch = (batch: { name: string; isError: boolean; lines: readonly string[] }): void => {
      if (!this.#config.logToDriver) return
      const message: FromNode = {
        t: 'log.lines',
        batch: { ...batch, pid: child.pid ?? 0, jobId: '01000000', ip: '127.0.0.1' },
      }
      for (const client of this.#clients.values()) if (client.kind === 'driver') this.#send(client.tag, message)
    }
    if (!child.stdout || !child.stderr) throw new Error('a worker has no output pipes')
    new WorkerOutput(child.stdout, `${base}.out`, false, onBatch)
    const stderr = new WorkerOutput(child.stderr, `${base}.err`, true, onBatch)
    const worker: WorkerProcess = { child, tag: -1, exit: null, isDisconnected: false, stderr }
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

  #startFailed(startupToken: string, detail: string): void {
    if (this.#isEnding) return
    const event = { t: 'startFailed', startupToken, detail } as const
    this.#performRaylet(this.#raylet.step(performance.now(), { kind: 'local', event }))
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
      address: '127.0.0.1',
      hostname: os.hostname(),
      pid: process.pid,
      total,
      available: free,
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

function isForGcs(message: ToNode): boolean {
  return message.t.startsWith('actor.') || message.t.startsWith('kv.')
}
