// What the machines of a core worker ask of their shell, and the task record that they share.

import type { ActorId, ObjectId, WorkerTag } from '../ids/ids.ts'
import type { Address, Ms } from '../kernel/machine.ts'
import type {
  ActorInfo,
  ExitInfo,
  LeaseId,
  LeaseSpec,
  Locality,
  ToNode,
  WireError,
  WorkerAddress,
} from '../wire/messages.ts'
import type { TaskList } from './task-list.ts'

/** One function that this owner calls, with what is known of its speed. Shared by all its tasks. */
export interface RemoteFunctionEntry {
  /** `fn:` + content hash, or a method's name for actor calls. */
  readonly key: string
  readonly name: string
  /** Moving average of run time in microseconds; -1: never ran. */
  averageMicros: number
}

/** A worker that takes tasks from this owner: by lease, or as an actor. */
export interface Target {
  readonly address: WorkerAddress
  /** null for actors. */
  readonly leaseId: LeaseId | null
  /** In the order of pushing. */
  readonly inflight: TaskList
  isClosed: boolean
}

export interface Task {
  /** Sequence of the first return object (the owner's tag is implied). */
  readonly sequence: number
  readonly fn: RemoteFunctionEntry
  /** 0xFFFF: streaming. */
  readonly numReturns: number
  /** Written args blob, or null while dependencies are open: then `pending` says what to write. */
  args: Uint8Array | null
  pendingArgs: readonly (Uint8Array | ObjectId)[] | null
  openDependencies: number
  /** References pinned until the task is over: top-level ones, and those nested in arguments. */
  readonly pinned: readonly ObjectId[]
  /** Nested references, of which the worker reports what it keeps. */
  nestedRefs: readonly ObjectId[]
  retriesLeft: number // -1: without limit
  /** It was on a worker that died, not as the first: it may be what ends workers, so what ran before it is answered first. */
  isSuspect: boolean
  attempt: number
  /** Is this exception of the user one to retry? null: none is. */
  readonly retryOn: ((error: Uint8Array) => boolean) | null
  readonly extras: Readonly<Record<string, unknown>> | null
  readonly schedulingClass: SchedulingClass | null // null: an actor's call
  /** Where its stored arguments lie, once they are known. */
  locality: Locality | null
  readonly actorId: ActorId | null
  /** The handle that an actor's call keeps until it is over, so that the actor does not go out of scope before; 0: none. */
  readonly handleId: ObjectId
  target: Target | null
  /** Its neighbours on the target. */
  previous: Task | null
  next: Task | null
  /** Estimated when it was pushed. */
  costMicros: number
  cancel: 'no' | 'requested' | 'forced'
  /** The task in whose run this one was submitted, for recursive cancel; 0: none. */
  readonly parent: ObjectId
}

/** Tasks that may share leases: equal resources, environment, strategy, priority. */
export interface SchedulingClass {
  readonly key: string
  readonly spec: LeaseSpec
}

export type CoreEffect =
  | { readonly t: 'ready'; readonly id: ObjectId }
  /** Unless the task has another target by now: it may have failed for a later reason of the same turn. */
  | { readonly t: 'push'; readonly target: Target; readonly task: Task }
  | { readonly t: 'connect'; readonly address: WorkerAddress }
  | { readonly t: 'disconnect'; readonly tag: WorkerTag }
  | { readonly t: 'cancelOnWorker'; readonly target: Target; readonly sequence: number; readonly isRecursive: boolean }
  /** This process wrote the copies; their owner (it) needs them no more. */
  | { readonly t: 'freeOwn'; readonly storageIds: readonly ObjectId[] }
  | { readonly t: 'itemAck'; readonly target: Target; readonly sequence: number; readonly consumed: number }
  | { readonly t: 'streamChanged'; readonly sequence: number }
  | { readonly t: 'actorChanged'; readonly info: ActorInfo }
  /** Make the error and give it back through `failTask`'s bytes: only the shell knows how errors are written. */
  | { readonly t: 'fail'; readonly ids: readonly ObjectId[]; readonly failure: Failure }
  | { readonly t: 'warn'; readonly text: string }

/** Why objects have no value. The shell turns it into an error of the table. */
export type Failure =
  | { readonly kind: 'workerCrashed'; readonly name: string; readonly exit: ExitInfo | null }
  | { readonly kind: 'cancelled'; readonly name: string }
  | { readonly kind: 'refused'; readonly name: string; readonly error: WireError }
  | { readonly kind: 'actorDied'; readonly name: string; readonly actorId: ActorId; readonly info: ActorInfo | null }
  | {
      readonly kind: 'actorUnavailable'
      readonly name: string
      readonly actorId: ActorId
      readonly info: ActorInfo | null
    }
  | { readonly kind: 'dependency'; readonly bytes: Uint8Array }
  | { readonly kind: 'lost'; readonly id: ObjectId }
  | { readonly kind: 'freed'; readonly id: ObjectId }
  | { readonly kind: 'ownerDied'; readonly id: ObjectId; readonly error: WireError }
  | { readonly kind: 'nodeDied'; readonly detail: string }

export type Effects = CoreOutput[]
export type CoreOutput =
  | CoreEffect
  | { readonly t: 'toNode'; readonly message: ToNode }
  | { readonly t: 'timer'; readonly key: string; readonly at: Ms }

export const NODE: Address = 0
