// `ray.actorState`: what an actor keeps across its lives, on whatever node the next one is.
//
//   K1. Reads are those of this process, which is the only one that writes: all of it came with the actor's start.
//   K2. A change that cannot be kept changes nothing.

import { errorFromWire } from '../errors/errors.ts'
import { makeError } from '../errors/index.ts'
import type { ActorId } from '../ids/ids.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { currentTask } from '../runtime/task-context.ts'
import { ACTOR_STATE_BYTES_MAX, ACTOR_STATE_KEY_CHARS_MAX } from '../wire/messages.ts'
import { assignment } from './context.ts'
import { requireRuntime } from './state.ts'

/** Keys and values that an actor finds again after its process died: see `ray.actorState`. */
export class ActorState<T extends object = Record<string, unknown>> {
  readonly #runtime: CoreRuntime
  readonly #actorId: ActorId
  readonly #kept: Map<string, Uint8Array>

  /** @internal */
  constructor(runtime: CoreRuntime, actorId: ActorId, kept: Map<string, Uint8Array>) {
    this.#runtime = runtime
    this.#actorId = actorId
    this.#kept = kept
  }

  /** A copy of the value that was set last, in this life of the actor or an earlier one; undefined when there is none. */
  get<K extends keyof T & string>(key: K): T[K] | undefined {
    const bytes = this.#kept.get(key)
    return bytes && (this.#runtime.decodeValue(bytes) as T[K])
  }

  /** Whether the key was set. */
  has(key: keyof T & string): boolean {
    return this.#kept.has(key)
  }

  /** The keys that were set, oldest first. */
  keys(): (keyof T & string)[] {
    return [...this.#kept.keys()] as (keyof T & string)[]
  }

  /**
   * Keeps a copy of the value. `get` sees it at once; when the promise resolves it is durable, and the next life of the actor has it.
   * Changes are kept in the order in which they were made.
   * @throws UnserializableException; InvalidArgumentError when all keys and values together would be larger than 1 MiB, a key is longer
   *   than 256 characters, or the value holds an ObjectRef or an actor handle.
   */
  async set<K extends keyof T & string>(key: K, value: T[K]): Promise<void> {
    const bytes = this.#bytesOf(key, value)
    this.#kept.set(key, bytes)
    await this.#keep(key, bytes)
  }

  /** Removes a key; does nothing when it was not set. */
  async delete(key: keyof T & string): Promise<void> {
    if (this.#kept.delete(key)) await this.#keep(key, null)
  }

  /** K2 */
  #bytesOf(key: string, value: unknown): Uint8Array {
    if (typeof key !== 'string' || key === '' || key.length > ACTOR_STATE_KEY_CHARS_MAX) {
      const message = `a key of an actor's state must be a text of 1 to ${ACTOR_STATE_KEY_CHARS_MAX} characters`
      throw makeError('INVALID_ARGUMENT', { message, hint: 'Choose a shorter one.' })
    }
    const serialized = this.#runtime.serialize(value)
    if (serialized.refs.length > 0) {
      const message = `the value of '${key}' holds a reference, which cannot outlive this process in an actor's state`
      throw makeError('INVALID_ARGUMENT', {
        message,
        hint: 'Keep the value that it stands for, or the name of the actor.',
      })
    }
    let total = key.length + serialized.byteLength
    for (const [other, bytes] of this.#kept) if (other !== key) total += other.length + bytes.length
    if (total > ACTOR_STATE_BYTES_MAX) throw makeError('ACTOR_STATE_FULL', { key, total, limit: ACTOR_STATE_BYTES_MAX })
    const bytes = Buffer.allocUnsafeSlow(serialized.byteLength)
    serialized.writeTo(bytes, 0)
    return bytes
  }

  async #keep(key: string, value: Uint8Array | null): Promise<void> {
    const actorId = this.#actorId
    const { error } = await this.#runtime.link.request<'actor.kept'>((requestId) => {
      return { t: 'actor.keep', requestId, actorId, key, value }
    })
    if (error) throw errorFromWire(error)
  }
}

/**
 * The state of the actor that calls this: a small durable map. When the actor's process dies and it is restarted (`maxRestarts`), on
 * whatever node, its constructor finds there what was set before. It is removed when the actor is dead for good.
 * @throws InvalidArgumentError outside an actor, and in a threaded actor, whose threads have an instance each.
 */
export function actorState<T extends object = Record<string, unknown>>(): ActorState<T> {
  const runtime = requireRuntime()
  const actorId = currentTask()?.actorId ?? null
  const { state } = assignment
  if (actorId !== null && state !== null) return new ActorState<T>(runtime, actorId, state)
  const what = actorId === null ? 'outside an actor' : 'in a threaded actor'
  const hint =
    actorId === null
      ? 'Call it in the constructor or a method of a class that runs as an actor.'
      : 'Keep what its threads share in an actor without `threaded`, and ask that.'
  throw makeError('INVALID_ARGUMENT', { message: `actorState was called ${what}`, hint })
}
