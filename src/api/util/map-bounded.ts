// Work over many items with few of them in flight, so that memory does not follow the number of items.

import { get, wait } from '../get-put-wait.ts'
import type { ObjectRef } from '../object-ref.ts'
import { parseOptions } from '../options.ts'

/** A function that submits, e.g. `(item) => work.remote(item)`, or the remote function itself. */
export type Submit<V, R> = ((item: V) => ObjectRef<R>) | { remote(item: V): ObjectRef<R> }

/** Options of `mapBounded` and `mapUnordered`. */
export interface BoundedOptions {
  /** How many calls are open at most. Default 100. */
  readonly inFlight?: number
}

/** Yields the values of references as they become ready. */
export async function* asCompleted<T>(refs: Iterable<ObjectRef<T>>): AsyncGenerator<T, void, undefined> {
  let open = [...refs]
  while (open.length > 0) {
    const [ready, rest] = await wait(open)
    open = rest
    for (const ref of ready) yield await get(ref)
  }
}

/** Results of `work` over `items` as they become ready, with at most `inFlight` (default 100) running. */
export async function* mapUnordered<V, R>(
  work: Submit<V, R>,
  items: Iterable<V> | AsyncIterable<V>,
  options: BoundedOptions = {},
): AsyncGenerator<R, void, undefined> {
  const { inFlight = 100 } = parseOptions<BoundedOptions>('ray.util.mapUnordered', options)
  const submit = submitterOf(work)
  let open: ObjectRef<R>[] = []
  for await (const item of items) {
    open.push(submit(item))
    if (open.length < inFlight) continue
    const [ready, rest] = await wait(open)
    open = rest
    for (const ref of ready) yield await get(ref)
  }
  yield* asCompleted(open)
}

/** Results of `work` over `items` in order, with at most `inFlight` (default 100) running or waiting to be taken. */
export async function* mapBounded<V, R>(
  work: Submit<V, R>,
  items: Iterable<V> | AsyncIterable<V>,
  options: BoundedOptions = {},
): AsyncGenerator<R, void, undefined> {
  const { inFlight = 100 } = parseOptions<BoundedOptions>('ray.util.mapBounded', options)
  const submit = submitterOf(work)
  const open: ObjectRef<R>[] = []
  for await (const item of items) {
    open.push(submit(item))
    if (open.length >= inFlight) yield await get(open.shift() as ObjectRef<R>)
  }
  while (open.length > 0) yield await get(open.shift() as ObjectRef<R>)
}

/** A remote function is a function too, but one that must not be called directly. */
function submitterOf<V, R>(work: Submit<V, R>): (item: V) => ObjectRef<R> {
  return 'remote' in work ? (item) => work.remote(item) : work
}
