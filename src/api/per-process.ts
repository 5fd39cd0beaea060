// Values that travel as the way to make them.

import { makeError } from '../errors/index.ts'
import { perProcess as share } from '../runtime/closures/index.ts'

/**
 * A value that each process makes for itself, at the first use there, and keeps: connections, clients, schemas, whatever cannot be
 * copied. Functions that capture the result may use it on any worker.
 *
 * ```ts
 * const database = ray.perProcess(() => new Client(process.env.DATABASE_URL))
 * const find = ray.remote((id: string) => database().query(id))
 * ```
 *
 * When `make` throws, or its promise fails, the next use tries again.
 */
export function perProcess<T>(make: () => T): () => T {
  if (typeof make === 'function') return share(make)
  const message = `ray.perProcess takes a function that makes the value, but got ${typeof make}`
  throw makeError('INVALID_ARGUMENT', { message, hint: 'Write ray.perProcess(() => new Client(…)).' })
}
