// Starts a node on this machine for this program.
//
//   I1. A local node is known before it runs: the program's tag, job and node id are fixed, so that work may be submitted at once
//       (auto-init) and leaves when the node is there.
//   I2. The node ends with this process, however it ends; `shutdown` waits for that end.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeError } from '../errors/index.ts'
import { warmUp } from '../runtime/closures/index.ts'
import type { Identity } from '../runtime/core-runtime.ts'
import { detectCpus, detectGpus, detectMemory } from '../runtime/detect.ts'
import type { NodeConfig } from '../runtime/node-config.ts'
import { NodeProcess } from '../runtime/node-process.ts'
import { makeSession, randomHex, type Session, sweepDeadSessions } from '../runtime/session.ts'
import type { StoreConfig } from '../runtime/shm/node-store.ts'
import { resolveSystemConfig, type SystemConfig } from '../runtime/system-config.ts'
import { warn } from '../runtime/warnings.ts'
import { workerFlags } from '../runtime/worker-flags.ts'
import { toResources } from '../scheduling/resources.ts'
import { type Connection, connect, type Made, registration } from './connection.ts'
import { parseSpilling } from './object-spilling.ts'
import { type InitOptions, OBJECT_STORE_BYTES_MIN, parseSystemConfig } from './options.ts'

const OBJECT_STORE_BYTES_MAX = 200_000_000_000

export function startLocal(options: InitOptions, shutdown: () => Promise<void>): Connection {
  const config = configFor(options)
  const { session, nodeId, namespace } = config
  const identity: Identity = { tag: 1, workerId: randomHex(28), nodeId, jobId: '01000000', namespace, isDriver: true }
  const address = path.join(session.socketsDir, 'raylet')
  const folders = config.store
  const made = connect({
    identity,
    folders,
    address,
    sessionDir: session.dir,
    session,
    system: config.system,
    shutdown,
  })
  const node = NodeProcess.start(entry('node.js'), config)
  warmUp() // While the node starts, this process would only wait.
  const ready = node.then(() => register(made, address, namespace))
  ready.catch((error: unknown) => made.runtime.onNodeGone(error instanceof Error ? error.message : String(error)))
  return { ...made.connection, node, ready }
}

/** What the node is to be; makes the session's folders last, so that nothing is left when an option is wrong. */
function configFor(options: InitOptions): NodeConfig {
  const system = resolveSystemConfig(parseSystemConfig(options.systemConfig), process.env)
  const spilling = parseSpilling(options.objectSpilling ?? options.systemConfig?.objectSpillingConfig)
  const cpus = options.numCpus ?? detectCpus()
  const gpus = gpusFor(options.numGpus)
  sweepDeadSessions(spilling.directories ?? [])
  const session = makeSession(spilling.directories)
  const nodeId = randomHex(28)
  const objectStoreBytes = storeBytes(options.objectStoreMemory, session)
  const { loggingLevel = 'info', loggingConfig } = options
  const { logLevel } = loggingConfig ?? {}
  return {
    session,
    nodeId,
    namespace: options.namespace ?? (process.env.RAY_NAMESPACE || randomUuid()),
    total: totalResources(options, { cpus, gpus: gpus.length, objectStoreBytes }),
    labels: { 'ray.io/node-id': nodeId, ...options.labels },
    store: storeConfig(session, objectStoreBytes, { system, spillBufferBytes: spilling.bufferBytes }),
    gpus,
    cpus,
    system,
    logging: { level: loggingLevel, encoding: loggingConfig?.encoding ?? 'TEXT', ...(logLevel ? { logLevel } : {}) },
    workerEntry: entry('worker.js'),
    execArgv: workerFlags(process.execArgv),
    cwd: process.cwd(),
    logToDriver: options.logToDriver ?? process.env.RAY_LOG_TO_DRIVER !== '0',
  }
}

async function register(made: Made, address: string, namespace: string): Promise<void> {
  const { link, identity } = made.runtime
  // It must be the first message: what was submitted meanwhile waits behind it.
  link.sendFirst(registration(identity.workerId, namespace))
  await link.connect(address)
  link.ref()
  try {
    await made.registered
  } finally {
    link.unref()
  }
}

/** The names of the GPUs; with `numGpus` as many, of those that may be seen. */
function gpusFor(numGpus: number | undefined): string[] {
  const found = detectGpus()
  if (numGpus === undefined) return found
  if (process.env.CUDA_VISIBLE_DEVICES !== undefined && numGpus > found.length) {
    const message = `numGpus is ${numGpus}, but CUDA_VISIBLE_DEVICES lists ${found.length}`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Ask for fewer, or unset CUDA_VISIBLE_DEVICES.' })
  }
  return Array.from({ length: numGpus }, (_, index) => found[index] ?? String(index))
}

function totalResources(
  options: InitOptions,
  found: { cpus: number; gpus: number; objectStoreBytes: number },
): Readonly<Record<string, number>> {
  return toResources({
    ...options.resources,
    CPU: found.cpus,
    GPU: found.gpus,
    memory: options.memory ?? Math.floor(detectMemory() * 0.7),
    object_store_memory: found.objectStoreBytes,
    'node:127.0.0.1': 1,
    'node:__internal_head__': 1,
  })
}

function storeConfig(
  session: Session,
  capacityBytes: number,
  { system, spillBufferBytes }: { system: SystemConfig; spillBufferBytes: number },
): StoreConfig {
  return {
    shmDir: session.shmDir,
    spillDirs: session.spillDirs,
    capacityBytes,
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

function storeBytes(asked: number | undefined, session: Session): number {
  const shm = fs.statfsSync(session.shmDir)
  const available = Math.floor(shm.bavail * shm.bsize * 0.95)
  warnIfSmall(asked ?? OBJECT_STORE_BYTES_MIN, available, session)
  const share = Math.min(Math.floor(detectMemory() * 0.3), OBJECT_STORE_BYTES_MAX)
  return Math.min(asked ?? Math.max(OBJECT_STORE_BYTES_MIN, share), available)
}

/** Shared memory smaller than the store: the rest goes to disk. */
function warnIfSmall(wanted: number, available: number, session: Session): void {
  if (available >= wanted) return
  const folder = path.dirname(session.shmDir)
  const mib = (bytes: number): number => Math.round(bytes / 1024 / 1024)
  warn(
    `${folder} has room for ${mib(available)} MiB, and the object store wants ${mib(wanted)}: the rest goes to disk. Make it larger (docker run --shm-size).`,
  )
}

/** Files of this build beside the one that runs. */
function entry(name: string): string {
  return fileURLToPath(new URL(`./${name}`, import.meta.url))
}

export function randomUuid(): string {
  const hex = randomHex(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
