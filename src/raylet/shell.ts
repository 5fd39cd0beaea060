// What the raylet and its shell (runtime/node-server.ts, sim/node.ts) tell each other beside messages.

import type { JobId, NodeId, ObjectId, WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import type { GcsToNode, NodeDrain, NodeToGcs, RayletToRaylet } from '../wire/cluster.ts'
import type { FromNode, Resources, WorkerAddress } from '../wire/messages.ts'
import type { ProcessEnd } from './exits.ts'
import type { MemoryReading } from './memory-guard.ts'
import type { StartOrder } from './worker-pool.ts'

/** What the raylet asks of its shell. */
export type RayletEffect =
  | ({ readonly t: 'spawnWorker' } & StartOrder)
  /** It has not registered in time; its end is then reported as `startFailed`. */
  | { readonly t: 'killStarting'; readonly startupToken: string }
  | { readonly t: 'killProcess'; readonly tag: WorkerTag; readonly signal: 'SIGKILL' | 'SIGTERM' }
  | { readonly t: 'toGcs'; readonly message: NodeToGcs }
  | { readonly t: 'toPeer'; readonly nodeId: NodeId; readonly message: RayletToRaylet }
  /** Begin the link with it, if there is none. */
  | { readonly t: 'meet'; readonly nodeId: NodeId }
  /** It was declared dead: nothing goes there any more. */
  | { readonly t: 'peerDied'; readonly nodeId: NodeId }
  /** Processes of another node have ended, `count` tags from `tag` on: what is stored here for them goes. */
  | { readonly t: 'ownerGone'; readonly tag: WorkerTag; readonly count: number }
  /** Nothing runs on this node that is being drained: if nothing is stored there either, it is to tell the GCS that it leaves. */
  | { readonly t: 'leaveIfEmpty'; readonly detail: string }
  /** The GCS wants this node to end. */
  | { readonly t: 'endNode'; readonly detail: string }
  | { readonly t: 'freeStored'; readonly storageIds: readonly ObjectId[]; readonly from: WorkerTag }
  | { readonly t: 'broadcast'; readonly message: FromNode }
  /** Another node cannot reach this process: is it still there? */
  | { readonly t: 'doubt'; readonly tag: WorkerTag }
  /** Answers `askRooms`: the view says what all nodes have free. */
  | { readonly t: 'roomsKnown' }

export type RayletInput =
  | { readonly t: 'fromGcs'; readonly message: GcsToNode }
  /** The GCS asks (`node.drainIfIdle`). `holdsValues`: the store has values of this node's own. */
  | { readonly t: 'drainIfIdle'; readonly question: string; readonly drain: NodeDrain; readonly holdsValues: boolean }
  | { readonly t: 'fromPeer'; readonly nodeId: NodeId; readonly message: RayletToRaylet }
  /** The link has ended, and this node did not end it (K1). */
  | { readonly t: 'peerLost'; readonly nodeId: NodeId; readonly detail: string }
  | {
      readonly t: 'registered'
      readonly kind: 'driver' | 'worker' | 'thread'
      readonly startupToken: string
      readonly address: WorkerAddress
      /** Of a driver. */
      readonly job?: { readonly jobId: JobId; readonly namespace: string }
    }
  /** The process is gone, or its connection broke for good. */
  | ({ readonly t: 'gone' } & ProcessEnd)
  | { readonly t: 'startFailed'; readonly startupToken: string; readonly detail: string }
  /** It runs, but a process that had given it work cannot reach it. */
  | { readonly t: 'unreachable'; readonly tag: WorkerTag; readonly detail: string }
  | { readonly t: 'memory'; readonly reading: MemoryReading }
  /** Somebody wants to know what all nodes have free. */
  | { readonly t: 'askRooms' }
  /** What the object store has in shared memory. */
  | { readonly t: 'stored'; readonly bytes: number }

export interface RayletConfig {
  readonly nodeId: NodeId
  readonly total: Resources
  readonly numWorkersSoftLimit: number
  readonly maxStarting: number
  readonly idleMs: Ms
  readonly idleCheckMs: Ms
  readonly prestart: number
  /** Share of memory above which workers are ended; 1 or more: never. */
  readonly memoryThreshold?: number
  /** Default: one minute. */
  readonly registerTimeoutMs?: Ms
  readonly labels?: Readonly<Record<string, string>>
}
