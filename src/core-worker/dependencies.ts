// Holds tasks back until the references among their arguments have values, and then writes the arguments.
//
// Only top-level references are dependencies; those inside objects travel as references.
//
// Invariants:
//   D1. A task leaves here exactly once: with its arguments written, or failed with the first failing dependency's error.
//   D2. A dependency's value travels as it lies: inline bytes are copied, stored ones are named.

import type { ObjectId } from '../ids/ids.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import { VALUE_OVERHEAD_BYTES, writeInline, writeStored } from '../wire/task-frames.ts'
import type { Effects, Task } from './effects.ts'
import type { ReferenceTable } from './reference-table.ts'

export type Resolution = { readonly task: Task; readonly error: Uint8Array | null }

export class Dependencies {
  readonly #table: ReferenceTable
  readonly #waiting = new Map<ObjectId, Task[]>()

  constructor(table: ReferenceTable) {
    this.#table = table
  }

  get waitingCount(): number {
    return this.#waiting.size
  }

  /** `undefined`: the task waits, and will come out of `onReady`. */
  add(task: Task, effects: Effects): Resolution | undefined {
    if (task.args !== null) return { task, error: null }
    let open = 0
    for (const part of task.pendingArgs ?? []) {
      if (typeof part !== 'number') continue
      if (this.#table.look(part, effects).kind !== 'pending') continue
      open++
      const waiters = this.#waiting.get(part)
      if (waiters) waiters.push(task)
      else this.#waiting.set(part, [task])
    }
    task.openDependencies = open
    return open > 0 ? undefined : this.#resolve(task, effects)
  }

  onReady(id: ObjectId, effects: Effects): readonly Resolution[] {
    const waiters = this.#waiting.get(id)
    if (!waiters) return []
    this.#waiting.delete(id)
    const resolved: Resolution[] = []
    for (const task of waiters) {
      task.openDependencies--
      if (task.openDependencies !== 0) continue
      resolved.push(this.#resolve(task, effects))
    }
    return resolved
  }

  /** A cancelled task needs nothing any more. */
  remove(task: Task): void {
    for (const [id, waiters] of this.#waiting) {
      const rest = waiters.filter((waiter) => waiter !== task)
      if (rest.length === 0) this.#waiting.delete(id)
      else if (rest.length !== waiters.length) this.#waiting.set(id, rest)
    }
  }

  #resolve(task: Task, effects: Effects): Resolution {
    const parts = task.pendingArgs ?? []
    const writer = new ByteWriter()
    writer.u16(parts.length)
    const nested = new Set(task.nestedRefs)
    for (const part of parts) {
      if (typeof part !== 'number') {
        writer.reserve(part.length)
        writer.bytes(part)
        continue
      }
      const location = this.#table.locationOf(this.#table.look(part, effects))
      if (location.kind === 'error') return { task, error: location.bytes }
      if (location.refs.length > 0) {
        for (const ref of location.refs) {
          nested.add(ref)
          this.#table.escape(ref, effects) // They leave this process inside the value, as those in plain arguments do.
        }
      }
      writer.reserve(VALUE_OVERHEAD_BYTES)
      if (location.kind === 'inline') writeInline(writer, location.bytes, location.refs)
      else writeStored(writer, location.storageId, location.size, location.refs)
    }
    task.args = Buffer.from(writer.take())
    task.nestedRefs = [...nested]
    return { task, error: null }
  }
}
