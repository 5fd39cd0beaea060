// Handles of objects that this process's program holds: each gives its hold back when the collector takes it, or before.
//
// One registry per runtime, with the bare id as what it remembers: registering with a token to unregister by, and an object to
// remember, costs three times as much (1.4 against 0.4 µs a reference, measured on Node 20).
//
//   H1. Every registered handle's hold is given back once: at `release`, or when it was collected, whatever comes first.
//   H2. A collection says the id only, not whose it was. It is a released handle's if one of that id is gone: all that goes in one
//       collection is gone before the first callback. (To ignore as many as were released kept a value for as long as a released handle
//       was reachable, when another one of its id was collected first.) Where nobody will hold the id again, all were released:
//       counting them is enough, and spares `using` a WeakRef, which costs 1 µs.

import type { ObjectId } from '../ids/ids.ts'

export class Handles {
  readonly #giveBack: (id: ObjectId) => boolean
  readonly #perform: () => void
  #isScheduled = false
  /** Handles that were released, and whose collection has not been told yet. */
  readonly #released = new Map<ObjectId, WeakRef<object>[] | number>()
  readonly #registry = new FinalizationRegistry<ObjectId>((id) => this.#collected(id))

  /** `giveBack`: true when nobody will hold that id again. `perform`: does what giving back made the machine want. */
  constructor(giveBack: (id: ObjectId) => boolean, perform: () => void) {
    this.#giveBack = giveBack
    this.#perform = perform
  }

  /** The caller has taken the hold. */
  register(handle: object, id: ObjectId): void {
    this.#registry.register(handle, id)
  }

  /** The handle is done with; its owner calls this at most once. */
  release(handle: object, id: ObjectId): void {
    const isOver = this.#giveBack(id)
    const others = this.#released.get(id)
    if (isOver) this.#released.set(id, (typeof others === 'number' ? others : (others?.length ?? 0)) + 1)
    else if (typeof others === 'object') others.push(new WeakRef(handle))
    else this.#released.set(id, [new WeakRef(handle)])
    this.#perform()
  }

  #collected(id: ObjectId): void {
    if (this.#released.size > 0 && this.#wasReleased(id)) return
    this.#giveBack(id)
    if (this.#isScheduled) return
    this.#isScheduled = true // The collector reports thousands in one go: their messages leave together.
    queueMicrotask(() => {
      this.#isScheduled = false
      this.#perform()
    })
  }

  /** H2 */
  #wasReleased(id: ObjectId): boolean {
    const released = this.#released.get(id)
    if (released === undefined) return false
    if (typeof released === 'number') {
      if (released > 1) this.#released.set(id, released - 1)
      else this.#released.delete(id)
      return true
    }
    const at = released.findIndex((one) => one.deref() === undefined)
    if (at < 0) return false
    released.splice(at, 1)
    if (released.length === 0) this.#released.delete(id)
    return true
  }
}
