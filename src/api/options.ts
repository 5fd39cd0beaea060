// Options of init, tasks, actors, methods, get and wait: their types, and the strict reading of what users pass.
//
//   O1. An unknown option is an error that names the right one: by the table of renamed options, else the nearest by spelling.
//   O2. A value of the wrong type or range is an error that says what is right. Nothing is silently ignored.

import { makeError } from '../errors/index.ts'
import { OBJECT_STORE_BYTES_MIN } from '../runtime/node-setup.ts'
import { SYSTEM_CONFIG_KEYS, type SystemConfigOptions } from '../runtime/system-config.ts'

export type { LabelSelector, SystemConfigOptions }

import { type LabelSelector, parseSelector } from '../scheduling/labels.ts'
import type { ObjectSpillingOptions } from './object-spilling.ts'
import { type SchedulingStrategyOption, strategyProblem } from './strategies.ts'

/** What a task or actor needs of its worker before user code runs. */
export interface RuntimeEnvOptions {
  /** Environment variables of the worker process. */
  readonly envVars?: Readonly<Record<string, string>>
  /** Working folder of the worker process. */
  readonly workingDir?: string
}

/** What to try when no node with room has the labels of the selector. */
export interface Fallback {
  /** Labels that its node must have instead. */
  readonly labelSelector: LabelSelector
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
  readonly schedulingStrategy?: SchedulingStrategyOption
  /** Labels that its node must have: `{ region: 'eu' }`, `'!eu'`, `'in(eu,us)'`, `'!in(eu,us)'`. Default: any node. */
  readonly labelSelector?: LabelSelector
  /** Tried in order when no node that has the labels has room. Default: none. */
  readonly fallbackStrategy?: readonly Fallback[]
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
  /** Accepted for programs written for Ray; nothing records events of tasks yet. */
  readonly enableTaskEvents?: boolean
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
  /** Accepted for programs written for Ray; nothing records events of tasks yet. */
  readonly enableTaskEvents?: boolean
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
  /** Accepted for programs written for Ray; nothing records events of tasks yet. */
  readonly enableTaskEvents?: boolean
}

/** Options of `ray.init`. */
export interface InitOptions {
  /**
   * A cluster to join: what `cluster.address` says, 'auto' for the one that runs on this machine, or 'local' for a fresh node.
   * Default: RAY_ADDRESS, else the running one, else a fresh node.
   */
  readonly address?: string
  /** Default: the CPUs that this process, or its container, may use. */
  readonly numCpus?: number
  /** Default: what CUDA_VISIBLE_DEVICES lists, else what the driver shows. */
  readonly numGpus?: number
  /** Bytes of the `memory` resource. Default: 70 % of the machine's memory. */
  readonly memory?: number
  /** Bytes of the object store. Default: 30 % of memory, at most what /dev/shm holds. At least 75 MiB. */
  readonly objectStoreMemory?: number
  /** Custom resources of the node by name. Default: none. */
  readonly resources?: Readonly<Record<string, number>>
  /** Labels of the node. Default: its id. */
  readonly labels?: Readonly<Record<string, string>>
  /** Namespace of actor names. Default: RAY_NAMESPACE, else a fresh one for each program. */
  readonly namespace?: string
  /** Print what workers print. Default true. */
  readonly logToDriver?: boolean
  /** From which level on ray-ts itself warns, on this program's stderr. Default 'info'. */
  readonly loggingLevel?: LogLevel
  /** How what is logged with `console` in tasks and actors looks: lines as they are, or JSON with where they come from. */
  readonly loggingConfig?: { readonly encoding?: 'TEXT' | 'JSON'; readonly logLevel?: LogLevel }
  /** Calling init again returns the running cluster instead of throwing. Default false. */
  readonly ignoreReinitError?: boolean
  /** Where objects go when the store is full. Default: the session folder. */
  readonly objectSpilling?: ObjectSpillingOptions | string
  /** There is no dashboard yet: these are accepted, and a warning says so. */
  readonly includeDashboard?: boolean
  /** Where the dashboard is to listen. */
  readonly dashboardHost?: string
  /** Default 8265. */
  readonly dashboardPort?: number
  /** Internal settings, by Ray's names in camelCase. */
  readonly systemConfig?: SystemConfigOptions
}

/** How much is told, from everything to nothing but what ends the program. */
export type LogLevel = 'debug' | 'info' | 'warning' | 'error' | 'critical'
export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warning', 'error', 'critical']

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
const OWN_OPTIONS: Readonly<Record<string, string>> = {
  CPU: 'numCpus',
  GPU: 'numGpus',
  memory: 'memory',
  object_store_memory: 'objectStoreMemory (of ray.init)',
}
const amounts: Check = (value) => {
  if (object(value) !== null) return object(value)
  for (const [name, one] of Object.entries(value as object)) {
    if (Object.hasOwn(OWN_OPTIONS, name)) return `an object without ${name}: use ${OWN_OPTIONS[name]}`
    if (name === '') return 'an object whose names are not empty'
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
const retries: Check = (value) => {
  const isList = Array.isArray(value) && value.every((one) => typeof one === 'function')
  return typeof value === 'boolean' || isList ? null : 'true, false or a list of error classes'
}
const runtimeEnv: Check = (value) => {
  if (object(value) !== null) return object(value)
  for (const key of Object.keys(value as object)) {
    if (key !== 'envVars' && key !== 'workingDir') return `an object of envVars and workingDir (not ${key})`
  }
  const { envVars, workingDir } = value as { envVars?: unknown; workingDir?: unknown }
  if (workingDir !== undefined && text(workingDir) !== null) return 'an object whose workingDir is a folder'
  const isRight =
    envVars === undefined ||
    (object(envVars) === null && Object.values(envVars as object).every((one) => typeof one === 'string'))
  return isRight ? null : 'an object whose envVars is an object of strings'
}

const labels: Check = (value) => {
  if (object(value) !== null) return object(value)
  for (const [name, one] of Object.entries(value as object)) {
    if (name.startsWith('ray.io/')) return `an object without ${name}: labels of ray.io/ are set by ray`
    if (!/^([\w.-]+\/)?[\w.-]{1,63}$/.test(name))
      return `an object whose names look like region or team/region (not ${name})`
    const isRight = typeof one === 'string' && /^([a-zA-Z0-9]([\w.-]{0,61}[a-zA-Z0-9])?)?$/.test(one)
    if (!isRight) return `an object of strings of letters, digits, '-', '_' and '.' (${name} is ${show(one)})`
  }
  return null
}
const selector: Check = (value) => {
  if (object(value) !== null) return 'an object of strings by label'
  if (!Object.values(value as object).every((text) => typeof text === 'string')) return 'an object of strings by label'
  const parsed = parseSelector(value as Record<string, string>)
  return 'problem' in parsed ? `a label selector (${parsed.problem})` : null
}
const listOf =
  (check: Check): Check =>
  (value) => {
    if (!Array.isArray(value)) return 'a list'
    const wrong = value.map(check).find((wanted) => wanted !== null)
    return wrong === undefined ? null : `a list, each ${wrong}`
  }
const fallback: Check = (value) => {
  const keys = object(value) === null ? Object.keys(value as object) : []
  if (keys.length !== 1 || keys[0] !== 'labelSelector') return 'an object of labelSelector only'
  return selector((value as { labelSelector: unknown }).labelSelector)
}
const level = oneOf(...LOG_LEVELS)
/** An object of these options and no others. */
const shape =
  (checks: Readonly<Record<string, Check>>): Check =>
  (value) => {
    if (object(value) !== null) return object(value)
    for (const [name, one] of Object.entries(value as object)) {
      if (one === undefined) continue
      const check = checks[name]
      if (!check) return `an object of ${Object.keys(checks).join(', ')} (not ${name})`
      const wanted = check(one)
      if (wanted !== null) return `an object whose ${name} is ${wanted} (it is ${show(one)})`
    }
    return null
  }
const port: Check = (value) => (count(value) === null && (value as number) < 65_536 ? null : 'a port number')

const RESOURCE_CHECKS = {
  numCpus: amount,
  numGpus: gpus,
  memory: amount,
  enforceMemory: flag,
  resources: amounts,
  schedulingStrategy: strategyProblem,
  labelSelector: selector,
  fallbackStrategy: listOf(fallback),
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
    enableTaskEvents: flag,
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
    enableTaskEvents: flag,
  },
  'an actor method': {
    name: text,
    numReturns: returns,
    concurrencyGroup: text,
    maxTaskRetries: countOrMinusOne,
    retryExceptions: retries,
    generatorBackpressureNumObjects: count,
    enableTaskEvents: flag,
  },
  'ray.init': {
    address: text,
    numCpus: amount,
    numGpus: number(0, true, 'a whole number that is not negative'),
    memory: amount,
    objectStoreMemory: number(OBJECT_STORE_BYTES_MIN, false, `at least ${OBJECT_STORE_BYTES_MIN} (bytes: 75 MiB)`),
    resources: amounts,
    labels,
    namespace: text,
    logToDriver: flag,
    loggingLevel: level,
    loggingConfig: shape({ encoding: oneOf('TEXT', 'JSON'), logLevel: level }),
    ignoreReinitError: flag,
    objectSpilling: either(object, text),
    includeDashboard: flag,
    dashboardHost: text,
    dashboardPort: port,
    systemConfig: object,
  },
  objectSpilling: {
    type: oneOf('filesystem'),
    directoryPath: either(text, texts),
    bufferSize: positive,
  },
  'ray.get': { timeoutS: amount },
  'ray.cancel': { force: flag, recursive: flag },
  'ray.kill': { noRestart: flag },
  'ray.getActor': { namespace: text },
  'ray.util.placementGroup': {
    strategy: oneOf('PACK', 'SPREAD', 'STRICT_PACK', 'STRICT_SPREAD'),
    name: text,
    lifetime: oneOf('detached', null),
    softTargetNodeId: text,
    bundleLabelSelector: listOf(selector),
  },
  'placementGroup.wait': { timeoutS: amount },
  'ray.clusterResources': { raw: flag },
  'ray.availableResources': { raw: flag },
  'ray.util.mapUnordered': { inFlight: positive },
  'ray.util.mapBounded': { inFlight: positive },
  'ray.wait': { numReturns: positive, timeoutS: either(amount, oneOf(null)), fetchLocal: flag },
}

/** Spellings of Ray and of its guide that are known to be meant, by target; '' holds for all. */
const RENAMED: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  '': { timeout: 'timeoutS', timeoutMs: 'timeoutS (seconds)' },
  'a task': { maxTaskRetries: 'maxRetries' },
  'an actor': { maxRetries: 'maxTaskRetries' },
  'ray.util.placementGroup': { _softTargetNodeId: 'softTargetNodeId' },
  'placementGroup.wait': { timeoutSeconds: 'timeoutS' },
  'ray.init': {
    workerMaximumStartupConcurrency: 'systemConfig: { workerMaximumStartupConcurrency }',
    objectSpillingConfig: 'objectSpilling',
    objectSpillingDirectory: 'objectSpilling: { directoryPath }',
    redisPassword: 'no password: there is no Redis in a cluster of one machine',
    configureLogging: 'logToDriver',
    localMode:
      "no localMode, which Ray has dropped; systemConfig and a debugger's --inspect in runtimeEnv help instead",
    tempDir: 'RAY_TMPDIR in the environment',
  },
}

/** How each option looks when it is right. */
const EXAMPLES: Readonly<Record<string, string>> = {
  address: 'cluster.address',
  numCpus: '0.5',
  numGpus: '1',
  memory: '2 * 1024 ** 3',
  objectStoreMemory: '2 * 1024 ** 3',
  resources: '{ license: 1 }',
  labels: "{ region: 'eu' }",
  schedulingStrategy: "'SPREAD'",
  labelSelector: "{ region: 'eu' }",
  fallbackStrategy: "[{ labelSelector: { region: 'us' } }]",
  runtimeEnv: "{ envVars: { DEBUG: '1' } }",
  priority: '10',
  onInfeasible: "'wait'",
  numReturns: '2',
  maxRetries: '3',
  retryExceptions: '[TypeError]',
  maxCalls: '1',
  generatorBackpressureNumObjects: '4',
  lifetime: "'detached'",
  maxRestarts: '-1',
  maxTaskRetries: '3',
  maxConcurrency: '10',
  maxPendingCalls: '1000',
  concurrencyGroups: '{ io: 2 }',
  concurrencyGroup: "'io'",
  loggingLevel: "'warning'",
  loggingConfig: "{ encoding: 'JSON' }",
  objectSpilling: "{ directoryPath: '/mnt/spill' }",
  dashboardPort: '8265',
  systemConfig: '{ numWorkersSoftLimit: 8 }',
  timeoutS: '10',
  strategy: "'SPREAD'",
  softTargetNodeId: 'ray.getRuntimeContext().getNodeId()',
  bundleLabelSelector: "[{ region: 'eu' }]",
  raw: 'true',
}

export type OptionTarget =
  | 'a task'
  | 'an actor'
  | 'an actor method'
  | 'ray.init'
  | 'ray.get'
  | 'ray.wait'
  | 'ray.cancel'
  | 'ray.kill'
  | 'ray.getActor'
  | 'ray.util.placementGroup'
  | 'placementGroup.wait'
  | 'ray.clusterResources'
  | 'ray.availableResources'
  | 'ray.util.mapUnordered'
  | 'ray.util.mapBounded'
  | 'objectSpilling'

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
      const example = EXAMPLES[option] ?? (check === flag ? 'true' : "'a name'")
      throw makeError('INVALID_ARGUMENT', { message, hint: `For example ${option}: ${example}.` })
    }
    out[option] = value
  }
  return out
}

/** The keys of systemConfig must be known. system-config.ts reads their values, object-spilling.ts its objectSpillingConfig. */
export function parseSystemConfig(raw: InitOptions['systemConfig']): SystemConfigOptions {
  const accept: Check = () => null
  const checks = Object.fromEntries(SYSTEM_CONFIG_KEYS.map((key) => [key, accept]))
  return parseKnown('systemConfig', checks, { ...raw }) as SystemConfigOptions
}

function toCamel(name: string): string {
  return name.replace(/^_+/, '').replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
}

function suggest(target: string, option: string, known: readonly string[]): string {
  const camel = toCamel(option)
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
