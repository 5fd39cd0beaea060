// What a driver tells the node process that it starts, and what the node tells its workers: plain data, through the environment.

import type { Resources, RuntimeEnv } from '../wire/messages.ts'
import type { Session } from './session.ts'
import type { StoreConfig } from './shm/node-store.ts'
import type { StoreFolders } from './shm/segment-store.ts'
import type { SystemConfig } from './system-config.ts'

export interface NodeConfig {
  readonly session: Session
  readonly nodeId: string
  readonly namespace: string
  readonly total: Resources
  readonly labels: Readonly<Record<string, string>>
  readonly store: StoreConfig
  /** What CUDA_VISIBLE_DEVICES calls them, by index. */
  readonly gpus: readonly string[]
  readonly cpus: number
  readonly system: SystemConfig
  readonly logging: LoggingConfig
  readonly workerEntry: string
  readonly execArgv: readonly string[]
  readonly cwd: string
  readonly logToDriver: boolean
}

export interface LoggingConfig {
  readonly level: string
  readonly encoding: 'TEXT' | 'JSON'
  /** Of what users log with `console`; absent: everything. */
  readonly logLevel?: 'debug' | 'info' | 'warning' | 'error' | 'critical'
}

export interface WorkerConfig {
  readonly startupToken: string
  readonly workerId: string
  readonly nodeSocket: string
  readonly nodePid: number
  readonly ownSocket: string
  readonly store: StoreFolders
  readonly runtimeEnv: RuntimeEnv
  readonly gpus: readonly string[]
  readonly system: SystemConfig
  readonly logging: LoggingConfig
}

/** What programs need that join by address: a file of the session folder. */
export interface JoinInfo {
  readonly store: StoreFolders
  readonly nodeId: string
  readonly system: SystemConfig
}

export const NODE_CONFIG_VARIABLE = 'RAY_TS_NODE_CONFIG'
export const WORKER_CONFIG_VARIABLE = 'RAY_TS_WORKER_CONFIG'
