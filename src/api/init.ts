// `ray.init` and `ray.shutdown`: a program's way into a cluster, and out of it.
//
//   I1. A local node is known before it runs: the program's tag, job and node id are fixed, so that work may be submitted at once
//       (auto-init) and leaves when the node is there.
//   I2. The node ends with this process, however it ends; `shutdown` waits for that end.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { errorFromWire, makeError } from '../errors/index.ts'
import { warmUp } from '../runtime/closures/index.ts'
import { type CoreRuntime, type Identity, CoreRuntime as Runtime } from '../runtime/core-runtime.ts'
import { LogPrinter } from '../runtime/log-printer.ts'
import type { NodeConfig } from '../runtime/node-config.ts'
import { NodeLink } from '../runtime/node-link.ts'
import { NodeProcess } from '../runtime/node-process.ts'
import { makeSession, randomHex, removeSession, type Session, sweepDeadSessions } from '../runtime/session.ts'
import type { StoreConfig } from '../runtime/shm/node-store.ts'
import { SegmentStore, type StoreFolders } from '../runtime/shm/segment-store.ts'
import { workerFlags } from '../runtime/worker-flags.ts'
import { toResources } from '../scheduling/resources.ts'
import { type FromNode, PROTOCOL_VERSION } from '../wire/messages.ts'
import { makeValueHost } from './host.ts'
import { parseSpilling } from './object-spilling.ts'
import { type InitOptions, parseOptions, parseSystemConfig, type SystemConfig } from './options.ts'
import { currentRuntime, setAutoInit, setRuntime } from './state.ts'

const MIN_STORE_BYTES = 75 * 1024 * 1024
const MAX_STORE_BYTES = 200_000_000_000

/** A program's connection to a cluster. `await using cluster = await ray.init()` ends it at the end of the block. */
export interface Cluster extends AsyncDisposable {
  /** What another program on this machine passes as `address` to join. */
  readonly address: string
  /** Of the node that this program talks to: 56 hex digits. */
  readonly nodeId: string
  /** Where the node keeps its sockets and logs. */
  readonly sessionDir: string
  /** See `ray.shutdown`. */
  shutdown(): Promise<void>
}

interface Connection {
  readonly cluster: Cluster
  readonly runtime: CoreRuntime
  readonly ready: Promise<void>
  node: Promise<NodeProcess> | null
  readonly session: Session | null
  readonly printer: LogPrinter
}

let connection: Connection | null = null

/**
 * Connects this program to a cluster: starts a node on this machine, or joins the one at `address`.
 * @throws InvalidArgumentError for options that cannot be right, or when it is initialized already.
 */
export async function init(options: InitOptions = {}): Promise<Cluster> {
  const parsed = parseOptions<InitOptions>('ray.init', options)
  if (connection) {
    if (!parsed.ignoreReinitError) throw makeError('ALREADY_INITIALIZED')
    await connection.ready
    return connection.cluster
  }
  if (parsed.address !== undefined && parsed.address !== 'local') return join(parsed.address, parsed)
  const started = startLocal(parsed)
  connection = started
  try {
    await started.ready
  } catch (error) {
    await shutdown()
    throw error
  }
  return started.cluster
}

/** True between `init` (or the first use) and `shutdown`. */
export function isInitialized(): boolean {
  return currentRuntime() !== null
}

/** Disconnects; a node that this program started ends, with all its processes and files. Does nothing when not initialized. */
export async function shutdown(): Promise<void> {
  const ending = connection
  connection = null
  if (!ending) return
  setRuntime(null)
  const { runtime, session } = ending
  runtime.onNodeGone('ray.shutdown()')
  runtime.close()
  if (ending.node) {
    runtime.link.send({ t: 'node.shutdown' })
    runtime.link.flush()
    const node = await ending.node.catch(() => null)
    await node?.end()
  }
  runtime.link.destroy()
  ending.printer.flush()
  if (session) removeSession(session)
}

function startLocal(options: InitOptions): Connection {
  const system = parseSystemConfig(options.systemConfig, process.env)
  const spilling = parseSpilling(options.objectSpilling ?? options.systemConfig?.objectSpillingConfig)
  sweepDeadSessions(spilling.directories ?? [])
  const session = makeSession(spilling.directories)
  const cpus = options.numCpus ?? os.availableParallelism()
  const total = totalResources(options, cpus)
  const nodeId = randomHex(28)
  const namespace = options.namespace ?? randomUuid()
  const store = storeConfig(options, session, { system, spillBufferBytes: spilling.bufferBytes })
  const config: NodeConfig = {
    session,
    nodeId,
    namespace,
    total,
    labels: { 'ray.io/node-id': nodeId, ...options.labels },
    store,
    prestart: Math.min(Math.ceil(cpus), 64),
    softLimit: system.numWorkersSoftLimit < 0 ? Math.max(1, Math.ceil(cpus)) : system.numWorkersSoftLimit,
    maxStarting: system.workerMaximumStartupConcurrency || Math.max(1, Math.ceil(cpus)),
    idleMs: system.idleWorkerKillingTimeThresholdMs,
    idleCheckMs: system.killIdleWorkersIntervalMs,
    gracefulMs: system.actorGracefulShutdownTimeoutMs,
    memoryThreshold: system.memoryUsageThreshold,
    memoryRefreshMs: system.memoryMonitorRefreshMs,
    memoryLimitBytes: system.nodeMemoryLimitBytes,
    workerEntry: entry('worker.js'),
    execArgv: workerFlags(process.execArgv),
    cwd: process.cwd(),
    logToDriver: options.logToDriver ?? true,
  }
  const identity: Identity = { tag: 1, workerId: randomHex(28), nodeId, jobId: '01000000', namespace, isDriver: true }
  const address = path.join(session.socketsDir, 'raylet')
  const made = connect(identity, store, address, session, system.actorExcessQueueingWarnThreshold)
  const node = NodeProcess.start(entry('node.js'), config)
  warmUp() // While the node starts, this process would only wait.
  made.connection.node = node
  const ready = node.then(() => register(made, address, null))
  ready.catch((error: unknown) => made.runtime.onNodeGone(error instanceof Error ? error.message : String(error)))
  return { ...made.connection, node, ready }
}

interface Made {
  readonly runtime: CoreRuntime
  readonly registered: Promise<FromNode & { t: 'registered' }>
  readonly connection: Omit<Connection, 'ready'> & { node: Promise<NodeProcess> | null }
}

function connect(
  identity: Identity,
  folders: StoreFolders,
  address: string,
  session: Session | null,
  warnAt: number,
): Made {
  const printer = new LogPrinter((text) => process.stdout.write(text), process.env)
  let resolveRegistered: (message: FromNode & { t: 'registered' }) => void = () => {}
  let rejectRegistered: (error: Error) => void = () => {}
  const registered = new Promise<FromNode & { t: 'registered' }>((resolve, reject) => {
    resolveRegistered = resolve
    rejectRegistered = reject
  })
  registered.catch(() => {})
  const link = new NodeLink({
    onMessage: (message) => {
      if (message.t === 'registered') resolveRegistered(message)
      else if (message.t === 'register.refused') rejectRegistered(errorFromWire(message.error))
      else runtime.onMessage(message)
    },
    onClose: () => {
      rejectRegistered(makeError('NODE_DIED', { detail: 'the connection to it closed' }))
      runtime.onNodeGone('the connection to it closed')
      if (session) removeSession(session) // The node would have done it, had it been able to.
    },
  })
  const runtime: CoreRuntime = new Runtime({
    identity,
    link,
    store: new SegmentStore(folders, identity.tag),
    host: makeValueHost(() => runtime),
    warnAt,
  })
  let waits = 0
  runtime.onBlocked = () => {
    if (waits++ === 0) link.ref()
  }
  runtime.onUnblocked = () => {
    if (--waits === 0) link.unref()
  }
  runtime.onLogs = (message) => printer.print(message.batch)
  setRuntime(runtime)
  const cluster: Cluster = {
    address,
    nodeId: identity.nodeId,
    sessionDir: session?.dir ?? '',
    shutdown,
    [Symbol.asyncDispose]: shutdown,
  }
  return { runtime, registered, connection: { cluster, runtime, node: null, session, printer } }
}

async function register(made: Made, address: string, namespace: string | null): Promise<void> {
  const { link, identity } = made.runtime
  // It must be the first message: what was submitted meanwhile waits behind it.
  link.sendFirst({
    t: 'register',
    kind: 'driver',
    startupToken: '',
    workerId: identity.workerId,
    pid: process.pid,
    socket: '',
    namespace,
    jobName: path.basename(process.argv[1] ?? 'node'),
    protocol: PROTOCOL_VERSION,
  })
  await link.connect(address)
  link.ref()
  try {
    await made.registered
  } finally {
    link.unref()
  }
}

/** Joins a node that another program started. Its socket's folder says the rest. */
async function join(address: string, options: InitOptions): Promise<Cluster> {
  const refused = (detail: string): Error =>
    makeError('INVALID_ARGUMENT', {
      message: `there is no ray node at '${address}': ${detail}`,
      hint: 'Pass what cluster.address says.',
    })
  const sessionDir = path.dirname(path.dirname(address))
  let info: { store: StoreFolders; nodeId: string }
  try {
    info = JSON.parse(fs.readFileSync(path.join(sessionDir, 'node.json'), 'utf8')) as typeof info
  } catch (error) {
    throw refused((error as Error).message)
  }
  const namespace = options.namespace ?? randomUuid()
  const registration = await preRegister(address, namespace).catch((error: unknown) => {
    throw refused(String(error))
  })
  const { tag, jobId, nodeId } = registration.message
  const identity: Identity = { tag, workerId: registration.workerId, nodeId, jobId, namespace, isDriver: true }
  const made = connect(identity, info.store, address, null, 5000)
  made.runtime.link.adopt(registration.link)
  connection = { ...made.connection, ready: Promise.resolve() }
  return connection.cluster
}

async function preRegister(
  address: string,
  namespace: string,
): Promise<{ link: NodeLink; message: FromNode & { t: 'registered' }; workerId: string }> {
  const workerId = randomHex(28)
  return new Promise((resolve, reject) => {
    const link: NodeLink = new NodeLink({
      onMessage: (message) => {
        if (message.t === 'registered') resolve({ link, message, workerId })
        else if (message.t === 'register.refused') reject(errorFromWire(message.error))
      },
      onClose: () => reject(new Error('the connection closed')),
    })
    const jobName = path.basename(process.argv[1] ?? 'node')
    const common = { startupToken: '', pid: process.pid, socket: '', protocol: PROTOCOL_VERSION } as const
    link.ref()
    link.send({ t: 'register', kind: 'driver', workerId, namespace, jobName, ...common })
    link.connect(address).catch(reject)
  })
}

function totalResources(options: InitOptions, cpus: number): Readonly<Record<string, number>> {
  const memory = options.memory ?? Math.floor(totalMemory() * 0.7)
  return toResources({
    ...options.resources,
    CPU: cpus,
    GPU: options.numGpus,
    memory,
    'node:127.0.0.1': 1,
    'node:__internal_head__': 1,
  })
}

/** Of the container, where there is one. */
function totalMemory(): number {
  const constrained = process.constrainedMemory()
  return constrained > 0 && constrained < os.totalmem() ? constrained : os.totalmem()
}

function storeConfig(
  options: InitOptions,
  session: Session,
  { system, spillBufferBytes }: { system: SystemConfig; spillBufferBytes: number },
): StoreConfig {
  return {
    shmDir: session.shmDir,
    spillDirs: session.spillDirs,
    capacityBytes: storeBytes(options, session),
    diskThreshold: system.localFsCapacityThreshold,
    diskCheckMs: system.localFsMonitorIntervalMs,
    spillThreshold: system.objectSpillingThreshold,
    minSpillingBytes: system.minSpillingSize,
    maxFusedObjects: system.maxFusedObjectCount,
    maxIoWorkers: system.maxIoWorkers,
    spillBufferBytes,
    collectGraceMs: system.objectStoreFullDelayMs,
  }
}

function storeBytes(options: InitOptions, session: Session): number {
  const shm = fs.statfsSync(session.shmDir)
  const available = Math.floor(shm.bavail * shm.bsize * 0.95)
  if (options.objectStoreMemory !== undefined) {
    if (options.objectStoreMemory < MIN_STORE_BYTES) {
      const message = `objectStoreMemory is ${options.objectStoreMemory} bytes`
      removeSession(session)
      throw makeError('INVALID_ARGUMENT', { message, hint: `It must be at least ${MIN_STORE_BYTES} bytes (75 MiB).` })
    }
    warnIfSmall(options.objectStoreMemory, available, session)
    return Math.min(options.objectStoreMemory, available)
  }
  const wanted = Math.max(MIN_STORE_BYTES, Math.min(Math.floor(totalMemory() * 0.3), MAX_STORE_BYTES))
  warnIfSmall(MIN_STORE_BYTES, available, session)
  return Math.min(wanted, available)
}

/** Shared memory smaller than the store: the rest goes to disk. */
function warnIfSmall(wanted: number, available: number, session: Session): void {
  if (available >= wanted) return
  const folder = path.dirname(session.shmDir)
  const mib = (bytes: number): number => Math.round(bytes / 1024 / 1024)
  const text = `${folder} has room for ${mib(available)} MiB, and the object store wants ${mib(wanted)}: the rest goes to disk. Make it larger (docker run --shm-size).`
  process.emitWarning(text, 'RayWarning')
}

/** Files of this build beside the one that runs. */
function entry(name: string): string {
  return fileURLToPath(new URL(`./${name}`, import.meta.url))
}

function randomUuid(): string {
  const hex = randomHex(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

setAutoInit(() => {
  const started = startLocal({})
  started.ready.catch(() => {})
  connection = started
  return started.runtime
})
