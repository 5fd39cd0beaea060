// A task as tests of this room need it: no arguments, one return, no retries.

import type { Task } from './effects.ts'

export function plainTask(sequence: number, more: Partial<Task> = {}): Task {
  return {
    sequence,
    fn: { key: 'fn:1', name: 'f', averageMicros: -1 },
    numReturns: 1,
    args: new Uint8Array(2),
    pendingArgs: null,
    openDependencies: 0,
    pinned: [],
    nestedRefs: [],
    retriesLeft: 0,
    isSuspect: false,
    attempt: 0,
    retryOn: null,
    extras: null,
    schedulingClass: { key: 'c', spec: { resources: {} } as never },
    actorId: null,
    handleId: 0,
    target: null,
    previous: null,
    next: null,
    costMicros: 0,
    cancel: 'no',
    parent: 0,
    ...more,
  }
}
