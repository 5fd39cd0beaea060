// What the GCS, the raylets, and the raylets among themselves tell each other, as closed unions. On one machine GCS and raylet share a
// process; the words are the same when they do not.
//
//     core worker ──messages.ts──► its raylet ──NodeToGcs──► GCS
//                                     │  └────RayletToRaylet──► other raylets (hub, leases, objects)
//
// Contracts:
//   K1. A connection delivers in order or is resumed in order (`runtime/peer-link`); what is lost is lost with its node, which the
//       GCS declares dead; where a link between living nodes ends, it decides for one of both (`peer.lost`). Hence: what a raylet hears of a process comes before the word that it has ended.
//   K2. Tags are handed out in blocks, one node's each: `tag → node` is a look-up for everyone (`NodeView.tagBlocks`).
//   K3. Every request carries an id made by its maker, and may be repeated: after the GCS or a connection came back.
//   K4. A node that was declared dead stays dead: it is refused, kills its workers, and joins as a new one if at all.

import type { ActorId, JobId, NodeId, ObjectId, PlacementGroupId, WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import type { FollowedGroup, GroupStrategy } from './groups.ts'
import type {
  ExitInfo,
  FromNode,
  LeaseId,
  LeaseSpec,
  LogBatch,
  ObjectLocation,
  RefMessage,
  Resources,
  SchedulingStrategy,
  ToNode,
  WireError,
  WorkerAddress,
} from './messages.ts'
import type { WaitingLeases } from './work.ts'

/** Tags `first … first + count - 1`. */
export interface TagBlock {
  readonly first: WorkerTag
  readonly count: number
}

export interface NodeAddress {
  /** Where other machines reach it. */
  readonly host: string
  /** Of its raylet, for peers. */
  readonly port: number
}

/** Why a node takes nothing new. */
export interface NodeDrain {
  readonly reason: DrainReason
  /** A sentence of whoever asked for it. */
  readonly message: string
  /** From when it was asked for: then the node ends, whatever runs there. null: it ends when nothing is left. */
  readonly deadlineMs: number | null
}

/** IDLE_TERMINATION is refused by a node that works, which it says itself; PREEMPTION is not refused: its machine will go. */
export type DrainReason = 'IDLE_TERMINATION' | 'PREEMPTION'

/** Asked of the GCS by whoever greets it with the purpose 'drain'; the welcome answers with a `DrainAnswer`. */
export interface DrainRequest extends NodeDrain {
  readonly nodeId: NodeId
}

export interface DrainAnswer {
  /** null: it is being drained. */
  readonly refusal: string | null
}

/** A node as everyone knows it. */
export interface NodeView {
  readonly nodeId: NodeId
  readonly state: 'ALIVE' | 'DRAINING' | 'DEAD'
  readonly address: NodeAddress
  readonly hostname: string
  readonly pid: number
  readonly sessionDir: string
  readonly isHead: boolean
  readonly total: Resources
  readonly available: Resources
  /** What its bundles have in all, under the names of their groups; counted in `available`, not in `total`. */
  readonly bundled: Resources
  readonly labels: Readonly<Record<string, string>>
  readonly tagBlocks: readonly TagBlock[]
  /** Leases that wait there for resources. */
  readonly waiting: number
  readonly deathReason: string | null
  /** While DRAINING. */
  readonly drain?: NodeDrain
  /** Counts changes of this view: the larger, the newer. */
  readonly version: number
}

/** What a node has free, as short as it can be said: one of its tags names it; `used` is its total less what is available; no bundles: absent. */
export type NodeRoom = readonly [tag: WorkerTag, version: number, waiting: number, used: Resources, bundled?: Resources]

const ROOM_EVERY_MS: Ms = 100
const NODES_PER_MS = 2

/**
 * How often a node says what it has free, and the GCS says it to those that watch: every 100 ms, and less often where there are more than
 * 200 nodes. Each that watches hears of all, so that the traffic could grow with the square of their number: this way it grows with the number.
 */
export function roomEveryMs(nodes: number): Ms {
  return Math.max(ROOM_EVERY_MS, nodes / NODES_PER_MS)
}

/** What a node that was there before the GCS (came back) tells it. */
export interface NodeState {
  readonly processes: readonly {
    readonly tag: WorkerTag
    readonly kind: 'driver' | 'worker' | 'thread'
    readonly jobId: JobId | null
  }[]
  readonly actors: readonly {
    readonly actorId: ActorId
    readonly leaseId: LeaseId
    readonly worker: WorkerAddress
  }[]
  readonly bundles: readonly BundleId[]
  readonly tagBlocks: readonly TagBlock[]
}

export interface BundleId {
  readonly groupId: PlacementGroupId
  readonly index: number
}

/** Bundles of one group on one node: one word for all of them. */
export interface BundleSet {
  readonly groupId: PlacementGroupId
  readonly indices: readonly number[]
}

/** Two phases: reserve all, then make them usable; `return` in any phase gives them back and ends who uses them. */
export type BundleStep =
  | {
      readonly t: 'prepare'
      readonly bundles: BundleSet
      readonly attempt: number
      /** One for each of `indices`. */
      readonly resources: readonly Resources[]
      /** No other node takes part: what is reserved is committed at once, and the answer is `committed`. */
      readonly isWhole: boolean
    }
  | { readonly t: 'commit'; readonly bundles: BundleSet; readonly attempt: number }
  | { readonly t: 'return'; readonly bundles: BundleSet; readonly detail: string }

export type BundleAnswer =
  /** All of them, or none. */
  | { readonly t: 'prepared'; readonly bundles: BundleSet; readonly attempt: number; readonly isReserved: boolean }
  | { readonly t: 'committed'; readonly bundles: BundleSet; readonly attempt: number }

export interface Demand {
  readonly resources: Resources
  readonly strategy: SchedulingStrategy
  readonly count: number
}

/** Placement groups that wait for room and ask for the same. */
export interface GroupDemand {
  readonly strategy: GroupStrategy
  /** Bundles that lie nowhere yet. */
  readonly bundles: readonly Resources[]
  readonly count: number
  /** Why the first of them waits. */
  readonly reason: string
}

/** What `ray status` shows: asked of the GCS by whoever greets it with the purpose 'status', and answered in the welcome. */
export interface ClusterStatus {
  readonly clusterId: string
  /** Dead ones too, as far as they are remembered. */
  readonly nodes: readonly NodeView[]
  /** Leases that wait on nodes, and actors that no node has room for. */
  readonly demand: readonly Demand[]
  readonly groups: readonly GroupDemand[]
  /** Actors that no node has room for. */
  readonly actors: readonly WaitingLeases[]
}

export type NodeToGcs =
  | {
      readonly t: 'node.register'
      readonly nodeId: NodeId
      readonly protocol: number
      readonly version: string
      readonly address: NodeAddress
      readonly hostname: string
      readonly pid: number
      readonly sessionDir: string
      readonly isHead: boolean
      readonly total: Resources
      readonly labels: Readonly<Record<string, string>>
      /** Empty for a new node. */
      readonly state: NodeState
    }
  /** When it has changed, at most every `roomEveryMs`. */
  | {
      readonly t: 'node.report'
      readonly available: Resources
      /** Absent: as before. */
      readonly bundled?: Resources
      readonly waiting: number
      readonly demand: readonly Demand[]
    }
  | { readonly t: 'node.leaving'; readonly detail: string }
  /** The link with another node has ended, and with it what was on its way: one of the two cannot go on. */
  | { readonly t: 'peer.lost'; readonly nodeId: NodeId; readonly detail: string }
  /** All that was not acknowledged on an earlier connection has been said again, after `node.registered`. */
  | { readonly t: 'node.resumed' }
  | { readonly t: 'tags.request' }
  /** Before it refuses what no node that it knows of could hold: has it heard of all? Answered by `nodes.told`. */
  | { readonly t: 'nodes.ask'; readonly question: number }
  /** From now on it wants to hear what all nodes have free, as they are and as they change (`nodes.room`); or no more. */
  | { readonly t: 'rooms.watch'; readonly isOn: boolean }
  | { readonly t: 'pong'; readonly count: number }
  | { readonly t: 'worker.joined'; readonly tag: WorkerTag; readonly kind: 'driver' | 'worker' | 'thread' }
  /** A driver registers with a raylet: which job is it? Answered by `job.made`. Repeated with the same tag: the same job. */
  | {
      readonly t: 'job.begin'
      readonly tag: WorkerTag
      readonly namespace: string
      readonly name: string
      readonly pid: number
    }
  | { readonly t: 'worker.gone'; readonly exit: ExitInfo; readonly kind: 'driver' | 'worker' | 'thread' }
  /** What a core worker asked of the GCS (`actor.*`, `kv.*`, `pg.*`, `cluster.*`). */
  | { readonly t: 'forward'; readonly from: WorkerTag; readonly message: ToNode }
  | {
      readonly t: 'actorLease.granted'
      readonly leaseId: LeaseId
      readonly actorId: ActorId
      readonly worker: WorkerAddress
    }
  /** For good. */
  | {
      readonly t: 'actorLease.refused'
      readonly leaseId: LeaseId
      readonly actorId: ActorId
      readonly error: WireError
    }
  /** Not now: what it has is taken. `available` is what it has left. */
  | {
      readonly t: 'actorLease.rejected'
      readonly leaseId: LeaseId
      readonly actorId: ActorId
      readonly available: Resources
    }
  | { readonly t: 'bundles.done'; readonly answers: readonly BundleAnswer[] }
  /** Answers `node.drainIfIdle`. `refusal`: a sentence; null: it has begun, and counts also if nobody remembers the question. */
  | {
      readonly t: 'node.drainAnswered'
      readonly question: string
      readonly drain: NodeDrain
      readonly refusal: string | null
    }
  /** A lease names it: where are its bundles? Answered by `group.is`, now and after every change, until it is REMOVED. */
  | { readonly t: 'group.follow'; readonly groupId: PlacementGroupId }

export type GcsToNode =
  | {
      readonly t: 'node.registered'
      readonly clusterId: string
      readonly tags: TagBlock
      readonly nodes: readonly NodeView[]
      /** `systemConfig` of the head: the same for all nodes. */
      readonly system: Readonly<Record<string, unknown>>
    }
  | { readonly t: 'node.refused'; readonly error: WireError }
  /** What came of the first `count` messages of this connection, the registration left out, is durable and said. */
  | { readonly t: 'acked'; readonly count: number }
  /** Nodes that joined, changed or died. */
  | { readonly t: 'nodes.changed'; readonly nodes: readonly NodeView[] }
  /** Only what they have free has changed. The same to all that watch; after `nodes.changed` of these nodes. */
  | { readonly t: 'nodes.room'; readonly rooms: readonly NodeRoom[] }
  /** All that was known when it asked has been said. */
  | { readonly t: 'nodes.told'; readonly question: number }
  | { readonly t: 'tags.granted'; readonly tags: TagBlock }
  | { readonly t: 'ping'; readonly count: number }
  | { readonly t: 'job.made'; readonly tag: WorkerTag; readonly jobId: JobId; readonly namespace: string }
  /** To a core worker of that node. */
  | { readonly t: 'deliver'; readonly to: WorkerTag; readonly message: FromNode }
  /** `mayWait`: queue it when it does not fit now, instead of rejecting it. */
  | {
      readonly t: 'actorLease.request'
      readonly leaseId: LeaseId
      readonly actorId: ActorId
      readonly spec: LeaseSpec
      readonly mayWait: boolean
    }
  | { readonly t: 'actorLease.cancel'; readonly leaseId: LeaseId }
  /** The actor runs: from now on it holds only these. */
  | { readonly t: 'actorLease.keepOnly'; readonly leaseId: LeaseId; readonly resources: Resources }
  | {
      readonly t: 'worker.kill'
      readonly tag: WorkerTag
      readonly reason: 'killed' | 'ownerDied' | 'intended'
      readonly detail: string
    }
  /** In order; of any number of groups. */
  | { readonly t: 'bundles.do'; readonly steps: readonly BundleStep[] }
  | { readonly t: 'group.is'; readonly group: FollowedGroup }
  /** Take nothing new, and leave when nothing is left. */
  | { readonly t: 'node.drain'; readonly drain: NodeDrain }
  /** The same, unless something runs, waits or is stored there: answered by `node.drainAnswered`. Asked once. */
  | { readonly t: 'node.drainIfIdle'; readonly question: string; readonly drain: NodeDrain }
  /** It was declared dead, or the cluster ends: kill the workers and end. */
  | { readonly t: 'node.end'; readonly detail: string }

/** Where a node keeps its values in shared memory. Another node sees the same folder if it finds `proof` in it, on the same machine. */
export interface SharedFolder {
  /** Of the kernel: two machines may mount one file system. */
  readonly bootId: string
  readonly path: string
  /** Name of a file in it, which nobody could guess. */
  readonly proof: string
}

export type RayletToRaylet =
  /** First on every connection. `living`: the tags of the sender's blocks that live; below `next`, all others are dead. */
  | {
      readonly t: 'hello'
      readonly nodeId: NodeId
      readonly clusterId: string
      readonly protocol: number
      readonly living: readonly WorkerTag[]
      readonly tagBlocks: readonly TagBlock[]
      readonly next: WorkerTag
    }
  // Leases: the owner's raylet asks on its behalf
  | {
      readonly t: 'lease.request'
      readonly owner: WorkerTag
      readonly leaseId: LeaseId
      readonly spec: LeaseSpec
      /** Queue it when it does not fit now, instead of rejecting it. */
      readonly mayWait: boolean
    }
  | { readonly t: 'lease.cancel'; readonly leaseId: LeaseId }
  | { readonly t: 'lease.return'; readonly leaseId: LeaseId; readonly dispose: boolean }
  | { readonly t: 'lease.kill'; readonly leaseId: LeaseId; readonly reason: 'cancelled'; readonly detail: string }
  | {
      readonly t: 'lease.granted'
      readonly owner: WorkerTag
      readonly leaseId: LeaseId
      readonly worker: WorkerAddress
      readonly gpuIds: readonly number[]
    }
  | { readonly t: 'lease.refused'; readonly owner: WorkerTag; readonly leaseId: LeaseId; readonly error: WireError }
  /** Not now: ask elsewhere, or wait at home. */
  | {
      readonly t: 'lease.rejected'
      readonly owner: WorkerTag
      readonly leaseId: LeaseId
      readonly available: Resources
    }
  // Room, where none is to be had: hints, which nobody relies on
  /** Offer it to me when so much is free that nobody there waits for. */
  | { readonly t: 'room.want'; readonly resources: Resources }
  /** Answers a want, once. It is not kept: ask for it, or decline. */
  | { readonly t: 'room.offer'; readonly resources: Resources }
  /** Nothing waits for it any more: offer it to the next. */
  | { readonly t: 'room.decline' }
  // The hub between core workers
  | { readonly t: 'ref.route'; readonly from: WorkerTag; readonly to: WorkerTag; readonly body: RefMessage }
  | { readonly t: 'ref.undeliverable'; readonly from: WorkerTag; readonly to: WorkerTag; readonly body: RefMessage }
  /** Answered by `ref.flushed` when all that was said before has been handed on. */
  | { readonly t: 'ref.flush'; readonly flushId: number }
  | { readonly t: 'ref.flushed'; readonly flushId: number }
  | { readonly t: 'worker.died'; readonly exit: ExitInfo }
  | { readonly t: 'worker.unreachable'; readonly tag: WorkerTag }
  // Objects
  | { readonly t: 'object.resolve'; readonly from: WorkerTag; readonly id: ObjectId }
  /** `from` waits no more. */
  | { readonly t: 'object.unresolve'; readonly from: WorkerTag; readonly id: ObjectId }
  | {
      readonly t: 'object.resolved'
      readonly to: WorkerTag
      readonly id: ObjectId
      readonly location: ObjectLocation | null
      readonly error: WireError | null
    }
  /** To the node of the maker, which knows the holders of copies; from it to them. */
  | { readonly t: 'object.free'; readonly storageIds: readonly ObjectId[] }
  /** To the owner's node: a copy was made for it. */
  | { readonly t: 'object.made'; readonly storageId: ObjectId; readonly owner: WorkerTag; readonly size: number }
  /** Before the word of the maker's end. */
  | {
      readonly t: 'object.left'
      readonly owner: WorkerTag
      readonly maker: WorkerTag
      readonly storageIds: readonly ObjectId[]
    }
  /** Who has it? Asked of the maker's node; answered by `object.holders`. The asker will be a holder too, from its first chunk on. */
  | { readonly t: 'object.find'; readonly storageId: ObjectId }
  | {
      readonly t: 'object.holders'
      readonly storageId: ObjectId
      /** 0 when it is gone. */
      readonly size: number
      readonly nodes: readonly NodeId[]
      readonly owner: WorkerTag
      /** Of the home: the value may be taken from there by a node of the same machine. */
      readonly folder: SharedFolder | null
    }
  /** A pulled copy was given up: to the home, and to the owner's node if that has heard of it. */
  | { readonly t: 'object.dropped'; readonly storageId: ObjectId }
  /** To the owner's node: a whole copy is on the sender, of a value that a third node made. */
  | { readonly t: 'object.copied'; readonly storageId: ObjectId; readonly owner: WorkerTag }
  /** From the owner's node: the copy at the home is lost, the receiver's takes its place. Answered by `object.promoted`. */
  | { readonly t: 'object.promote'; readonly storageId: ObjectId; readonly owner: WorkerTag }
  /** `copy`: its id from now on, of the sender's node; null: it has none. */
  | { readonly t: 'object.promoted'; readonly storageId: ObjectId; readonly copy: ObjectId | null }
  // What workers print
  /** The sender has the drivers of these jobs, and of no others. */
  | { readonly t: 'log.wanted'; readonly jobs: readonly JobId[] }
  | { readonly t: 'log.lines'; readonly batch: LogBatch }
  /** Is all that was printed so far on its way? Answered by `log.flushed`. */
  | { readonly t: 'log.flush'; readonly flush: number }
  | { readonly t: 'log.flushed'; readonly flush: number }
