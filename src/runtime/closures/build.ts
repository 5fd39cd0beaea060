// Makes captured functions, classes and values live again in another process.
//
//   L1. `build` is synchronous; `prefetch` (modules.ts) has imported what the payload refers to.
//   L3. Cycles close: an object is known before its parts are made. A class is known only once it is evaluated; what must hold it
//       before then gets it afterwards.

import { createRequire } from 'node:module'
import { deserializerNamed } from '../../values/index.ts'
import { compileFunction, type Setters } from './build-function.ts'
import { DESERIALIZE } from './capture-object.ts'
import { hiddenPrototype, knownNode } from './known-values.ts'
import { ambientValue, importedValue, metaOf, requiring } from './modules.ts'
import {
  type Captured,
  type FunctionNode,
  isCell,
  isReference,
  type Node,
  type ObjectNode,
  type ObjectParts,
  type Payload,
  type Property,
  type RequireNode,
  type Value,
} from './payload.ts'
import { revivePerProcess } from './per-process.ts'
import { classNamed, isHeld, registry, rememberClass, rememberOrigin } from './registry.ts'

export interface BuildHost {
  revive(data: unknown): unknown
  makeRemote(kind: string, target: unknown, options: unknown): unknown
}

export function build(payload: Payload, host: BuildHost): unknown {
  const builder = new Builder(payload, host)
  const made = builder.value(payload.root)
  builder.settle()
  return made
}

/** Levels of objects inside one another that are made at once; the others wait until the stack is short again. */
const DEPTH_MAX = 100
const MADE = 1
/** A class that is being evaluated. */
const PENDING = 2

class Builder {
  readonly #payload: Payload
  readonly #host: BuildHost
  readonly #made: unknown[]
  readonly #state: Uint8Array
  readonly #later: (() => void)[] = []
  #depth = 0

  constructor(payload: Payload, host: BuildHost) {
    this.#payload = payload
    this.#host = host
    this.#made = new Array(payload.nodes.length)
    this.#state = new Uint8Array(payload.nodes.length)
  }

  settle(): void {
    for (const work of this.#later) work() // It may add to the list.
  }

  value(value: Value): unknown {
    if (value === null || typeof value !== 'object') return value
    if ('r' in value) return this.#node(value.r)
    if ('u' in value) return undefined
    if ('n' in value) return Number(value.n)
    if ('b' in value) return BigInt(value.b)
    if ('registered' in value) return Symbol.for(value.registered)
    return (Symbol as unknown as Record<string, symbol>)[value.wellKnown]
  }

  #node(id: number): unknown {
    if (this.#state[id] === MADE) return this.#made[id]
    const node = this.#payload.nodes[id]
    if (!node) throw new TypeError(`there is no node ${id}`)
    if (this.#state[id] === PENDING) {
      const name = node.t === 'fn' ? node.name : node.t
      throw new Error(`the class ${name} needs a value made of itself before it is evaluated`)
    }
    this.#depth++
    const made = this.#make(id, node)
    this.#depth--
    return made
  }

  #keep<T>(id: number, made: T): T {
    this.#made[id] = made
    this.#state[id] = MADE
    return made
  }

  #make(id: number, node: Node): unknown {
    switch (node.t) {
      case 'import': {
        const value = this.#keep(id, importedValue(node))
        if (!node.spec.startsWith('node:')) rememberOrigin(value, node)
        return value
      }
      case 'ambient': {
        const value = this.#keep(id, ambientValue(node))
        rememberOrigin(value, node)
        return value
      }
      case 'require':
        return this.#keep(id, this.#require(node))
      case 'fn':
        return this.#function(id, node)
      case 'symbol':
        return this.#keep(id, Symbol(node.description))
      case 'global': {
        let value: unknown = globalThis
        for (const key of node.path) value = (value as Record<string, unknown>)[key]
        return this.#keep(id, value)
      }
      case 'hidden':
        return this.#keep(id, hiddenPrototype(node.index))
      case 'member':
        return this.#keep(id, (this.#node(node.of) as Record<string, unknown>)[node.key])
      case 'cell': {
        const cell = this.#keep(id, { v: undefined as unknown })
        this.#give(node.value, (value) => {
          cell.v = value
        })
        return cell
      }
      case 'bound': {
        const target = this.value(node.target) as Function
        const args = node.args.map((arg) => this.value(arg))
        return this.#keep(id, Function.prototype.bind.call(target, this.value(node.self), ...args))
      }
      default:
        return this.#makeObject(id, node)
    }
  }

  #makeObject(id: number, node: Exclude<Node, { t: 'import' | 'ambient' | 'require' | 'fn' }>): unknown {
    switch (node.t) {
      case 'reduced':
        return this.#keep(id, this.#host.revive(node.data))
      case 'remote':
        return this.#keep(id, this.#host.makeRemote(node.kind, this.value(node.target), this.value(node.options)))
      case 'per process': {
        const get = revivePerProcess(node.key, () => this.value(node.make) as () => unknown)
        this.#keep(id, get)
        this.#give(node.make, () => {}) // Its imports fail now, not at the first use.
        return get
      }
      case 'registered':
        return this.#keep(id, deserializerNamed(node.name)(this.value(node.data)))
      case 'custom': {
        const type = this.value(node.type) as { [DESERIALIZE]: (data: unknown) => unknown }
        return this.#keep(id, type[DESERIALIZE](this.value(node.data)))
      }
      case 'weak map': {
        const map = this.#keep(id, new WeakMap<object, unknown>())
        this.#later.push(() => {
          for (const [key, value] of node.entries) map.set(this.value(key) as object, this.value(value))
        })
        return map
      }
      case 'weak set': {
        const set = this.#keep(id, new WeakSet<object>())
        this.#later.push(() => {
          for (const item of node.items) set.add(this.value(item) as object)
        })
        return set
      }
      case 'boxed':
        return this.#keep(id, Object(this.value(node.value)))
      case 'url':
        return this.#keep(id, new URL(node.href))
      case 'bytes':
        return this.#keep(id, this.#bytes(node.at).slice().buffer)
      case 'buffer':
        return this.#keep(id, Buffer.from(this.#bytes(node.at)))
      case 'view':
        return this.#keep(id, this.#view(node))
      default:
        return this.#fill(id, node as ObjectNode)
    }
  }

  #bytes(at: number): Uint8Array {
    const bytes = this.#payload.buffers[at]
    if (!bytes) throw new TypeError(`there is no buffer ${at}`)
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) // Not a Buffer: its `slice` would not copy.
  }

  #view(node: Node & { t: 'view' }): unknown {
    type View = new (buffer: unknown, offset: number, length: number) => object
    const Type = (globalThis as unknown as Record<string, View | undefined>)[node.kind]
    if (!Type) throw new TypeError(`this process has no ${node.kind}`)
    const view = new Type(this.value(node.of), node.offset, node.length)
    if (node.proto !== undefined) Object.setPrototypeOf(view, this.value(node.proto) as object | null)
    return view
  }

  #require(node: RequireNode): unknown {
    const names = Object.keys(node.env)
    const values = Object.values(node.env).map((value) =>
      typeof value === 'object' && value !== null && 'declarations' in value
        ? (Function(value.declarations)() as unknown)
        : this.value(value),
    )
    const run = Function('require', ...names, `return ${node.code}`) as (...args: unknown[]) => unknown
    const made = requiring(() => run(createRequire(node.parent), ...values))
    const value = node.pick === undefined ? made : (made as Record<string, unknown>)[node.pick]
    const env = Object.fromEntries(names.map((name, i) => [name, values[i]]))
    if (isHeld(value) && !knownNode(value)) registry.required.set(value, { node, env }) // R1
    return value
  }

  #fill(id: number, node: ObjectNode): unknown {
    const object = this.#keep(id, this.#empty(node))
    const parts: (Captured | undefined)[] = [node.proto, ...(node.values ?? [])]
    for (const property of node.props ?? []) parts.push(property[2], property[3])
    if (node.t === 'map') parts.push(...node.entries.flat())
    else if ((node.t === 'array' || node.t === 'set') && node.items) for (const item of node.items) parts.push(item)
    this.#whenReady(parts, () => {
      if (node.t === 'array') this.#items(object as unknown[], node.items ?? [])
      else if (node.t === 'map')
        for (const [key, value] of node.entries) Map.prototype.set.call(object, this.value(key), this.value(value))
      else if (node.t === 'set') for (const item of node.items) Set.prototype.add.call(object, this.value(item))
      this.#finish(object, node)
    })
    return object
  }

  #items(array: unknown[], items: readonly Value[]): void {
    for (let i = 0; i < items.length; i++) array[i] = this.value(items[i] as Value)
  }

  #empty(node: ObjectNode): object {
    switch (node.t) {
      case 'array':
        return new Array(node.length)
      case 'map':
        return new Map()
      case 'set':
        return new Set()
      case 'date':
        return new Date(this.value(node.time) as number)
      case 'regexp':
        return new RegExp(node.source, node.flags)
      case 'error': {
        const error = new Error()
        Reflect.deleteProperty(error, 'stack')
        return error
      }
      case 'object':
        return {}
    }
  }

  #finish(object: object, node: ObjectParts): void {
    if (node.proto !== undefined) Object.setPrototypeOf(object, this.value(node.proto) as object | null)
    const { keys, values } = node
    if (keys && values) {
      for (let i = 0; i < keys.length; i++)
        (object as Record<string, unknown>)[keys[i] as string] = this.value(values[i] as Value)
    }
    this.#define(object, node.props)
    if (node.locked === 3) Object.freeze(object)
    else if (node.locked === 2) Object.seal(object)
    else if (node.locked === 1) Object.preventExtensions(object)
  }

  #define(object: object, props: readonly Property[] | undefined): void {
    for (const property of props ?? []) {
      const [key, flags, first, second] = property
      const base = { configurable: (flags & 1) !== 0, enumerable: (flags & 2) !== 0 }
      const name = this.value(key) as PropertyKey
      if (second === undefined)
        Object.defineProperty(object, name, { ...base, writable: (flags & 4) !== 0, value: this.value(first) })
      else {
        const get = this.value(first) as (() => unknown) | undefined
        const set = this.value(second) as ((value: unknown) => void) | undefined
        Object.defineProperty(object, name, { ...base, get, set } as PropertyDescriptor)
      }
    }
  }

  #function(id: number, node: FunctionNode): unknown {
    const known = node.classId === undefined ? undefined : classNamed(node.classId)
    if (known) return this.#keep(id, known)
    const { factory, variables, cells } = compileFunction(node)
    const free = node.free ?? {}
    const cellValues = cells.map((name) => this.#node((free[name] as { cell: number }).cell))
    if (node.isClass) this.#state[id] = PENDING
    const early = node.isClass ? variables.filter((name) => this.#isNeededEarly(node, name, id)) : []
    const ready = early.filter((name) => !this.#isPending(free[name]))
    for (const name of ready) this.value(free[name] as Value)
    let setters: Setters = {}
    const fn = factory(
      (given) => {
        setters = given
        for (const name of ready) given[name]?.(this.value(free[name] as Value))
      },
      ...cellValues,
      ...(node.meta === undefined ? [] : [this.#meta(node.meta)]),
    ) as Function
    this.#keep(id, fn)
    if (node.classId !== undefined) rememberClass(fn, node.classId)
    for (const name of variables)
      if (!ready.includes(name)) this.#give(free[name] as Value, (value) => setters[name]?.(value))
    if (node.ownProto !== undefined) Object.setPrototypeOf(fn, this.value(node.ownProto) as object)
    const proto = fn.prototype as object
    if (node.protoProto !== undefined) Object.setPrototypeOf(proto, this.value(node.protoProto) as object | null)
    this.#define(proto, node.protoProps)
    this.#define(fn, node.props)
    if (fn.name !== node.name && Object.getOwnPropertyDescriptor(fn, 'name')?.configurable !== false)
      Object.defineProperty(fn, 'name', { value: node.name, configurable: true })
    return fn
  }

  #meta(url: string): object {
    const meta = metaOf(url)
    rememberOrigin(meta, { t: 'ambient', what: 'import.meta', url })
    return meta
  }

  /** Set before the class is evaluated, unless it is made of the class itself and only methods use it. */
  #isNeededEarly(node: FunctionNode, name: string, id: number): boolean {
    return node.eager?.includes(name) || !this.#reaches(node.free?.[name], id, new Set())
  }

  #reaches(part: unknown, target: number, seen: Set<number>): boolean {
    if (typeof part !== 'object' || part === null) return false
    if (Array.isArray(part)) return part.some((item) => this.#reaches(item, target, seen))
    const { r, cell, of } = part as { r?: unknown; cell?: unknown; of?: unknown }
    for (const id of [r, cell, of]) {
      if (typeof id !== 'number') continue
      if (id === target) return true
      if (seen.has(id)) continue
      seen.add(id)
      if (this.#reaches(this.#payload.nodes[id], target, seen)) return true
    }
    return r === undefined && Object.values(part).some((inner) => this.#reaches(inner, target, seen))
  }

  #isPending(value: Captured | undefined): boolean {
    if (value === undefined || isCell(value) || !isReference(value)) return false
    const node = this.#payload.nodes[value.r]
    return this.#state[node?.t === 'member' ? node.of : value.r] === PENDING
  }

  #give(value: Value, set: (made: unknown) => void): void {
    this.#whenReady([value], () => set(this.value(value)))
  }

  #whenReady(parts: readonly (Captured | undefined)[], work: () => void): void {
    if (this.#depth > DEPTH_MAX || parts.some((part) => this.#isPending(part))) this.#later.push(work)
    else work()
  }
}
