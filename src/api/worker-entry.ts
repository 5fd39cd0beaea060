// Entry of a worker process: registers with its node, then runs what owners push to it.
//
//   W1. It ends with its node: a worker without one has nobody to work for.
//   W2. What user code prints is preceded by a line that says which task or actor printed it (worker-output.ts reads it).
//   W3. It starts with what V8 made of our code for earlier workers of the node (scripts/cached-core.ts): the first leaves what its
//       start ran, and the first that runs tasks, or an actor's calls, leaves these as well.

import net from 'node:net'
import { fileURLToPath } from 'node:url'
import { errorFromWire, makeError } from '../errors/index.ts'
import { formatTaskId } from '../ids/ids.ts'
import { requireToken } from '../runtime/auth-token.ts'
import { decodeFunction, nameThisProcess } from '../runtime/closures/index.ts'
import { CoreRuntime, type Identity } from '../runtime/core-runtime.ts'
import { Executor } from '../runtime/executor.ts'
import { type NetworkConfig, WORKER_CONFIG_VARIABLE, type WorkerConfig } from '../runtime/node-config.ts'
import { NodeLink } from '../runtime/node-link.ts'
import { collectSoon } from '../runtime/shm/collect.ts'
import { endWithParent } from '../runtime/shm/native.ts'
import { SegmentStore } from '../runtime/shm/segment-store.ts'
import { announceSpeakers, configureLogging, type LogRecordContext, type Speaker } from '../runtime/speaker.ts'
import { currentTask } from '../runtime/task-context.ts'
import { type PeerEvents, TaskPeer } from '../runtime/task-peer.ts'
import { createTcpServer } from '../runtime/tls.ts'
import { setWarningLevel } from '../runtime/warnings.ts'
import { watchWorkerFaults } from '../runtime/worker-faults.ts'
import { type FromNode, PROTOCOL_VERSION, type TcpAddress } from '../wire/messages.ts'
import { assignment, setStrategy } from './context.ts'
import './util/index.ts' // Its actor classes are known by name.
import { closureHost, makeValueHost } from './host.ts'
import { setRuntime } from './state.ts'

const config = JSON.parse(process.env[WORKER_CONFIG_VARIABLE] ?? '{}') as WorkerConfig
delete process.env[WORKER_CONFIG_VARIABLE]
process.title = 'ray-ts worker'
endWithParent(config.nodePid)
process.on('SIGINT', () => {}) // The driver decides.
process.setSourceMapsEnabled(true) // Of user code. As a flag it would read our own map as well: 40 ms of every start.

let runtime: CoreRuntime | null = null
let executor: Executor | null = null
/** How often in a row it was to end for being idle, and was needed. */
let stays = 0
const peers = new Set<TaskPeer>()
const { workerId } = config
nameThisProcess(workerId.slice(0, 8))
/** Its job and namespace are those of its first lease. */
let identity: { -readonly [K in keyof Identity]: Identity[K] } | null = null

const link = new NodeLink({ onMessage, onClose: end })
watchWorkerFaults(link)
const peerEvents: PeerEvents = {
  onFrame: (from, buffer, start) => {
    if (!hasWorked) {
      hasWorked = true
      keepCodeLater()
    }
    executor?.onFrame(from, buffer, start)
  },
  onBatchEnd: () => executor?.onBatchEnd(),
  beforeFlush: () => runtime?.flushNode(),
  onClose: (closed) => {
    peers.delete(closed)
    executor?.onPeerClosed(closed)
  },
}
const server = net.createServer((socket) => peers.add(new TaskPeer(socket, -1, peerEvents)))
const { network } = config

server.once('listening', () => {
  if (network) listenFar(network)
  else register()
})
listenAt(server, config.ownSocket, -1)

/** For owners on other nodes. */
function listenFar({ listenHost, host, token }: NetworkConfig): void {
  requireToken(listenHost, token)
  const far = createTcpServer({
    onSocket: (socket) => peers.add(TaskPeer.accept(socket, token, peerEvents)),
    onRefused: (socket) => socket.destroy(),
  })
  far.once('listening', () => register({ host, port: (far.address() as net.AddressInfo).port }))
  far.once('error', (error) => {
    console.error(`no port for tasks of other nodes at ${listenHost}: ${error.message}`)
    process.exit(1)
  })
  listenAt(far, listenHost, net.isIP(listenHost))
}

function register(tcp?: TcpAddress): void {
  link.send({
    t: 'register',
    kind: 'worker',
    startupToken: config.startupToken,
    workerId,
    pid: process.pid,
    socket: config.ownSocket,
    ...(tcp ? { tcp } : {}),
    namespace: null,
    jobName: '',
    protocol: PROTOCOL_VERSION,
  })
  link.ref()
  link.connect(config.nodeSocket).catch(() => process.exit(1))
}

/** `listen` loads node:cluster, and with it child_process, before anything else: a tenth of a worker's start. */
function listenAt(server: net.Server, address: string, addressType: number): void {
  const own = server as net.Server & { _listen2?: (address: string, port: number, addressType: number) => void }
  const isPath = addressType === -1
  if (typeof own._listen2 === 'function' && addressType !== 0) own._listen2(address, isPath ? -1 : 0, addressType)
  else server.listen(isPath ? { path: address } : { host: address, port: 0 })
}

function onMessage(message: FromNode): void {
  switch (message.t) {
    case 'registered':
      start(message)
      return
    case 'register.refused':
      console.error(errorFromWire(message.error).message)
      process.exit(1)
      return
    case 'worker.assigned':
      assign(message)
      return
    case 'worker.exit':
      if (runtime?.core.isNeeded) stay()
      else exit(message.detail)
      return
    case 'actor.start':
      if (executor?.actors.isActor) return // Said again, by a GCS that has come back.
      assignment.incarnation = message.incarnation
      if (message.spec.options.threads === 0) assignment.state = new Map(message.state)
      void executor?.actors.become(message.spec, message.incarnation, message.state)
      return
    case 'actor.finish':
      executor?.actors.finish()
      return
    default:
      runtime?.onMessage(message)
  }
}

/**
 * What it owns may be what nobody has dropped yet: a process with nothing to do never collects by itself (on Node 24 not in minutes), and
 * would stay for ever. Where a collection does not help, the next ones are further and further apart.
 */
function stay(): void {
  link.send({ t: 'worker.stays' })
  if (Number.isInteger(Math.log2(++stays))) collectSoon()
}

function assign(message: FromNode & { t: 'worker.assigned' }): void {
  const gpus = message.gpuIds.map((index) => config.gpus[index] ?? String(index))
  stays = 0
  assignment.resources = message.resources
  setStrategy(message.strategy)
  assignment.gpus = gpus
  if (identity) {
    identity.jobId = message.jobId
    if (message.namespace) identity.namespace = message.namespace
  }
  const own = config.runtimeEnv.envVars?.CUDA_VISIBLE_DEVICES
  if (config.gpus.length > 0 && own === undefined) process.env.CUDA_VISIBLE_DEVICES = gpus.join(',')
}

/** Parts of our code that V8 has compiled, as bits; -1: it did not take what was kept. */
const PART = { start: 1, task: 2, actor: 4 } as const
const KEEP_CODE_AFTER_MS = 500
const code = (globalThis as { [key: symbol]: { parts: number; keep(more: number): void } | undefined })[
  Symbol.for('ray-ts.code')
]
let partsKept = code?.parts ?? 0
let hasWorked = false

/** W3: in a quiet moment, since it takes some milliseconds. */
function keepCodeLater(): void {
  if (code && code.parts >= 0) setTimeout(keepCode, KEEP_CODE_AFTER_MS, code).unref()
}

function keepCode(from: NonNullable<typeof code>): void {
  const work = executor?.actors.isActor ? PART.actor : PART.task
  const ran = PART.start | (hasWorked ? work : 0)
  if ((partsKept | ran) === partsKept) return
  try {
    from.keep(ran)
    partsKept |= ran
  } catch (error) {
    console.error(`the compiled code was not kept: ${String(error)}`) // A full disk: later workers compile.
  }
}

function start(message: FromNode & { t: 'registered' }): void {
  if (code?.parts === 0) keepCodeLater()
  const { tag, nodeId, jobId, namespace } = message
  identity = { tag, workerId, nodeId, jobId, namespace, isDriver: false }
  const made: CoreRuntime = new CoreRuntime({
    identity,
    link,
    store: new SegmentStore(config.store, tag),
    host: makeValueHost(() => made),
  })
  runtime = made
  setRuntime(made, config.nodeSocket)
  const load = async (key: string): Promise<(...args: unknown[]) => unknown> => {
    const { value } = await link.request<'kv.value'>((requestId) => ({ t: 'kv.get', requestId, key, wait: true }))
    if (!value) throw makeError('SYSTEM', { message: `the definition ${key} is unknown` })
    return (await decodeFunction(value, closureHost(made))) as (...args: unknown[]) => unknown
  }
  executor = new Executor(made, { load }, exit)
  executor.actors.threadHost = {
    entry: fileURLToPath(new URL('./thread.js', import.meta.url)),
    nodeSocket: config.nodeSocket,
    store: config.store,
    assignment: () => ({
      resources: assignment.resources,
      strategy: assignment.strategy,
      gpus: assignment.gpus,
    }),
  }
  assignment.exitActor = () => {
    const task = currentTask()
    const detail = 'it called exitActor()'
    if (task?.actorId)
      link.send({ t: 'actor.exited', actorId: task.actorId, incarnation: assignment.incarnation, detail })
    exit(detail)
  }
  process.on('exit', () => {
    runtime?.perform()
    link.flush() // What the node has to know of what a reply carries goes before the reply.
    for (const peer of peers) peer.flush()
  })
}

/** The node is gone, and cannot end what user code started here. */
function end(): void {
  process.once('exit', () => process.kill(-process.pid, 'SIGKILL'))
  process.exit(0)
}

function exit(detail: string): void {
  link.send({ t: 'worker.exiting', detail, isFailure: false })
  process.exit(0)
}

setWarningLevel(config.logging.level)
announceSpeakers(speaker)
if (config.logging.encoding === 'JSON' || config.logging.logLevel !== undefined) {
  configureLogging(config.logging, recordContext)
}

/** An actor speaks for itself, by its own `toString` if its class has one. */
function speaker(): Speaker | null {
  const actor = executor?.actors
  if (actor?.spec) return { kind: 'actor', name: actor.label }
  const task = currentTask()
  return task ? { kind: 'task', name: task.name } : null
}

function recordContext(): LogRecordContext {
  const task = currentTask()
  const actor = executor?.actors.spec
  return {
    job_id: identity?.jobId ?? '',
    worker_id: workerId,
    node_id: identity?.nodeId ?? '',
    ...(task ? { task_id: formatTaskId(task.taskId, identity?.jobId), task_name: task.name } : {}),
    ...(actor ? { actor_id: actor.actorId, actor_name: actor.name ?? '' } : {}),
  }
}
