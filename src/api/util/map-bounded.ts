// Work over many items with few of them in flight, so that memory does not follow the number of items.

import { get, wait } from '../get-put-wait.ts'
import type { ObjectRef } from '../object-ref.ts'

/** Yields the values of references as they become ready. */
export async function* asCompleted<T>(refs: Iterable<ObjectRef<T>>): AsyncGenerator<T, void, undefined> {
  let open = [...refs]
  while (open.length > 0) {
    const [ready, rest] = await wait(open)
    open = rest
    for (const ref of ready) yield await get(ref)
  }
}

/** Results of `submit` over `items` as they become ready, with at most `inFlight` (default 100) running. */
export async function* mapUnordered<V, R>(
  submit: (item: V) => ObjectRef<R>,
  items: Iterable<V> | AsyncIterable<V>,
  options: { inFlight?: number } = {},
): AsyncGenerator<R, void, undefined> {
  const inFlight = options.inFlight ?? 100
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

/** Results of `submit` over `items` in order, with at most `inFlight` (default 100) running or waiting to be taken. */
export async function* mapBounded<V, R>(
  submit: (item: V) => ObjectRef<R>,
  items: Iterable<V> | AsyncIterable<V>,
  options: { inFlight?: number } = {},
): AsyncGenerator<R, void, undefined> {
  const inFlight = options.inFlight ?? 100
  const open: ObjectRef<R>[] = []
  for await (const item of items) {
    open.push(submit(item))
    if (open.length >= inFlight) yield await get(open.shift() as ObjectRef<R>)
  }
  while (open.length > 0) yield await get(open.shift() as ObjectRef<R>)
}
