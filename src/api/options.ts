// Options of init, tasks, actors, methods, get and wait: their types, and the strict reading of what users pass.
//
//   O1. An unknown option is an error that names the right one: by the table of renamed options, else the nearest by spelling.
//   O2. A value of the wrong type or range is an error that says what is right. Nothing is silently ignored.

import { makeError } from '../errors/index.ts'
import type { SchedulingStrategy } from '../wire/messages.ts'
import type { ObjectSpillingOptions } from './object-spilling.ts'

/** What a task or actor needs of its worker before user code runs. */
export interface RuntimeEnvOptions {
  /** Environment variables of the worker process. */
  readonly envVars?: Readonly<Record<string, string>>
  /** Working folder of the worker process. */
  readonly workingDir?: string
}

/** Where a task or actor may run, and what it takes there. */
export interface ResourceOptions {
  /** Logical CPUs; fractions to 0.0001. Default: 1 for tasks; for actors 1 to place and 0 while running. */
  readonly numCpus?: number
  /** Logical GPUs; fractions below 1, whole above. Default 0. */
  readonly numGpus?: number
  /** Bytes of memory to reserve. Default 0. */
  readonly memory?: number
  /** With `memory`: the worker's heap is capped, and the worker ended when it uses more than it reserved. Default false. */
  readonly enforceMemory?: boolean
  /** Custom resources by name. */
  readonly resources?: Readonly<Record<string, number>>
  /** Where to run. Default 'DEFAULT'. */
  readonly schedulingStrategy?: 'DEFAULT' | 'SPREAD' | NodeAffinitySchedulingStrategy
  /** What its worker needs before user code runs. Default: nothing beyond the environment of this program. */
  readonly runtimeEnv?: RuntimeEnvOptions
  /** Higher runs first. Default 0. */
  readonly priority?: number
  /** When no node could ever fit it. Default 'fail'. */
  readonly onInfeasible?: 'fail' | 'wait'
}

/** Options of a task that may also be changed for single calls: `f.options({ … }).remote(…)`. */
export interface TaskCallOptions extends ResourceOptions {
  /** Name in logs and errors. Default: the function's. */
  readonly name?: string
  /** How many references `.remote()` returns. Default 1; 'streaming' for generator functions. */
  readonly numReturns?: number | 'streaming'
  /** Times to run again when the worker died. -1: without limit. Default 3. */
  readonly maxRetries?: number
  /** Which exceptions are retried too: all, or instances of these classes. Default false. */
  readonly retryExceptions?: boolean | readonly (abstract new (...args: never[]) => unknown)[]
  /** A generator pauses when this many items were not taken. 0: never. Default 0. */
  readonly generatorBackpressureNumObjects?: number
}

/** Options of a remote function. */
export interface TaskOptions extends TaskCallOptions {
  /** The worker ends after this many runs of the function. 0: never. Default 0; 1 when it asks for GPUs. */
  readonly maxCalls?: number
}

/** Options of an actor class. */
export interface ActorOptions extends ResourceOptions {
  /** Name by which `ray.getActor` finds it; one living actor of a namespace has it. Default: none. */
  readonly name?: string
  /** Namespace of the name. Default: the program's. */
  readonly namespace?: string
  /** 'detached': it outlives this program, until killed. */
  readonly lifetime?: 'detached' | 'non_detached' | null
  /** With `name`: the existing actor of that name, if there is one. */
  readonly getIfExists?: boolean
  /** How often it comes back after its process died. -1: without limit. Default 0. */
  readonly maxRestarts?: number
  /** How often a call is repeated after a restart. -1: without limit. Default 0. */
  readonly maxTaskRetries?: number
  /** Calls that may be open at once. Default: 1000 if any method is async, else 1. */
  readonly maxConcurrency?: number
  /**
   * Each of the `maxConcurrency` calls runs in a thread of its own with an instance of its own, so that calls that compute use
   * several CPUs. They share what `static shared(…)` of the class returns. Default false.
   */
  readonly threaded?: boolean
  /** Calls of one process that may wait; more throw PendingCallsLimitExceeded. -1: without limit. Default -1. */
  readonly maxPendingCalls?: number
  /** Limits by group; methods join a group by `ray.method` or `.options`. */
  readonly concurrencyGroups?: Readonly<Record<string, number>>
  /** Calls whose arguments are ready may overtake others. Default false. */
  readonly allowOutOfOrderExecution?: boolean
}

/** Options of one method of an actor: by `ray.method`, or for single calls by `.options`. */
export interface MethodOptions {
  /** Name in logs and errors. Default: `Class.method`. */
  readonly name?: string
  /** How many references a call returns. Default 1; 'streaming' for generator methods. */
  readonly numReturns?: number | 'streaming'
  /** The group of the actor's `concurrencyGroups` whose limit it counts against. Default: that of the actor. */
  readonly concurrencyGroup?: string
  /** How often a call is repeated after a restart of the actor. -1: without limit. Default: that of the actor. */
  readonly maxTaskRetries?: number
  /** Which exceptions are retried too: all, or instances of these classes. Default false. */
  readonly retryExceptions?: boolean | readonly (abstract new (...args: never[]) => unknown)[]
  /** A generator pauses when this many items were not taken. 0: never. Default 0. */
  readonly generatorBackpressureNumObjects?: number
}

/** Options of `ray.init`. */
export interface InitOptions {
  /** A cluster to join: what `cluster.address` says. Default: start a node on this machine. */
  readonly address?: string
  /** Default: the CPUs that this process may use. */
  readonly numCpus?: number
  /** Logical GPUs of the node. Default 0. */
  readonly numGpus?: number
  /** Bytes of the `memory` resource. Default: 70 % of the machine's memory. */
  readonly memory?: number
  /** Bytes of the object store. Default: 30 % of memory, at most what /dev/shm holds. At least 75 MiB. */
  readonly objectStoreMemory?: number
  /** Custom resources of the node by name. Default: none. */
  readonly resources?: Readonly<Record<string, number>>
  /** Labels of the node. Default: its id. */
  readonly labels?: Readonly<Record<string, string>>
  /** Namespace of actor names. Default: a fresh one for each program. */
  readonly namespace?: string
  /** Print what workers print. Default true. */
  readonly logToDriver?: boolean
  /** Calling init again returns the running cluster instead of throwing. Default false. */
  readonly ignoreReinitError?: boolean
  /** Where objects go when the store is full. Default: the session folder. */
  readonly objectSpilling?: ObjectSpillingOptions | string
  /** Internal settings, by Ray's names in camelCase. */
  readonly systemConfig?: Partial<SystemConfig> & { readonly objectSpillingConfig?: ObjectSpillingOptions | string }
}

/** Runs on one node: `soft` allows another when that one is gone. */
export class NodeAffinitySchedulingStrategy {
  /** 56 hex digits, as of `ray.nodes()`. */
  readonly nodeId: string
  /** Whether another node will do when that one is gone. */
  readonly soft: boolean
  constructor(options: { nodeId: string; soft?: boolean }) {
    this.nodeId = options.nodeId
    this.soft = options.soft ?? false
  }
}

export function toStrategy(option: ResourceOptions['schedulingStrategy']): SchedulingStrategy {
  if (option === undefined || option === 'DEFAULT') return { kind: 'DEFAULT' }
  if (option === 'SPREAD') return { kind: 'SPREAD' }
  return { kind: 'nodeAffinity', nodeId: option.nodeId, soft: option.soft }
}

type Check = (value: unknown) => string | null

const number =
  (min: number, whole: boolean, what: string): Check =>
  (value) => {
    const isRight =
      typeof value === 'number' && Number.isFinite(value) && value >= min && (!whole || Number.isInteger(value))
    return isRight ? null : what
  }
const amount = number(0, false, 'a number that is not negative')
const count = number(0, true, 'a whole number that is not negative')
const countOrMinusOne = number(-1, true, 'a whole number, or -1 for no limit')
const positive = number(1, true, 'a whole number of at least 1')
const text: Check = (value) => (typeof value === 'string' && value.length > 0 ? null : 'a string that is not empty')
const flag: Check = (value) => (typeof value === 'boolean' ? null : 'true or false')
const object: Check = (value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? null : 'an object'
const oneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value) ? null : `one of ${values.map((one) => JSON.stringify(one)).join(', ')}`
const either =
  (...checks: readonly Check[]): Check =>
  (value) =>
    checks.some((check) => check(value) === null) ? null : checks.map((check) => check(value)).join(', or ')
const gpus: Check = (value) => {
  if (amount(value) !== null) return amount(value)
  return (value as number) > 1 && !Number.isInteger(value) ? 'a whole number when above 1' : null
}
const amounts: Check = (value) => {
  if (object(value) !== null) return object(value)
  for (const [name, one] of Object.entries(value as object)) {
    if (name === 'CPU' || name === 'GPU')
      return `an object without ${name}: use ${name === 'CPU' ? 'numCpus' : 'numGpus'}`
    if (amount(one) !== null) return `an object of numbers that are not negative (${name} is ${String(one)})`
  }
  return null
}
const limits: Check = (value) => {
  if (object(value) !== null) return object(value)
  return Object.values(value as object).every((one) => positive(one) === null)
    ? null
    : 'an object of whole numbers of at least 1'
}
const texts: Check = (value) =>
  Array.isArray(value) && value.length > 0 && value.every((one) => text(one) === null) ? null : 'a list of strings'
const fraction: Check = (value) =>
  typeof value === 'number' && value >= 0 && value <= 1 ? null : 'a number between 0 and 1'
const retries: Check = (value) => {
  const isList = Array.isArray(value) && value.every((one) => typeof one === 'function')
  return typeof value === 'boolean' || isList ? null : 'true, false or a list of error classes'
}
const strategy: Check = (value) =>
  value === 'DEFAULT' || value === 'SPREAD' || value instanceof NodeAffinitySchedulingStrategy
    ? null
    : "'DEFAULT', 'SPREAD' or a NodeAffinitySchedulingStrategy"
const runtimeEnv: Check = (value) => {
  if (object(value) !== null) return object(value)
  for (const key of Object.keys(value as object)) {
    if (key !== 'envVars' && key !== 'workingDir') return `an object of envVars and workingDir (not ${key})`
  }
  const { envVars } = value as RuntimeEnvOptions
  const isRight = envVars === undefined || Object.values(envVars).every((one) => typeof one === 'string')
  return isRight ? null : 'an object whose envVars are strings'
}

const RESOURCE_CHECKS = {
  numCpus: amount,
  numGpus: gpus,
  memory: amount,
  enforceMemory: flag,
  resources: amounts,
  schedulingStrategy: strategy,
  runtimeEnv,
  priority: number(Number.NEGATIVE_INFINITY, false, 'a number'),
  onInfeasible: oneOf('fail', 'wait'),
}

const returns = either(count, oneOf('streaming'))

const TABLES: Readonly<Record<string, Readonly<Record<string, Check>>>> = {
  'a task': {
    ...RESOURCE_CHECKS,
    name: text,
    numReturns: returns,
    maxRetries: countOrMinusOne,
    retryExceptions: retries,
    maxCalls: count,
    generatorBackpressureNumObjects: count,
  },
  'an actor': {
    ...RESOURCE_CHECKS,
    name: text,
    namespace: text,
    lifetime: oneOf('detached', 'non_detached', null),
    getIfExists: flag,
    maxRestarts: countOrMinusOne,
    maxTaskRetries: countOrMinusOne,
    maxConcurrency: positive,
    threaded: flag,
    maxPendingCalls: countOrMinusOne,
    concurrencyGroups: limits,
    allowOutOfOrderExecution: flag,
  },
  'an actor method': {
    name: text,
    numReturns: returns,
    concurrencyGroup: text,
    maxTaskRetries: countOrMinusOne,
    retryExceptions: retries,
    generatorBackpressureNumObjects: count,
  },
  'ray.init': {
    address: text,
    numCpus: amount,
    numGpus: number(0, true, 'a whole number that is not negative'),
    memory: amount,
    objectStoreMemory: amount,
    resources: amounts,
    labels: object,
    namespace: text,
    logToDriver: flag,
    ignoreReinitError: flag,
    objectSpilling: either(object, text),
    systemConfig: object,
  },
  objectSpilling: {
    type: oneOf('filesystem'),
    directoryPath: either(text, texts),
    bufferSize: positive,
  },
  'ray.get': { timeoutS: amount },
  'ray.wait': { numReturns: positive, timeoutS: either(amount, oneOf(null)), fetchLocal: flag },
}

/** Spellings of Ray and of its guide that are known to be meant, by target; '' holds for all. */
const RENAMED: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  '': { timeout: 'timeoutS', timeoutMs: 'timeoutS' },
  'a task': { maxTaskRetries: 'maxRetries' },
  'an actor': { maxRetries: 'maxTaskRetries' },
  'ray.init': {
    workerMaximumStartupConcurrency: 'systemConfig: { workerMaximumStartupConcurrency }',
    objectSpillingConfig: 'objectSpilling',
  },
}

export type OptionTarget =
  | 'a task'
  | 'an actor'
  | 'an actor method'
  | 'ray.init'
  | 'objectSpilling'
  | 'ray.get'
  | 'ray.wait'

/** Checks `raw` against the table of `target`; undefined values count as absent. */
export function parseOptions<T extends object>(target: OptionTarget, raw: unknown): T {
  if (raw === undefined) return {} as T
  if (object(raw) !== null) {
    throw makeError('INVALID_ARGUMENT', {
      message: `the options of ${target} must be an object`,
      hint: 'Pass { name: value, … }.',
    })
  }
  return parseKnown(target, TABLES[target] as Readonly<Record<string, Check>>, raw as Record<string, unknown>) as T
}

function parseKnown(target: string, table: Readonly<Record<string, Check>>, raw: Record<string, unknown>): object {
  const out: Record<string, unknown> = {}
  for (const [option, value] of Object.entries(raw)) {
    if (value === undefined) continue
    const check = table[option]
    if (!check) throw makeError('UNKNOWN_OPTION', { option, target, hint: suggest(target, option, Object.keys(table)) })
    const wanted = check(value)
    if (wanted !== null) {
      const message = `option '${option}' of ${target} must be ${wanted}, but is ${show(value)}`
      throw makeError('INVALID_ARGUMENT', { message, hint: 'Change its value.' })
    }
    out[option] = value
  }
  return out
}

/** Settings of `systemConfig` with their defaults (Ray's names and values). */
export const SYSTEM_CONFIG = {
  objectSpillingThreshold: 0.8,
  minSpillingSize: 100 * 1024 * 1024,
  maxFusedObjectCount: 2000,
  maxIoWorkers: 4,
  objectStoreFullDelayMs: 10,
  localFsCapacityThreshold: 0.95,
  localFsMonitorIntervalMs: 100,
  idleWorkerKillingTimeThresholdMs: 1000,
  killIdleWorkersIntervalMs: 200,
  workerMaximumStartupConcurrency: 0,
  numWorkersSoftLimit: -1,
  actorGracefulShutdownTimeoutMs: 30_000,
  actorExcessQueueingWarnThreshold: 5000,
  memoryUsageThreshold: 0.95,
  memoryMonitorRefreshMs: 250,
  /** What the processes of this node may use together; -1: what the machine, or its container, has. */
  nodeMemoryLimitBytes: -1,
}

export type SystemConfig = typeof SYSTEM_CONFIG

const SYSTEM_CHECKS: Readonly<Partial<Record<keyof SystemConfig, Check>>> = {
  objectSpillingThreshold: fraction,
  localFsCapacityThreshold: fraction,
  maxFusedObjectCount: positive,
  maxIoWorkers: positive,
  minSpillingSize: count,
  objectStoreFullDelayMs: count,
  localFsMonitorIntervalMs: count,
}

export function parseSystemConfig(
  raw: Readonly<Record<string, unknown>> | undefined,
  env: NodeJS.ProcessEnv,
): SystemConfig {
  const any = number(-1, false, 'a number')
  const checks = Object.fromEntries(Object.keys(SYSTEM_CONFIG).map((key) => [key, any]))
  const { objectSpillingConfig, ...rest } = raw ?? {} // object-spilling.ts reads that one.
  void objectSpillingConfig
  const parsed = parseKnown('systemConfig', { ...checks, ...SYSTEM_CHECKS }, rest) as Partial<SystemConfig>
  const config = { ...SYSTEM_CONFIG, ...parsed }
  for (const key of Object.keys(SYSTEM_CONFIG) as (keyof SystemConfig)[]) {
    const fromEnv = env[`RAY_${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`]
    if (fromEnv !== undefined && Number.isFinite(Number(fromEnv))) config[key] = Number(fromEnv)
  }
  return config
}

function suggest(target: string, option: string, known: readonly string[]): string {
  const camel = option.replace(/^_+/, '').replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
  if (known.includes(camel)) return `Write ${camel}.`
  const renamed = RENAMED[target]?.[camel] ?? RENAMED['']?.[camel]
  if (renamed) return `Write ${renamed}.`
  const nearest = [...known].sort((a, b) => distance(a, camel) - distance(b, camel))[0] as string
  if (distance(nearest, camel) <= Math.max(2, camel.length / 3)) return `Did you mean ${nearest}?`
  return `Known options: ${known.join(', ')}.`
}

function show(value: unknown): string {
  return typeof value === 'object' && value !== null
    ? (JSON.stringify(value)?.slice(0, 80) ?? 'an object')
    : String(value)
}

/** Levenshtein distance, ignoring case. */
function distance(a: string, b: string): number {
  const [s, t] = [a.toLowerCase(), b.toLowerCase()]
  let row = Array.from({ length: t.length + 1 }, (_, i) => i)
  for (let i = 1; i <= s.length; i++) {
    const next = [i]
    for (let j = 1; j <= t.length; j++) {
      const cost = s[i - 1] === t[j - 1] ? 0 : 1
      next.push(Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, (row[j - 1] as number) + cost))
    }
    row = next
  }
  return row[t.length] as number
}
