// Where a task or actor may run, as users say it: the classes of Ray's `ray.util.scheduling_strategies`.

import { makeError } from '../errors/index.ts'
import type { LabelConditions, SchedulingStrategy } from '../wire/messages.ts'
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

/** What a node's label must be, made by `In`, `NotIn`, `Exists` and `DoesNotExist`. */
export type LabelMatch =
  | { readonly operator: 'in' | 'notIn'; readonly values: readonly string[] }
  | { readonly operator: 'exists' | 'doesNotExist' }

/** The label has one of these values. @throws InvalidArgumentError without any. */
export function In(...values: readonly string[]): LabelMatch {
  return { operator: 'in', values: checkValues('In', values) }
}
/** The label is missing, or has none of these values. @throws InvalidArgumentError without any. */
export function NotIn(...values: readonly string[]): LabelMatch {
  return { operator: 'notIn', values: checkValues('NotIn', values) }
}
/** The node has the label, whatever its value. */
export function Exists(): LabelMatch {
  return { operator: 'exists' }
}
/** The node does not have the label. */
export function DoesNotExist(): LabelMatch {
  return { operator: 'doesNotExist' }
}

function checkValues(name: string, values: readonly unknown[]): readonly string[] {
  if (values.length > 0 && values.every((value) => typeof value === 'string')) return values as readonly string[]
  const message = `${name} takes one or more strings, but got ${values.length === 0 ? 'none' : JSON.stringify(values)}`
  throw makeError('INVALID_ARGUMENT', { message, hint: `For example ${name}('eu', 'us').` })
}

/** Runs on a node whose labels match: `hard` must, `soft` should. */
export class NodeLabelSchedulingStrategy {
  /** By label: without a node that matches all of them it does not run. */
  readonly hard: Readonly<Record<string, LabelMatch>>
  /** By label: nodes that match all of them are preferred. */
  readonly soft: Readonly<Record<string, LabelMatch>>
  constructor(options: {
    hard?: Readonly<Record<string, LabelMatch>> | null
    soft?: Readonly<Record<string, LabelMatch>> | null
  }) {
    this.hard = checkMatches('hard', options?.hard)
    this.soft = checkMatches('soft', options?.soft)
    if (Object.keys({ ...this.hard, ...this.soft }).length > 0) return
    const message = 'NodeLabelSchedulingStrategy has neither hard nor soft conditions'
    throw makeError('INVALID_ARGUMENT', { message, hint: "For example { hard: { region: ray.In('eu') } }." })
  }
}
builtinObject(NodeLabelSchedulingStrategy, {
  name: 'NodeLabelSchedulingStrategy',
  take: (value) => ({ handle: null, data: { ...value } }),
  make: (_, data) => new NodeLabelSchedulingStrategy(data as NodeLabelSchedulingStrategy),
})

const OPERATORS: readonly unknown[] = ['in', 'notIn', 'exists', 'doesNotExist']

function checkMatches(what: 'hard' | 'soft', matches: unknown): Readonly<Record<string, LabelMatch>> {
  if (matches === undefined || matches === null) return {}
  const isMatch = (one: unknown): boolean =>
    typeof one === 'object' && one !== null && OPERATORS.includes((one as { operator?: unknown }).operator)
  if (typeof matches === 'object' && !Array.isArray(matches) && Object.values(matches).every(isMatch))
    return matches as Readonly<Record<string, LabelMatch>>
  const message = `${what} of NodeLabelSchedulingStrategy is an object of In(…), NotIn(…), Exists() or DoesNotExist() by label`
  throw makeError('INVALID_ARGUMENT', { message, hint: `For example { ${what}: { region: ray.In('eu') } }.` })
}

function toConditions(matches: Readonly<Record<string, LabelMatch>>): LabelConditions {
  return Object.entries(matches).map(([key, match]) => ({ ...match, key }))
}

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

/** Where a task or actor is to run: packed until nodes are half full (`DEFAULT`), in turn over nodes (`SPREAD`), on one node, on nodes with labels, or in a bundle. */
export type SchedulingStrategyOption =
  | 'DEFAULT'
  | 'SPREAD'
  | NodeAffinitySchedulingStrategy
  | NodeLabelSchedulingStrategy
  | PlacementGroupSchedulingStrategy

/** For the option check: what is right, when it is not. */
export function strategyProblem(value: unknown): string | null {
  const isRight =
    value === 'DEFAULT' ||
    value === 'SPREAD' ||
    value instanceof NodeAffinitySchedulingStrategy ||
    value instanceof NodeLabelSchedulingStrategy ||
    value instanceof PlacementGroupSchedulingStrategy
  if (isRight) return null
  return "'DEFAULT', 'SPREAD', or a NodeAffinity-, NodeLabel- or PlacementGroupSchedulingStrategy"
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
  if (option instanceof NodeLabelSchedulingStrategy)
    return { kind: 'nodeLabels', hard: toConditions(option.hard), soft: toConditions(option.soft) }
  return { kind: 'nodeAffinity', nodeId: option.nodeId, soft: option.soft }
}
