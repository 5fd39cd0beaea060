// What a driver tells the node process that it starts, and what the node tells its workers: plain data, through the environment.

import type { Resources, RuntimeEnv } from '../wire/messages.ts'
import type { Session } from './session.ts'
import type { StoreConfig } from './shm/node-store.ts'
import type { StoreFolders } from './shm/segment-store.ts'

export interface NodeConfig {
  readonly session: Session
  readonly nodeId: string
  readonly namespace: string
  readonly total: Resources
  readonly labels: Readonly<Record<string, string>>
  readonly store: StoreConfig
  readonly prestart: number
  readonly softLimit: number
  readonly maxStarting: number
  readonly idleMs: number
  readonly idleCheckMs: number
  readonly gracefulMs: number
  readonly memoryThreshold: number
  readonly memoryRefreshMs: number
  readonly memoryLimitBytes: number
  readonly workerEntry: string
  readonly execArgv: readonly string[]
  readonly cwd: string
  readonly logToDriver: boolean
}

export interface WorkerConfig {
  readonly startupToken: string
  readonly nodeSocket: string
  readonly nodePid: number
  readonly ownSocket: string
  readonly store: StoreFolders
  readonly runtimeEnv: RuntimeEnv
}

export const NODE_CONFIG_VARIABLE = 'RAY_TS_NODE_CONFIG'
export const WORKER_CONFIG_VARIABLE = 'RAY_TS_WORKER_CONFIG'
