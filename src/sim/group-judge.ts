// What must hold of placement groups in a simulated world, told by somebody who sees the GCS and all nodes.
//
//   P1. A bundle is usable on one living node at most.
//   P2. Of a group that the GCS calls CREATED every bundle is usable, on a node that is not dead: all or nothing.
//   P3. A task in a bundle is refused, and its worker killed for good, only when its group is gone.
//   P4. At the end no node keeps a bundle, and a group that takes all CPUs of all living nodes is made.

import type { PlacementGroupId, WorkerTag } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import type { GroupSpec } from '../wire/groups.ts'
import type { LeaseSpec, Resources, SchedulingStrategy } from '../wire/messages.ts'
import type { Cluster } from './cluster.ts'
import type { SimNode } from './node.ts'

export interface SimGroup {
  readonly groupId: PlacementGroupId
  readonly bundles: readonly Resources[]
}

const PROOF: PlacementGroupId = 'f'.repeat(36)

interface Known {
  readonly group: SimGroup
  readonly creator: WorkerTag
  isRemoved: boolean
}

export class GroupJudge {
  readonly #cluster: Cluster
  readonly #groups = new Map<PlacementGroupId, Known>()

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  made(group: SimGroup, creator: WorkerTag): void {
    this.#cluster.judge.count('groups')
    this.#groups.set(group.groupId, { group, creator, isRemoved: false })
  }

  removed(groupId: PlacementGroupId): void {
    const known = this.#groups.get(groupId)
    if (!known || known.isRemoved) return
    known.isRemoved = true
    if (this.#cluster.gcs.groups.find(groupId)?.state === 'CREATED') this.#cluster.judge.count('groupsUsed')
  }

  /** Whether a task with this strategy may be refused or killed for its group's sake (P3). */
  isGone(strategy: SchedulingStrategy | undefined): boolean {
    if (strategy?.kind !== 'bundle') return false
    const known = this.#groups.get(strategy.groupId)
    return !known || known.isRemoved || !this.#cluster.isAlive(known.creator)
  }

  /** After a step of the GCS or of a raylet. */
  check(): void {
    for (const { group } of this.#groups.values()) {
      for (const index of group.bundles.keys()) this.#checkBundle(group.groupId, index)
    }
  }

  #checkBundle(groupId: PlacementGroupId, index: number): void {
    const { nodes, gcs, gcsProcess } = this.#cluster
    const places = nodes.filter((node) => this.#cluster.isNodeAlive(node) && isUsable(node, groupId, index))
    invariant(places.length <= 1, `P1: bundle ${index} of ${groupId} is on ${places.map(({ os }) => os.name)}`)
    const told = gcs.groups.find(groupId)
    if (told?.state !== 'CREATED' || !gcsProcess.os.isAlive) return
    const nodeId = told.bundles[index]?.nodeId ?? null
    invariant(nodeId !== null, `P2: ${groupId} is created, but bundle ${index} is nowhere`)
    const node = this.#cluster.nodeById(nodeId)
    invariant(
      !this.#cluster.isDeclaredDead(node),
      `P2: bundle ${index} of ${groupId} is on ${node.os.name}, which is dead`,
    )
    invariant(
      !node.os.isAlive || places[0] === node,
      `P2: bundle ${index} of ${groupId} is not usable on ${node.os.name}`,
    )
  }

  /** P4 */
  checkEnd(node: SimNode): void {
    const { bundles, free } = node.raylet.leases
    const left = [
      ...bundles.list().map(({ groupId, index }) => `${groupId} ${index}`),
      ...Object.keys(bundles.reserved()),
    ]
    invariant(left.length === 0, `leak: ${node.os.name} keeps bundles ${left}`)
    const names = Object.keys(free).filter((name) => free[name] !== (node.total[name] ?? 0))
    invariant(names.length === 0, `leak: ${node.os.name} has not all of ${names} free: ${JSON.stringify(free)}`)
  }

  /** P4: takes everything, for a moment. */
  makeProof(): void {
    const { nodes, gcsProcess } = this.#cluster
    const bundles = nodes
      .filter((node) => this.#cluster.isNodeAlive(node))
      .map(({ total }) => ({ CPU: total.CPU ?? 0 }))
    const spec: GroupSpec = {
      ...{ groupId: PROOF, bundles, strategy: 'SPREAD', jobId: '', name: null, namespace: 'sim' },
      ...{ softTargetNodeId: null, detached: true, creator: 0, creatorActorId: null },
    }
    gcsProcess.tell({ t: 'pg.create', spec })
  }

  get isProven(): boolean {
    return this.#cluster.gcs.groups.find(PROOF)?.state === 'CREATED'
  }

  endProof(): void {
    this.#cluster.gcsProcess.tell({ t: 'pg.remove', groupId: PROOF })
  }
}

function isUsable({ raylet }: SimNode, groupId: PlacementGroupId, bundleIndex: number): boolean {
  const strategy = { kind: 'bundle', groupId, bundleIndex, captures: false } as const
  return raylet.leases.bundles.has({ strategy, resources: {} } as unknown as LeaseSpec)
}
