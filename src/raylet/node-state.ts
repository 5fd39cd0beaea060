// What a raylet tells a GCS that it registers with: what lives here already.

import type { JobId, WorkerTag } from '../ids/ids.ts'
import type { NodeState } from '../wire/cluster.ts'
import type { LeaseId } from '../wire/messages.ts'
import type { Raylet } from './raylet.ts'

export interface Living {
  readonly clients: ReadonlyMap<WorkerTag, NodeState['processes'][number]['kind']>
  readonly jobOf: ReadonlyMap<WorkerTag, JobId>
  readonly actorOf: ReadonlyMap<LeaseId, string>
}

export function nodeStateOf({ leases, pool, view }: Raylet, { clients, jobOf, actorOf }: Living): NodeState {
  const processes = [...clients].map(([tag, kind]) => ({ tag, kind, jobId: jobOf.get(tag) ?? null }))
  const actors: NodeState['actors'][number][] = []
  for (const lease of leases.leases.values()) {
    const actorId = actorOf.get(lease.leaseId)
    const worker = pool.workers.get(lease.worker)?.address
    if (actorId !== undefined && worker) actors.push({ actorId, leaseId: lease.leaseId, worker })
  }
  return { processes, actors, bundles: leases.bundles.list(), tagBlocks: view.tagBlocks }
}
