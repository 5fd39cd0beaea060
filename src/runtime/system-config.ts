// `systemConfig`: internal settings by Ray's names in camelCase.
//
//   S1. An unknown key is an error that names the closest.
//   S2. The environment wins: RAY_<name in snake case>, as for every process of Ray.

import { makeError } from '../errors/index.ts'

interface Setting {
  readonly value: number
  readonly min: number
  readonly max?: number
  /** Another variable of the environment, that Ray documents. */
  readonly variable?: string
}

const SETTINGS = {
  objectSpillingThreshold: { value: 0.8, min: 0, max: 1 },
  minSpillingSize: { value: 100 * 1024 * 1024, min: 0 },
  maxFusedObjectCount: { value: 2000, min: 1 },
  maxIoWorkers: { value: 4, min: 1 },
  objectStoreFullDelayMs: { value: 10, min: 0 },
  /** Of copies that come from other nodes; one that is larger comes alone. */
  objectManagerMaxBytesInFlight: { value: 2 * 1024 ** 3, min: 5 * 1024 * 1024 },
  /** After so long without progress the holders of a value are asked for anew. */
  objectManagerPullTimeoutMs: { value: 10_000, min: 1 },
  localFsCapacityThreshold: { value: 0.95, min: 0, max: 1 },
  localFsMonitorIntervalMs: { value: 100, min: 0 },
  idleWorkerKillingTimeThresholdMs: { value: 1000, min: 0 },
  killIdleWorkersIntervalMs: { value: 200, min: 1 },
  /** How many workers may start at once; 0: as many as there are CPUs. */
  workerMaximumStartupConcurrency: { value: 0, min: 0 },
  /** Idle workers that are kept; -1: as many as there are CPUs. */
  numWorkersSoftLimit: { value: -1, min: -1 },
  healthCheckPeriodMs: { value: 3000, min: 1 },
  healthCheckTimeoutMs: { value: 10_000, min: 1 },
  healthCheckFailureThreshold: { value: 5, min: 1 },
  workerRegisterTimeoutSeconds: { value: 60, min: 0.1 },
  actorGracefulShutdownTimeoutMs: { value: 30_000, min: 0 },
  actorExcessQueueingWarnThreshold: { value: 5000, min: 1 },
  /** A get that waits longer draws a warning that says for what. */
  fetchWarnTimeoutMilliseconds: { value: 60_000, min: 1 },
  /** Nodes that do not come back to a restarted GCS for so long are dead. */
  gcsFailoverNodeReconnectTimeoutS: { value: 10, min: 0 },
  /** A raylet whose GCS does not answer for so long ends. */
  gcsRpcServerReconnectTimeoutS: { value: 60, min: 0 },
  memoryUsageThreshold: { value: 0.95, min: 0 },
  memoryMonitorRefreshMs: { value: 250, min: 0 },
  /** What the processes of this node may use together; -1: what the machine, or its container, has. */
  nodeMemoryLimitBytes: { value: -1, min: -1 },
  logRotationMaxBytes: { value: 100 * 1024 * 1024, min: 0, variable: 'RAY_ROTATION_MAX_BYTES' },
  logRotationBackupCount: { value: 5, min: 0, variable: 'RAY_ROTATION_BACKUP_COUNT' },
} as const satisfies Readonly<Record<string, Setting>>

export type SystemConfigKey = keyof typeof SETTINGS
export type SystemConfig = { readonly [K in SystemConfigKey]: number }
/** What users may pass as `systemConfig`. */
export type SystemConfigOptions = { readonly [K in SystemConfigKey]?: number } & {
  /** As the option `objectSpilling`, in Ray's nested form or as its JSON. */
  readonly objectSpillingConfig?: string | object
}

export const SYSTEM_CONFIG_KEYS: readonly string[] = [...Object.keys(SETTINGS), 'objectSpillingConfig']

/** Keys are known already (options.ts); values are checked here. */
export function resolveSystemConfig(raw: SystemConfigOptions, env: NodeJS.ProcessEnv): SystemConfig {
  const config: Record<string, number> = {}
  for (const [key, setting] of Object.entries(SETTINGS) as [SystemConfigKey, Setting][]) {
    const given: unknown = raw[key]
    const variable = [variableOf(key), setting.variable ?? ''].find((name) => env[name]) ?? ''
    const text = env[variable]
    if (given !== undefined) check(`option '${key}' of systemConfig`, given, setting)
    if (text) check(`the environment variable ${variable}`, Number(text), setting, text)
    config[key] = text ? Number(text) : ((given as number | undefined) ?? setting.value) // S2
  }
  return config as SystemConfig
}

/** `workerRegisterTimeoutSeconds` → `RAY_worker_register_timeout_seconds`. */
export function variableOf(key: string): string {
  return `RAY_${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`
}

function check(what: string, value: unknown, { min, max = Number.MAX_VALUE }: Setting, shown: unknown = value): void {
  if (typeof value === 'number' && value >= min && value <= max) return
  const right = max === Number.MAX_VALUE ? `of at least ${min}` : `between ${min} and ${max}`
  const message = `${what} must be a number ${right}, but is ${String(shown)}`
  throw makeError('INVALID_ARGUMENT', { message, hint: `Pass a number ${right}.` })
}
