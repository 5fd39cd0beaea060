// Placement groups, as core workers, the GCS and the raylets speak of them.
//
//     core worker ──pg.*──► GCS ──bundle.prepare, .commit, .return──► the bundles' nodes
//     raylet ──group.follow──► GCS ──group.is──► raylet        (where to send leases that are to run in a bundle)

import type { ActorId, JobId, NodeId, PlacementGroupId, WorkerTag } from '../ids/ids.ts'
import type { Resources, WireError } from './messages.ts'

/** Bundles on as few nodes as possible, on as many, on one, or on one each. */
export type GroupStrategy = 'PACK' | 'SPREAD' | 'STRICT_PACK' | 'STRICT_SPREAD'

/**
 * PENDING until all bundles are reserved (PREPARED), usable then (CREATED); RESCHEDULING while bundles of a dead node find
 * another; REMOVED for good.
 */
export type GroupState = 'PENDING' | 'PREPARED' | 'CREATED' | 'REMOVED' | 'RESCHEDULING'

export interface GroupSpec {
  readonly groupId: PlacementGroupId
  readonly name: string | null
  readonly namespace: string
  readonly strategy: GroupStrategy
  readonly bundles: readonly Resources[]
  /** By bundle: labels that its node must have, in Ray's spelling; absent: any node. */
  readonly selectors?: readonly Readonly<Record<string, string>>[]
  readonly softTargetNodeId: NodeId | null
  readonly detached: boolean
  readonly jobId: JobId
  readonly creator: WorkerTag
  /** When an actor made it, the group goes only when that one is dead too. */
  readonly creatorActorId: ActorId | null
}

export interface GroupInfo {
  readonly groupId: PlacementGroupId
  readonly name: string | null
  readonly namespace: string
  readonly strategy: GroupStrategy
  readonly bundles: readonly Resources[]
  /** By bundle; null: it has none (now). */
  readonly nodes: readonly (NodeId | null)[]
  readonly state: GroupState
  /** Why it is not CREATED; '' when it is. */
  readonly reason: string
  readonly stats: GroupStats
}

export interface GroupStats {
  /** From `pg.create` to the first CREATED; 0 before. */
  readonly creationMs: number
  readonly attempts: number
  readonly highestRetryDelayMs: number
  readonly schedulingState: 'QUEUED' | 'SCHEDULING_STARTED' | 'NO_RESOURCES' | 'INFEASIBLE' | 'REMOVED' | 'FINISHED'
}

export type GroupRequest =
  | { readonly t: 'pg.create'; readonly spec: GroupSpec }
  | { readonly t: 'pg.remove'; readonly groupId: PlacementGroupId }
  /** Answered by `pg.ready` when it is CREATED, cannot be any more, or the time is over. */
  | {
      readonly t: 'pg.wait'
      readonly requestId: number
      readonly groupId: PlacementGroupId
      readonly timeoutMs: number | null
    }
  | { readonly t: 'pg.find'; readonly requestId: number; readonly name: string; readonly namespace: string }
  /** null: all. */
  | { readonly t: 'pg.table'; readonly requestId: number; readonly groupId: PlacementGroupId | null }

export type GroupAnswer =
  /** `isReady` false without an error: the time is over. */
  | { readonly t: 'pg.ready'; readonly requestId: number; readonly isReady: boolean; readonly error: WireError | null }
  | { readonly t: 'pg.found'; readonly requestId: number; readonly info: GroupInfo | null }
  | { readonly t: 'pg.tableIs'; readonly requestId: number; readonly groups: readonly GroupInfo[] }

/** What a raylet follows of groups that leases on it name. */
export interface FollowedGroup {
  readonly groupId: PlacementGroupId
  readonly state: GroupState
  readonly bundles: readonly { readonly resources: Resources; readonly nodeId: NodeId | null }[]
}
