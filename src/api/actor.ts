// Actors as users hold them: classes made remote, and typed handles whose methods have only `.remote` and `.options`.
//
//   H1. A handle keeps its actor alive: when the last one is gone, anywhere, the actor finishes its calls and ends.
//   H2. Calls through handles of one process reach the actor in order.

import { makeTask, type TaskPlan } from '../core-worker/make-task.ts'
import { makeError } from '../errors/index.ts'
import { makeObjectId, type ObjectId } from '../ids/ids.ts'
import { TERMINATE } from '../runtime/actor-executor.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { randomHex } from '../runtime/session.ts'
import { currentTask } from '../runtime/task-context.ts'
import { toResources } from '../scheduling/resources.ts'
import type { ActorInfo, ActorMethodOptions, ActorSpec, ActorWorkerOptions, LeaseSpec } from '../wire/messages.ts'
import { STREAMING } from '../wire/task-frames.ts'
import { writeArguments } from './arguments.ts'
import { DeferredActor } from './deferred-actor.ts'
import { type ActorOptions, type MethodOptions, parseOptions } from './options.ts'
import { Definition, isGeneratorFunction, leaseSpec, REMOTE, retryPredicate, returnsOf } from './remote.ts'
import { requireRuntime } from './state.ts'
import type { AnyFunction, Constructor, NumReturns, RemoteArguments, RemoteCall } from './types.ts'

/** A method of an actor handle. */
export interface ActorMethod<F extends AnyFunction, N extends NumReturns = null> {
  /** Calls the method and returns at once. Calls of one process through its handles of an actor run in the order they were made. */
  readonly remote: RemoteCall<F, N>
  /** The same method with other options. */
  options<const M extends number | 'streaming'>(options: MethodOptions & { readonly numReturns: M }): ActorMethod<F, M>
  options(options: MethodOptions): ActorMethod<F, N>
}

/** Names that a handle never answers to, so that it is no thenable and prints well. */
type Reserved = 'constructor' | 'then' | 'toJSON'

/**
 * A handle to an actor of class `T`: its public methods, each with only `.remote` and `.options`. Fields are not reachable from
 * outside. A handle may be passed to tasks and actors. The actor ends when its last handle is gone; `using handle = …` lets go of
 * this one at the end of the block.
 */
export type ActorHandle<T> = {
  readonly [K in Exclude<keyof T & string, Reserved> as T[K] extends AnyFunction ? K : never]: T[K] extends AnyFunction
    ? ActorMethod<T[K]>
    : never
} & HandleOf<T>

declare const classOf: unique symbol

/** What makes a handle one of its class, and what every handle has. */
export interface HandleOf<T> extends Disposable {
  readonly [classOf]: T
  /** Ends the actor for good, after the calls before this one. */
  readonly __rayTerminate__: ActorMethod<() => void>
}

/** A class whose instances are actors. */
export interface ActorClass<C extends Constructor> {
  /** Makes an actor; the handle is usable at once. */
  remote(...args: RemoteArguments<ConstructorParameters<C>>): ActorHandle<InstanceType<C>>
  /** The same class with other options; this one stays as it is. */
  options(options: ActorOptions): ActorClass<C>
}

export interface HandleState {
  readonly actorId: string
  readonly handleId: ObjectId
  readonly className: string
  readonly options: ActorWorkerOptions
  readonly runtime: CoreRuntime
}

const METHOD = Symbol.for('ray-ts.method')
const handles = new WeakMap<object, HandleState>()
/** States of handles that were disposed of. */
const released = new WeakSet<HandleState>()
export function isClass(target: unknown): boolean {
  return typeof target === 'function' && /^class[\s{]/.test(Function.prototype.toString.call(target))
}

/**
 * Settings of one actor method. As a decorator, `@ray.method({ numReturns: 2 })`, or applied to the method:
 * `ray.method({ concurrencyGroup: 'io' })(Store.prototype.read)`.
 */
export function method(options: MethodOptions): <F extends AnyFunction>(fn: F, context?: unknown) => F {
  const parsed = parseOptions<MethodOptions>('an actor method', options)
  return (fn) => Object.assign(fn, { [METHOD]: parsed })
}

export function remoteClass(
  type: Constructor,
  options: ActorOptions,
  definition?: Definition,
): ActorClass<Constructor> {
  const shared = definition ?? new Definition(type as unknown as AnyFunction, type.name || 'anonymous', null, false)
  const name = shared.name
  const wrapper = function direct(): never {
    throw makeError('NOT_REMOTE_CALL', { name })
  }
  const own: ActorClass<Constructor> = {
    remote: (...args) => create(type, shared, options, args) as never,
    options: (more) => remoteClass(type, { ...options, ...parseOptions<ActorOptions>('an actor', more) }, shared),
  }
  return Object.assign(wrapper, own, { [REMOTE]: { kind: 'class', definition: shared, options } })
}

function create(type: Constructor, definition: Definition, options: ActorOptions, args: readonly unknown[]): object {
  const runtime = requireRuntime()
  const { core, identity } = runtime
  const className = definition.name
  if (options.getIfExists && options.name === undefined) {
    throw makeError('INVALID_ARGUMENT', { message: 'getIfExists needs a name', hint: 'Pass name as well.' })
  }
  const definitionKey = definition.entry(runtime).key
  const actorId = randomHex(12) + identity.jobId
  const handleId = makeObjectId(core.tag, core.sequences(1))
  core.table.create(handleId, actorId)
  const workerOptions = workerOptionsOf(type, options)
  const written = writeArguments(args, runtime, className)
  const spec: Omit<ActorSpec, 'args' | 'argRefs'> = {
    actorId,
    className,
    definition: definitionKey,
    name: options.name ?? null,
    namespace: options.namespace ?? identity.namespace,
    detached: options.lifetime === 'detached',
    getIfExists: options.getIfExists ?? false,
    maxRestarts: options.maxRestarts ?? 0,
    jobId: identity.jobId,
    owner: core.tag,
    handleId,
    placementResources: placementOf(options),
    lease: shareHeap(
      leaseSpec(options, className, 0, (options.maxRestarts ?? 0) !== 0, runtime),
      workerOptions.threads,
    ),
    options: workerOptions,
  }
  if (written.blob) core.createActor({ ...spec, args: written.blob, argRefs: written.nested }, written.pinned)
  else new DeferredActor(runtime).createWhenReady(spec, written)
  runtime.perform()
  return makeHandle({ actorId, handleId, className, options: workerOptions, runtime })
}

function placementOf(options: ActorOptions): ActorSpec['placementResources'] {
  const { numCpus, numGpus, memory, resources } = options
  return toResources({ ...resources, CPU: numCpus ?? 1, GPU: numGpus, memory })
}

function workerOptionsOf(type: Constructor, options: ActorOptions): ActorWorkerOptions {
  const methods: Record<string, ActorMethodOptions> = {}
  let isAsync = false
  for (const [name, fn] of methodsOf(type)) {
    const own = (fn as { [METHOD]?: MethodOptions })[METHOD]
    const kind = Object.prototype.toString.call(fn)
    if (kind === '[object AsyncFunction]' || kind === '[object AsyncGeneratorFunction]') isAsync = true
    const settings: Record<string, unknown> = {}
    if (isGeneratorFunction(fn)) settings.numReturns = 'streaming'
    if (own?.numReturns !== undefined) settings.numReturns = own.numReturns
    if (own?.concurrencyGroup !== undefined) settings.concurrencyGroup = own.concurrencyGroup
    if (own?.maxTaskRetries !== undefined) settings.maxTaskRetries = own.maxTaskRetries
    if (own?.retryExceptions) settings.retryExceptions = namesOf(own.retryExceptions)
    methods[name] = settings as ActorMethodOptions
  }
  return {
    maxConcurrency: options.maxConcurrency ?? (isAsync ? 1000 : 1),
    concurrencyGroups: options.concurrencyGroups ?? {},
    allowOutOfOrder: options.allowOutOfOrderExecution ?? false,
    maxTaskRetries: options.maxTaskRetries ?? 0,
    maxPendingCalls: options.maxPendingCalls ?? -1,
    isAsync,
    threads: threadsOf(options),
    methods,
  }
}

/** A heap cap counts for each thread: together they stay within what was reserved. */
function shareHeap(lease: LeaseSpec, threads: number): LeaseSpec {
  if (lease.heapMiB === undefined || threads === 0) return lease
  return { ...lease, heapMiB: Math.max(HEAP_MIB_MIN, Math.floor(lease.heapMiB / threads)) }
}

/** Less is not enough for a worker to start. */
const HEAP_MIB_MIN = 32

/** More would cost more memory and switching than any machine gains. */
const THREADS_MAX = 256

/** One for every call that may be open at once. */
function threadsOf({ threaded, maxConcurrency, concurrencyGroups }: ActorOptions): number {
  if (!threaded) return 0
  const hint = 'Set maxConcurrency to the number of threads, e.g. { threaded: true, maxConcurrency: 4 }.'
  if (maxConcurrency === undefined)
    throw makeError('INVALID_ARGUMENT', { message: 'threaded was set without maxConcurrency', hint })
  const count = Object.values(concurrencyGroups ?? {}).reduce((sum, limit) => sum + limit, maxConcurrency)
  if (count > THREADS_MAX)
    throw makeError('INVALID_ARGUMENT', { message: `an actor with ${count} threads (at most ${THREADS_MAX})`, hint })
  return count
}

/** Handles travel without their classes: errors are told by the names in their family tree. */
function namesOf(option: NonNullable<MethodOptions['retryExceptions']>): boolean | string[] {
  return typeof option === 'boolean' ? option : option.map((type) => (type as unknown as { name: string }).name)
}

function methodsOf(type: Constructor): Map<string, AnyFunction> {
  const found = new Map<string, AnyFunction>()
  for (let proto = type.prototype; proto && proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
    for (const name of Object.getOwnPropertyNames(proto)) {
      const value = Object.getOwnPropertyDescriptor(proto, name)?.value as unknown
      if (name !== 'constructor' && typeof value === 'function' && !found.has(name))
        found.set(name, value as AnyFunction)
    }
  }
  return found
}

/** The caller has taken the hold on `handleId` that this handle gives back. */
export function makeHandle(state: HandleState): object {
  const cache = new Map<string, unknown>()
  const target = Object.create(null) as object
  const handle: object = new Proxy(target, {
    // `using handle = …`: lets go without waiting for the garbage collector; once.
    get: (_, property) =>
      property === Symbol.dispose ? () => release(handle, state) : getProperty(state, cache, property),
    has: (_, property) => typeof property === 'string' && property in state.options.methods,
    ownKeys: () => [],
    set: () => {
      const message = `an actor's state cannot be set through its handle (${state.className})`
      throw makeError('INVALID_ARGUMENT', { message, hint: 'Give the class a method that does it, and call that.' })
    },
  })
  handles.set(handle, state)
  state.runtime.handles.register(handle, state.handleId)
  return handle
}

/** Handles, like references, belong to the session that made them. */
export function checkHandle(state: HandleState, runtime: CoreRuntime): void {
  if (state.runtime !== runtime) throw foreignHandle(state)
}

function foreignHandle({ className, actorId }: HandleState): Error {
  return makeError('FOREIGN_HANDLE', { name: className, actorId })
}

export function handleStateOf(handle: unknown): HandleState | undefined {
  return typeof handle === 'object' && handle !== null ? handles.get(handle) : undefined
}

function release(handle: object, state: HandleState): void {
  if (released.has(state)) return
  released.add(state)
  state.runtime.handles.release(handle, state.handleId)
}

function getProperty(state: HandleState, cache: Map<string, unknown>, property: string | symbol): unknown {
  if (property === Symbol.for('nodejs.util.inspect.custom') || property === Symbol.toPrimitive) {
    return () => `Actor(${state.className}, ${state.actorId})`
  }
  if (typeof property === 'symbol' || property === 'then' || property === 'toJSON' || property === 'constructor')
    return undefined
  const known = cache.get(property)
  if (known) return known
  const settings = property === TERMINATE ? {} : state.options.methods[property]
  if (!settings) {
    const methods = Object.keys(state.options.methods).join(', ') || 'none'
    throw makeError('ACTOR_METHOD_MISSING', { className: state.className, method: property, methods })
  }
  const made = makeMethod(state, property, settings, {})
  cache.set(property, made)
  return made
}

function makeMethod(state: HandleState, name: string, settings: ActorMethodOptions, own: MethodOptions): object {
  const { runtime, className } = state
  const label = own.name ?? `${className}.${name}`
  const fn = { key: name, name: label, averageMicros: -1 }
  const numReturns = own.numReturns ?? settings.numReturns ?? 1
  const retries = own.maxTaskRetries ?? settings.maxTaskRetries ?? state.options.maxTaskRetries
  const retryOn = retryPredicate(own.retryExceptions ?? settings.retryExceptions, runtime)
  const extras: Record<string, unknown> = { name: label }
  if (own.concurrencyGroup !== undefined) extras.group = own.concurrencyGroup
  if (own.generatorBackpressureNumObjects) extras.backpressure = own.generatorBackpressureNumObjects
  const plan: TaskPlan = {
    fn,
    numReturns: numReturns === 'streaming' ? STREAMING : numReturns,
    retries,
    retryOn,
    extras,
    schedulingClass: null,
    actorId: state.actorId,
    handleId: state.handleId,
  }
  const direct = (): never => {
    const message = `the actor method ${label} was called directly`
    throw makeError('INVALID_ARGUMENT', { message, hint: `Call ${name}.remote(…), and ray.get(…) its result.` })
  }
  return Object.assign(direct, {
    remote: (...args: unknown[]) => call(state, plan, args),
    options: (more: MethodOptions) =>
      makeMethod(state, name, settings, { ...own, ...parseOptions<MethodOptions>('an actor method', more) }),
  })
}

function call(state: HandleState, plan: TaskPlan, args: readonly unknown[]): unknown {
  const { runtime, options } = state
  const { core } = runtime
  if (runtime.isClosed) throw foreignHandle(state)
  if (options.maxPendingCalls >= 0) {
    const pending = core.actors.pending(state.actorId)
    if (pending >= options.maxPendingCalls) {
      throw makeError('PENDING_CALLS_LIMIT', { name: state.className, pending, limit: options.maxPendingCalls })
    }
  }
  const written = writeArguments(args, runtime, plan.fn.name)
  const task = makeTask(core, plan, written, currentTask()?.taskId ?? 0)
  core.table.hold(state.handleId)
  runtime.submit(task)
  return returnsOf(task, runtime)
}

/** A handle for an actor that was found by name. */
export function handleFromInfo(info: ActorInfo, runtime: CoreRuntime): object {
  runtime.core.table.hold(info.handleId)
  if (!info.detached) runtime.core.table.borrow(info.handleId, runtime.core.effects)
  runtime.perform()
  const { actorId, handleId, className, options } = info
  return makeHandle({ actorId, handleId, className, options, runtime })
}
