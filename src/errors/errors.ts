// The error classes, with Ray's names and Ray's family tree. Instances are made by `makeError` from the table of codes.
//
//   E3. Every class is recognised across copies of the package: `instanceof` compares names along the chain, not identities.

import { ERROR_TABLE, type ErrorCode } from './codes.ts'
import { taskStack } from './stacks.ts'

const LINEAGE = Symbol.for('ray-ts.error.lineage')

/** What a task error is beside the user's own class. */
const KINDS = Symbol.for('ray-ts.error.kinds')

/** The words that fill an error's message and hint. */
export type ErrorParams = Readonly<Record<string, string | number>>

/** Base of every error that ray-ts raises. */
export class RayError extends Error {
  static readonly [LINEAGE]: string = 'RayError'
  /** A code of docs/errors.md. */
  readonly code: ErrorCode
  /** What to do next. */
  readonly hint: string
  /** The words that filled them. */
  readonly params: ErrorParams

  constructor(code: ErrorCode, params: ErrorParams = {}, options?: ErrorOptions) {
    const { message, hint } = ERROR_TABLE[code]
    const filledHint = fill(hint, params)
    super(`${fill(message, params)}${filledHint ? `\n  ${filledHint}` : ''}`, options)
    this.code = code
    this.hint = filledHint
    this.params = params
    Object.defineProperty(this, 'name', { value: new.target.name, configurable: true, writable: true })
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    if (typeof value !== 'object' || value === null) return false
    if (Object.prototype.isPrototypeOf.call(this.prototype, value)) return true
    const kinds = (value as { readonly [KINDS]?: readonly string[] })[KINDS]
    if (kinds) return kinds.includes(this.name)
    for (let proto = Object.getPrototypeOf(value); proto; proto = Object.getPrototypeOf(proto)) {
      const type = proto.constructor as { readonly name?: string; readonly [LINEAGE]?: string } | undefined
      if (type?.[LINEAGE] !== undefined && type.name === this.name) return true
    }
    return false
  }
}

function fill(text: string, params: ErrorParams): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in params ? String(params[name]) : whole))
}

/** An option, an argument or a call that cannot be right. */
export class InvalidArgumentError extends RayError {}
/** Something was asked of ray before `ray.init()`, or after `ray.shutdown()`. */
export class NotInitializedError extends RayError {}
/** A task threw; `cause` is what it threw. Also an `instanceof` the user's own class. */
export class RayTaskError extends RayError {}
/** There is no cluster where one was to be joined. (Python's ConnectionError, in Ray.) */
export class RayConnectionError extends RayError {}
/** Whoever connects to a cluster, or lets others connect, must know its token. */
export class AuthenticationError extends RayError {}
/** `ray.cancel` ended the task whose value is read. */
export class TaskCancelledError extends RayError {}
/** The process that ran the task died, and it was not to be run again (`maxRetries`). */
export class WorkerCrashedError extends RayError {}
/** The process that ran the task was ended because memory ran out. */
export class OutOfMemoryError extends RayError {}
/** Base of what goes wrong with an actor. */
export class RayActorError extends RayError {}
/** The actor is dead and stays so; the message says why. */
export class ActorDiedError extends RayActorError {}
/** The actor died during this call and is being restarted: it may be called again. */
export class ActorUnavailableError extends RayActorError {}
/** No node could ever hold the actor. */
export class ActorUnschedulableError extends RayActorError {}
/** No node could ever run the task. */
export class TaskUnschedulableError extends RayError {}
/** The placement group that the task was to run in, or ran in, is gone. */
export class TaskPlacementGroupRemoved extends RayError {}
/** The placement group that the actor was to run in, or ran in, is gone. */
export class ActorPlacementGroupRemoved extends RayError {}
/** Another living actor has this name in this namespace. */
export class ActorAlreadyExistsError extends RayError {}
/** No living actor has this name in this namespace. */
export class ActorHandleNotFoundError extends RayError {}
/** More calls wait for the actor than its `maxPendingCalls` allows. */
export class PendingCallsLimitExceeded extends RayError {}
/** Values were not there within `timeoutS`. */
export class GetTimeoutError extends RayError {}
/** Base of lost values: this one is gone and cannot be rebuilt. */
export class ObjectLostError extends RayError {}
/** The value was given up with `free()`. */
export class ObjectFreedError extends ObjectLostError {}
/** The process that made the reference is gone, and the value with it. */
export class OwnerDiedError extends ObjectLostError {}
/** Neither the object store nor the spill directories have room for the value. */
export class ObjectStoreFullError extends RayError {}
/** The spill directories are full. */
export class OutOfDiskError extends ObjectStoreFullError {}
/** `ray.util.Queue`: nothing to take. */
export class QueueEmpty extends RayError {}
/** `ray.util.Queue`: no room. */
export class QueueFull extends RayError {}
/** No worker could be started for the runtime environment. */
export class RuntimeEnvSetupError extends RayError {}
/** A value cannot travel; the message has the path to it. */
export class UnserializableException extends RayError {}
/** Something inside ray-ts failed. */
export class RaySystemError extends RayError {}
/** The node process is gone, and everything that ran on it. */
export class LocalRayletDiedError extends RayError {}

type ErrorClass = new (code: ErrorCode, params?: ErrorParams, options?: ErrorOptions) => RayError

export const ERROR_CLASSES: Readonly<Record<string, ErrorClass>> = {
  ActorAlreadyExistsError,
  ActorDiedError,
  ActorHandleNotFoundError,
  ActorPlacementGroupRemoved,
  ActorUnavailableError,
  ActorUnschedulableError,
  AuthenticationError,
  GetTimeoutError,
  InvalidArgumentError,
  LocalRayletDiedError,
  NotInitializedError,
  ObjectFreedError,
  ObjectLostError,
  ObjectStoreFullError,
  OutOfDiskError,
  OutOfMemoryError,
  OwnerDiedError,
  PendingCallsLimitExceeded,
  QueueEmpty,
  QueueFull,
  RayConnectionError,
  RaySystemError,
  RayTaskError,
  RuntimeEnvSetupError,
  TaskCancelledError,
  TaskPlacementGroupRemoved,
  TaskUnschedulableError,
  UnserializableException,
  WorkerCrashedError,
}

export function makeError(code: ErrorCode, params: ErrorParams = {}, options?: ErrorOptions): RayError {
  const type = ERROR_CLASSES[ERROR_TABLE[code].className] ?? RaySystemError
  return new type(code, params, options)
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_TABLE, code)
}

/** An error named on the wire. Codes of a newer version become a system error that says so. */
export function errorFromWire(wire: { readonly code: string; readonly params: ErrorParams }): RayError {
  if (isErrorCode(wire.code)) return makeError(wire.code, wire.params)
  return makeError('SYSTEM', { message: `${wire.code} ${JSON.stringify(wire.params)}` })
}

/**
 * The error that `ray.get` throws for a task that threw `cause`: a `RayTaskError` that is also an `instanceof` the class of `cause`
 * and carries its own fields, so that users catch their own errors as if the function had run here.
 */
export function makeTaskError(cause: unknown, params: { name: string; pid: number }): RayTaskError {
  const message = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)
  const error = new RayTaskError('TASK_FAILED', { ...params, message }, { cause })
  if (!(cause instanceof Error)) return error
  const base = Object.getPrototypeOf(cause) as object
  if (base !== Error.prototype) {
    const proto = Object.create(base) as object
    Object.defineProperty(proto, 'name', { value: `RayTaskError(${cause.constructor.name})`, configurable: true })
    Object.setPrototypeOf(error, proto)
    Object.defineProperty(error, 'name', {
      value: `RayTaskError(${cause.constructor.name})`,
      configurable: true,
      writable: true,
    })
    Object.defineProperty(error, KINDS, { value: ['RayTaskError', 'RayError'] })
  }
  for (const key of Object.keys(cause)) {
    if (!(key in error))
      (error as unknown as Record<string, unknown>)[key] = (cause as unknown as Record<string, unknown>)[key]
  }
  const stack = taskStack(`${error.name}: ${error.message}`, cause)
  Object.defineProperty(error, 'stack', { value: stack, configurable: true, writable: true })
  return error
}
