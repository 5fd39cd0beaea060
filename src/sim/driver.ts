// A driver's program: random steps over everything that the runtime offers; then it waits for all of it and lets go.

import { makeObjectId } from '../ids/ids.ts'
import { STREAMING } from '../wire/task-frames.ts'
import type { CoreShell } from './core-shell.ts'
import { drive } from './drive.ts'
import type { Faults } from './faults.ts'
import { GetFailure, SimRef } from './handles.ts'
import type { SimProcess } from './processes.ts'
import { type Await, consume, numberOf, type Op, type Program, padOf, type Script } from './programs.ts'
import type { Random } from './random.ts'
import { type CallOptions, createActor, type NewActor, type Stream, submitCall, submitTask } from './submit.ts'

export interface DriverState {
  readonly name: string
  os: SimProcess | null
  shell: CoreShell | null
  /** Everything it holds; `drive` notes here what comes in. */
  readonly pool: SimRef[]
  readonly streams: Stream[]
  readonly actors: SimRef[]
  /** Programs that run beside the main one. */
  background: number
  isDone: boolean
}

let scripts = 0

/** Scripts are numbered anew in each world. */
export function resetScripts(): void {
  scripts = 0
}

export function* driverProgram(shell: CoreShell, state: DriverState): Program {
  const { random } = shell.cluster.world
  const { steps, busyChance } = shell.cluster.faults
  for (let i = 0; i < steps; i++) {
    yield* step(shell, state, random)
    if (random.chance(0.4)) yield { t: 'sleep', ms: random.next() * (random.chance(0.2) ? 200 : 8) }
    if (random.chance(busyChance)) yield { t: 'burn', ms: random.next() * 60 }
  }
  return undefined
}

/** Everything that was begun is waited for; then nothing is held any more. */
export function* settleProgram(state: DriverState): Program {
  for (const stream of state.streams.splice(0)) yield* consume(stream)
  for (let at = 0; at < state.pool.length; at++) {
    const ref = state.pool[at] as SimRef
    if (!ref.isDropped && ref.actorId === null) yield* getQuietly(ref)
    ref.drop()
  }
  while (state.background > 0) yield { t: 'sleep', ms: 20 }
  for (const ref of state.pool.splice(0)) ref.drop()
  yield { t: 'sleep', ms: 100 }
  for (const ref of state.pool.splice(0)) ref.drop()
  return undefined
}

export function* getQuietly(ref: SimRef, timeoutMs: number | null = null): Generator<Await, unknown, unknown> {
  try {
    return yield { t: 'get', ids: [ref.id], timeoutMs }
  } catch (error) {
    if (!(error instanceof GetFailure)) throw error
    return undefined
  }
}

function* step(shell: CoreShell, state: DriverState, random: Random): Program {
  const { faults, judge } = shell.cluster
  const held = state.pool.filter((ref) => !ref.isDropped && ref.actorId === null)
  const actors = state.pool.filter((ref) => !ref.isDropped && ref.actorId !== null)
  const dice = random.next()
  if (random.chance(faults.actorChance)) {
    if (actors.length > 0 && dice < 0.7) return call(shell, state, random.pick(actors), random)
    if (actors.length > 0 && dice < 0.78) return killOrDrop(shell, random.pick(actors), random)
    if (dice < 0.84) return yield* findByName(shell, random)
    createActor(shell, makeScript(random, faults, { held, actors, depth: 1, isActor: true }), drawActor(random, held))
    return
  }
  if (held.length > 0 && random.chance(faults.cancelChance)) {
    const { id } = random.pick(held)
    judge.onCancel(id)
    shell.core.cancel(shell.now, id, random.chance(0.3), random.chance(0.8))
    return
  }
  if (dice < 0.55) return submitOne(shell, state, held, actors, random)
  if (dice < 0.62) return void putOne(shell, random, held)
  if (held.length === 0) return
  if (dice < 0.75) yield* getQuietly(random.pick(held), random.chance(0.5) ? random.next() * 50 : null)
  else if (dice < 0.82) {
    const ids = [...new Set([random.pick(held).id, random.pick(held).id, random.pick(held).id])]
    yield {
      t: 'wait',
      ids,
      count: random.int(1, ids.length),
      timeoutMs: random.chance(0.7) ? random.next() * 80 : null,
    }
  } else if (dice < 0.95) random.pick(held).drop()
  else yield* useStream(shell, state, random)
}

function* useStream(shell: CoreShell, state: DriverState, random: Random): Program {
  const [stream] = state.streams.splice(0, 1)
  if (!stream) return
  if (random.chance(0.5)) return yield* consume(stream)
  if (random.chance(0.5)) {
    const ref = (yield { t: 'next', stream }) as SimRef | undefined
    ref?.drop()
  }
  shell.cluster.judge.onCancel(makeObjectId(shell.tag, stream.sequence))
  shell.core.abandonStream(stream.sequence)
}

function submitOne(
  shell: CoreShell,
  state: DriverState,
  held: readonly SimRef[],
  actors: readonly SimRef[],
  random: Random,
): void {
  const { faults } = shell.cluster
  const script = makeScript(random, faults, { held, actors, depth: 2, isActor: false })
  const isStream = random.chance(faults.streamChance)
  const drawn = drawOptions(random, held, isStream)
  // Who waits lends its CPU, and nothing else: two that have half of a place each may wait for a third that needs one, as they may with Ray.
  const waits = script.ops.some((op) => op.t === 'get' || op.t === 'submit' || op.t === 'call')
  const keeps = drawn.resources?.special !== undefined || drawn.resources?.GPU !== undefined
  const options = waits && keeps ? { ...drawn, resources: { CPU: 10_000 } } : drawn
  const { stream } = submitTask(shell, isStream ? { ...script, items: random.int(0, 5) } : script, options, 0)
  if (stream) keepStream(shell, state, stream, options)
}

function call(shell: CoreShell, state: DriverState, handle: SimRef, random: Random): void {
  const { faults } = shell.cluster
  const held = state.pool.filter((ref) => !ref.isDropped && ref.actorId === null)
  const actors = state.pool.filter((ref) => !ref.isDropped && ref.actorId !== null)
  const script = makeScript(random, faults, { held, actors, depth: 1, isActor: true })
  const isStream = random.chance(faults.streamChance / 2)
  const options: CallOptions = {
    numReturns: isStream ? STREAMING : random.pick([1, 1, 1, 2, 0]),
    retries: random.pick([0, 0, 2, -1]),
    retriesThrown: !faults.callsGet && random.chance(0.3),
    ...(isStream && random.chance(0.5) ? { backpressure: random.int(1, 3) } : {}),
    dependencies: random.chance(0.3) && held.length > 0 ? [random.pick(held)] : [],
  }
  const { stream } = submitCall(shell, handle, isStream ? { ...script, items: 3 } : script, options, 0)
  if (stream) keepStream(shell, state, stream, options)
}

/** One with back-pressure is consumed at once, beside all else: its worker waits for that. */
function keepStream(shell: CoreShell, state: DriverState, stream: Stream, options: CallOptions): void {
  if (!options.backpressure) {
    state.streams.push(stream)
    return
  }
  state.background++
  const scope: SimRef[] = []
  const onDone = (): void => {
    for (const ref of scope) ref.drop()
    state.background--
    shell.core.abandonStream(stream.sequence)
  }
  drive(consume(stream), { shell, scope, onItem: null, onDone })
}

function killOrDrop(shell: CoreShell, handle: SimRef, random: Random): void {
  if (random.chance(0.5)) return handle.drop()
  const actorId = handle.actorId as string
  const noRestart = random.chance(0.5)
  shell.core.actors.suspend(actorId)
  if (noRestart) shell.cluster.judge.onActorEnded(actorId)
  shell.link.send({ t: 'actor.kill', actorId, noRestart, detail: 'killed by its user' })
}

function* findByName(shell: CoreShell, random: Random): Program {
  const name = random.pick(['a', 'b'])
  let isAnswered = false
  shell.link.request<'actor.found'>(
    (requestId) => ({ t: 'actor.find', requestId, name, namespace: 'sim' }),
    ({ info }) => {
      isAnswered = true
      if (!info) return
      const { table, effects } = shell.core
      table.hold(info.handleId)
      if (!info.detached) table.borrow(info.handleId, effects)
      new SimRef(shell, info.handleId, info.actorId).drop()
    },
  )
  yield { t: 'sleep', ms: 1 }
  return isAnswered
}

function putOne(shell: CoreShell, random: Random, held: readonly SimRef[]): SimRef {
  const n = numberOf(++scripts, 0)
  const refs = random.chance(0.3) && held.length > 0 ? [random.pick(held)] : []
  const id = shell.put({ n, refs, pad: padOf(n, random.chance(0.5) ? 900 : 1) })
  shell.cluster.judge.expect(id, n)
  return new SimRef(shell, id)
}

export interface Around {
  readonly held: readonly SimRef[]
  readonly actors: readonly SimRef[]
  readonly depth: number
  readonly isActor: boolean
}

export function makeScript(random: Random, faults: Faults, around: Around): Script {
  const ops: Op[] = []
  const { held, actors, isActor } = around
  const refs: SimRef[] = []
  for (let count = random.int(0, 2); count > 0 && held.length > 0; count--) refs.push(random.pick(held))
  if (actors.length > 0 && random.chance(0.3)) refs.push(random.pick(actors))
  const n = ++scripts
  for (let count = random.int(0, 3); count > 0; count--) ops.push(drawOp(random, faults, around, refs))
  if (random.chance(faults.throwChance)) ops.push({ t: 'throw', untilAttempt: random.pick([1, 2, 6]) })
  if (random.chance(faults.crashChance)) {
    ops.push({ t: 'crash', untilAttempt: random.pick([1, 2, 6]), how: random.pick(['exit', 'kill']) })
  }
  if (isActor && random.chance(faults.crashChance * 0.2)) ops.push({ t: 'exitActor' })
  const returns = random.pick(['number', 'object', 'large', 'given', 'fresh'] as const)
  return { n, ops, returns, refs: [...new Set(refs)], items: 0 }
}

function drawOp(random: Random, faults: Faults, around: Around, refs: readonly SimRef[]): Op {
  const { depth, isActor } = around
  switch (random.int(0, 8)) {
    case 0:
      return { t: 'burn', ms: random.next() * (random.chance(0.1) ? 400 : 10) }
    case 1:
      return { t: 'sleep', ms: random.next() * (random.chance(0.2) ? 150 : 4) }
    case 2:
    case 3:
      if (isActor && !faults.callsGet) return { t: 'sleep', ms: 1 }
      return { t: 'get', at: random.int(0, 3), isDeep: random.chance(0.5) }
    case 4:
      return { t: 'keep' }
    case 5:
      return { t: 'forget' }
    case 6:
      if (refs.some((ref) => ref.actorId !== null)) {
        const script = makeScript(random, faults, { held: [], actors: [], depth: 0, isActor: true })
        // An actor that waits for a call of its own would wait for ever, or for a task that waits for one.
        return { t: 'call', at: random.int(0, 1), script, gets: !isActor && random.chance(0.5) && !faults.callsGet }
      }
      return { t: 'sleep', ms: 1 }
    default: {
      if (depth <= 0) return { t: 'sleep', ms: 0.5 }
      const script = makeScript(random, faults, { ...around, actors: [], depth: depth - 1, isActor })
      const isStream = random.chance(faults.streamChance / 2)
      const options = { ...drawOptions(random, [], isStream), resources: { CPU: random.pick([5_000, 10_000]) } }
      const task: Script = { ...script, ops: script.ops.filter((op) => op.t !== 'exitActor'), items: isStream ? 2 : 0 }
      return { t: 'submit', script: task, options, gets: random.chance(0.7) }
    }
  }
}

function drawOptions(random: Random, held: readonly SimRef[], isStream: boolean): CallOptions {
  return {
    fn: random.pick(['fn:quick', 'fn:other']),
    numReturns: isStream ? STREAMING : random.pick([1, 1, 1, 2, 0]),
    retries: random.pick([0, 1, 3, -1]),
    retriesThrown: random.chance(0.2),
    resources: random.pick([
      { CPU: 10_000 },
      { CPU: 10_000 },
      { CPU: 5_000 },
      {},
      { CPU: 20_000 },
      { special: 5_000, CPU: 10_000 },
      ...(random.chance(0.2) ? [{ CPU: 10_000, GPU: random.pick([5_000, 10_000, 30_000]) }] : []),
    ]),
    priority: random.chance(0.1) ? random.int(-1, 2) : 0,
    ...(random.chance(0.1) ? { maxCalls: random.int(1, 3) } : {}),
    ...(isStream && random.chance(0.5) ? { backpressure: random.int(1, 3) } : {}),
    dependencies: random.chance(0.35) && held.length > 0 ? [random.pick(held), random.pick(held)] : [],
    onInfeasible: 'fail',
  }
}

function drawActor(random: Random, held: readonly SimRef[]): NewActor {
  const isNamed = random.chance(0.3)
  return {
    name: isNamed ? random.pick(['a', 'b']) : null,
    getIfExists: isNamed && random.chance(0.5),
    detached: isNamed && random.chance(0.3),
    maxRestarts: random.pick([0, 0, 1, 3, -1]),
    maxTaskRetries: 0,
    maxConcurrency: random.pick([1, 1, 1, 3]),
    resources: random.pick([{}, {}, { places: 1_000 }]),
    placement: random.pick([{ CPU: 10_000 }, { CPU: 5_000 }, { CPU: 50_000 }, { places: 1_000 }]),
    dependencies: random.chance(0.3) && held.length > 0 ? [random.pick(held)] : [],
  }
}
