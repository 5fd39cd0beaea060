// What runs on this node and what waits here, as plain data for people (`ray why`).

import type { LeaseSpec } from '../wire/messages.ts'
import type { NodeWork, RunningLease, WaitingLeases } from '../wire/work.ts'
import { shapeOf } from './lease-manager.ts'
import { GCS, type Raylet } from './raylet.ts'

export function workOf({ leases, pool, spill }: Raylet): Omit<NodeWork, 'processes' | 'silent'> {
  const running: RunningLease[] = []
  for (const { worker, spec, held, blocked } of leases.leases.values()) {
    const process = pool.workers.get(worker)
    if (!process) continue
    const { isActor, address } = process
    running.push({ name: spec.name, isActor, pid: address.pid, jobId: spec.jobId, held, isBlocked: blocked > 0 })
  }
  const waiting = new Map<string, WaitingLeases & { count: number }>()
  const count = (spec: LeaseSpec, isActor: boolean): void => {
    const { name, jobId, resources, strategy, selectors = [], priority } = spec
    const key = `${name} ${jobId} ${isActor} ${priority} ${shapeOf(spec)}`
    const known = waiting.get(key)
    if (known) known.count++
    else waiting.set(key, { name, isActor, jobId, resources, strategy, selectors, priority, count: 1 })
  }
  for (const { owner, spec } of leases.queue()) count(spec, owner === GCS)
  for (const spec of spill.waiting()) count(spec, false)
  return { total: leases.total, free: leases.free, running, waiting: [...waiting.values()] }
}
