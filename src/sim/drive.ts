// Carries a program on: performs what it waits for, and hands it the result.

import type { ObjectId } from '../ids/ids.ts'
import { makeObjectId } from '../ids/ids.ts'
import { STATUS } from '../wire/task-frames.ts'
import type { CoreShell } from './core-shell.ts'
import { GetFailure, SimRef } from './handles.ts'
import { type Await, numberOf, type Program, ScriptError } from './programs.ts'

export interface Outcome {
  readonly status: number
  /** ok: what the program returned; error: a `FailureInfo`. */
  readonly value: unknown
}

export interface Drive {
  readonly shell: CoreShell
  /** Where references that come to the program are noted. */
  readonly scope: SimRef[]
  /** An item of a generator; `go` when the next is wanted, or none any more. */
  readonly onItem: ((index: number, value: unknown, go: (isWanted: boolean) => void) => void) | null
  onDone(outcome: Outcome): void
}

/** Thrown into a generator of which no more items are wanted. */
class Abandoned extends Error {
  override name = 'Abandoned'
}

export function drive(program: Program, how: Drive): void {
  step(program, how, () => program.next())
}

type Step = { done?: boolean | undefined; value: unknown }

function step(program: Program, how: Drive, resume: () => Step): void {
  const { shell } = how
  let next: Step
  const outer = shell.host.scope
  shell.host.scope = how.scope
  try {
    next = resume()
  } catch (error) {
    if (error instanceof ScriptError) return how.onDone(failed({ kind: 'thrown', origin: 0, of: error.n }))
    if (error instanceof GetFailure) return how.onDone(failed(error.failure))
    if (error instanceof Abandoned) return how.onDone({ status: STATUS.cancelled, value: undefined })
    throw error
  } finally {
    shell.host.scope = outer
  }
  if (next.done) return how.onDone({ status: STATUS.ok, value: next.value })
  perform(program, how, next.value as Await)
}

function failed(value: { kind: string; origin: ObjectId; of: number | null }): Outcome {
  return { status: STATUS.error, value }
}

function perform(program: Program, how: Drive, wanted: Await): void {
  const { shell } = how
  const { os } = shell
  const go = (value?: unknown): void => step(program, how, () => program.next(value))
  switch (wanted.t) {
    case 'burn':
      os.busyUntil = shell.now + wanted.ms
      return os.after(wanted.ms, go)
    case 'sleep':
      return os.after(wanted.ms, go)
    case 'until':
      return wanted.when(go)
    case 'die':
      if (wanted.how === 'exitActor') shell.cluster.exitActor(shell)
      return os.die(
        wanted.how === 'kill'
          ? { code: null, signal: 'SIGSEGV' }
          : { code: wanted.how === 'exit' ? 1 : 0, signal: null },
        wanted.how !== 'kill',
      )
    case 'get': {
      let isOver = false
      if (wanted.timeoutMs !== null && shell.cluster.net.hasTransfers)
        os.after(wanted.timeoutMs, () => {
          if (isOver) return
          isOver = true
          go(undefined)
        })
      return shell.whenReady(wanted.ids, wanted.ids.length, wanted.timeoutMs, (isTimedOut) => {
        if (isOver) return
        if (isTimedOut) {
          isOver = true
          return go(undefined)
        }
        const fetched = (): void => {
          if (isOver) return
          isOver = true
          step(program, how, () => {
            let values: unknown[]
            try {
              values = wanted.ids.map((id) => readOne(shell, id))
            } catch (error) {
              return program.throw(error)
            }
            return program.next(values.length === 1 ? values[0] : values)
          })
        }
        shell.fetchValues(wanted.ids, fetched, () => isOver)
      })
    }
    case 'wait':
      return shell.whenReady(wanted.ids, wanted.count, wanted.timeoutMs, () => go())
    case 'next':
      return shell.nextItem(wanted.stream.sequence, (id) => {
        if (id === undefined) {
          shell.cluster.judge.onStreamEnd(makeObjectId(shell.tag, wanted.stream.sequence), wanted.stream.taken)
          return go(undefined)
        }
        shell.cluster.judge.expectItem(
          id,
          numberOf(wanted.stream.n, wanted.stream.taken++),
          makeObjectId(shell.tag, wanted.stream.sequence),
        )
        step(program, how, () => program.next(new SimRef(shell, id)))
      })
    case 'item':
      if (!how.onItem) return go()
      return how.onItem(wanted.index, wanted.value, (isWanted) => {
        if (isWanted) go()
        else step(program, how, () => program.throw(new Abandoned()))
      })
  }
}

function readOne(shell: CoreShell, id: ObjectId): unknown {
  try {
    const read = shell.read(id)
    const value = read?.value
    shell.cluster.judge.onValue(shell, id, value)
    return value
  } catch (error) {
    if (error instanceof GetFailure) shell.cluster.judge.onFailure(shell, id, error.failure)
    throw error
  }
}
