// Which node is asked for a lease of an actor.
//
//   P1. A node is asked only if the lease fits what it has in all; one that is the only such node queues what it cannot grant yet.

import { fits, formatResources } from '../scheduling/resources.ts'
import type { NodeView } from '../wire/cluster.ts'
import type { LeaseSpec, Resources } from '../wire/messages.ts'
import type { Placement } from './actor-manager.ts'

export function place(nodes: readonly NodeView[], spec: LeaseSpec): Placement {
  const { strategy, name } = spec
  let candidates = nodes
  if (strategy.kind === 'nodeAffinity') {
    const named = nodes.filter(({ nodeId }) => nodeId === strategy.nodeId)
    if (!strategy.soft || named.some(({ total }) => fits(spec.resources, total))) candidates = named
    if (candidates.length === 0 && spec.onInfeasible === 'fail')
      return { kind: 'refused', error: { code: 'NODE_NOT_FOUND', params: { name, nodeId: strategy.nodeId } } }
  }
  const feasible = candidates.filter(({ total }) => fits(spec.resources, total))
  const [only] = feasible
  if (!only) {
    if (spec.onInfeasible === 'wait') return { kind: 'wait' }
    const params = {
      name,
      asked: formatResources(spec.resources),
      largest: formatResources(largestOf(candidates, spec.resources)),
    }
    return { kind: 'refused', error: { code: 'INFEASIBLE', params } }
  }
  if (feasible.length === 1) return { kind: 'node', nodeId: only.nodeId, mayWait: true }
  const free = feasible.filter(({ available }) => fits(spec.resources, available))
  const best = strategy.kind === 'SPREAD' ? leastUsed(free) : firstHalfEmpty(free)
  return best ? { kind: 'node', nodeId: best.nodeId, mayWait: false } : { kind: 'wait' }
}

/** Nodes are filled until half of them is used; then the least used one. */
function firstHalfEmpty(nodes: readonly NodeView[]): NodeView | undefined {
  return nodes.find((node) => usedShare(node) < 0.5) ?? leastUsed(nodes)
}

function leastUsed(nodes: readonly NodeView[]): NodeView | undefined {
  let best: NodeView | undefined
  for (const node of nodes) if (!best || usedShare(node) < usedShare(best)) best = node
  return best
}

function usedShare({ total, available }: NodeView): number {
  let share = 0
  for (const name of ['CPU', 'GPU', 'memory']) {
    const all = total[name] ?? 0
    if (all > 0) share = Math.max(share, 1 - (available[name] ?? 0) / all)
  }
  return share
}

/** For the message: the node that has most of what was asked. */
function largestOf(nodes: readonly NodeView[], asked: Resources): Resources {
  const has = ({ total }: NodeView): number => Object.keys(asked).filter((name) => (total[name] ?? 0) > 0).length
  let best: NodeView | undefined
  for (const node of nodes) if (!best || has(node) > has(best)) best = node
  return best?.total ?? {}
}
