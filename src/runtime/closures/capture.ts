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
import { captureObject, captureStaticSerializer, type WeakNode } from './capture-object.ts'
import { knownNode } from './known-values.ts'
import type { Node, Payload, Value } from './payload.ts'
import { perProcessOf } from './per-process.ts'
import { isHeld, type Required_, registry } from './registry.ts'
import { ClosureError, formatTrail, type Hop, kindOf } from './trail.ts'

/** Levels of captured values inside one another that are walked at once; each takes a dozen frames of V8's stack. */
const DEPTH_MAX = 100

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
  return { root: made.all(root), nodes: made.nodes, buffers: made.buffers }
}

/** Everything that stands in the way, instead of only the first. */
export function findFailures(root: unknown, options: CaptureOptions): readonly ClosureError[] {
  const made = new Capture(options, [])
  made.all(root)
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
  /** Weak collections, with the entries whose keys have not been met. */
  readonly weak: { readonly node: WeakNode; entries: { readonly key: object; readonly value: unknown }[] }[] = []
  readonly locals = new Map<string, SeenLocal[]>()
  readonly #known = new Map<unknown, number>()
  /** Objects deep inside, whose turn comes when the stack is short again. */
  readonly #deferred: { readonly value: object; readonly id: number; readonly trail: readonly Hop[] }[] = []
  readonly #reserved = new Map<object, number>()
  readonly #trail: Hop[] = []
  #depth = 0

  constructor(options: CaptureOptions, failures: ClosureError[] | null = null) {
    this.options = options
    this.failures = failures
  }

  all(root: unknown): Value {
    const made = this.value(root)
    do {
      for (const { value, trail } of this.#deferred.splice(0)) {
        this.#trail.splice(0, this.#trail.length, ...trail)
        this.value(value)
      }
    } while (this.#deferred.length > 0 || this.#captureWeakEntries())
    return made
  }

  /** The value of a weak entry lives as long as its key: it is sent when the key is. */
  #captureWeakEntries(): boolean {
    let hasFound = false
    for (const one of this.weak) {
      const isMet = ({ key }: { key: object }): boolean => this.#known.has(key)
      const met = one.entries.filter(isMet)
      one.entries = one.entries.filter((entry) => !isMet(entry))
      for (const { key, value } of met) {
        const { node } = one
        if (node.t === 'weak set') node.items.push(this.value(key))
        else node.entries.push([this.value(key), this.value(value)])
        hasFound = true
      }
    }
    return hasFound
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
    if (this.#depth > DEPTH_MAX && typeof hop !== 'object' && typeof value === 'object')
      return { r: this.#defer(value) }
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
    const reserved = isHeld(value) ? this.#reserved.get(value) : undefined
    const id = reserved ?? this.add(node)
    this.nodes[id] = node
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

  #defer(value: object): number {
    let id = this.#known.get(value) ?? this.#reserved.get(value)
    if (id === undefined) {
      id = this.add({ t: 'object' }) // Replaced in its turn.
      this.#reserved.set(value, id)
      this.#deferred.push({ value, id, trail: this.#trail.slice() })
    }
    this.#trail.pop()
    return id
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
      this.#depth++
      return { r: this.#byReference(value) ?? this.#byValue(value) }
    } catch (error) {
      if (error instanceof RangeError && /call stack/.test(error.message))
        this.refuse(
          'functions are nested too deep in one another',
          'Put what it captures into modules, and import those.',
        )
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
    const required = registry.required.get(value)
    if (required) return this.#required(value, required)
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

  #required(value: object, { node, env }: Required_): number {
    const copy: Node & { t: 'require' } = { ...node, env: {} }
    const id = this.addFor(value, copy)
    for (const [name, used] of Object.entries(env)) {
      const original = node.env[name]
      const isText = typeof original === 'object' && original !== null && 'declarations' in original
      copy.env[name] = isText ? original : this.value(used)
    }
    return id
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
