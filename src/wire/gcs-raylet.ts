// What the GCS and a raylet tell each other. On one machine they share a process; the words are the same when they do not.

import type { ActorId, WorkerTag } from '../ids/ids.ts'
import type { ExitInfo, FromNode, LeaseId, LeaseSpec, Resources, WireError, WorkerAddress } from './messages.ts'

export type GcsToRaylet =
  | { readonly t: 'actorLease.request'; readonly leaseId: LeaseId; readonly actorId: ActorId; readonly spec: LeaseSpec }
  | { readonly t: 'actorLease.cancel'; readonly leaseId: LeaseId }
  /** The actor runs: from now on it holds only these. */
  | { readonly t: 'actorLease.keepOnly'; readonly leaseId: LeaseId; readonly resources: Resources }
  | {
      readonly t: 'worker.kill'
      readonly tag: WorkerTag
      readonly reason: 'killed' | 'ownerDied' | 'intended'
      readonly detail: string
    }
  | { readonly t: 'worker.tell'; readonly tag: WorkerTag; readonly message: FromNode }

export type RayletToGcs =
  | {
      readonly t: 'actorLease.granted'
      readonly leaseId: LeaseId
      readonly actorId: ActorId
      readonly worker: WorkerAddress
    }
  | {
      readonly t: 'actorLease.refused'
      readonly leaseId: LeaseId
      readonly actorId: ActorId
      readonly error: WireError
    }
  | { readonly t: 'worker.gone'; readonly exit: ExitInfo; readonly kind: 'driver' | 'worker' | 'thread' }
