// The references of a generator task, one by one as they come.

import { makeObjectId } from '../ids/ids.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { ObjectRef } from './object-ref.ts'

const registry = new FinalizationRegistry<{ runtime: CoreRuntime; sequence: number }>(({ runtime, sequence }) => {
  if (runtime.isClosed) return
  runtime.core.abandonStream(sequence)
  runtime.perform()
})

/** `for await (const ref of generator) await ray.get(ref)`. A failing item is a reference whose `ray.get` throws; then it ends. */
export class ObjectRefGenerator<T = unknown> implements AsyncIterableIterator<ObjectRef<T>> {
  readonly #sequence: number
  readonly #runtime: CoreRuntime

  /** @internal */
  constructor(sequence: number, runtime: CoreRuntime) {
    this.#sequence = sequence
    this.#runtime = runtime
    registry.register(this, { runtime, sequence }, this)
  }

  /** @internal What `ray.cancel` cancels. */
  get id(): number {
    return makeObjectId(this.#runtime.core.tag, this.#sequence)
  }

  /** The next reference, when its item is there; the end when the generator has ended. */
  async next(): Promise<IteratorResult<ObjectRef<T>, undefined>> {
    const id = await this.#runtime.nextItem(this.#sequence)
    return id === undefined
      ? { done: true, value: undefined }
      : { done: false, value: new ObjectRef<T>(id, this.#runtime) }
  }

  /** No more items are wanted: the task is cancelled. */
  async return(): Promise<IteratorResult<ObjectRef<T>, undefined>> {
    registry.unregister(this)
    this.#runtime.core.abandonStream(this.#sequence)
    this.#runtime.perform()
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
