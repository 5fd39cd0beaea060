// Asks V8 for a collection. References are small, so the collector does not see that each of them may keep megabytes of the store.

import v8 from 'node:v8'
import vm from 'node:vm'

let collector: (() => void) | undefined
let isScheduled = false

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

function exposed(): () => void {
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc') as () => void
  v8.setFlagsFromString('--no-expose-gc')
  return gc
}
