// Handles of objects that this process's program holds: each gives its hold back when the collector takes it, or before.
//
// One registry per runtime, with the bare id as what it remembers: registering with a token to unregister by, and an object to
// remember, costs three times as much (1.4 against 0.4 µs a reference, measured on Node 20).
//
//   H1. Every registered handle's hold is given back once: at `release`, or when it was collected, whatever comes first.

import type { ObjectId } from '../ids/ids.ts'

export class Handles {
  readonly #giveBack: (id: ObjectId) => void
  readonly #perform: () => void
  #isScheduled = false
  /** Handles that were released but not collected yet, by id: as many collections to ignore. */
  readonly #released = new Map<ObjectId, number>()
  readonly #registry = new FinalizationRegistry<ObjectId>((id) => this.#collected(id))

  /** `perform`: does what giving back made the machine want. */
  constructor(giveBack: (id: ObjectId) => void, perform: () => void) {
    this.#giveBack = giveBack
    this.#perform = perform
  }

  /** The caller has taken the hold. */
  register(handle: object, id: ObjectId): void {
    this.#registry.register(handle, id)
  }

  /** The handle is done with; its owner calls this at most once. */
  release(id: ObjectId): void {
    this.#released.set(id, (this.#released.get(id) ?? 0) + 1)
    this.#giveBack(id)
    this.#perform()
  }

  #collected(id: ObjectId): void {
    const early = this.#released.size > 0 ? this.#released.get(id) : undefined
    if (early !== undefined) {
      if (early === 1) this.#released.delete(id)
      else this.#released.set(id, early - 1)
      return
    }
    this.#giveBack(id)
    if (this.#isScheduled) return
    this.#isScheduled = true // The collector reports thousands in one go: their messages leave together.
    queueMicrotask(() => {
      this.#isScheduled = false
      this.#perform()
    })
  }
}
