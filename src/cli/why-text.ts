// What `ray why` prints: for all that waits, node by node what it is short of there and who holds that.

import { formatObjectId, type ObjectId } from '../ids/ids.ts'
import { bundleResourceName } from '../scheduling/bundle-names.ts'
import { formatConditions, satisfies } from '../scheduling/labels.ts'
import { formatResources, fromUnits } from '../scheduling/resources.ts'
import type { ClusterStatus, NodeView } from '../wire/cluster.ts'
import type { Resources } from '../wire/messages.ts'
import type { Maker, NodeWork, RunningLease, WaitingLeases, WaitsFor } from '../wire/work.ts'

/** `work` null: its raylet does not answer. */
export interface NodeAnswer {
  readonly node: NodeView
  readonly work: NodeWork | null
}

type Process = NodeWork['processes'][number]

const HOLDERS_MAX = 10

export interface WhyOptions {
  /** Only what bears it. */
  readonly name?: string
  /** Of values that others wait for than their owners. */
  readonly makers: ReadonlyMap<ObjectId, Maker>
}

export function whyText(
  status: ClusterStatus,
  answers: readonly NodeAnswer[],
  { name, makers }: WhyOptions = { makers: new Map() },
): string {
  const all = [...answers.flatMap(({ work }) => work?.waiting ?? []), ...status.actors]
  const waiting = all.filter((one) => name === undefined || one.name === name)
  const blocks = summed(waiting).map((one) => leaseLines(one, answers))
  const processes = answers.flatMap(({ work }) => work?.processes ?? [])
  blocks.push(...processes.flatMap((one) => argumentLines(one, answers, { makers, ...(name ? { name } : {}) })))
  if (name === undefined) blocks.push(...status.groups.map(groupLines))
  const silent = answers.flatMap(({ node, work }) => silence(node, work))
  if (blocks.length === 0) blocks.push(nothingLines(answers, name))
  return [...blocks.map((lines) => lines.join('\n')), ...silent].join('\n\n')
}

/** The same may wait with several raylets. */
function summed(waiting: readonly WaitingLeases[]): WaitingLeases[] {
  const byKey = new Map<string, WaitingLeases>()
  for (const one of waiting) {
    const { count, ...what } = one
    const key = JSON.stringify(what)
    byKey.set(key, { ...one, count: count + (byKey.get(key)?.count ?? 0) })
  }
  return [...byKey.values()]
}

function leaseLines(lease: WaitingLeases, answers: readonly NodeAnswer[]): string[] {
  const { name, isActor, jobId, count, priority } = lease
  const what = isActor ? 'actor' : `request${count === 1 ? '' : 's'} for a worker`
  const marks = [`job ${jobId}`, ...(priority === 0 ? [] : [`priority ${priority}`])].join(', ')
  const asked = formatResources(lease.resources)
  const head = `${name}: ${count} ${what} ${count === 1 ? 'waits' : 'wait'} for ${asked}${placeOf(lease)} (${marks})`
  const verdicts = answers.map((answer) => verdict(lease, answer))
  const lines = verdicts.flatMap(({ lines: own }, i) => nodeLines(answers[i] as NodeAnswer, own))
  const end = verdicts.some(({ canEver }) => canEver)
    ? 'It begins when enough of that is given back, or when a node with room joins.'
    : 'No node of the cluster could ever hold it: it waits for one that joins.'
  return [head, ...lines, end]
}

/** Where it must run. */
function placeOf({ strategy, selectors }: WaitingLeases): string {
  const parts: string[] = []
  if (strategy.kind === 'nodeAffinity') parts.push(` on node ${strategy.nodeId.slice(0, 8)}`)
  if (strategy.kind === 'nodeLabels' && strategy.hard.length > 0)
    parts.push(` where ${formatConditions(strategy.hard)}`)
  if (strategy.kind === 'bundle') {
    const bundle = strategy.bundleIndex < 0 ? 'a bundle' : `bundle ${strategy.bundleIndex}`
    parts.push(` in ${bundle} of placement group ${strategy.groupId}`)
  }
  const labels = selectors.filter((conditions) => conditions.length > 0)
  if (labels.length > 0) parts.push(` where ${labels.map(formatConditions).join(', else ')}`)
  return parts.join('')
}

interface Verdict {
  readonly lines: readonly string[]
  /** When others give back what they hold. */
  readonly canEver: boolean
}

function never(...lines: string[]): Verdict {
  return { lines, canEver: false }
}

function verdict(lease: WaitingLeases, { node, work }: NodeAnswer): Verdict {
  const { strategy } = lease
  if (node.drain) return never('is being drained')
  if (strategy.kind === 'nodeAffinity' && !strategy.soft && strategy.nodeId !== node.nodeId)
    return never('is not the node that was named')
  if (!isAdmitted(lease, node)) return never('has other labels')
  const asked = demandOf(lease)
  const total = work?.total ?? node.total
  const free = work?.free ?? node.available
  const lacking = missing(asked, total)
  if (lacking.length > 0) {
    if (strategy.kind === 'bundle') return never('has no such bundle with so much')
    return never(
      `has ${lacking.map((name) => (total[name] ? `only ${amount(total, name)} ${name}` : `no ${name}`)).join(', ')}`,
    )
  }
  const short = missing(asked, free)
  if (short.length === 0)
    return { lines: ['has room: a worker is being started, or the news is on its way'], canEver: true }
  const lines = short.map((name) => `is short of ${nameOf(name)}: ${amount(free, name)} of ${amount(total, name)} free`)
  return { lines: [...lines, ...holdersOf(work?.running ?? [], short)], canEver: true }
}

function isAdmitted({ strategy, selectors }: WaitingLeases, { labels }: NodeView): boolean {
  if (strategy.kind === 'nodeLabels' && !satisfies(labels, strategy.hard)) return false
  return selectors.length === 0 || selectors.some((conditions) => satisfies(labels, conditions))
}

function demandOf({ resources, strategy }: WaitingLeases): Resources {
  if (strategy.kind !== 'bundle') return resources
  const { groupId, bundleIndex: index } = strategy
  const asked = Object.entries({ ...resources, bundle: 1 })
  return Object.fromEntries(
    asked.map(([name, units]) => [bundleResourceName(name, groupId, index < 0 ? undefined : index), units]),
  )
}

function missing(asked: Resources, there: Resources): string[] {
  return Object.keys(asked).filter((name) => (asked[name] as number) > (there[name] ?? 0))
}

/** Below zero while a worker that had lent its CPU goes on. */
function amount(resources: Resources, name: string): number {
  return Math.max(0, fromUnits(resources)[name] ?? 0)
}

/** `CPU` for `CPU_group_0_…`: the line before says which bundle. */
function nameOf(name: string): string {
  return name.replace(/_group_.*$/, '')
}

function holdersOf(running: readonly RunningLease[], short: readonly string[]): string[] {
  const holders = running.filter(({ held }) => short.some((name) => (held[name] ?? 0) > 0))
  const lines = holders.slice(0, HOLDERS_MAX).map(({ name, isActor, pid, jobId, held }) => {
    const own = short.map((one) => `${amount(held, one)} ${nameOf(one)}`).join(', ')
    return `  ${name} (${isActor ? 'actor, ' : ''}pid ${pid}, job ${jobId}) holds ${own}`
  })
  return holders.length > HOLDERS_MAX ? [...lines, `  and ${holders.length - HOLDERS_MAX} others`] : lines
}

function nodeName({ nodeId, address }: NodeView): string {
  return `node ${nodeId.slice(0, 8)} (${address.host})`
}

function nodeLines({ node }: NodeAnswer, [first, ...others]: readonly string[]): string[] {
  return [`  ${nodeName(node)} ${first}`, ...others.map((line) => `    ${line.trimStart()}`)]
}

function groupLines({ strategy, bundles, count, reason }: ClusterStatus['groups'][number]): string[] {
  const asked = bundles.map(formatResources).join(' + ')
  const groups = `${count} placement group${count === 1 ? '' : 's'}`
  return [`${groups} (${strategy}) ${count === 1 ? 'waits' : 'wait'} for ${asked}`, `  ${reason}`]
}

/** What it is called, and what it waits for. */
const WAITS: { readonly [W in WaitsFor]: readonly [noun: string, what: string] } = {
  arguments: ['task', 'for arguments'],
  get: ['task', 'in get for values'],
  constructor: ['actor', 'for arguments of its constructor'],
}

/** What waits in one process for values, name by name. */
function argumentLines(process: Process, answers: readonly NodeAnswer[], { name, makers }: WhyOptions): string[][] {
  const byName = new Map<string, Process['waiting'][number][]>()
  for (const one of process.waiting) {
    if (name !== undefined && one.name !== name) continue
    const key = `${one.what} ${one.name}`
    byName.set(key, [...(byName.get(key) ?? []), one])
  }
  return [...byName.values()].map((all) => {
    const [{ name: own, what }] = all as [Process['waiting'][number]]
    const [noun, forWhat] = WAITS[what]
    // One task may wait for several values.
    const count = Math.max(...all.map(({ tasks }) => tasks))
    const some = `${all.length > 1 || process.isCut ? 'at least ' : ''}${count} ${noun}${count === 1 ? '' : 's'}`
    const head = `${own}: ${some} of pid ${process.pid} (job ${process.jobId}) ${count === 1 ? 'waits' : 'wait'} ${forWhat}`
    const lines = all.map(({ id, values, maker }) => {
      const others = values > 1 ? ` and ${values - 1} more` : ''
      const made = makerText(maker ?? makers.get(id), answers)
      return `  ObjectRef(${formatObjectId(id, process.jobId)})${others}: ${made}`
    })
    return [head, ...lines]
  })
}

function makerText(maker: Maker | undefined, answers: readonly NodeAnswer[]): string {
  if (!maker) return 'no task is known that makes it; it may be on its way, or be made again'
  const { name, place } = maker
  if (place.kind === 'arguments') return `${name} makes it, which waits for its own arguments`
  if (place.kind === 'actor') return `${name} makes it, which waits for its actor to start`
  if (place.kind === 'worker') return `${name} makes it, which waits for a worker with ${formatResources(place.asked)}`
  const node = answers.find((one) => one.node.nodeId === place.nodeId)?.node
  return `${name} makes it, which is with pid ${place.pid}${node ? ` on ${nodeName(node)}` : ''}`
}

/** Who could have said more. */
function silence(node: NodeView, work: NodeWork | null): string[] {
  if (work === null) return [`${nodeName(node)} does not answer.`]
  return work.silent.map(
    (pid) => `Process ${pid} on ${nodeName(node)} does not answer: it computes. What its tasks wait for is not known.`,
  )
}

function nothingLines(answers: readonly NodeAnswer[], name: string | undefined): string[] {
  if (name === undefined) return ['Nothing waits.']
  const lines = [`Nothing of the name '${name}' waits.`]
  for (const { node, work } of answers)
    for (const { name: own, pid, isBlocked } of work?.running ?? [])
      if (own === name)
        lines.push(`  It runs on ${nodeName(node)}, pid ${pid}${isBlocked ? ', and waits for values there' : ''}.`)
  return lines
}
