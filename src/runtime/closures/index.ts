// Functions, classes and instances of users' classes as bytes: the door of this room.
//
//   F1. `encodeFunction` and `encodeCode` are synchronous and throw a coded error with the trail to what cannot travel.
//   F2. Decoding is synchronous once imports are there; before, `decodeCode` throws `{ ready }`, a promise after which to try again.

import { makeError } from '../../errors/index.ts'
import { ClosureError, serialize } from './capture.ts'
import { build, prefetch } from './load.ts'

/** From 10 MB Ray warns, from 100 MB it refuses. */
const WARN_BYTES = 10 * 1024 * 1024
const REFUSE_BYTES = 100 * 1024 * 1024

export interface ClosureHost {
  /**
   * Data for what only the runtime can make anew (references, handles, remote functions), or `{ by: 'value' }` with parts to
   * serialize; undefined for everything else.
   */
  reduce(value: unknown): unknown
  revive(data: unknown): unknown
  makeRemote(kind: string, target: unknown, options: unknown): unknown
}

export interface EncodedFunction {
  readonly bytes: Buffer
  readonly hash: string
  readonly warning: string | null
}

interface Payload {
  readonly nodes: { readonly t: string }[]
  readonly root: unknown
}

export function encodeFunction(target: unknown, name: string, host: ClosureHost): EncodedFunction {
  const captured = capture(target, name, host)
  const bytes = Buffer.from(captured.json as string)
  const largest = (captured.sizes as [string, number][])[0]
  const culprit = largest ? `, most of it in the captured variable ${largest[0]} (${megabytes(largest[1])})` : ''
  if (bytes.length >= REFUSE_BYTES) {
    const message = `the function ${name} is ${megabytes(bytes.length)} large${culprit}`
    throw makeError('UNSERIALIZABLE', {
      message,
      hint: 'Put large data once with ray.put, and capture or pass its reference.',
    })
  }
  const isLarge = bytes.length >= WARN_BYTES
  const warning = isLarge
    ? `The function ${name} is ${megabytes(bytes.length)} large${culprit}. Put large data once with ray.put, and pass its reference.`
    : null
  return { bytes, hash: captured.hash as string, warning }
}

export async function decodeFunction(bytes: Uint8Array, host: ClosureHost): Promise<unknown> {
  const payload = parse(bytes)
  await prefetch(payload.nodes)
  return build(payload, host)
}

/** undefined: it is no code. */
export function encodeCode(value: unknown, host: ClosureHost): Uint8Array | undefined {
  return Buffer.from(capture(value, 'value', host).json as string)
}

export function decodeCode(bytes: Uint8Array, host: ClosureHost): unknown {
  const payload = parse(bytes)
  const ready = prefetch(payload.nodes)
  if (ready) throw Object.assign(new Error('imports are on their way'), { ready })
  return build(payload, host)
}

/** What keeps a value from travelling. */
export interface SerializabilityFailure {
  /** From the value to what cannot travel: `square → captured variable db → .socket`. */
  readonly path: string
  /** Why it cannot. */
  readonly why: string
}

/** Says whether `value` could travel to another process, and if not, what stands in the way. */
export function inspectSerializability(
  value: unknown,
  name: string,
  host: ClosureHost,
): { readonly serializable: boolean; readonly failures: readonly SerializabilityFailure[] } {
  try {
    serialize(value, options(host))
    return { serializable: true, failures: [] }
  } catch (error) {
    if (!(error instanceof ClosureError)) throw error
    return { serializable: false, failures: [{ path: trailOf(error, name), why: error.message }] }
  }
}

function capture(value: unknown, name: string, host: ClosureHost): Record<string, unknown> {
  try {
    return serialize(value, options(host)) as unknown as Record<string, unknown>
  } catch (error) {
    if (!(error instanceof ClosureError)) throw error
    const message = `cannot send ${trailOf(error, name)}: ${error.message}`
    const hint = 'Make it inside the task or actor, import it from a module, or pass what it is made from.'
    throw makeError('UNSERIALIZABLE', { message, hint }, { cause: error })
  }
}

function options(host: ClosureHost): Record<string, unknown> {
  // Vitest rewrites imports to paths under its root.
  const viteRoot = process.env.VITEST === undefined ? undefined : process.cwd()
  return { reduce: (value: unknown) => host.reduce(value), viteRoot }
}

function trailOf(error: unknown, name: string): string {
  const parts = ((error as { trail?: readonly string[] }).trail ?? []).map((part) =>
    part.replace(/^captured variable /, '').replace(/^function /, ''),
  )
  return parts.length > 0 ? parts.join(' → ') : name
}

function parse(bytes: Uint8Array): Payload {
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()) as Payload
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`
}
