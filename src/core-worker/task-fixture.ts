// A task as tests of this room need it: no arguments, one return, no retries.

import type { Task } from './effects.ts'
import { makeTask } from './make-task.ts'

export function plainTask(sequence: number, more: Partial<Task> = {}): Task {
  const plan = {
    fn: { key: 'fn:1', name: 'f', averageMicros: -1 },
    numReturns: 1,
    retries: 0,
    retryOn: null,
    extras: null,
    schedulingClass: { key: 'c', spec: { resources: {} } as never },
    actorId: null,
    handleId: 0,
  }
  const written = { blob: new Uint8Array(2), parts: null, pinned: [], nested: [] }
  return { ...makeTask({ sequences: () => sequence }, plan, written, 0), ...more }
}
