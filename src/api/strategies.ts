// Where a task or actor may run, as users say it: the classes of Ray's `ray.util.scheduling_strategies`.

import { makeError } from '../errors/index.ts'
import type { SchedulingStrategy } from '../wire/messages.ts'
import { builtinObject } from './builtin.ts'
import type { PlacementGroup } from './placement-group.ts'

/** Runs on one node: `soft` allows another when that one is gone. */
export class NodeAffinitySchedulingStrategy {
  /** 56 hex digits, as of `ray.nodes()`. */
  readonly nodeId: string
  /** Whether another node will do when that one is gone. */
  readonly soft: boolean
  constructor(options: { nodeId: string; soft?: boolean }) {
    if (typeof options?.nodeId !== 'string' || !/^[0-9a-f]{56}$/.test(options.nodeId)) {
      const message = 'NodeAffinitySchedulingStrategy takes the id of a node, 56 hexadecimal digits, as nodeId'
      throw makeError('INVALID_ARGUMENT', { message, hint: 'ray.nodes() lists them as NodeID.' })
    }
    this.nodeId = options.nodeId
    this.soft = options.soft ?? false
  }
}
builtinObject(NodeAffinitySchedulingStrategy, {
  name: 'NodeAffinitySchedulingStrategy',
  take: (value) => ({ handle: null, data: { ...value } }),
  make: (_, data) => new NodeAffinitySchedulingStrategy(data as NodeAffinitySchedulingStrategy),
})

/** Runs in a bundle of a placement group, with what was reserved for it. */
export class PlacementGroupSchedulingStrategy {
  /** The group. */
  readonly placementGroup: PlacementGroup
  /** Which bundle; -1: any that has room. */
  readonly bundleIndex: number
  /** Whether what it submits runs in the group too, unless it says otherwise. */
  readonly captureChildTasks: boolean
  constructor(options: { placementGroup: PlacementGroup; bundleIndex?: number; captureChildTasks?: boolean }) {
    const { placementGroup, bundleIndex = -1, captureChildTasks = false } = options ?? {}
    const bundleCount = Array.isArray(placementGroup?.bundleSpecs) ? placementGroup.bundleSpecs.length : 0
    if (bundleCount === 0) {
      const message = 'PlacementGroupSchedulingStrategy takes a placement group, as placementGroup'
      throw makeError('INVALID_ARGUMENT', { message, hint: 'Make one: ray.util.placementGroup([{ CPU: 1 }]).' })
    }
    if (!Number.isInteger(bundleIndex) || bundleIndex < -1 || bundleIndex >= bundleCount) {
      const message = `bundleIndex is ${String(bundleIndex)}, but the placement group has bundles 0 to ${bundleCount - 1}`
      throw makeError('INVALID_ARGUMENT', { message, hint: 'Pass one of these, or -1 for any bundle that has room.' })
    }
    this.placementGroup = placementGroup
    this.bundleIndex = bundleIndex
    this.captureChildTasks = captureChildTasks
  }
}
builtinObject(PlacementGroupSchedulingStrategy, {
  name: 'PlacementGroupSchedulingStrategy',
  take: (value) => {
    const { placementGroup, ...data } = value as PlacementGroupSchedulingStrategy
    return { handle: placementGroup, data }
  },
  make: (placementGroup, data) =>
    new PlacementGroupSchedulingStrategy({
      ...(data as { bundleIndex: number; captureChildTasks: boolean }),
      placementGroup: placementGroup as PlacementGroup,
    }),
})

/** Where a task or actor is to run: packed until nodes are half full (`DEFAULT`), in turn over nodes (`SPREAD`), on one node, or in a bundle. */
export type SchedulingStrategyOption =
  | 'DEFAULT'
  | 'SPREAD'
  | NodeAffinitySchedulingStrategy
  | PlacementGroupSchedulingStrategy

/** For the option check: what is right, when it is not. */
export function strategyProblem(value: unknown): string | null {
  const isRight =
    value === 'DEFAULT' ||
    value === 'SPREAD' ||
    value instanceof NodeAffinitySchedulingStrategy ||
    value instanceof PlacementGroupSchedulingStrategy
  return isRight ? null : "'DEFAULT', 'SPREAD', a NodeAffinitySchedulingStrategy or a PlacementGroupSchedulingStrategy"
}

/** `captured`: the group that this code runs in, if what it submits is to run there too. */
export function toStrategy(
  option: SchedulingStrategyOption | undefined,
  captured: SchedulingStrategy | null,
): SchedulingStrategy {
  if (option === undefined) return captured ?? { kind: 'DEFAULT' }
  if (option === 'DEFAULT') return { kind: 'DEFAULT' }
  if (option === 'SPREAD') return { kind: 'SPREAD' }
  if (option instanceof PlacementGroupSchedulingStrategy) {
    const { placementGroup, bundleIndex, captureChildTasks: captures } = option
    return { kind: 'bundle', groupId: placementGroup.id, bundleIndex, captures }
  }
  return { kind: 'nodeAffinity', nodeId: option.nodeId, soft: option.soft }
}
