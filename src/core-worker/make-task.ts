// The one place that makes task records, so that all have one shape and one order of fields, for real calls, simulated ones and tests.

import type { ActorId, ObjectId } from '../ids/ids.ts'
import { STREAMING } from '../wire/task-frames.ts'
import type { RemoteFunctionEntry, SchedulingClass, Task } from './effects.ts'
import type { WrittenArguments } from './written-arguments.ts'

/** What all calls of a function, or of a handle's method, with one set of options have in common. */
export interface TaskPlan {
  readonly fn: RemoteFunctionEntry
  /** 0xFFFF: streaming. */
  readonly numReturns: number
  /** -1: without limit. */
  readonly retries: number
  readonly retryOn: Task['retryOn']
  readonly extras: Readonly<Record<string, unknown>> | null
  /** null: an actor's call. */
  readonly schedulingClass: SchedulingClass | null
  /** null: a task. */
  readonly actorId: ActorId | null
  /** The handle that an actor's call goes through; 0: a task. */
  readonly handleId: ObjectId
}

/**
 * Four arguments, and plans that live as long as their functions: half a million calls a second make no object besides the record.
 * @param parent the task in whose run the call is made; 0: none.
 */
export function makeTask(
  owner: { sequences(count: number): number },
  plan: TaskPlan,
  written: WrittenArguments,
  parent: ObjectId,
): Task {
  const { numReturns } = plan
  return {
    sequence: owner.sequences(numReturns === STREAMING || numReturns === 0 ? 1 : numReturns),
    fn: plan.fn,
    numReturns,
    args: written.blob,
    pendingArgs: written.parts,
    openDependencies: 0,
    pinned: written.pinned,
    nestedRefs: written.nested,
    retriesLeft: plan.retries,
    isSuspect: false,
    attempt: 0,
    retryOn: plan.retryOn,
    extras: plan.extras,
    schedulingClass: plan.schedulingClass,
    locality: null,
    actorId: plan.actorId,
    handleId: plan.handleId,
    target: null,
    previous: null,
    next: null,
    costMicros: 0,
    cancel: 'no',
    parent,
  }
}
