// The clock of this process, for spans of time and timers: milliseconds that only grow.
//
// Not `performance.now()`: its first use loads node:perf_hooks, 2 ms of each worker's start.

import type { Ms } from '../kernel/machine.ts'

export function monotonicMs(): Ms {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1000 + nanoseconds / 1e6
}

/** How long a timer for `at` takes from now on. */
export function msUntil(at: Ms): Ms {
  return Math.max(0, at - monotonicMs())
}

/** Whole microseconds. */
export function microsSince(began: Ms): number {
  return Math.round((monotonicMs() - began) * 1000)
}
