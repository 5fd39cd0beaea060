// Where the code that asks is running: `ray.getRuntimeContext()`.

import { makeError } from '../errors/index.ts'
import { formatTaskId } from '../ids/ids.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { currentTask } from '../runtime/task-context.ts'
import { fromUnits } from '../scheduling/resources.ts'
import type { Resources, SchedulingStrategy } from '../wire/messages.ts'
import { currentAddress, requireRuntime } from './state.ts'

/** What this worker was leased for; set by the worker's entry. */
export const assignment: {
  resources: Resources
  /** Where it was to run. */
  strategy: SchedulingStrategy
  /** Where what it submits is to run too, when it is in a placement group that captures that. */
  captured: SchedulingStrategy | null
  gpus: readonly string[]
  /** Which life of the actor this is; 0 in other workers. */
  incarnation: number
  /** Ends the actor that runs here. */
  exitActor: (() => void) | null
  /** What the actor that runs here keeps for its next life; null in other workers, and in threads. */
  state: Map<string, Uint8Array> | null
  /** What the threads of the actor that runs here share. */
  shared: unknown
} = {
  resources: {},
  strategy: { kind: 'DEFAULT' },
  captured: null,
  gpus: [],
  incarnation: 0,
  exitActor: null,
  state: null,
  shared: undefined,
}

export function setStrategy(strategy: SchedulingStrategy): void {
  assignment.strategy = strategy
  assignment.captured = strategy.kind === 'bundle' && strategy.captures ? { ...strategy, bundleIndex: -1 } : null
}

let neverAborted: AbortSignal | null = null

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
    return { GPU: [...assignment.gpus] }
  }

  /** Of actor names. */
  get namespace(): string {
    return this.#runtime.identity.namespace
  }

  /** Of the cluster: what another program on this machine passes to `ray.init` to join. */
  get gcsAddress(): string {
    return currentAddress()
  }

  /** How many runs of this task, or lives of this actor, came before. */
  get attemptNumber(): number {
    const task = currentTask()
    return task?.actorId ? assignment.incarnation : (task?.attempt ?? 0)
  }

  /** True in an actor that came back after its process died. */
  get wasCurrentActorReconstructed(): boolean {
    return assignment.incarnation > 0
  }

  /** In a threaded actor: what `static shared(…)` of its class returned, the same memory in every thread. Else undefined. */
  getShared<T>(): T {
    return assignment.shared as T
  }

  /** Fires when the running task is cancelled: pass it to fetch and timers, or look at `aborted` in loops. */
  get signal(): AbortSignal {
    const running = currentTask()?.controller.signal
    if (running) return running
    neverAborted ??= new AbortController().signal
    return neverAborted
  }
}

// The guide writes `get_node_id.remote()`: these are no remote functions, and say so.
for (const name of Object.getOwnPropertyNames(RuntimeContext.prototype)) {
  const method = Object.getOwnPropertyDescriptor(RuntimeContext.prototype, name)?.value as unknown
  if (typeof method !== 'function' || name === 'constructor') continue
  Object.defineProperty(method, 'remote', {
    value: () => {
      const message = `${name} is no remote function`
      throw makeError('INVALID_ARGUMENT', { message, hint: `Call ray.getRuntimeContext().${name}().` })
    },
  })
}

/** Where this code runs, what it was given, and the signal that says that it is to stop. */
export function getRuntimeContext(): RuntimeContext {
  return new RuntimeContext(requireRuntime())
}

/** The GPUs that the running task or actor may use: numbers, where CUDA_VISIBLE_DEVICES has numbers. */
export function getGpuIds(): (number | string)[] {
  return assignment.gpus.map((name) => (/^\d+$/.test(name) ? Number(name) : name))
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
