// `ray.remote` for functions: what a call needs is worked out once per function and option set, so that a call itself is cheap.
//
//   F1. The function is serialized at its first `.remote()`, never inside `ray.remote()`: it may refer to itself.
//   F2. `.options()` gives a new remote function that shares the definition; the original is unchanged.

import type { RemoteFunctionEntry, SchedulingClass, Task } from '../core-worker/effects.ts'
import { makeTask, type TaskPlan } from '../core-worker/make-task.ts'
import { makeError } from '../errors/index.ts'
import { makeObjectId, type ObjectId } from '../ids/ids.ts'
import { encodeFunction } from '../runtime/closures/index.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { currentTask } from '../runtime/task-context.ts'
import { warn } from '../runtime/warnings.ts'
import { conditionsOf } from '../scheduling/labels.ts'
import { toResources } from '../scheduling/resources.ts'
import type { LeaseSpec } from '../wire/messages.ts'
import { STREAMING } from '../wire/task-frames.ts'
import { type ActorClass, isClass, remoteClass } from './actor.ts'
import { watchFunction } from './advice.ts'
import { writeArguments } from './arguments.ts'
import { assignment } from './context.ts'
import { ObjectRefGenerator } from './generator.ts'
import { closureHost } from './host.ts'
import { ObjectRef } from './object-ref.ts'
import {
  type ActorOptions,
  parseOptions,
  type ResourceOptions,
  type TaskCallOptions,
  type TaskOptions,
} from './options.ts'
import { requireRuntime } from './state.ts'
import { toStrategy } from './strategies.ts'
import type { AnyFunction, Constructor, NumReturns, RemoteCall } from './types.ts'

/** Marks remote functions and classes, so that closures carry them as what they are. */
export const REMOTE = Symbol.for('ray-ts.remote')

/** A function that runs elsewhere: `f.remote(…)` returns a reference to its result at once. */
export interface RemoteFunction<F extends AnyFunction, N extends NumReturns = null> {
  /**
   * Runs the function on a worker and returns at once. Each argument is a value, or a reference to one, which the function then
   * receives as a value.
   */
  readonly remote: RemoteCall<F, N>
  /** The same function with other options; this one stays as it is. */
  options<const M extends number | 'streaming'>(
    options: TaskCallOptions & { readonly numReturns: M },
  ): RemoteFunction<F, M>
  options(options: TaskCallOptions): RemoteFunction<F, N>
}

/** The definition of a remote function, shared by all its option sets. */
export class Definition {
  readonly target: AnyFunction
  readonly name: string
  readonly isGenerator: boolean
  #entries = new WeakMap<CoreRuntime, RemoteFunctionEntry>()
  #key: string | null
  #isEncoding = false

  constructor(target: AnyFunction, name: string, key: string | null = null, isGenerator = isGeneratorFunction(target)) {
    this.target = target
    this.name = name
    this.#key = key
    this.isGenerator = isGenerator
  }

  /** null while it is being encoded: it refers to itself. */
  key(runtime: CoreRuntime): string | null {
    if (this.#key !== null && (this.#entries.has(runtime) || !this.target)) return this.#key
    if (this.#isEncoding) return null
    return this.entry(runtime).key
  }

  entry(runtime: CoreRuntime): RemoteFunctionEntry {
    let entry = this.#entries.get(runtime)
    if (entry) return entry
    if (this.#key === null || runtime.identity.isDriver) this.#key = this.#encode(runtime)
    entry = { key: this.#key, name: this.name, averageMicros: -1 }
    this.#entries.set(runtime, entry)
    watchFunction(entry)
    return entry
  }

  #encode(runtime: CoreRuntime): string {
    this.#isEncoding = true
    try {
      const { bytes, hash, warning } = encodeFunction(this.target, this.name, closureHost(runtime))
      if (warning) warn(warning)
      const key = `fn:${hash}`
      runtime.link.send({ t: 'kv.put', key, value: bytes, overwrite: false })
      return key
    } finally {
      this.#isEncoding = false
    }
  }
}

/**
 * Makes a class remote: its instances are actors, each with its state in a process of its own. What the class captures travels by
 * value with it, what it imports by reference.
 * @param options see `ActorOptions`; `.options({ … })` changes them later.
 * @throws InvalidArgumentError for options that cannot be right. UnserializableException comes at the first `.remote()`.
 */
export function remote<C extends Constructor>(type: C, options?: ActorOptions): ActorClass<C>
/**
 * Makes a function remote: calls of it run on worker processes. What it captures travels by value with it, what it imports by
 * reference. A generator function gives its items one by one.
 * @param options see `TaskOptions`; `.options({ … })` changes them later.
 * @throws InvalidArgumentError for options that cannot be right. UnserializableException comes at the first `.remote()`.
 */
export function remote<F extends AnyFunction, const N extends number | 'streaming'>(
  fn: F,
  options: TaskOptions & { readonly numReturns: N },
): RemoteFunction<F, N>
export function remote<F extends AnyFunction>(fn: F, options?: TaskOptions): RemoteFunction<F>
export function remote(target: AnyFunction | Constructor, options?: TaskOptions | ActorOptions): unknown {
  if (typeof target !== 'function') {
    const message = `ray.remote takes a function or a class, but got ${typeof target}`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Write ray.remote((x) => …) or ray.remote(class { … }).' })
  }
  if (isClass(target)) return remoteClass(target as Constructor, parseOptions<ActorOptions>('an actor', options))
  const definition = new Definition(target as AnyFunction, target.name || 'anonymous')
  return makeRemote(definition, parseOptions<TaskOptions>('a task', options))
}

export function makeRemote(definition: Definition, options: TaskOptions): object {
  const name = options.name ?? definition.name
  let plan: TaskPlan | null = null
  let planned: CoreRuntime | null = null
  /** Where this code ran then: a worker may serve a lease in a placement group that captures, and then one that is not. */
  let plannedAt = assignment.captured
  const wrapper = (): never => {
    throw makeError('NOT_REMOTE_CALL', { name })
  }
  const own = {
    remote(...args: unknown[]): unknown {
      const runtime = requireRuntime()
      if (plan === null || planned !== runtime || plannedAt !== assignment.captured) {
        plan = makePlan(definition, options, runtime)
        planned = runtime
        plannedAt = assignment.captured
      }
      return submit(plan, args, runtime)
    },
    options(more: TaskOptions): object {
      const parsed = parseOptions<TaskOptions>('a task', more)
      if (parsed.maxCalls !== undefined) {
        const message = 'maxCalls cannot be set in .options()'
        throw makeError('INVALID_ARGUMENT', {
          message,
          hint: 'Set it where the function is made remote: ray.remote(fn, { maxCalls }).',
        })
      }
      return makeRemote(definition, { ...options, ...parsed })
    },
  }
  return Object.assign(wrapper, own, { [REMOTE]: { kind: 'function', definition, options } })
}

function makePlan(definition: Definition, options: TaskOptions, runtime: CoreRuntime): TaskPlan {
  const entry = definition.entry(runtime)
  const numReturns = options.numReturns ?? (definition.isGenerator ? 'streaming' : 1)
  const maxCalls = options.maxCalls ?? ((options.numGpus ?? 0) > 0 ? 1 : 0)
  const name = options.name ?? definition.name
  const maxRetries = options.maxRetries ?? 3
  const extras: Record<string, unknown> = { name }
  if (options.generatorBackpressureNumObjects) extras.backpressure = options.generatorBackpressureNumObjects
  if (maxCalls > 0) extras.maxCalls = maxCalls
  if (maxRetries === 0) extras.once = true
  return {
    fn: name === entry.name ? entry : { ...entry, name },
    numReturns: numReturns === 'streaming' ? STREAMING : numReturns,
    retries: maxRetries,
    retryOn: retryPredicate(options.retryExceptions, runtime),
    extras,
    schedulingClass: classOf(leaseSpec(options, name, 1, maxRetries !== 0, runtime)),
    actorId: null,
    handleId: 0,
  }
}

export function leaseSpec(
  options: ResourceOptions,
  name: string,
  defaultCpus: number,
  retriable: boolean,
  runtime: CoreRuntime,
): LeaseSpec {
  const { numCpus, numGpus, memory, resources } = options
  const heapMiB = heapCapOf(options)
  return {
    ...(heapMiB === undefined ? {} : { heapMiB }),
    resources: toResources({ ...resources, CPU: numCpus ?? defaultCpus, GPU: numGpus, memory }),
    strategy: toStrategy(options.schedulingStrategy, assignment.captured),
    ...selectorsOf(options),
    runtimeEnv: options.runtimeEnv ?? {},
    jobId: runtime.identity.jobId,
    priority: options.priority ?? 0,
    onInfeasible: options.onInfeasible ?? 'fail',
    name,
    retriable,
  }
}

function selectorsOf({ labelSelector, fallbackStrategy = [] }: ResourceOptions): Pick<LeaseSpec, 'selectors'> {
  if (labelSelector === undefined && fallbackStrategy.length === 0) return {}
  const all = [labelSelector ?? {}, ...fallbackStrategy.map((one) => one.labelSelector)]
  return { selectors: all.map(conditionsOf) }
}

/** Below this no worker could even start. */
const ENFORCED_BYTES_MIN = 100 * 1024 * 1024

function heapCapOf({ enforceMemory, memory = 0 }: ResourceOptions): number | undefined {
  if (!enforceMemory) return undefined
  if (memory < ENFORCED_BYTES_MIN) {
    const message = `enforceMemory was set, but memory is ${memory} bytes`
    throw makeError('INVALID_ARGUMENT', {
      message,
      hint: `Set memory to ${ENFORCED_BYTES_MIN} bytes (100 MiB) or more.`,
    })
  }
  return Math.floor(memory / 1024 / 1024)
}

const classes = new Map<string, SchedulingClass>()

function classOf(spec: LeaseSpec): SchedulingClass {
  const { name: _, ...shared } = spec
  const key = JSON.stringify(shared)
  let known = classes.get(key)
  if (!known) {
    known = { key, spec }
    classes.set(key, known)
  }
  return known
}

function isNamed(error: unknown, name: string): boolean {
  for (let proto = error as object | null; proto; proto = Object.getPrototypeOf(proto))
    if (proto.constructor?.name === name) return true
  return false
}

export function retryPredicate(
  option: TaskOptions['retryExceptions'] | readonly string[],
  runtime: CoreRuntime,
): ((error: Uint8Array) => boolean) | null {
  if (option === undefined || option === false) return null
  if (option === true) return () => true
  return (bytes) => {
    const error = runtime.decodeError(bytes)
    return option.some((type) =>
      typeof type === 'string' ? isNamed(error, type) : error instanceof (type as unknown as new () => object),
    )
  }
}

function submit(plan: TaskPlan, args: readonly unknown[], runtime: CoreRuntime): unknown {
  const written = writeArguments(args, runtime, plan.fn.name)
  const task = makeTask(runtime.core, plan, written, currentTask()?.taskId ?? 0)
  runtime.submit(task)
  return returnsOf(task, runtime)
}

/** The references that a call gives back. */
export function returnsOf(task: Task, runtime: CoreRuntime): unknown {
  const { sequence, numReturns } = task
  if (numReturns === 1) return new ObjectRef(makeObjectId(runtime.core.tag, sequence), runtime)
  if (numReturns === STREAMING) return new ObjectRefGenerator(sequence, runtime)
  if (numReturns === 0) return undefined
  const refs: ObjectRef[] = []
  for (let i = 0; i < numReturns; i++) refs.push(new ObjectRef(makeObjectId(runtime.core.tag, sequence + i), runtime))
  return refs
}

export function isGeneratorFunction(fn: unknown): boolean {
  if (typeof fn !== 'function') return false
  const kind = Object.prototype.toString.call(fn)
  return kind === '[object GeneratorFunction]' || kind === '[object AsyncGeneratorFunction]'
}

export type { ObjectId }
