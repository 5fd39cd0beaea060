// What `ray status` prints: Ray's layout, line for line, because tools read it.

import { fromUnits } from '../scheduling/resources.ts'
import type { ClusterStatus } from '../wire/cluster.ts'

interface Usage {
  used: number
  total: number
}

const FAILURES_MAX = 20
const BYTES = new Set(['memory', 'object_store_memory'])
const UNITS = [
  ['TiB', 1024 ** 4],
  ['GiB', 1024 ** 3],
  ['MiB', 1024 ** 2],
  ['KiB', 1024],
] as const
/** `CPU_group_<id>` for all bundles of a placement group on a node, `CPU_group_<index>_<id>` for one of them. */
const GROUPED = /^(.+)_group_(?:(\d+)_)?[0-9a-f]{36}$/

export function statusText({ nodes, demand, groups }: ClusterStatus, now: Date, isVerbose = false): string {
  const header = `======== Autoscaler status: ${formatTime(now)} ========`
  const line = '-'.repeat(header.length)
  const living = nodes.filter(({ state }) => state !== 'DEAD')
  const dead = nodes.filter(({ state }) => state === 'DEAD')
  const active = living.map(
    ({ nodeId, drain }) => ` 1 node_${nodeId}${drain ? ` (draining: ${drain.reason}, ${drain.message})` : ''}`,
  )
  const failed = dead.slice(-FAILURES_MAX).reverse()
  const failures = failed.map(({ nodeId, address }) => ` node_${nodeId}: NodeTerminated (ip: ${address.host})`)
  return [
    header,
    'Node status',
    line,
    'Active:',
    ...or(active, ' (no active nodes)'),
    'Pending:',
    ' (no pending nodes)',
    'Recent failures:',
    ...or(failures, ' (no failures)'),
    '',
    'Resources',
    line,
    'Total Usage:',
    ...usageLines(living),
    '',
    'From request_resources:',
    ' (none)',
    'Pending Demands:',
    ...or([...demandLines(demand), ...groupLines(groups)], ' (no resource demands)'),
    ...(isVerbose ? living.flatMap(nodeLines) : []),
  ].join('\n')
}

/** What one node has, and does. */
function nodeLines(node: ClusterStatus['nodes'][number]): string[] {
  const { nodeId, hostname, address, labels } = node
  const { 'ray.io/node-id': _, ...own } = labels
  const marks = Object.entries(own).map(([key, value]) => `  ${key}=${value}`)
  const total = fromUnits(node.total)
  const available = fromUnits(node.available)
  const used = Object.keys(total).filter((name) => (total[name] ?? 0) > (available[name] ?? 0))
  return [
    '',
    `Node: ${hostname} (${address.host})`,
    ` Id: ${nodeId}`,
    ' Usage:',
    ...usageLines([node]).map((line) => ` ${line}`),
    ...(marks.length > 0 ? [' Labels:', ...marks] : []),
    ' Activity:',
    ...or(
      used.map((name) => `  Resource: ${name} currently in use.`),
      '  (no activity)',
    ),
  ]
}

function or(lines: readonly string[], otherwise: string): readonly string[] {
  return lines.length > 0 ? lines : [otherwise]
}

function usageLines(nodes: ClusterStatus['nodes']): string[] {
  const all = new Map<string, Usage>()
  /** Within placement groups: their bundles are taken from the plain resource as a whole. */
  const grouped = new Map<string, Usage>()
  for (const node of nodes) {
    const available = fromUnits(node.available)
    for (const [name, total] of Object.entries(fromUnits({ ...node.total, ...node.bundled }))) {
      const [, plain, index] = GROUPED.exec(name) ?? []
      const into = plain === undefined ? all : index === undefined ? null : grouped
      if (into) note(into, plain ?? name, { used: total - (available[name] ?? 0), total })
    }
  }
  return [...all]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, usage]) => usageLine(name, usage, grouped.get(name)))
}

function note(into: Map<string, Usage>, name: string, { used, total }: Usage): void {
  const known = into.get(name)
  if (!known) into.set(name, { used, total })
  else {
    known.used += used
    known.total += total
  }
}

function usageLine(name: string, { used, total }: Usage, inGroups: Usage | undefined): string[] {
  if (name.startsWith('node:') || name.startsWith('accelerator_type:')) return []
  const show = BYTES.has(name) ? formatBytes : formatNumber
  const really = inGroups ? used - inGroups.total + inGroups.used : used
  const tail = inGroups ? ` (${show(inGroups.used)} used of ${show(inGroups.total)} reserved in placement groups)` : ''
  return [` ${show(really)}/${show(total)} ${name}${tail}`]
}

function demandLines(demand: ClusterStatus['demand']): string[] {
  const counts = new Map<string, { all: number; inGroups: number }>()
  for (const { resources, strategy, count } of demand) {
    const plain = new Map<string, number>()
    let isGrouped = strategy.kind === 'bundle'
    for (const [name, amount] of Object.entries(fromUnits(resources))) {
      const [, grouped] = GROUPED.exec(name) ?? []
      if (grouped !== undefined) isGrouped = true
      if (grouped !== 'bundle') plain.set(grouped ?? name, amount)
    }
    if (plain.size === 0) continue
    const shape = formatShape(plain)
    const known = counts.get(shape) ?? { all: 0, inGroups: 0 }
    counts.set(shape, { all: known.all + count, inGroups: known.inGroups + (isGrouped ? count : 0) })
  }
  return [...counts].map(([shape, { all, inGroups }]) => {
    return ` ${shape}: ${all}+ pending tasks/actors${inGroups > 0 ? ` (${inGroups}+ using placement groups)` : ''}`
  })
}

/** Below each the reason, which Ray leaves out. */
function groupLines(groups: ClusterStatus['groups']): string[] {
  return groups.flatMap(({ strategy, bundles, count, reason }) => {
    const counts = new Map<string, number>()
    for (const bundle of bundles) {
      const shape = formatShape(new Map(Object.entries(fromUnits(bundle))))
      counts.set(shape, (counts.get(shape) ?? 0) + 1)
    }
    const shapes = [...counts].map(([shape, times]) => `${shape} * ${times}`).join(', ')
    return [` ${shapes} (${strategy}): ${count}+ pending placement groups`, ...(reason ? [`   ${reason}`] : [])]
  })
}

/** As Python shows a dictionary. */
function formatShape(resources: ReadonlyMap<string, number>): string {
  const sorted = [...resources].sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${sorted.map(([name, amount]) => `'${name}': ${formatNumber(amount)}`).join(', ')}}`
}

/** As Python shows a float; sums of fractions are rounded to what resources are counted in. */
function formatNumber(amount: number): string {
  const rounded = Math.round(amount * 10_000) / 10_000
  return Number.isInteger(rounded) ? `${rounded}.0` : String(rounded)
}

function formatBytes(bytes: number): string {
  const [name, size] = UNITS.find(([, least]) => bytes >= least) ?? ['B', 1]
  return name === 'B' ? `${Math.trunc(bytes)}B` : `${(bytes / size).toFixed(2)}${name}`
}

function formatTime(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0')
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
  return `${day} ${clock}.${String(time.getMilliseconds()).padStart(3, '0')}000`
}
