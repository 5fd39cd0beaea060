// `objectSpilling` of `ray.init`: an object, or JSON text as Ray wants it; Ray's spelling of the keys or ours; `params` flat or nested.

import { makeError } from '../errors/index.ts'
import { parseOptions } from './options.ts'

/** Where objects go when the store is full. */
export interface ObjectSpillingOptions {
  /** Default. */
  readonly type?: 'filesystem'
  /** One folder, or several that are used in turn. */
  readonly directoryPath?: string | readonly string[]
  /** Bytes that are copied at once. Default 4 MiB. */
  readonly bufferSize?: number
}

export interface Spilling {
  /** Undefined: the session's own folder. */
  readonly directories?: readonly string[]
  readonly bufferBytes: number
}

const BUFFER_BYTES = 4 * 1024 * 1024
const BUFFER_BYTES_MIN = 4096

/** @throws InvalidArgumentError */
export function parseSpilling(raw: unknown): Spilling {
  const given = typeof raw === 'string' ? parseJson(raw) : raw
  const flat = given === undefined ? {} : flatten(given)
  const { directoryPath, bufferSize } = parseOptions<ObjectSpillingOptions>('objectSpilling', flat)
  const bufferBytes = Math.max(bufferSize ?? BUFFER_BYTES, BUFFER_BYTES_MIN)
  return directoryPath === undefined ? { bufferBytes } : { directories: [directoryPath].flat(), bufferBytes }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const message = `objectSpilling is text, but not JSON: ${(cause as Error).message}`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Pass an object, or JSON.stringify one.' }, { cause })
  }
}

/** `{"type": …, "params": {"directory_path": …}}`, as Ray writes it, becomes `{ type, directoryPath }`. */
function flatten(given: unknown): unknown {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return given
  const { params, ...rest } = given as Record<string, unknown>
  const all = { ...rest, ...(typeof params === 'object' ? params : params === undefined ? {} : { params }) }
  const camel = (key: string): string => key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
  return Object.fromEntries(Object.entries(all).map(([key, value]) => [camel(key), value]))
}
