// Where the code that asks is running: `ray.getRuntimeContext()`.

import { makeError } from '../errors/index.ts'
import { formatTaskId } from '../ids/ids.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { currentTask } from '../runtime/task-context.ts'
import { fromUnits } from '../scheduling/resources.ts'
import type { Resources } from '../wire/messages.ts'
import { requireRuntime } from './state.ts'

/** What this worker was leased for; set by the worker's entry. */
export const assignment: {
  resources: Resources
  gpuIds: readonly number[]
  /** Ends the actor that runs here. */
  exitActor: (() => void) | null
  /** What the threads of the actor that runs here share. */
  shared: unknown
} = { resources: {}, gpuIds: [], exitActor: null, shared: undefined }

const neverAborted = new AbortController().signal

/** Where the code that asks is running: see `ray.getRuntimeContext`. */
export class RuntimeContext {
  readonly #runtime: CoreRuntime

  /** @internal */
  constructor(runtime: CoreRuntime) {
    this.#runtime = runtime
  }

  /** 8 hex digits: one for each program. */
  getJobId(): string {
    return this.#runtime.identity.jobId
  }

  /** 56 hex digits. */
  getNodeId(): string {
    return this.#runtime.identity.nodeId
  }

  /** 56 hex digits: of this process. */
  getWorkerId(): string {
    return this.#runtime.identity.workerId
  }

  /** null in a driver. */
  getTaskId(): string | null {
    const task = currentTask()
    return task ? formatTaskId(task.taskId, this.getJobId()) : null
  }

  /** null in a driver. */
  getTaskName(): string | null {
    return currentTask()?.name ?? null
  }

  /** null outside actors. */
  getActorId(): string | null {
    return currentTask()?.actorId ?? null
  }

  /** What the running task or actor was given. */
  getAssignedResources(): Record<string, number> {
    return fromUnits(assignment.resources)
  }

  /** The GPUs that the running task or actor was given, as strings. */
  getAcceleratorIds(): { GPU: string[] } {
    return { GPU: assignment.gpuIds.map(String) }
  }

  /** Of actor names. */
  get namespace(): string {
    return this.#runtime.identity.namespace
  }

  /** How many runs of this task, or lives of this actor, came before. */
  get attemptNumber(): number {
    return currentTask()?.attempt ?? 0
  }

  /** True in an actor that came back after its process died. */
  get wasCurrentActorReconstructed(): boolean {
    const task = currentTask()
    return task?.actorId != null && task.attempt > 0
  }

  /** In a threaded actor: what `static shared(…)` of its class returned, the same memory in every thread. Else undefined. */
  getShared<T>(): T {
    return assignment.shared as T
  }

  /** Fires when the running task is cancelled: pass it to fetch and timers, or look at `aborted` in loops. */
  get signal(): AbortSignal {
    return currentTask()?.controller.signal ?? neverAborted
  }
}

/** Where this code runs, what it was given, and the signal that says that it is to stop. */
export function getRuntimeContext(): RuntimeContext {
  return new RuntimeContext(requireRuntime())
}

/** The GPUs that the running task or actor may use. */
export function getGpuIds(): number[] {
  return [...assignment.gpuIds]
}

/** From within an actor: ends it for good. The call that does so fails with ActorDiedError. */
export function exitActor(): never {
  const task = currentTask()
  if (!task?.actorId || !assignment.exitActor) {
    throw makeError('INVALID_ARGUMENT', {
      message: 'exitActor was called outside an actor',
      hint: 'Use ray.kill(handle) from outside.',
    })
  }
  assignment.exitActor()
  throw new Error('unreachable: the process has ended')
}
