// Warnings that teach: waits that take very long, gets that undo parallelism, tasks too small to be worth their way.
//
//   A1. The hot path pays a few comparisons at most; all else is looked at by a slow timer that keeps no program alive.
//   A2. Each piece of advice is given once in a program; a long wait once for each object.

import type { RemoteFunctionEntry } from '../core-worker/effects.ts'
import { type ObjectId, ownerOf, sequenceOf } from '../ids/ids.ts'
import { monotonicMs } from '../runtime/clock.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { warn } from '../runtime/warnings.ts'
import { formatResources } from '../scheduling/resources.ts'

const TICK_MS_MAX = 1000
const LOOKED_AT_MAX = 1000
const WARNINGS_MAX = 20
/** Gets in a row, each of the task submitted just before. */
const LOOP_GETS = 100
/** Below this, handing a task over costs more than running it. */
const TINY_MICROS = 15
const TINY_TASKS = 50_000

interface Watch {
  readonly runtime: CoreRuntime
  readonly waiting: Map<ObjectId, number>
  readonly warned: Set<ObjectId>
  submitted: number
  /** Tasks that came while only tiny functions ran. */
  tiny: number
}

/** Functions of this session, with the average run time that was last seen. */
const functions = new Map<RemoteFunctionEntry, number>()
let hasSaidLoop = false
let hasSaidTiny = false
let lastRead = -1
let streak = 0
let streakSince = 0

/** Looks at the runtime from time to time, until it is closed. */
export function giveAdvice(runtime: CoreRuntime, warnAfterMs: number): void {
  functions.clear()
  const watch: Watch = { runtime, waiting: new Map(), warned: new Set(), submitted: runtime.core.submitted, tiny: 0 }
  const timer = setInterval(
    () => {
      if (runtime.isClosed) {
        clearInterval(timer)
        return
      }
      warnOfLongWaits(watch, warnAfterMs)
      warnOfTinyTasks(watch)
    },
    Math.min(TICK_MS_MAX, Math.max(10, warnAfterMs / 4)),
  )
  timer.unref()
}

/** A function that is called; its speed is looked at now and then. */
export function watchFunction(entry: RemoteFunctionEntry): void {
  if (functions.size < LOOKED_AT_MAX) functions.set(entry, entry.averageMicros)
}

/** `ray.get` of one reference. */
export function noteGet(id: ObjectId, runtime: CoreRuntime): void {
  const sequence = sequenceOf(id)
  const { core } = runtime
  if (sequence !== core.submitted || ownerOf(id) !== core.tag) {
    streak = 0
    return
  }
  const isNext = sequence === lastRead + 1
  lastRead = sequence
  if (!isNext || hasSaidLoop) {
    streak = 0
    return
  }
  if (streak++ === 0) streakSince = monotonicMs()
  if (streak < LOOP_GETS) return
  const task = core.task(sequence)
  streak = 0
  if (!task || task.actorId !== null) return // Calls of one actor follow each other anyway.
  hasSaidLoop = true
  const seconds = ((monotonicMs() - streakSince) / 1000).toFixed(1)
  warn(
    `ray.get right after .remote() in a loop (n=${LOOP_GETS}, ${task.fn.name}, ${seconds} s so far): each task waits for the one before, so that nothing runs in parallel. Submit them all first, then ray.get the list of references; or take them as they come with ray.wait.`,
  )
}

function warnOfLongWaits({ runtime, waiting, warned }: Watch, afterMs: number): void {
  const now = monotonicMs()
  const current = new Set(runtime.waiting.ids(LOOKED_AT_MAX))
  for (const id of waiting.keys()) if (!current.has(id)) waiting.delete(id)
  const overdue: ObjectId[] = []
  for (const id of current) {
    const since = waiting.get(id)
    if (since === undefined) waiting.set(id, now)
    else if (now - since >= afterMs && !warned.has(id)) overdue.push(id)
  }
  if (overdue.length === 0) return
  const hasRoom = warned.size < WARNINGS_MAX
  for (const id of overdue) warned.add(id)
  if (!hasRoom) return
  const others = overdue.length > 1 ? ` (and ${overdue.length - 1} more)` : ''
  const first = overdue[0] as ObjectId
  const seconds = Math.round((now - (waiting.get(first) ?? now)) / 1000)
  warn(`waiting for ObjectRef(${runtime.formatId(first)})${others} for ${seconds} s: ${stateOf(first, runtime)}`)
}

function stateOf(id: ObjectId, { core }: CoreRuntime): string {
  if (ownerOf(id) !== core.tag) return 'another process owns it and has no value for it yet.'
  const maker = core.makerOf(id)
  if (!maker) return 'its value has not come yet.'
  const { name, place } = maker
  if (place.kind === 'process') return `${name} runs on the worker with pid ${place.pid}.`
  if (place.kind === 'arguments') return `${name} waits for its arguments (see \`ray why\`).`
  if (place.kind === 'actor') return `${name} waits for its actor to start.`
  return `${name} waits for free resources: it asks for ${formatResources(place.asked)} (see \`ray why\`).`
}

function warnOfTinyTasks(watch: Watch): void {
  const { submitted } = watch.runtime.core
  const done = submitted - watch.submitted
  watch.submitted = submitted
  if (hasSaidTiny) return
  const running = [...functions].filter(([entry, seen]) => entry.averageMicros !== seen).map(([entry]) => entry)
  for (const entry of running) functions.set(entry, entry.averageMicros)
  const [first] = running
  if (!first || running.some((entry) => entry.averageMicros > TINY_MICROS)) return
  watch.tiny += done
  if (watch.tiny < TINY_TASKS) return
  hasSaidTiny = true
  const { name, averageMicros } = first
  warn(
    `your tasks average ${Math.max(1, Math.round(averageMicros))} µs (${name}), less than it takes to hand one over. Give each more work, 1 ms or longer: pass a list of items to each task, or use ray.util.Pool, whose map(fn, items, { chunksize }) does so.`,
  )
}
