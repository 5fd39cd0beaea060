// A function, class or value, with all that it captures, as a graph of plain nodes; imports stay references.
//
//     function ─► its text, its free variables ─► scopes ─► values ─► functions … (capture-function.ts, capture-variable.ts)
//     object ─► its kind, prototype and properties (capture-object.ts)      import ─► specifier and parent (capture-import.ts)
//
//   C1. Synchronous: what is captured is the state at the first `.remote()`.
//   C2. What cannot travel throws `ClosureError` with the trail from the root to the value.
//   C3. Equal captures give equal payloads.
//   C4. What is met twice keeps its identity.

import { customSerializer } from '../../values/index.ts'
import { captureFunction } from './capture-function.ts'
import { captureObject, captureStaticSerializer } from './capture-object.ts'
import { knownNode } from './known-values.ts'
import type { Node, Payload, Value } from './payload.ts'
import { perProcessOf } from './per-process.ts'
import { isHeld, registry } from './registry.ts'
import { ClosureError, formatTrail, type Hop, kindOf } from './trail.ts'

/** Levels of captured values inside one another. Each takes a few frames of V8's stack. */
const DEPTH_MAX = 700

/** What the runtime knows how to make anew elsewhere; undefined: nothing special. */
export type Reduction =
  | { readonly by: 'data'; readonly data: unknown }
  | { readonly by: 'value'; readonly kind: string; readonly target: unknown; readonly options: unknown }

export interface CaptureOptions {
  readonly name: string
  readonly reduce: (value: unknown) => Reduction | undefined
  /** Vitest rewrites imports to paths under its root. */
  readonly viteRoot: string | null
}

export function capture(root: unknown, options: CaptureOptions): Payload {
  const made = new Capture(options)
  return { root: made.value(root), nodes: made.nodes, buffers: made.buffers }
}

/** Everything that stands in the way, instead of only the first. */
export function findFailures(root: unknown, options: CaptureOptions): readonly ClosureError[] {
  const made = new Capture(options, [])
  made.value(root)
  return made.failures ?? []
}

/** A variable of a function scope, seen from one of the functions that travel. */
export interface SeenLocal {
  readonly from: object
  readonly value: unknown
  readonly isAssigned: boolean
}

export class Capture {
  readonly options: CaptureOptions
  readonly nodes: Node[] = []
  readonly buffers: Uint8Array[] = []
  readonly failures: ClosureError[] | null
  /** Values that are imports of a script met so far. */
  readonly imported = new Map<object, Node>()
  readonly scriptsLearned = new Set<string>()
  /** Module-level variables that several functions share: script and name, to the cell's node. */
  readonly cells = new Map<string, number>()
  /** `exports` of CommonJS modules: one object per script. */
  readonly exportsOf = new Map<string, { readonly id: number; readonly names: Set<string> }>()
  readonly locals = new Map<string, SeenLocal[]>()
  readonly #known = new Map<unknown, number>()
  readonly #trail: Hop[] = []
  #depth = 0

  constructor(options: CaptureOptions, failures: ClosureError[] | null = null) {
    this.options = options
    this.failures = failures
  }

  value(value: unknown): Value {
    switch (typeof value) {
      case 'boolean':
      case 'string':
        return value
      case 'number':
        if (Object.is(value, -0)) return { n: '-0' }
        return Number.isFinite(value) ? value : { n: String(value) }
      case 'undefined':
        return { u: 1 }
      case 'bigint':
        return { b: String(value) }
      case 'symbol':
        return this.#symbol(value)
      default:
        return value === null ? null : this.#held(value as object)
    }
  }

  /** `value` under `hop`. */
  under(hop: Hop, value: unknown): Value {
    if (!isHeld(value)) return this.value(value)
    this.#trail.push(hop)
    const made = this.value(value)
    this.#trail.pop()
    return made
  }

  /** Runs `work` with `hop` on the trail. */
  within<T>(hop: Hop, work: () => T): T {
    this.#trail.push(hop)
    const made = work()
    this.#trail.pop()
    return made
  }

  add(node: Node): number {
    return this.nodes.push(node) - 1
  }

  /** From here on `value` is this node, so that cycles find it. */
  addFor(value: unknown, node: Node): number {
    const id = this.add(node)
    this.#known.set(value, id)
    return id
  }

  idOf(value: unknown): number | undefined {
    return this.#known.get(value)
  }

  buffer(bytes: Uint8Array): number {
    return this.buffers.push(bytes) - 1
  }

  /** `value`: what cannot travel, when it is a value and not the text of a function. */
  refuse(why: string, hint: string, value?: unknown): never {
    const kind = isHeld(value) ? kindOf(value) : null
    throw new ClosureError(formatTrail(this.options.name, this.#trail, kind), why, hint)
  }

  #symbol(symbol: symbol): Value {
    const key = Symbol.keyFor(symbol)
    if (key !== undefined) return { registered: key }
    const name = WELL_KNOWN.get(symbol)
    if (name !== undefined) return { wellKnown: name }
    const { description } = symbol
    const node: Node = description === undefined ? { t: 'symbol' } : { t: 'symbol', description }
    return { r: this.#known.get(symbol) ?? this.addFor(symbol, node) }
  }

  #held(value: object): Value {
    const known = this.#known.get(value)
    if (known !== undefined) return { r: known }
    const hops = this.#trail.length
    try {
      if (++this.#depth > DEPTH_MAX)
        this.refuse(`it is nested more than ${DEPTH_MAX} levels deep`, 'Flatten it, or put it once with ray.put.')
      return { r: this.#byReference(value) ?? this.#byValue(value) }
    } catch (error) {
      if (!this.failures || !(error instanceof ClosureError)) throw error
      this.failures.push(error)
      this.#trail.length = hops
      return { u: 1 }
    } finally {
      this.#depth--
    }
  }

  #byReference(value: object): number | undefined {
    const node = knownNode(value) ?? this.imported.get(value) ?? registry.origins.get(value)
    if (node) return this.addFor(value, node)
    const reduced = this.options.reduce(value)
    if (reduced?.by === 'data') return this.addFor(value, { t: 'reduced', data: reduced.data })
    if (reduced) {
      const made: Node & { t: 'remote' } = { t: 'remote', kind: reduced.kind, target: null, options: null }
      const id = this.addFor(value, made)
      Object.assign(made, { target: this.value(reduced.target), options: this.value(reduced.options) })
      return id
    }
    return undefined
  }

  #byValue(value: object): number {
    if (typeof value === 'function') {
      const shared = perProcessOf(value)
      if (!shared) return captureFunction(this, value as (...args: unknown[]) => unknown)
      const node: Node = { t: 'per process', key: shared.key, make: null }
      const id = this.addFor(value, node)
      node.make = this.under({ via: 'part', name: 'perProcess' }, shared.maker())
      return id
    }
    const custom = customSerializer(value)
    if (custom) {
      const node: Node = { t: 'registered', name: custom.name, data: null }
      const id = this.addFor(value, node)
      node.data = this.value(custom.serialize(value))
      return id
    }
    return captureStaticSerializer(this, value) ?? captureObject(this, value)
  }
}

const WELL_KNOWN = new Map(
  Object.getOwnPropertyNames(Symbol).flatMap((name) => {
    const value = (Symbol as unknown as Record<string, unknown>)[name]
    return typeof value === 'symbol' ? [[value, name] as const] : []
  }),
)
