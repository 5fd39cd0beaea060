// References to objects, as users hold them.
//
//   R1. A reference is counted while it is reachable, or until `release` (`using`); `free` gives up the value itself.
//   R2. It is not thenable: an async task may return one without its being unwrapped.

import { makeError, RayError, withCallSite } from '../errors/index.ts'
import type { ObjectId } from '../ids/ids.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { parseOptions } from './options.ts'
import { currentRuntime } from './state.ts'

/** A reference to a value that exists, or will exist, somewhere in the cluster. Made by `.remote(…)` and `ray.put(…)`. */
export class ObjectRef<T = unknown> {
  /** @internal */
  readonly id: ObjectId
  /** @internal */
  readonly runtime: CoreRuntime
  #isHeld = true

  /** @internal The caller has taken the hold that this handle gives back. */
  constructor(id: ObjectId, runtime: CoreRuntime) {
    this.id = id
    this.runtime = runtime
    runtime.handles.register(this, id)
  }

  /** The id in Ray's form: 56 hex digits. */
  hex(): string {
    return this.runtime.formatId(this.id)
  }

  /** The value, as `ray.get(this)` gives it. */
  async get(options: { timeoutS?: number } = {}): Promise<T> {
    if (this.runtime.isClosed) throw foreign(this)
    const { timeoutS } = parseOptions<{ timeoutS?: number }>('ray.get', options)
    try {
      return (await this.runtime.getOne(this.id, timeoutS === undefined ? null : timeoutS * 1000, this)) as T
    } catch (error) {
      if (error instanceof RayError) withCallSite(error)
      throw error
    }
  }

  /** Another name for `get()`, for code that collects promises. */
  promise(): Promise<T> {
    return this.get()
  }

  /** Gives the value up now, for everyone: later reads throw `ObjectFreedError`. */
  free(): void {
    this.runtime.core.table.freeNow(this.id, this.runtime.core.effects)
    this.runtime.perform()
  }

  /** Lets go of this reference (`using ref = …`), without waiting for the garbage collector. */
  [Symbol.dispose](): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    this.runtime.handles.release(this, this.id)
  }

  toString(): string {
    return `ObjectRef(${this.hex()})`
  }

  toJSON(): never {
    const message = 'an ObjectRef cannot be written as JSON'
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Send the value: await ray.get(ref).' })
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString()
  }
}

/** Checks a user's argument; the ids of references of this session. */
export function idsOf(refs: readonly unknown[], verb: string, runtime: CoreRuntime): ObjectId[] {
  const ids = new Array<ObjectId>(refs.length)
  for (let i = 0; i < refs.length; i++) {
    const ref = refs[i]
    if (!(ref instanceof ObjectRef)) throw makeError('NOT_A_REF', { verb, got: describe(ref) })
    ids[i] = idOf(ref, runtime)
  }
  return ids
}

/** The id of a reference of this session. */
export function idOf(ref: ObjectRef, runtime: CoreRuntime): ObjectId {
  if (ref.runtime !== runtime) throw foreign(ref)
  return ref.id
}

export function foreign(ref: ObjectRef): Error {
  return makeError('FOREIGN_REF', { id: ref.hex() })
}

export function describe(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value !== 'object')
    return `${typeof value === 'undefined' ? '' : `${typeof value} `}${String(value).slice(0, 60)}`
  return `a ${value.constructor?.name ?? 'object'}`
}

export function isCurrent(runtime: CoreRuntime): boolean {
  return currentRuntime() === runtime
}
