// The one runtime of this process, and how to get it. Kept under a global symbol, so that two copies of the package share it.

import { makeError } from '../errors/index.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'

interface Holder {
  runtime: CoreRuntime | null
  /** Of its cluster. */
  address: string
  /** Starts a local node when a program uses ray without init (auto-init). */
  autoInit: (() => CoreRuntime) | null
}

const KEY = Symbol.for('ray-ts.runtime.holder')
const holder: Holder = ((globalThis as unknown as Record<symbol, Holder>)[KEY] ??= {
  runtime: null,
  address: '',
  autoInit: null,
})

export function setRuntime(runtime: CoreRuntime | null, address: string): void {
  holder.runtime = runtime
  holder.address = address
}

export function currentAddress(): string {
  return holder.address
}

export function setAutoInit(start: () => CoreRuntime): void {
  holder.autoInit ??= start
}

export function currentRuntime(): CoreRuntime | null {
  return holder.runtime
}

/** The runtime, started with defaults if need be. */
export function requireRuntime(): CoreRuntime {
  const runtime = holder.runtime ?? (mayStart() ? holder.autoInit?.() : undefined)
  if (!runtime) throw makeError('NOT_INITIALIZED')
  return runtime
}

/** Ray's switch for programs that must not start a node by accident. */
function mayStart(): boolean {
  return process.env.RAY_ENABLE_AUTO_CONNECT !== '0'
}
