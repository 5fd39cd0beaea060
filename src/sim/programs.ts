// What simulated user code does: scripts, plain data that travel as arguments, and the generator that carries one out.
//
// A script is drawn when it is submitted, so that a retry does the same again, but for what says `until attempt`.

import type { ObjectId } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import type { CoreShell } from './core-shell.ts'
import { GetFailure, SimRef } from './handles.ts'
import { type CallOptions, createActor, type NewActor, type Stream, submitCall, submitTask } from './submit.ts'

export interface Script {
  /** Names the script; what it returns follows from it. */
  readonly n: number
  readonly ops: readonly Op[]
  readonly returns: 'number' | 'object' | 'large' | 'given' | 'fresh'
  /** References (and handles) inside the script value: nested, not dependencies. */
  readonly refs: readonly SimRef[]
  readonly items: number
}

export type Op =
  | { readonly t: 'sleep'; readonly ms: Ms }
  | { readonly t: 'burn'; readonly ms: Ms }
  /** Gets nested reference `at` (modulo how many there are), and what references are in its value. */
  | { readonly t: 'get'; readonly at: number; readonly isDeep: boolean }
  | { readonly t: 'submit'; readonly script: Script; readonly options: CallOptions; readonly gets: boolean }
  | { readonly t: 'call'; readonly at: number; readonly script: Script; readonly gets: boolean }
  | { readonly t: 'create'; readonly actor: NewActor; readonly script: Script }
  | { readonly t: 'keep' }
  | { readonly t: 'forget' }
  | { readonly t: 'throw'; readonly untilAttempt: number }
  | { readonly t: 'crash'; readonly untilAttempt: number; readonly how: 'exit' | 'kill' }
  | { readonly t: 'exitActor' }

/** It waits for nothing but what it submits itself. */
export function withoutGets(script: Script): Script {
  const ops = script.ops.filter(({ t }) => t !== 'get')
  return { ...script, ops: ops.map((op) => (op.t === 'submit' ? { ...op, script: withoutGets(op.script) } : op)) }
}

export type Await =
  | { readonly t: 'sleep'; readonly ms: Ms }
  | { readonly t: 'burn'; readonly ms: Ms }
  | { readonly t: 'get'; readonly ids: readonly ObjectId[]; readonly timeoutMs: Ms | null }
  | { readonly t: 'wait'; readonly ids: readonly ObjectId[]; readonly count: number; readonly timeoutMs: Ms | null }
  | { readonly t: 'next'; readonly stream: Stream }
  | { readonly t: 'item'; readonly value: unknown; readonly index: number }
  /** Until somebody says so. */
  | { readonly t: 'until'; readonly when: (go: () => void) => void }
  | { readonly t: 'die'; readonly how: 'exit' | 'kill' | 'exitActor' }

/** Yields what it waits for; what comes back is its result, or is thrown. */
export type Program = Generator<Await, unknown, unknown>

export class ScriptError extends Error {
  override name = 'ScriptError'
  readonly n: number
  constructor(n: number) {
    super(`script ${n} throws`)
    this.n = n
  }
}

export interface RunContext {
  readonly shell: CoreShell
  readonly attempt: number
  readonly parent: ObjectId
  /** References kept beyond the run: a global variable of the worker, or the actor's state. */
  readonly kept: SimRef[]
  /** References made during the run. */
  readonly scope: SimRef[]
}

export function* runScript(script: Script, context: RunContext): Program {
  const { shell } = context
  const made: SimRef[] = []
  for (const op of script.ops) yield* runOp(op, script, context, made)
  for (let index = 0; index < script.items; index++) {
    yield { t: 'item', index, value: itemOf(script, index, made) }
  }
  return resultOf(script, shell, made)
}

function* runOp(op: Op, script: Script, context: RunContext, made: SimRef[]): Program {
  const { shell, attempt, parent } = context
  switch (op.t) {
    case 'sleep':
    case 'burn':
      yield op
      return
    case 'get':
      yield* getNested(script, op.at, op.isDeep)
      return
    case 'submit': {
      const refs = submitTask(shell, op.script, op.options, parent)
      made.push(...refs.refs)
      if (op.gets && refs.refs.length > 0) yield* getAll(refs.refs)
      if (refs.stream) yield* consume(refs.stream)
      return
    }
    case 'call': {
      const handles = script.refs.filter((ref) => ref.actorId !== null)
      const handle = handles[op.at % Math.max(1, handles.length)]
      if (!handle || handle.isDropped) return
      const refs = submitCall(shell, handle, op.script, { numReturns: 1, retries: 0 }, parent)
      made.push(...refs.refs)
      if (op.gets) yield* getAll(refs.refs)
      return
    }
    case 'create':
      made.push(createActor(shell, op.script, op.actor))
      return
    case 'keep':
      for (const ref of script.refs) if (!context.kept.includes(ref)) context.kept.push(ref)
      return
    case 'forget':
      for (const ref of context.kept.splice(0)) ref.drop()
      return
    case 'throw':
      if (attempt < op.untilAttempt) throw new ScriptError(script.n)
      return
    case 'crash':
      if (attempt < op.untilAttempt) yield { t: 'die', how: op.how }
      return
    case 'exitActor':
      yield { t: 'die', how: 'exitActor' }
  }
}

/** A failing object is no failure of the script. */
function* getAll(refs: readonly SimRef[]): Program {
  for (const ref of refs) {
    if (ref.actorId !== null) continue
    try {
      return yield { t: 'get', ids: [ref.id], timeoutMs: null }
    } catch (error) {
      if (!(error instanceof GetFailure)) throw error
      if (error.failure.kind === 'nodeDied') return undefined
    }
  }
  return undefined
}

function* getNested(script: Script, at: number, isDeep: boolean): Program {
  const refs = script.refs.filter((ref) => ref.actorId === null && !ref.isDropped)
  const ref = refs[at % Math.max(1, refs.length)]
  if (!ref) return
  const value = yield* getAll([ref])
  if (isDeep) yield* getAll(refsIn(value))
}

export function* consume(stream: Stream): Program {
  for (;;) {
    const ref = (yield { t: 'next', stream }) as SimRef | undefined
    if (!ref) return
    yield* getAll([ref])
    ref.drop()
  }
}

export function refsIn(value: unknown): SimRef[] {
  if (typeof value !== 'object' || value === null) return []
  const { refs } = value as { refs?: unknown }
  return Array.isArray(refs) ? refs.filter((ref): ref is SimRef => ref instanceof SimRef) : []
}

function itemOf(script: Script, index: number, made: readonly SimRef[]): unknown {
  const n = numberOf(script.n, index)
  if (script.returns === 'number') return n
  if (script.returns === 'large') return { n, pad: padOf(n, 900) }
  return { n, refs: [...made, ...script.refs].filter((ref) => !ref.isDropped).slice(0, 2) }
}

/** What return (or item) `index` of script `n` says of itself. */
export function numberOf(n: number, index: number): number {
  return n * 100 + index
}

/** Every part of it is another. */
export function padOf(n: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (n * 31 + (i >> 4) * 7 + i) & 255)
}

function resultOf(script: Script, shell: CoreShell, made: readonly SimRef[]): (count: number) => unknown[] {
  return (count) => {
    const values: unknown[] = []
    for (let index = 0; index < count; index++) {
      const n = numberOf(script.n, index)
      if (script.returns === 'number') values.push(n)
      else if (script.returns === 'object') values.push({ n })
      else if (script.returns === 'large') values.push({ n, pad: padOf(n, 900) })
      else if (script.returns === 'given')
        values.push({ n, refs: [...made, ...script.refs].filter((ref) => !ref.isDropped) })
      else {
        const putN = numberOf(script.n, 50 + index)
        const id = shell.put({ n: putN, pad: padOf(putN, index === 0 ? 900 : 1) })
        shell.cluster.judge.expect(id, putN)
        values.push({ n, refs: [new SimRef(shell, id), ...made.filter((ref) => !ref.isDropped)] })
      }
    }
    return values
  }
}
