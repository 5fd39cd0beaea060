// Holds tasks back until the references among their arguments have values, and then writes the arguments.
//
// Only top-level references are dependencies; those inside objects travel as references.
//
// Invariants:
//   D1. A task leaves here exactly once: with its arguments written, or failed with the first failing dependency's error.
//   D2. Values that were lost while it waited for others are waited for again.

import type { ObjectId } from '../ids/ids.ts'
import type { Effects, Task } from './effects.ts'
import type { ReferenceTable } from './reference-table.ts'
import { resolveArguments } from './written-arguments.ts'

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

  /** Values that are not there, each with a task that waits for it. */
  *pairs(): Iterable<readonly [ObjectId, Task]> {
    for (const [id, tasks] of this.#waiting) for (const task of tasks) yield [id, task]
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
      const resolution = this.add(task, effects) // D2
      if (resolution) resolved.push(resolution)
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
    const resolved = resolveArguments(task.pendingArgs ?? [], task.nestedRefs, this.#table, effects)
    if (resolved.error !== null) return { task, error: resolved.error }
    task.args = resolved.blob
    task.nestedRefs = resolved.nested
    task.locality = resolved.locality
    return { task, error: null }
  }
}
