// What a node is to be: from options, and from what this machine has.
//
//   N1. The session's folders are made last: nothing is left when a setting is wrong.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeError } from '../errors/index.ts'
import { toResources } from '../scheduling/resources.ts'
import { detectCpus, detectGpus, detectMemory } from './detect.ts'
import type { LoggingConfig, NodeConfig } from './node-config.ts'
import { makeSession, randomHex, type Session, sweepDeadSessions } from './session.ts'
import type { StoreConfig } from './shm/node-store.ts'
import type { SystemConfig } from './system-config.ts'
import { warn } from './warnings.ts'
import { workerFlags } from './worker-flags.ts'

export interface NodeSettings {
  readonly numCpus?: number | undefined
  readonly numGpus?: number | undefined
  /** Bytes of the `memory` resource. */
  readonly memory?: number | undefined
  readonly objectStoreMemory?: number | undefined
  readonly resources?: Readonly<Record<string, number>> | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly namespace?: string | undefined
  readonly logToDriver?: boolean | undefined
  readonly logging: LoggingConfig
  readonly system: SystemConfig
  readonly spilling: { readonly directories?: readonly string[]; readonly bufferBytes: number }
  /** Where it is reached: one of its resources bears that name. */
  readonly host: string
  readonly isHead: boolean
}

/** As in Ray. */
export const OBJECT_STORE_BYTES_MIN = 75 * 1024 * 1024
const OBJECT_STORE_BYTES_MAX = 200_000_000_000

export function nodeConfigFor(settings: NodeSettings): NodeConfig {
  const { system, spilling, logging } = settings
  const cpus = settings.numCpus ?? detectCpus()
  const gpus = gpusFor(settings.numGpus)
  sweepDeadSessions(spilling.directories ?? [])
  const session = makeSession(spilling.directories) // N1
  const nodeId = randomHex(28)
  const objectStoreBytes = storeBytes(settings.objectStoreMemory, session)
  return {
    session,
    nodeId,
    namespace: settings.namespace ?? (process.env.RAY_NAMESPACE || randomUuid()),
    total: totalResources(settings, { cpus, gpus: gpus.length, objectStoreBytes }),
    labels: { 'ray.io/node-id': nodeId, ...settings.labels },
    store: storeConfig(session, objectStoreBytes, { system, spillBufferBytes: spilling.bufferBytes }),
    gpus,
    cpus,
    system,
    logging,
    workerEntry: entryFile('worker.cjs'),
    execArgv: workerFlags(process.execArgv),
    cwd: process.cwd(),
    logToDriver: settings.logToDriver ?? process.env.RAY_LOG_TO_DRIVER !== '0',
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
  settings: NodeSettings,
  found: { cpus: number; gpus: number; objectStoreBytes: number },
): Readonly<Record<string, number>> {
  return toResources({
    ...settings.resources,
    CPU: found.cpus,
    GPU: found.gpus,
    memory: settings.memory ?? Math.floor(detectMemory() * 0.7),
    object_store_memory: found.objectStoreBytes,
    [`node:${settings.host}`]: 1,
    ...(settings.isHead ? { 'node:__internal_head__': 1 } : {}),
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
export function entryFile(name: string): string {
  return fileURLToPath(new URL(`./${name}`, import.meta.url))
}

export function randomUuid(): string {
  const hex = randomHex(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
