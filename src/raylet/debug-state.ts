// What a raylet holds and knows of others, as plain data, for people who look for what is stuck.

import type { Raylet } from './raylet.ts'

export function debugState(raylet: Raylet): Readonly<Record<string, unknown>> {
  const { leases, pool, view, spill } = raylet
  return {
    ...{ nodeId: view.nodeId, stats: raylet.stats(), total: leases.total, free: leases.free },
    leases: [...leases.leases.values()].map(({ leaseId, owner, worker, held, blocked }) => {
      return { leaseId, owner, worker, held, blocked }
    }),
    queue: [...leases.queue()].map(({ leaseId, owner, spec: { name, resources } }) => {
      return { leaseId, owner, name, resources }
    }),
    workers: [...pool.workers.values()].map(({ address: { tag, pid }, state, isActor }) => ({
      tag,
      pid,
      state,
      isActor,
    })),
    elsewhere: spill.list(),
    nodes: [...view.all()].map(({ nodeId, state, available, waiting, version }) => {
      return { nodeId, state, available, waiting, version, hasMet: view.met.has(nodeId) }
    }),
  }
}
