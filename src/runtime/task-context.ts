// Which task the code that runs now belongs to.
//
// A worker runs one normal task at a time, and an actor without concurrency one call: then a variable is enough. Only concurrent
// actors pay for AsyncLocalStorage, which nearly doubles the cost of an async call.

import { AsyncLocalStorage } from 'node:async_hooks'
import type { ActorId, ObjectId } from '../ids/ids.ts'

export interface TaskContext {
  readonly taskId: ObjectId
  readonly name: string
  readonly actorId: ActorId | null
  readonly attempt: number
  readonly controller: AbortController
}

const storage = new AsyncLocalStorage<TaskContext>()
let serial: TaskContext | null = null

export function currentTask(): TaskContext | null {
  return storage.getStore() ?? serial
}

export function setSerialTask(context: TaskContext | null): void {
  serial = context
}

export function runConcurrently<T>(context: TaskContext, run: () => T): T {
  return storage.run(context, run)
}
