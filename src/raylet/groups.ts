// Leases that are to run in bundles of placement groups: where those bundles are, as the GCS says.
//
//     first lease that names a group ──group.follow──► GCS ──group.is, now and after every change──► asked again where they go
//
// Invariants:
//   Q1. A group that leases here name is followed until it is REMOVED; then they are refused.
//   Q2. A lease goes only where a bundle is committed that can hold it; while there is none it is parked.
//   Q3. What can run on one node only waits there; else at home, and goes where there is room. What a node has sent back because the bundle is not there waits for newer word of the group: nothing goes to and fro.

import type { NodeId, PlacementGroupId } from '../ids/ids.ts'
import { bundleDemand, bundleResourceName } from '../scheduling/bundle-names.ts'
import { isCloser } from '../scheduling/policies.ts'
import { fits, formatResources } from '../scheduling/resources.ts'
import type { FollowedGroup } from '../wire/groups.ts'
import type { LeaseSpec, Resources, SchedulingStrategy, WireError } from '../wire/messages.ts'
import type { ClusterView } from './cluster-view.ts'
import type { LeaseManager } from './lease-manager.ts'
import type { Outbox } from './outbox.ts'
import type { Choice } from './spill.ts'

type BundleStrategy = SchedulingStrategy & { readonly kind: 'bundle' }
const PARK: Choice = { kind: 'park' }

export class Groups {
  readonly #view: ClusterView
  readonly #out: Outbox
  readonly #leases: LeaseManager
  /** null: asked for. */
  readonly #known = new Map<PlacementGroupId, FollowedGroup | null>()
  /** Nodes that were asked on that word. */
  readonly #tried = new WeakMap<FollowedGroup, Set<NodeId>>()

  constructor(view: ClusterView, out: Outbox, leases: LeaseManager) {
    this.#view = view
    this.#out = out
    this.#leases = leases
  }

  /** The GCS's word. */
  onGroup(group: FollowedGroup): void {
    this.#known.set(group.groupId, group)
  }

  /** All that wait for it were refused (Q1). */
  forget(groupId: PlacementGroupId): void {
    this.#known.delete(groupId)
  }

  /** The GCS has come back. */
  followAgain(): void {
    for (const groupId of this.#known.keys()) this.#out.toGcs({ t: 'group.follow', groupId })
  }

  /** Is this still the latest word (Q3)? */
  isLatest(group: FollowedGroup | undefined): boolean {
    return group !== undefined && this.#known.get(group.groupId) === group
  }

  choose(spec: LeaseSpec, strategy: BundleStrategy): Choice {
    const { groupId, bundleIndex } = strategy
    const group = this.#known.get(groupId)
    if (group === undefined) {
      this.#known.set(groupId, null)
      this.#out.toGcs({ t: 'group.follow', groupId })
    }
    if (!group) return PARK
    if (group.state === 'REMOVED') return { kind: 'refuse', error: removed(spec, groupId) }
    if (this.#leases.bundleIsFree(spec)) return { kind: 'here' }
    const all = group.bundles.map((bundle, index) => ({ ...bundle, index }))
    const asked = bundleIndex < 0 ? all : all.filter(({ index }) => index === bundleIndex)
    const able = asked.filter(({ resources }) => fits(spec.resources, resources))
    if (able.length === 0) return { kind: 'refuse', error: tooSmall(spec, asked) }
    const there = able.flatMap(({ nodeId, index }) => (this.#holds(spec, nodeId) ? [{ nodeId, index }] : []))
    for (const { nodeId, index } of there) {
      if (nodeId === this.#view.nodeId) continue
      const takes = bundleDemand(spec.resources, groupId, index)
      // What a node has just committed it has not reported yet: it is tried once on each word of the group.
      const isNew = !this.#tried.get(group)?.has(nodeId)
      if (!isNew && !fits(takes, this.#view.get(nodeId)?.available ?? {})) continue
      this.#tried.set(group, (this.#tried.get(group) ?? new Set()).add(nodeId))
      return { kind: 'node', nodeId, mayWait: false, takes, group }
    }
    // Where several could take it, it must not wait at one of them while another becomes free.
    const [first] = there
    if (!first) return PARK
    if (there.some(({ nodeId }) => nodeId === this.#view.nodeId)) return { kind: 'here' }
    if (there.some(({ nodeId }) => nodeId !== first.nodeId)) return PARK
    return { kind: 'node', nodeId: first.nodeId, mayWait: true, group }
  }

  /** It has no room for the group, whatever it has reported, until it reports again. */
  onRejected(nodeId: NodeId, available: Resources, group: FollowedGroup): void {
    const { [bundleResourceName('bundle', group.groupId)]: _, ...rest } = available
    this.#view.note(nodeId, rest)
  }

  #holds(spec: LeaseSpec, nodeId: NodeId | null): nodeId is NodeId {
    if (nodeId === null) return false
    return nodeId === this.#view.nodeId ? this.#leases.bundles.has(spec) : this.#view.isNodeAlive(nodeId)
  }
}

function removed(spec: LeaseSpec, groupId: PlacementGroupId): WireError {
  const reason = `its placement group ${groupId} is gone: it was removed, or its job has ended`
  const params = { name: spec.name, reason }
  return { code: 'TASK_PLACEMENT_GROUP_REMOVED', params }
}

function tooSmall(spec: LeaseSpec, asked: readonly { readonly resources: Resources }[]): WireError {
  let largest: Resources = {}
  for (const { resources } of asked) if (isCloser(spec.resources, resources, largest)) largest = resources
  const params = { name: spec.name, asked: formatResources(spec.resources), largest: formatResources(largest) }
  return { code: 'BUNDLE_TOO_SMALL', params }
}
