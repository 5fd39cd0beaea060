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
  readonly cluster?: ClusterConfig
}

/** A node of a cluster: its GCS is a process of its own. Absent: the node is alone, and is its own GCS. */
export interface ClusterConfig {
  readonly gcs: { readonly host: string; readonly port: number }
  /** Where other machines reach this node; its raylet and workers listen there. */
  readonly host: string
  /** Of the raylet, for others; 0: any. */
  readonly port: number
  readonly isHead: boolean
  /** null: only loopback. */
  readonly token: string | null
  /** How long it waits for a GCS that is gone. */
  readonly gcsReconnectTimeoutS: number
}

/** What `ray start --head` tells the GCS process. */
export interface GcsProcessConfig {
  readonly clusterId: string
  readonly host: string
  readonly port: number
  readonly token: string | null
  readonly system: SystemConfig
  /** Session folder: logs, pid and address files. */
  readonly sessionDir: string
  /** Where its state is kept; null: nowhere (tests). */
  readonly storage: { readonly kind: 'lmdb'; readonly dir: string } | { readonly kind: 'redis' } | null
}

/** How the workers of a node are reached from others. */
export interface NetworkConfig {
  /** Where its processes listen. */
  readonly listenHost: string
  /** What others call it. */
  readonly host: string
  readonly token: string | null
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
  readonly network?: NetworkConfig
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

export const GCS_CONFIG_VARIABLE = 'RAY_TS_GCS_CONFIG'
export const NODE_CONFIG_VARIABLE = 'RAY_TS_NODE_CONFIG'
export const WORKER_CONFIG_VARIABLE = 'RAY_TS_WORKER_CONFIG'
