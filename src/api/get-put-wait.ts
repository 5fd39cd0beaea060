// `ray.get`, `ray.put`, `ray.wait`.

import { makeError, RayError, withCallSite } from '../errors/index.ts'
import type { ObjectId } from '../ids/ids.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { noteGet } from './advice.ts'
import { describe, foreign, idOf, idsOf, ObjectRef } from './object-ref.ts'
import { parseOptions } from './options.ts'
import { currentRuntime, requireRuntime } from './state.ts'

/** Options of `ray.get`. */
export interface GetOptions {
  /** Seconds to wait before `GetTimeoutError`; 0 only looks. Default: without limit. */
  readonly timeoutS?: number
}

/** Options of `ray.wait`. */
export interface WaitOptions {
  /** How many must be ready. Default 1. */
  readonly numReturns?: number
  /** Seconds to wait at most. Default: without limit. */
  readonly timeoutS?: number | null
  /** Bring values to this node. Default true. */
  readonly fetchLocal?: boolean
}

/** Value types of a tuple or list of references. */
export type Values<R extends readonly unknown[]> = {
  -readonly [K in keyof R]: R[K] extends ObjectRef<infer T> ? T : never
}

/**
 * The value of a reference.
 * @throws RayTaskError, as an instance of the task's own error class too, when the task threw; GetTimeoutError after `timeoutS`
 * seconds; WorkerCrashedError, ActorDiedError, ObjectLostError and others of docs/errors.md when the value will never be there.
 */
export function get<T>(ref: ObjectRef<T>, options?: GetOptions): Promise<T>
/** The values of a list or tuple of references, in its order. Rejects with the error of the first that failed, as soon as it is known. */
export function get<const R extends readonly ObjectRef[]>(refs: R, options?: GetOptions): Promise<Values<R>>
export async function get(refs: ObjectRef | readonly ObjectRef[], options?: GetOptions): Promise<unknown> {
  const runtime = runtimeFor(refs, 'get')
  const timeoutS = options === undefined ? undefined : parseOptions<GetOptions>('ray.get', options).timeoutS
  const timeoutMs = timeoutS === undefined ? null : timeoutS * 1000
  try {
    if (refs instanceof ObjectRef) {
      const id = idOf(refs, runtime)
      noteGet(id, runtime)
      return await runtime.getOne(id, timeoutMs, refs)
    }
    if (!Array.isArray(refs)) idsOf([refs], 'get', runtime)
    return await runtime.get(idsOf(refs as readonly ObjectRef[], 'get', runtime), timeoutMs, refs)
  } catch (error) {
    if (error instanceof RayError) withCallSite(error)
    throw error
  }
}

/** Stores a value and returns a reference to it. The value is copied now: later changes to it are not seen. */
export function put<T>(value: T): ObjectRef<T> {
  const runtime = requireRuntime()
  if (value instanceof ObjectRef) {
    const message = 'ray.put of an ObjectRef is not allowed'
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Use the reference itself, or put a list that holds it.' })
  }
  return new ObjectRef<T>(runtime.put(value), runtime)
}

/**
 * Waits until `numReturns` of the references have values (or errors), or the time is over.
 * @returns the ready ones (at most `numReturns`) and the others, each in the order given.
 */
export async function wait<R extends ObjectRef>(
  refs: readonly R[],
  options?: WaitOptions,
): Promise<[ready: R[], notReady: R[]]> {
  const runtime = runtimeFor(refs, 'wait')
  const { numReturns = 1, timeoutS = null } = parseOptions<WaitOptions>('ray.wait', options)
  if (!Array.isArray(refs)) throw makeError('NOT_A_REF', { verb: 'wait', got: `${typeof refs} (it takes a list)` })
  const ids = idsOf(refs, 'wait', runtime)
  if (hasDuplicates(ids)) {
    throw makeError('INVALID_ARGUMENT', {
      message: 'ray.wait got the same ObjectRef twice',
      hint: 'Pass each reference once.',
    })
  }
  if (numReturns > ids.length) {
    const message = `ray.wait got numReturns: ${numReturns}, but only ${ids.length} references`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'numReturns may be at most the length of the list.' })
  }
  const ready = await runtime.wait(ids, numReturns, timeoutS === null ? null : timeoutS * 1000, refs)
  return split(refs, ready)
}

/** Lists mostly come in the order of the calls: then ids ascend, and no set is needed. */
function hasDuplicates(ids: readonly ObjectId[]): boolean {
  for (let i = 1; i < ids.length; i++) {
    if ((ids[i] as ObjectId) <= (ids[i - 1] as ObjectId)) return new Set(ids).size !== ids.length
  }
  return false
}

/** `at`: ascending indices of the first part. A drain loop calls this with one index and a long list: its rest is a copy. */
function split<T>(refs: readonly T[], at: readonly number[]): [T[], T[]] {
  if (at.length === 1) {
    const index = at[0] as number
    const rest = refs.slice(index === 0 ? 1 : 0)
    if (index > 0) rest.splice(index, 1)
    return [[refs[index] as T], rest]
  }
  const done: T[] = []
  const rest: T[] = []
  let next = 0
  for (let i = 0; i < refs.length; i++) {
    if (at[next] === i) {
      done.push(refs[i] as T)
      next++
    } else rest.push(refs[i] as T)
  }
  return [done, rest]
}

/** What is no reference, or one of a session that is over, starts no new one (auto-init). */
function runtimeFor(refs: unknown, verb: string): CoreRuntime {
  const runtime = currentRuntime()
  if (runtime) return runtime
  const first: unknown = Array.isArray(refs) ? refs[0] : refs
  if (first instanceof ObjectRef) throw foreign(first)
  if (!Array.isArray(refs) || refs.length > 0) throw makeError('NOT_A_REF', { verb, got: describe(first) })
  return requireRuntime()
}
