// The tasks in flight on one target, in the order of pushing: a list linked through the tasks themselves.
//
// A Map would do the same for three times the time: every task enters and leaves one.
//
//   T1. A task is in at most one list.

import type { Task } from './effects.ts'

export class TaskList {
  #head: Task | null = null
  #tail: Task | null = null
  #size = 0

  get size(): number {
    return this.#size
  }

  add(task: Task): void {
    task.previous = this.#tail
    task.next = null
    if (this.#tail) this.#tail.next = task
    else this.#head = task
    this.#tail = task
    this.#size++
  }

  /** The caller knows that it is in this list. */
  remove(task: Task): void {
    const { previous, next } = task
    if (previous) previous.next = next
    else this.#head = next
    if (next) next.previous = previous
    else this.#tail = previous
    task.previous = null
    task.next = null
    this.#size--
  }

  /** Empties it; its tasks in order. */
  takeAll(): Task[] {
    const tasks = [...this]
    for (const task of tasks) this.remove(task)
    return tasks
  }

  *[Symbol.iterator](): Generator<Task> {
    for (let task = this.#head; task; task = task.next) yield task
  }
}
