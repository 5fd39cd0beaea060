// Values as bytes outside of calls: `ray.serialize`, `ray.deserialize`, and asking whether something could travel.

import { inspectSerializability as inspect, type SerializabilityFailure } from '../runtime/closures/index.ts'
import { serializeToBytes } from '../values/index.ts'
import { closureHost } from './host.ts'
import { requireRuntime } from './state.ts'

export type { SerializabilityFailure }

/** Any value, closures and classes included, as bytes. */
export function serialize(value: unknown): Uint8Array {
  return serializeToBytes(value, requireRuntime().host)
}

/** The value that `serialize` wrote as `bytes`; references inside it count as held here. */
export async function deserialize<T = unknown>(bytes: Uint8Array): Promise<T> {
  const later = requireRuntime().decodeValue(bytes)
  return (later instanceof Object && 'promise' in later ? await (later as { promise: Promise<T> }).promise : later) as T
}

/** Whether a function, class or value can be sent to another process, and if not, the path to what stands in the way. */
export function inspectSerializability(
  value: unknown,
  name = 'value',
): { readonly serializable: boolean; readonly failures: readonly SerializabilityFailure[] } {
  return inspect(value, name, closureHost(requireRuntime()))
}
