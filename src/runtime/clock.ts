// The clock of this process, for spans of time and timers: milliseconds that only grow.
//
// Not `performance.now()`: its first use loads node:perf_hooks, 2 ms of each worker's start.

import type { Ms } from '../kernel/machine.ts'

export function monotonicMs(): Ms {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1000 + nanoseconds / 1e6
}
