// A value that every process makes for itself, at the first use there, and keeps.
//
//   Q1. The same `perProcess` is one value in a process, whichever functions carry it there.
//   Q2. A maker that throws, or whose promise fails, is asked again next time.

import { createHash } from 'node:crypto'
import { nextId, registry } from './registry.ts'

interface Shared {
  readonly key: string
  readonly maker: () => () => unknown
}

const shared = new WeakMap<object, Shared>()

export function perProcess<T>(make: () => T): () => T {
  const place = createHash('sha256').update(Function.prototype.toString.call(make)).digest('hex').slice(0, 16)
  return revivePerProcess(nextId(place), () => make) as () => T
}

/** `maker` is asked for the maker when it is needed: in a payload with cycles it may come later than this. */
export function revivePerProcess(key: string, maker: () => () => unknown): () => unknown {
  const get = (): unknown => {
    const made = registry.perProcess.get(key)
    if (made) return made.value
    const value = maker()()
    registry.perProcess.set(key, { value })
    if (value instanceof Promise) value.catch(() => registry.perProcess.delete(key)) // Q2
    return value
  }
  shared.set(get, { key, maker })
  return get
}

export function perProcessOf(value: object): Shared | undefined {
  return shared.get(value)
}
