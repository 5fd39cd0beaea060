// Every message between a core worker (driver or worker process) and its node, as one closed union a direction.
//
// One duplex connection joins each core worker to its raylet, which is also the hub: what one core worker has to tell another
// about references travels through it (`ref.route`), so that messages on the two legs keep their causal order (L1). What belongs
// to the GCS (`actor.*`, `kv.*`, `pg.*`, `cluster.*`) is sent on the same connection and handed on by the raylet.
// Tasks themselves never pass here: they go straight from owner to worker (see task-frames.ts).
//
// Contracts:
//   L1. A connection delivers in order or breaks; the hub forwards in the order of arrival. Hence causal order on one node.
//   L2. Every request carries an id made by the caller, and handling it twice is handling it once: a second `lease.request` with
//       the same lease id is answered with the same grant, or waits as the first does.
//   L3. Resource amounts are fixed point: integers in units of 0.0001 (`scheduling/resources.ts`).
//   L4. An id of an object, a task or a lease names its maker; nobody else makes one in its name.

import type { ActorId, JobId, NodeId, ObjectId, PlacementGroupId, WorkerId, WorkerTag } from '../ids/ids.ts'
import type { GroupAnswer, GroupRequest } from './groups.ts'
import type { LocalAnswer, LocalAsk, WorkAsk, WorkIs } from './work.ts'

/** Resource name to amount, in units of 0.0001 (L3). Names: 'CPU', 'GPU', 'memory' and custom ones. */
export type Resources = Readonly<Record<string, number>>

/** Made by the asker: its worker tag, a dot, a counter. */
export type LeaseId = string

/** Where the value of an object is. What is at most 100 KiB travels inline; larger values lie in the node's store. */
export type ObjectLocation =
  | { readonly kind: 'inline'; readonly bytes: Uint8Array; readonly refs: readonly ObjectId[] }
  /** `storageId` names one immutable copy, made once; `size` in bytes. */
  | { readonly kind: 'stored'; readonly storageId: ObjectId; readonly size: number; readonly refs: readonly ObjectId[] }
  /** The value is an error, serialized as errors are (`values/`). */
  | { readonly kind: 'error'; readonly bytes: Uint8Array }

export interface WorkerAddress {
  readonly tag: WorkerTag
  readonly workerId: WorkerId
  readonly pid: number
  /** Path of the Unix socket on which the process takes tasks. */
  readonly socket: string
  /** Where it takes tasks of owners on other nodes; absent: nowhere. */
  readonly tcp?: TcpAddress
  readonly nodeId: NodeId
}

export interface TcpAddress {
  readonly host: string
  readonly port: number
}

/** How a process ended. `detail` is a sentence for the user. */
export interface ExitInfo {
  readonly tag: WorkerTag
  readonly pid: number
  readonly code: number | null
  readonly signal: string | null
  readonly reason:
    | 'intended' // maxCalls, exitActor, idle, shutdown
    | 'crashed' // anything it did not announce
    | 'killed' // ray.kill
    | 'cancelled' // ray.cancel, forced or CPU-bound
    | 'outOfMemory' // by the memory monitor
    | 'ownerDied' // whoever had leased it is gone
    | 'groupRemoved' // it ran in a bundle of a placement group that was removed
    | 'nodeDied'
  readonly detail: string
  /** The end of what it wrote to its standard error, 20 lines at most. */
  readonly lastLines: readonly string[]
  /** May what it ran be run again? 'free': at no cost; 'counted' (or absent): at the cost of a retry; 'never': it would end the same. */
  readonly retry?: 'free' | 'counted' | 'never'
}

export type LabelCondition =
  | { readonly key: string; readonly operator: 'in' | 'notIn'; readonly values: readonly string[] }
  | { readonly key: string; readonly operator: 'exists' }
  | { readonly key: string; readonly operator: 'doesNotExist' }

/** All of them must hold; none: any node. */
export type LabelConditions = readonly LabelCondition[]

export type SchedulingStrategy =
  | { readonly kind: 'DEFAULT' }
  | { readonly kind: 'SPREAD' }
  | {
      readonly kind: 'nodeAffinity'
      readonly nodeId: NodeId
      readonly soft: boolean
      /** Soft only: go elsewhere when it has no room now (Ray's `_spill_on_unavailable`). */
      readonly spillOnUnavailable?: boolean
      /** Hard only: be refused when it has no room now (Ray's `_fail_on_unavailable`). */
      readonly failOnUnavailable?: boolean
    }
  | { readonly kind: 'nodeLabels'; readonly hard: LabelConditions; readonly soft: LabelConditions }
  /** In a bundle of a placement group; -1: in any of them. `captures`: what it submits goes there too, unless it says otherwise. */
  | {
      readonly kind: 'bundle'
      readonly groupId: PlacementGroupId
      readonly bundleIndex: number
      readonly captures: boolean
    }

/** What a worker process needs to be before user code runs in it. Two equal ones may share a worker. */
export interface RuntimeEnv {
  readonly envVars?: Readonly<Record<string, string>>
  readonly workingDir?: string
}

/** Bytes by the tag of a process, or any other tag of its block: they lie on its node. */
export type Locality = readonly (readonly [tag: WorkerTag, bytes: number])[]

export interface LeaseSpec {
  readonly resources: Resources
  readonly strategy: SchedulingStrategy
  /** A label selector and its fallbacks: the first that a node with room satisfies. Absent: any node. */
  readonly selectors?: readonly LabelConditions[]
  readonly runtimeEnv: RuntimeEnv
  readonly jobId: JobId
  /** Higher first; 0 unless set. */
  readonly priority: number
  /** Wait for a node that could fit it, instead of failing at once. */
  readonly onInfeasible: 'fail' | 'wait'
  /** For messages to people: the function's or class's name. */
  readonly name: string
  /**
   * V8 heap cap for the worker, in MiB; absent: no cap. A worker with a cap serves only leases with the same cap, and is ended when
   * it uses more than the lease's `memory`.
   */
  readonly heapMiB?: number
  /** Where stored arguments lie. Absent: there are none, or only here. */
  readonly locality?: Locality
  /** May the memory monitor kill it early? True for tasks that may be retried. */
  readonly retriable: boolean
}

export type ActorState = 'PENDING_CREATION' | 'ALIVE' | 'RESTARTING' | 'DEAD'

export interface ActorSpec {
  readonly actorId: ActorId
  readonly className: string
  /** Content hash of the class definition in the KV (`fn:` + hash). */
  readonly definition: string
  readonly name: string | null
  readonly namespace: string
  readonly detached: boolean
  /** When the name is taken: be another id of that actor, instead of being refused. */
  readonly getIfExists: boolean
  readonly maxRestarts: number // -1: without limit
  readonly jobId: JobId
  readonly owner: WorkerTag
  /** Object that stands for the actor's handles; when nobody refers to it any more, the actor ends. */
  readonly handleId: ObjectId
  /** To place it. */
  readonly placementResources: Resources
  /** Held while it lives. */
  readonly lease: LeaseSpec
  /** Constructor arguments, as in a task frame (task-frames.ts). All references in it are already resolved to locations. */
  readonly args: Uint8Array
  /** References held by `args`, pinned by the owner until the actor is dead for good. */
  readonly argRefs: readonly ObjectId[]
  /** Options that the worker and handles need: maxConcurrency, concurrencyGroups, method table, … (msgpack-able). */
  readonly options: ActorWorkerOptions
}

export interface ActorWorkerOptions {
  readonly maxConcurrency: number
  readonly concurrencyGroups: Readonly<Record<string, number>>
  readonly allowOutOfOrder: boolean
  readonly maxTaskRetries: number
  readonly maxPendingCalls: number
  /** True when any method is async: such actors interleave. */
  readonly isAsync: boolean
  /** Threads that run its calls, each with an instance of its own; 0: they run on the main thread. */
  readonly threads: number
  /** Own per-method settings (`ray.method`), and the names of all public methods. */
  readonly methods: Readonly<Record<string, ActorMethodOptions>>
}

export interface ActorMethodOptions {
  readonly numReturns?: number | 'streaming'
  readonly concurrencyGroup?: string
  readonly maxTaskRetries?: number
  /** All, or those whose class, or one above it, has one of these names. */
  readonly retryExceptions?: boolean | readonly string[]
}

export interface ActorInfo {
  readonly actorId: ActorId
  readonly state: ActorState
  /** Set while ALIVE. */
  readonly address: WorkerAddress | null
  /** Counts lives, from 0. */
  readonly incarnation: number
  readonly className: string
  readonly name: string | null
  readonly namespace: string
  readonly handleId: ObjectId
  readonly detached: boolean
  readonly options: ActorWorkerOptions
  readonly definition: string
  readonly jobId: JobId
  /** Why it is DEAD or RESTARTING. `creationError` is a serialized error thrown by the constructor. */
  readonly death: {
    readonly reason: string
    readonly exit: ExitInfo | null
    /** Of its last process, if it had one. */
    readonly pid?: number
    readonly creationError: Uint8Array | null
    /** No node could ever hold it. */
    readonly isInfeasible?: boolean
    /** The placement group that it was to run in, or ran in, is gone. */
    readonly isGroupRemoved?: boolean
  } | null
  readonly numRestarts: number
}

export interface NodeInfo {
  readonly nodeId: NodeId
  readonly alive: boolean
  readonly isDraining: boolean
  readonly address: string
  readonly hostname: string
  readonly pid: number
  readonly total: Resources
  readonly available: Resources
  readonly labels: Readonly<Record<string, string>>
  readonly sessionDir: string
  readonly deathReason: string | null
}

/** What one core worker tells another about references, through the hub. Counts add up, in any order of arrival. */
export type RefMessage =
  /**
   * `borrower` holds `id` once more. Sent by the borrower itself (`via` is it), or by `via`, which is not the owner and gives the
   * reference away in a frame that leaves after this: then the hold is in transit until the borrower has accepted it.
   */
  | { readonly t: 'ref.add'; readonly id: ObjectId; readonly borrower: WorkerTag; readonly via: WorkerTag }
  /** The borrower has the reference that `via` gave it. `isLate`, said by the hub: `via` is gone, and all its words were passed on. */
  | {
      readonly t: 'ref.accept'
      readonly id: ObjectId
      readonly borrower: WorkerTag
      readonly via: WorkerTag
      readonly isLate: boolean
    }
  | { readonly t: 'ref.remove'; readonly id: ObjectId; readonly borrower: WorkerTag; readonly count: number }
  /** From the owner: it no longer had the object when the borrower's hold came (its giver has died). */
  | { readonly t: 'ref.lost'; readonly id: ObjectId }
  /** To the owner: the copy could not be found anywhere. */
  | { readonly t: 'ref.copyLost'; readonly id: ObjectId; readonly storageId: ObjectId }
  /** From an owner: `of` is gone; say when nothing that it gave away can reach you any more. */
  | { readonly t: 'ref.settle'; readonly of: WorkerTag; readonly owner: WorkerTag }
  | { readonly t: 'ref.settled'; readonly of: WorkerTag; readonly borrower: WorkerTag }

export interface WireError {
  readonly code: string
  readonly params: Readonly<Record<string, string | number>>
}

/** From a core worker to its node. */
export type ToNode =
  | {
      readonly t: 'register'
      /** A thread of a threaded actor owns and borrows for itself, but is no worker. */
      readonly kind: 'driver' | 'worker' | 'thread'
      /** Workers repeat the token that they were started with; drivers send ''. */
      readonly startupToken: string
      readonly workerId: WorkerId
      readonly pid: number
      readonly socket: string
      /** Of a worker that takes tasks of other nodes. */
      readonly tcp?: TcpAddress
      readonly namespace: string | null
      readonly jobName: string
      /** Of a driver: it shows what its workers print. */
      readonly logToDriver?: boolean
      /** Refuse what does not speak the same protocol. */
      readonly protocol: number
    }
  // Leases (raylet)
  | { readonly t: 'lease.request'; readonly leaseId: LeaseId; readonly spec: LeaseSpec }
  /** Withdraws a request that is not granted yet; one already granted is returned by this too. */
  | { readonly t: 'lease.cancel'; readonly leaseId: LeaseId }
  /** `dispose`: the worker must not be used again (it failed, or holds what cannot be cleaned). */
  | { readonly t: 'lease.return'; readonly leaseId: LeaseId; readonly dispose: boolean }
  /** Kill the leased worker: a forced cancel, or one that computes and does not answer. */
  | { readonly t: 'lease.kill'; readonly leaseId: LeaseId; readonly reason: 'cancelled'; readonly detail: string }
  /** From a worker: its task waits in get/wait (its CPU is free meanwhile), or goes on. Counted by the worker: strictly in turn. */
  | { readonly t: 'worker.blocked' }
  | { readonly t: 'worker.unblocked' }
  /** From a worker that is about to end by itself. `isFailure`: not by intention; what it ran has crashed. */
  | { readonly t: 'worker.exiting'; readonly detail: string; readonly isFailure: boolean }
  /** From a worker that was told to end for being idle, although others need what it owns: it goes on. */
  | { readonly t: 'worker.stays' }
  /** The connection to the worker closed although nobody said that it ended. If it lives on, it is of no use. */
  | { readonly t: 'worker.unreachable'; readonly tag: WorkerTag }
  // Objects
  /** A copy was written to the store by the sender. `spilled` when it went to disk at once. */
  | {
      readonly t: 'object.created'
      readonly storageId: ObjectId
      /** Who needs it: with this process it goes. */
      readonly owner: WorkerTag
      readonly size: number
      readonly spilled: SpillLocation | null
    }
  /** The owner needs these copies no more. */
  | { readonly t: 'object.free'; readonly storageIds: readonly ObjectId[] }
  /** The owner's word on an object whose reference has left it: all may resolve it here, however busy the owner is. */
  | { readonly t: 'object.publish'; readonly id: ObjectId; readonly location: ObjectLocation }
  | { readonly t: 'object.unpublish'; readonly ids: readonly ObjectId[] }
  /** Their values are lost and being made again: who asks waits for the next publication. */
  | { readonly t: 'object.withdraw'; readonly ids: readonly ObjectId[] }
  /** Answered by `object.resolved` when published, or at once if its owner is dead. */
  | { readonly t: 'object.resolve'; readonly id: ObjectId }
  /** Who asked waits no more. An answer may come all the same. */
  | { readonly t: 'object.unresolve'; readonly id: ObjectId }
  /** The copy is not at its usual place: where is it? Answered by `object.located`. */
  | { readonly t: 'object.locate'; readonly storageId: ObjectId }
  /** Who asked waits no more. An answer may come all the same. */
  | { readonly t: 'object.unlocate'; readonly storageId: ObjectId }
  /**
   * From the owner: these copies are lost; is there another whole one of each? Answered by `object.rescued`, each. `of`: the node that died
   * with them, if one did; of that one the owner needs nothing else.
   */
  | { readonly t: 'object.rescue'; readonly storageIds: readonly ObjectId[]; readonly of: NodeId | null }
  /** Hub: hand `body` to the worker `to`; answered by `ref.undeliverable` when that one is dead. */
  | { readonly t: 'ref.route'; readonly to: WorkerTag; readonly body: RefMessage }
  // GCS
  | { readonly t: 'kv.put'; readonly key: string; readonly value: Uint8Array; readonly overwrite: boolean }
  | {
      readonly t: 'kv.get'
      readonly requestId: number
      readonly key: string /** Answer when it is put. */
      readonly wait: boolean
    }
  | { readonly t: 'kv.delete'; readonly key: string }
  | { readonly t: 'kv.keys'; readonly requestId: number; readonly prefix: string }
  | { readonly t: 'actor.create'; readonly spec: ActorSpec }
  /** From its owner: it will not be made, because an argument of its constructor has failed with `error`. */
  | { readonly t: 'actor.failed'; readonly spec: ActorSpec; readonly error: Uint8Array }
  /** Answered by `actor.state` (when it is made, or its `owner` dead), then by every change. */
  | { readonly t: 'actor.subscribe'; readonly actorId: ActorId; readonly owner: WorkerTag }
  | { readonly t: 'actor.unsubscribe'; readonly actorId: ActorId }
  | { readonly t: 'actor.find'; readonly requestId: number; readonly name: string; readonly namespace: string }
  | {
      readonly t: 'actor.list'
      readonly requestId: number
      readonly allNamespaces: boolean
      readonly namespace: string
    }
  | { readonly t: 'actor.kill'; readonly actorId: ActorId; readonly noRestart: boolean; readonly detail: string }
  /** From its owner: no handle is left. The actor finishes what it was sent, and ends. */
  | { readonly t: 'actor.outOfScope'; readonly actorId: ActorId }
  /** From the actor's worker. `error`: what its constructor threw. */
  | {
      readonly t: 'actor.started'
      readonly actorId: ActorId
      readonly incarnation: number
      readonly error: Uint8Array | null
    }
  /** From the actor's worker: a key of its state, for its next life; null: the key goes. Answered when it is durable. */
  | {
      readonly t: 'actor.keep'
      readonly requestId: number
      readonly actorId: ActorId
      readonly key: string
      readonly value: Uint8Array | null
    }
  /** From the actor's worker: it ends by its own will, for good. */
  | { readonly t: 'actor.exited'; readonly actorId: ActorId; readonly incarnation: number; readonly detail: string }
  | GroupRequest
  | { readonly t: 'cluster.resources'; readonly requestId: number }
  | { readonly t: 'cluster.nodes'; readonly requestId: number }
  | { readonly t: 'node.stats'; readonly requestId: number }
  /** Answered when what workers have printed so far, on all nodes, has been sent. */
  | { readonly t: 'log.flush'; readonly requestId: number }
  /** From the driver that started this node. */
  | WorkIs
  | LocalAsk
  | { readonly t: 'node.shutdown' }

/** Bytes `offset … offset+size` of the file `path`. */
export interface SpillLocation {
  readonly path: string
  readonly offset: number
}

/** From the node to a core worker. */
export type FromNode =
  | {
      readonly t: 'registered'
      readonly tag: WorkerTag
      readonly nodeId: NodeId
      readonly jobId: JobId
      readonly namespace: string
      /** The secret of the cluster, for connections to other nodes. */
      readonly token: string | null
      /** What `init` was told that workers need too (systemConfig and the like). */
      readonly config: Readonly<Record<string, unknown>>
    }
  | { readonly t: 'register.refused'; readonly error: WireError }
  | {
      readonly t: 'lease.granted'
      readonly leaseId: LeaseId
      readonly worker: WorkerAddress
      readonly gpuIds: readonly number[]
    }
  /** Never: no node can fit it, its runtime environment cannot be made, … */
  | { readonly t: 'lease.refused'; readonly leaseId: LeaseId; readonly error: WireError }
  /** To a worker, when leased: whose it is now. Before any task of that lease reaches it, as far as resources go. */
  | {
      readonly t: 'worker.assigned'
      readonly leaseId: LeaseId
      readonly strategy: SchedulingStrategy
      readonly resources: Resources
      readonly gpuIds: readonly number[]
      /** A worker belongs to one job, from its first lease on. */
      readonly jobId: JobId
      /** That job's, for actor names; '' when its driver is gone. */
      readonly namespace: string
    }
  /** To everyone: a process that spoke to this node is gone. */
  | { readonly t: 'worker.died'; readonly exit: ExitInfo }
  /** To everyone: a node of the cluster is dead, and with it every process whose tag is in its blocks. */
  | {
      readonly t: 'node.died'
      readonly nodeId: NodeId
      readonly tagBlocks: readonly { readonly first: WorkerTag; readonly count: number }[]
      readonly detail: string
    }
  /** To an idle or disposed worker: end. */
  | { readonly t: 'worker.exit'; readonly detail: string }
  | {
      readonly t: 'object.resolved'
      readonly id: ObjectId
      readonly location: ObjectLocation | null /** When null. */
      readonly error: WireError | null
    }
  | {
      readonly t: 'object.located'
      readonly storageId: ObjectId
      /** null: it is gone; 'shm': it is (again) in shared memory. */
      readonly where: SpillLocation | 'shm' | null
    }
  /** To the owner: `copy` takes the place of the lost `storageId`; null: there is none. */
  | { readonly t: 'object.rescued'; readonly storageId: ObjectId; readonly copy: ObjectId | null }
  /** To the process that wrote the copy: its owner freed it; the segment may be used again, or removed. */
  | { readonly t: 'object.recycle'; readonly storageIds: readonly ObjectId[] }
  /** To the process that wrote the copy: it now lies on disk, the segment is unlinked; unmap it. */
  | { readonly t: 'object.spilled'; readonly storageIds: readonly ObjectId[] }
  /** The store is nearly full: collect garbage, so that references that nobody holds are freed. */
  | { readonly t: 'object.collect' }
  /** To their owner, before it hears of the end of `maker`: these copies were made for it. */
  | { readonly t: 'object.left'; readonly maker: WorkerTag; readonly storageIds: readonly ObjectId[] }
  | { readonly t: 'ref.routed'; readonly from: WorkerTag; readonly body: RefMessage }
  | { readonly t: 'ref.undeliverable'; readonly to: WorkerTag; readonly body: RefMessage }
  | { readonly t: 'kv.value'; readonly requestId: number; readonly value: Uint8Array | null }
  | { readonly t: 'kv.keyList'; readonly requestId: number; readonly keys: readonly string[] }
  /** To the actor's worker: become this actor. */
  | {
      readonly t: 'actor.start'
      readonly spec: ActorSpec
      readonly incarnation: number
      /** What its earlier lives kept. */
      readonly state: readonly ActorStateEntry[]
    }
  | { readonly t: 'actor.kept'; readonly requestId: number; readonly error: WireError | null }
  /** To the actor's worker: finish what has arrived, then end. */
  | { readonly t: 'actor.finish'; readonly actorId: ActorId }
  | { readonly t: 'actor.createRefused'; readonly actorId: ActorId; readonly error: WireError }
  | { readonly t: 'actor.state'; readonly info: ActorInfo }
  | { readonly t: 'actor.found'; readonly requestId: number; readonly info: ActorInfo | null }
  | { readonly t: 'actor.listed'; readonly requestId: number; readonly actors: readonly ActorInfo[] }
  | GroupAnswer
  | {
      readonly t: 'cluster.resourcesAre'
      readonly requestId: number
      readonly total: Resources
      readonly available: Resources
    }
  | { readonly t: 'cluster.nodesAre'; readonly requestId: number; readonly nodes: readonly NodeInfo[] }
  | { readonly t: 'node.statsAre'; readonly requestId: number; readonly stats: Readonly<Record<string, unknown>> }
  | { readonly t: 'log.flushed'; readonly requestId: number }
  | WorkAsk
  | LocalAnswer
  /** To drivers: lines that workers printed. */
  | { readonly t: 'log.lines'; readonly batch: LogBatch }
  | { readonly t: 'node.ending'; readonly detail: string }

/** A key and a value of `ray.actorState`, serialized. */
export type ActorStateEntry = readonly [key: string, value: Uint8Array]

/** Of all keys and values of an actor: they travel whole with its start. */
export const ACTOR_STATE_BYTES_MAX = 1024 * 1024
export const ACTOR_STATE_KEY_CHARS_MAX = 256

export interface LogBatch {
  readonly pid: number
  readonly jobId: JobId
  /** Task or actor name, '' when unknown. */
  readonly name: string
  readonly ip: string
  readonly isError: boolean
  readonly lines: readonly string[]
  /** It says that so many lines are missing. */
  readonly missing?: number
}

export const PROTOCOL_VERSION = 1
