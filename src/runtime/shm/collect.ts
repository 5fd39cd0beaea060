// Asks V8 for a collection. References are small, so the collector does not see that each of them may keep megabytes of the store.

import v8 from 'node:v8'
import vm from 'node:vm'

let collector: (() => void) | undefined
let isScheduled = false
let isDue = false
const LATER_MS = 300

/** Soon, outside of what runs now. Finalizers of references follow in tasks of their own. */
export function collectSoon(): void {
  if (isScheduled) return
  isScheduled = true
  setImmediate(() => {
    isScheduled = false
    collector ??= globalThis.gc ? () => globalThis.gc?.() : exposed()
    collector()
  })
}

/**
 * In a while, once for all that ask until then. A process with nothing to do never collects by itself, and what it merely has not
 * dropped yet (handles in the arguments of a call that is over) would keep actors and objects of others alive.
 */
export function collectLater(): void {
  if (isDue) return
  isDue = true
  setTimeout(() => {
    isDue = false
    collectSoon()
  }, LATER_MS).unref()
}

function exposed(): () => void {
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc') as () => void
  v8.setFlagsFromString('--no-expose-gc')
  return gc
}
