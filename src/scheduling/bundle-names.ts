// The names under which the bundles of placement groups appear among a node's resources, as in Ray:
//
//     CPU_group_<group>            all bundles of the group on that node
//     CPU_group_<index>_<group>    one bundle
//     bundle_group_[<index>_]<group>  1000 a bundle; whatever runs in it takes 0.001, so that even what asks for nothing goes there

import type { Resources } from '../wire/messages.ts'
import { toUnits } from './resources.ts'

const BUNDLE = 'bundle'
const MARKS_PER_BUNDLE = toUnits(1000)
const MARKS_PER_USE = toUnits(0.001)

/** Resource `name` of bundle `index` (undefined: of all the group's bundles). */
export function bundleResourceName(name: string, groupId: string, index?: number): string {
  return index === undefined ? `${name}_group_${groupId}` : `${name}_group_${index}_${groupId}`
}

/** What a committed bundle adds to its node. */
export function bundleCapacity(resources: Resources, groupId: string, index: number): Record<string, number> {
  return named(resources, groupId, index, MARKS_PER_BUNDLE)
}

/** What a lease in the bundle takes of it. */
export function bundleDemand(resources: Resources, groupId: string, index: number): Record<string, number> {
  return named(resources, groupId, index, MARKS_PER_USE)
}

function named(resources: Resources, groupId: string, index: number, marks: number): Record<string, number> {
  const out: Record<string, number> = {}
  for (const [name, units] of Object.entries({ ...resources, [BUNDLE]: marks })) {
    out[bundleResourceName(name, groupId)] = units
    out[bundleResourceName(name, groupId, index)] = units
  }
  return out
}

const GROUPED = /_group_(?:\d+_)?[0-9a-f]{36}$/

/** Is it one of the names above? They are hidden from users unless asked for. */
export function isBundleResource(name: string): boolean {
  return GROUPED.test(name)
}
