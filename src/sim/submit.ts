// What `.remote(…)` does, for simulated programs: arguments are written as `api/arguments.ts` writes them, tasks and actors made as
// `api/remote.ts` and `api/actor.ts` make them.

import type { RemoteFunctionEntry, SchedulingClass } from '../core-worker/effects.ts'
import { makeTask } from '../core-worker/make-task.ts'
import { referencesAmong, resolveArguments, type WrittenArguments } from '../core-worker/written-arguments.ts'
import { makeObjectId, type ObjectId } from '../ids/ids.ts'
import { encodeSmall } from '../values/index.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import type { ActorSpec, LeaseSpec, Resources, SchedulingStrategy } from '../wire/messages.ts'
import { beginInline, endInline, STREAMING, writeInline, writeStored } from '../wire/task-frames.ts'
import type { CoreShell } from './core-shell.ts'
import { SimRef } from './handles.ts'
import type { SimNode } from './node.ts'
import { type Script, withoutGets } from './programs.ts'

/** How often a task needs the node that comes late. */
const LATE_CHANCE = 0.06

export interface CallOptions {
  readonly fn?: string
  readonly numReturns: number
  readonly retries: number
  readonly retriesThrown?: boolean
  readonly resources?: Resources
  readonly priority?: number
  readonly onInfeasible?: 'fail' | 'wait'
  readonly strategy?: SchedulingStrategy
  readonly maxCalls?: number
  readonly backpressure?: number
  /** Top-level references besides the script: dependencies. */
  readonly dependencies?: readonly SimRef[]
}

export interface NewActor {
  readonly name: string | null
  readonly getIfExists: boolean
  readonly detached: boolean
  readonly maxRestarts: number
  readonly maxTaskRetries: number
  readonly maxConcurrency: number
  readonly resources: Resources
  readonly placement: Resources
  /** Top-level references: it is made when they have values. */
  readonly dependencies: readonly SimRef[]
  readonly strategy?: SchedulingStrategy
}

export interface Stream {
  readonly sequence: number
  readonly n: number
  taken: number
}

export interface Submitted {
  readonly refs: SimRef[]
  readonly stream: Stream | null
}

export function submitTask(shell: CoreShell, script: Script, wanted: CallOptions, parent: ObjectId): Submitted {
  const options = anywhere(shell, wanted)
  const extras: Record<string, unknown> = { name: 'f' }
  if (options.retries === 0) extras.once = true
  if (options.maxCalls) extras.maxCalls = options.maxCalls
  if (options.backpressure) extras.backpressure = options.backpressure
  const fn = shell.cluster.functionOf(shell, options.fn ?? 'fn:quick')
  return submit(shell, {
    script,
    options,
    parent,
    fn,
    extras,
    actorId: null,
    schedulingClass: classOf(options),
    handleId: 0,
  })
}

/** Where there are several nodes: some tasks are spread, some belong to one node, some wait for the node that comes late. */
function anywhere({ cluster, node }: CoreShell, options: CallOptions): CallOptions {
  if (cluster.isAlone || options.strategy) return options
  const { net, world, nodes } = cluster
  if (net.isChain) {
    const { nodeId } = nodes[node.index + 1] ?? (nodes[node.index - 1] as SimNode)
    return { ...options, strategy: { kind: 'nodeAffinity', nodeId, soft: false } }
  }
  if (net.lateNode >= 0 && world.net.chance(LATE_CHANCE))
    return { ...options, resources: { CPU: 5_000, late: 10_000 }, onInfeasible: 'wait' }
  return { ...options, ...strategyOf(cluster) }
}

function strategyOf({ net, world, nodes }: CoreShell['cluster']): { strategy?: SchedulingStrategy } {
  if (world.net.chance(net.spreadChance)) return { strategy: { kind: 'SPREAD' } }
  if (!world.net.chance(net.affinityChance)) return {}
  const { nodeId } = world.net.pick(nodes.filter(({ index }) => index !== net.lateNode))
  return { strategy: { kind: 'nodeAffinity', nodeId, soft: world.net.chance(0.5) } }
}

export function submitCall(
  shell: CoreShell,
  handle: SimRef,
  drawn: Script,
  options: CallOptions,
  parent: ObjectId,
): Submitted {
  const fn = shell.cluster.functionOf(shell, 'run')
  const { actorId } = handle
  // Calls may overtake those of other handles of an actor (`getIfExists`), and would wait for what these return, which wait behind them.
  const script = shell.cluster.judge.isNamed(actorId) ? withoutGets(drawn) : drawn
  const extras: Record<string, unknown> = { name: 'A.run' }
  if (options.backpressure) extras.backpressure = options.backpressure
  return submit(shell, { script, options, parent, fn, extras, actorId, schedulingClass: null, handleId: handle.id })
}

interface Call {
  readonly script: Script
  readonly options: CallOptions
  readonly parent: ObjectId
  readonly fn: RemoteFunctionEntry
  readonly extras: Readonly<Record<string, unknown>>
  readonly actorId: string | null
  readonly schedulingClass: SchedulingClass | null
  readonly handleId: ObjectId
}

function submit(shell: CoreShell, call: Call): Submitted {
  const { core } = shell
  const { options, fn, extras, schedulingClass, actorId, handleId } = call
  const isLarge = shell.cluster.net.hasTransfers && call.script.returns === 'object'
  const script: Script = isLarge ? { ...call.script, returns: 'large' } : call.script
  const written = writeArguments(shell, [script, ...(options.dependencies ?? [])])
  if (handleId !== 0) core.table.hold(handleId)
  const { numReturns, retries } = options
  const retryOn = options.retriesThrown ? (bytes: Uint8Array) => shell.failureOf(0, bytes).kind === 'thrown' : null
  const plan = { fn, numReturns, retries, retryOn, extras, schedulingClass, actorId, handleId }
  const task = makeTask(core, plan, written, call.parent)
  shell.cluster.judge.onSubmit(shell, task, script, options)
  core.createReturns(task)
  core.submit(shell.now, task)
  if (numReturns === STREAMING) return { refs: [], stream: { sequence: task.sequence, n: script.n, taken: 0 } }
  const refs: SimRef[] = []
  for (let i = 0; i < numReturns; i++) refs.push(new SimRef(shell, makeObjectId(core.tag, task.sequence + i)))
  return { refs, stream: null }
}

export function createActor(shell: CoreShell, drawn: Script, actor: NewActor): SimRef {
  const script = actor.name === null ? drawn : withoutGets(drawn)
  const { core } = shell
  const actorId = shell.cluster.nextActorId()
  const handleId = makeObjectId(core.tag, core.sequences(1))
  core.table.create(handleId, actorId)
  const written = writeArguments(shell, [script, ...actor.dependencies])
  const { strategy } = actor.strategy ? actor : shell.cluster.isAlone ? {} : strategyOf(shell.cluster)
  const spec: ActorSpec = {
    actorId,
    className: 'A',
    definition: shell.cluster.functionOf(shell, 'fn:A').key,
    name: actor.name,
    namespace: 'sim',
    detached: actor.detached,
    getIfExists: actor.getIfExists,
    maxRestarts: actor.maxRestarts,
    jobId: '01000000',
    owner: core.tag,
    handleId,
    placementResources: actor.placement,
    lease: leaseSpec('A', actor.resources, 0, 'fail', strategy),
    options: {
      maxConcurrency: actor.maxConcurrency,
      concurrencyGroups: {},
      allowOutOfOrder: false,
      maxTaskRetries: actor.maxTaskRetries,
      maxPendingCalls: -1,
      isAsync: false,
      threads: 0,
      methods: {},
    },
    args: written.blob ?? new Uint8Array(2),
    argRefs: written.nested,
  }
  shell.cluster.judge.onCreate(shell, spec, script)
  if (written.blob) core.createActor(spec, written.pinned)
  else createWhenReady(shell, spec, written)
  return new SimRef(shell, handleId, actorId)
}

function createWhenReady(shell: CoreShell, spec: ActorSpec, written: WrittenArguments): void {
  const { core } = shell
  const { parts, nested, pinned } = written
  const ids = referencesAmong(parts ?? [])
  shell.whenReady(ids, ids.length, null, () => {
    if (!ids.every((id) => shell.isReady(id))) return createWhenReady(shell, spec, written)
    const resolved = resolveArguments(parts ?? [], nested, core.table, core.effects)
    if (resolved.error === null) core.createActor({ ...spec, args: resolved.blob, argRefs: resolved.nested }, pinned)
    else shell.failCreation({ ...spec, argRefs: [] }, resolved.error, pinned)
  })
}

function writeArguments(shell: CoreShell, args: readonly unknown[]): WrittenArguments {
  const { core } = shell
  const pinned: ObjectId[] = []
  const nested: ObjectId[] = []
  const parts: (Uint8Array | ObjectId)[] = []
  const hasRefs = args.some((arg) => arg instanceof SimRef && arg.actorId === null)
  for (const arg of args) {
    if (arg instanceof SimRef && arg.actorId === null) {
      core.table.hold(arg.id)
      pinned.push(arg.id)
      parts.push(arg.id)
    } else parts.push(writeValue(shell, arg, pinned, nested))
  }
  if (hasRefs) return { blob: null, parts, pinned, nested }
  const count = Buffer.alloc(2)
  count.writeUInt16LE(args.length)
  return { blob: Buffer.concat([count, ...(parts as Uint8Array[])]), parts: null, pinned, nested }
}

function writeValue(shell: CoreShell, value: unknown, pinned: ObjectId[], nested: ObjectId[]): Uint8Array {
  const { core } = shell
  const writer = new ByteWriter()
  writer.reserve(300)
  const at = beginInline(writer)
  const end = encodeSmall(value, writer.buffer, writer.offset)
  if (end >= 0) {
    writer.offset = end
    endInline(writer, at)
    return Buffer.from(writer.take())
  }
  writer.truncate(at - 1)
  const serialized = shell.serialize(value)
  for (const ref of serialized.refs) {
    core.table.hold(ref)
    core.table.escape(ref, core.effects)
    pinned.push(ref)
    nested.push(ref)
  }
  const id = makeObjectId(core.tag, core.sequences(1))
  const location = shell.write(serialized, id, core.tag)
  if (location.kind === 'inline') writeInline(writer, location.bytes, serialized.refs)
  else {
    core.table.create(id)
    for (const ref of serialized.refs) core.table.hold(ref)
    core.fulfil(0, id, location)
    pinned.push(id)
    writeStored(writer, location.storageId, location.size, serialized.refs)
  }
  return Buffer.from(writer.take())
}

const classes = new Map<string, SchedulingClass>()

function classOf(options: CallOptions): SchedulingClass {
  const spec = leaseSpec(
    'f',
    options.resources ?? { CPU: 10_000 },
    options.priority ?? 0,
    options.onInfeasible ?? 'fail',
    options.strategy,
  )
  const key = JSON.stringify(spec)
  const known = classes.get(key) ?? { key, spec }
  classes.set(key, known)
  return known
}

function leaseSpec(
  name: string,
  resources: Resources,
  priority: number,
  onInfeasible: 'fail' | 'wait',
  strategy: SchedulingStrategy = { kind: 'DEFAULT' },
): LeaseSpec {
  return { resources, strategy, runtimeEnv: {}, jobId: '01000000', priority, onInfeasible, name, retriable: true }
}
