// What this process knows across payloads. Shared by all copies of the package in it.
//
//   R1. What arrived by reference leaves by reference again (nested tasks).
//   R2. A class that was loaded once is the same class again, so that `instanceof` holds; a class made here has an id that no other
//       process gives to another class.

import type { AmbientNode, ImportNode, RequireNode } from './payload.ts'

export type Origin = ImportNode | AmbientNode

/** What a CommonJS initializer gave, with the values that its text uses. */
export interface Required_ {
  readonly node: RequireNode
  readonly env: Readonly<Record<string, unknown>>
}

interface Registry {
  readonly origins: WeakMap<object, Origin>
  readonly required: WeakMap<object, Required_>
  readonly classIds: WeakMap<object, string>
  readonly classes: Map<string, WeakRef<object>>
  readonly ordinals: Map<string, number>
  readonly perProcess: Map<string, { value: unknown }>
  /** Distinguishes what workers make; drivers leave it empty, so that their ids are the same in every run. */
  suffix: string
}

const KEY = Symbol.for('ray-ts.closures')
const shared = globalThis as unknown as Record<symbol, Registry | undefined>

function open(): Registry {
  shared[KEY] ??= {
    origins: new WeakMap(),
    required: new WeakMap(),
    classIds: new WeakMap(),
    classes: new Map(),
    ordinals: new Map(),
    perProcess: new Map(),
    suffix: '',
  }
  return shared[KEY]
}

export const registry = open()

/** For workers, before any code is loaded: `token` is theirs alone. */
export function nameThisProcess(token: string): void {
  registry.suffix = `@${token}`
}

/** A new id for something made at the place `key`. */
export function nextId(key: string): string {
  const ordinal = registry.ordinals.get(key) ?? 0
  registry.ordinals.set(key, ordinal + 1)
  return `${key}#${ordinal}${registry.suffix}`
}

export function rememberOrigin(value: unknown, origin: Origin): void {
  if (isHeld(value) && !registry.origins.has(value)) registry.origins.set(value, origin)
}

export function classNamed(id: string): object | undefined {
  return registry.classes.get(id)?.deref()
}

export function rememberClass(type: object, id: string): void {
  registry.classIds.set(type, id)
  registry.classes.set(id, new WeakRef(type))
}

export function isHeld(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}
