// Functions, classes and instances of users' classes as bytes: the door of this room.
//
//   F1. `encodeFunction` and `encodeCode` are synchronous and throw a coded error with the trail to what cannot travel.
//   F2. Decoding is synchronous once imports are there; before, `decodeCode` throws `{ ready }`, a promise after which to try again.

import { createHash } from 'node:crypto'
import { makeError } from '../../errors/index.ts'
import { type BuildHost, build } from './build.ts'
import { type CaptureOptions, capture, findFailures, type Reduction } from './capture.ts'
import { parseFunction } from './function-text.ts'
import { prefetch } from './modules.ts'
import { type Payload, pack, payloadBytes, toJson, unpack } from './payload.ts'
import { readMainScript } from './scripts.ts'
import { culprit, megabytes, REFUSE_BYTES, WARN_BYTES } from './sizes.ts'
import { ClosureError, kindOf } from './trail.ts'

export { perProcess } from './per-process.ts'
export { nameThisProcess } from './registry.ts'
export type { Reduction }

export interface ClosureHost extends BuildHost {
  /** What only the runtime can make anew: references, handles, remote functions. */
  reduce(value: unknown): Reduction | undefined
}

export interface EncodedFunction {
  readonly bytes: Buffer
  readonly hash: string
  readonly warning: string | null
}

export function encodeFunction(target: unknown, name: string, host: ClosureHost): EncodedFunction {
  const payload = captureCoded(target, name, host)
  const json = toJson(payload)
  const size = payloadBytes(json, payload.buffers)
  const hint = 'Put large data once with ray.put, and capture or pass its reference.'
  const message = size < WARN_BYTES ? '' : `the function ${name} is ${megabytes(size)} large${culprit(payload)}`
  if (size >= REFUSE_BYTES) throw makeError('UNSERIALIZABLE', { message, hint })
  const hash = createHash('sha256').update(json)
  for (const buffer of payload.buffers) hash.update(buffer)
  const warning = message ? `${message[0]?.toUpperCase()}${message.slice(1)}. ${hint}` : null
  return { bytes: pack(json, payload.buffers), hash: hash.digest('hex').slice(0, 40), warning }
}

export async function decodeFunction(bytes: Uint8Array, host: ClosureHost): Promise<unknown> {
  const payload = unpack(bytes)
  await prefetch(payload.nodes)
  return build(payload, host)
}

export function encodeCode(value: unknown, host: ClosureHost): Uint8Array {
  const payload = captureCoded(value, nameOf(value), host)
  return pack(toJson(payload), payload.buffers)
}

export function decodeCode(bytes: Uint8Array, host: ClosureHost): unknown {
  const payload = unpack(bytes)
  const ready = prefetch(payload.nodes)
  if (ready) throw Object.assign(new Error('imports are on their way'), { ready })
  return build(payload, host)
}

/** What keeps a value from travelling. */
export interface SerializabilityFailure {
  /** From the value to what cannot travel: `square → helper → config.db: Socket`. */
  readonly path: string
  /** Why it cannot. */
  readonly why: string
}

/** Says whether `value` could travel to another process, and if not, all that stands in the way. */
export function inspectSerializability(
  value: unknown,
  name: string,
  host: ClosureHost,
): { readonly serializable: boolean; readonly failures: readonly SerializabilityFailure[] } {
  const failures = findFailures(value, options(name, host)).map(({ path, why }) => ({ path, why }))
  return { serializable: failures.length === 0, failures }
}

/** Does the slow part of a process's first capture ahead of need: V8 lists its scripts, acorn is loaded, globals are named. */
export function warmUp(): void {
  try {
    readMainScript()
    capture({}, options('warm-up', { reduce: () => undefined }))
    parseFunction('() => 0')
  } catch {
    // The first capture will say it better.
  }
}

function captureCoded(value: unknown, name: string, host: ClosureHost): Payload {
  try {
    return capture(value, options(name, host))
  } catch (error) {
    if (!(error instanceof ClosureError)) throw error
    const message = `cannot send ${error.path}: ${error.why}`
    throw makeError('UNSERIALIZABLE', { message, hint: error.hint }, { cause: error })
  }
}

function options(name: string, host: Pick<ClosureHost, 'reduce'>): CaptureOptions {
  const viteRoot = process.env.VITEST === undefined ? null : process.cwd()
  return { name, viteRoot, reduce: (value) => host.reduce(value) }
}

function nameOf(value: unknown): string {
  return typeof value === 'function' ? value.name || 'anonymous' : kindOf(value)
}
