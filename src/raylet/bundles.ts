// Bundles of placement groups on this node: what they take from it, and what leases take from them.
//
//     prepare: the bundle's resources leave what is free      commit: they come back under the bundle's names (`CPU_group_0_…`)
//     return:  no new lease; when the last one in it has ended, the names go and the resources are free again
//
// Invariants:
//   B1. For every resource: free + held by leases + reserved by bundles = total, the bundles' names included.
//   B2. Preparing, committing and returning twice is doing it once; a newer attempt replaces an older one.
//   B3. A lease in a bundle takes from that bundle only, its GPUs included.
//   B4. What the GCS asks for in one word is reserved whole or not at all.

import type { PlacementGroupId } from '../ids/ids.ts'
import { bundleCapacity, bundleDemand } from '../scheduling/bundle-names.ts'
import { add, fits, pickGpus, subtract, UNITS } from '../scheduling/resources.ts'
import type { BundleAnswer, BundleId, BundleSet, BundleStep } from '../wire/cluster.ts'
import type { LeaseSpec, Resources } from '../wire/messages.ts'

/** What the node has, shared with the lease manager. */
export interface NodeResources {
  readonly total: Record<string, number>
  readonly free: Record<string, number>
  /** Units left of each GPU. */
  readonly gpuFree: number[]
}

export interface HeldBundle {
  readonly id: BundleId
  readonly attempt: number
  readonly resources: Resources
  readonly gpuIds: readonly number[]
  /** Units of each GPU of the node that are the bundle's and not in use. */
  readonly gpuFree: number[]
  isCommitted: boolean
  /** Given back; leases in it end. */
  isLeaving: boolean
  /** Leases in it. */
  users: number
}

export class Bundles {
  readonly #node: NodeResources
  /** Counts changes of what usable bundles add to the node. */
  changes = 0
  readonly #held = new Map<string, HeldBundle>()
  readonly #byGroup = new Map<PlacementGroupId, HeldBundle[]>()

  constructor(node: NodeResources) {
    this.#node = node
  }

  /** What the GCS asks for, and the answer to it. */
  perform(step: BundleStep): BundleAnswer | undefined {
    const { bundles } = step
    if (step.t === 'return') {
      for (const index of bundles.indices) this.leave({ groupId: bundles.groupId, index })
      return undefined
    }
    const { attempt } = step
    if (step.t === 'prepare') {
      const isReserved = this.prepareAll(bundles, attempt, step.resources)
      if (!isReserved || !step.isWhole) return { t: 'prepared', bundles, attempt, isReserved }
    }
    const indices = this.commitAll(bundles, attempt)
    return indices.length > 0 ? { t: 'committed', bundles: { ...bundles, indices }, attempt } : undefined
  }

  /** True: they are reserved (B4). `resources`: one for each index. */
  prepareAll({ groupId, indices }: BundleSet, attempt: number, resources: readonly Resources[]): boolean {
    for (const [place, index] of indices.entries()) {
      if (this.prepare({ groupId, index }, attempt, resources[place] ?? {})) continue
      for (const earlier of indices.slice(0, place)) this.leave({ groupId, index: earlier })
      return false
    }
    return true
  }

  /** Those that were reserved (still). */
  commitAll({ groupId, indices }: BundleSet, attempt: number): number[] {
    return indices.filter((index) => this.commit({ groupId, index }, attempt))
  }

  /** True: it is reserved. */
  prepare(id: BundleId, attempt: number, resources: Resources): boolean {
    const known = this.#held.get(keyOf(id))
    if (known && !known.isLeaving && known.attempt >= attempt) return known.attempt === attempt // B2
    if (known) {
      if (known.users > 0) return false // The last of the earlier time have not ended yet.
      this.#release(known)
    }
    const { free, gpuFree } = this.#node
    const gpuIds = fits(resources, free) ? pickGpus(gpuFree, resources.GPU ?? 0) : undefined
    if (!gpuIds) return false
    subtract(free, resources)
    const own = gpuFree.map(() => 0)
    const each = Math.min(resources.GPU ?? 0, UNITS)
    for (const gpu of gpuIds) {
      gpuFree[gpu] = (gpuFree[gpu] as number) - each
      own[gpu] = each
    }
    const held: HeldBundle = {
      ...{ id, attempt, resources, gpuIds, gpuFree: own },
      ...{ isCommitted: false, isLeaving: false, users: 0 },
    }
    this.#held.set(keyOf(id), held)
    this.#byGroup.set(id.groupId, [...(this.#byGroup.get(id.groupId) ?? []), held])
    return true
  }

  /** False: it is not reserved (any more). */
  commit(id: BundleId, attempt: number): boolean {
    const held = this.#held.get(keyOf(id))
    if (!held || held.attempt !== attempt || held.isLeaving) return false
    if (held.isCommitted) return true
    held.isCommitted = true
    this.changes++
    const capacity = bundleCapacity(held.resources, id.groupId, id.index)
    add(this.#node.total, capacity)
    add(this.#node.free, capacity)
    return true
  }

  /** From now on it takes no lease; it is gone when nobody uses it any more. */
  leave(id: BundleId): void {
    const held = this.#held.get(keyOf(id))
    if (!held) return
    held.isLeaving = true
    if (held.users === 0) this.#release(held)
  }

  /** The bundle on this node that has room for it in `free`; undefined: none now. */
  find(spec: LeaseSpec, free: Resources): HeldBundle | undefined {
    const { strategy, resources } = spec
    if (strategy.kind !== 'bundle') return undefined
    for (const held of this.#byGroup.get(strategy.groupId) ?? []) {
      if (!held.isCommitted || held.isLeaving) continue
      if (strategy.bundleIndex >= 0 && strategy.bundleIndex !== held.id.index) continue
      if (fits(bundleDemand(resources, strategy.groupId, held.id.index), free)) return held
    }
    return undefined
  }

  /** Is there a bundle here in which it could run, at some time? */
  has(spec: LeaseSpec): boolean {
    const { strategy, resources } = spec
    if (strategy.kind !== 'bundle') return false
    const ours = this.#byGroup.get(strategy.groupId) ?? []
    return ours.some(
      ({ id, isCommitted, isLeaving, resources: own }) =>
        isCommitted &&
        !isLeaving &&
        (strategy.bundleIndex < 0 || strategy.bundleIndex === id.index) &&
        fits(resources, own),
    )
  }

  /** A lease in it has ended. */
  leftBy(held: HeldBundle): void {
    held.users--
    if (held.isLeaving && held.users === 0) this.#release(held)
  }

  list(): BundleId[] {
    return [...this.#held.values()].filter(({ isLeaving }) => !isLeaving).map(({ id }) => id)
  }

  /** Of all bundles (B1). */
  reserved(): Record<string, number> {
    const sum: Record<string, number> = {}
    for (const { resources } of this.#held.values()) add(sum, resources)
    return sum
  }

  #release(held: HeldBundle): void {
    const { id, resources, gpuIds } = held
    const { total, free, gpuFree } = this.#node
    this.#held.delete(keyOf(id))
    const rest = (this.#byGroup.get(id.groupId) ?? []).filter((one) => one !== held)
    if (rest.length > 0) this.#byGroup.set(id.groupId, rest)
    else this.#byGroup.delete(id.groupId)
    if (held.isCommitted) {
      this.changes++
      const capacity = bundleCapacity(resources, id.groupId, id.index)
      subtract(total, capacity)
      subtract(free, capacity)
      for (const name in capacity) {
        if (total[name] !== 0) continue
        delete total[name]
        delete free[name]
      }
    }
    add(free, resources)
    const each = Math.min(resources.GPU ?? 0, UNITS)
    for (const gpu of gpuIds) gpuFree[gpu] = (gpuFree[gpu] as number) + each
  }
}

function keyOf({ groupId, index }: BundleId): string {
  return `${groupId} ${index}`
}
