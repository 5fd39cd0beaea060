// Objects by value: kind, prototype, properties, locks.
//
//   B1. What holds state outside of JavaScript (sockets, streams, promises, proxies, `#private` fields) is refused.

import { types } from 'node:util'
import type { Capture } from './capture.ts'
import { internals } from './inspect.ts'
import { builtinName, isNative, knownNode } from './known-values.ts'
import type { Node, ObjectNode, ObjectParts, Property } from './payload.ts'
import { scriptOf } from './scripts.ts'

export const SERIALIZE = Symbol.for('ray-ts.serialize')
export const DESERIALIZE = Symbol.for('ray-ts.deserialize')

export type WeakNode = Node & { t: 'weak map' | 'weak set' }

const MAKE_THERE = 'Make it inside the task or actor, or with ray.perProcess(() => …).'
const hasOwn = Object.prototype.hasOwnProperty

interface SelfSerializing {
  readonly prototype: object
  [SERIALIZE]?: (instance: object) => unknown
  [DESERIALIZE]?: (data: unknown) => unknown
}

/** For instances whose class says how: `static [Symbol.for('ray-ts.serialize')]` and `…deserialize`. */
export function captureStaticSerializer(capture: Capture, value: object): number | undefined {
  const proto = Object.getPrototypeOf(value) as { constructor?: unknown } | null
  if (!proto || proto === Object.prototype || types.isProxy(value)) return undefined
  if (typeof proto.constructor !== 'function') return undefined
  const type = proto.constructor as Function & SelfSerializing
  if (type.prototype !== proto || !type[SERIALIZE] || !type[DESERIALIZE]) return undefined
  const node: Node = { t: 'custom', type: null, data: null }
  const id = capture.addFor(value, node)
  node.type = capture.value(type)
  node.data = capture.value(type[SERIALIZE](value))
  return id
}

export function captureObject(capture: Capture, value: object): number {
  refuseForeign(capture, value)
  const ofClass = throughClass(capture, value)
  if (ofClass !== undefined) return ofClass
  const proto = Object.getPrototypeOf(value) as object | null
  if (proto && proto !== Object.prototype) {
    refuseHiddenState(capture, value, proto)
    const known = throughConstructor(capture, proto, value)
    if (known !== undefined) return known
  }
  return captureSpecial(capture, value) ?? captureBinary(capture, value) ?? captureOrdinary(capture, value, proto)
}

function refuseForeign(capture: Capture, value: object): void {
  if (types.isProxy(value)) capture.refuse('a Proxy cannot be looked into', MAKE_THERE, value)
  if (types.isPromise(value))
    capture.refuse('a Promise belongs to the process that made it', 'Await it first, and capture its value.', value)
  if (types.isModuleNamespaceObject(value)) {
    const hint = "Import it at the top of your file: import * as name from '…'."
    capture.refuse('it cannot be told which module this namespace came from', hint, value)
  }
  if (types.isSharedArrayBuffer(value))
    capture.refuse('shared memory cannot be shared with another process', 'Capture a copy of it.', value)
  if (types.isGeneratorObject(value) || value instanceof WeakRef || types.isExternal(value))
    capture.refuse('it holds state of this process that cannot be copied', MAKE_THERE, value)
}

/** A prototype is reached through its class, which then knows it. */
function throughClass(capture: Capture, value: object): number | undefined {
  const type = hasOwn.call(value, 'constructor')
    ? (Object.getOwnPropertyDescriptor(value, 'constructor')?.value as unknown)
    : undefined
  if (typeof type !== 'function' || types.isProxy(type) || type.prototype !== value) return undefined
  capture.value(type)
  return capture.idOf(value)
}

/** Capturing the class may meet this very instance, e.g. as a static field. */
function throughConstructor(capture: Capture, proto: object, value: object): number | undefined {
  if (!hasOwn.call(proto, 'constructor')) return undefined
  capture.under({ via: 'function', name: proto.constructor.name }, proto)
  return capture.idOf(value)
}

function captureSpecial(capture: Capture, value: object): number | undefined {
  if (types.isWeakMap(value) || types.isWeakSet(value)) {
    const node: WeakNode = types.isWeakMap(value) ? { t: 'weak map', entries: [] } : { t: 'weak set', items: [] }
    capture.weak.push({ node, entries: [...internals(value).entries] })
    return capture.addFor(value, node)
  }
  if (types.isBoxedPrimitive(value)) return capture.addFor(value, { t: 'boxed', value: capture.value(value.valueOf()) })
  if (value instanceof URL) return capture.addFor(value, { t: 'url', href: value.href })
  return undefined
}

function captureBinary(capture: Capture, value: object): number | undefined {
  if (types.isArrayBuffer(value))
    return capture.addFor(value, { t: 'bytes', at: capture.buffer(new Uint8Array(value)) })
  if (!ArrayBuffer.isView(value)) return undefined
  // A small Buffer is a window on Node's pool, which is nobody's to send.
  if (Buffer.isBuffer(value) && types.isArrayBuffer(value.buffer))
    return capture.addFor(value, { t: 'buffer', at: capture.buffer(value) })
  const { buffer, byteOffset, byteLength } = value
  const kind = Object.prototype.toString.call(value).slice(8, -1)
  const length = 'length' in value ? (value.length as number) : byteLength
  const of = capture.value(buffer)
  const node: Node & { t: 'view' } = { t: 'view', kind, of, offset: byteOffset, length }
  const id = capture.addFor(value, node)
  const proto = Object.getPrototypeOf(value) as object
  const standard = (globalThis as unknown as Record<string, { prototype: object } | undefined>)[kind]?.prototype
  if (proto !== standard) node.proto = capture.value(proto)
  return id
}

function captureOrdinary(capture: Capture, value: object, proto: object | null): number {
  if (Array.isArray(value)) return captureArray(capture, value, proto)
  if (types.isMap(value)) {
    const node: Node & { t: 'map' } = { t: 'map', entries: [] }
    const id = capture.addFor(value, node)
    node.entries = [...Map.prototype.entries.call(value)].map(([key, item]) => [
      capture.under({ via: 'part', name: 'a key' }, key),
      capture.under(typeof key === 'string' ? key : { via: 'part', name: 'a value' }, item),
    ])
    return finish(capture, value, node, id, proto === Map.prototype ? undefined : proto)
  }
  if (types.isSet(value)) {
    const node: Node & { t: 'set' } = { t: 'set', items: [] }
    const id = capture.addFor(value, node)
    node.items = [...Set.prototype.values.call(value)].map((item) =>
      capture.under({ via: 'part', name: 'an item' }, item),
    )
    return finish(capture, value, node, id, proto === Set.prototype ? undefined : proto)
  }
  if (types.isDate(value)) {
    const node: ObjectNode = { t: 'date', time: capture.value(Date.prototype.getTime.call(value)) }
    return finish(capture, value, node, capture.addFor(value, node), proto === Date.prototype ? undefined : proto)
  }
  if (types.isRegExp(value)) {
    const node: ObjectNode = { t: 'regexp', source: value.source, flags: value.flags }
    return finish(capture, value, node, capture.addFor(value, node), proto === RegExp.prototype ? undefined : proto)
  }
  if (types.isNativeError(value)) return captureError(capture, value, proto)
  const node: ObjectNode = { t: 'object' }
  return finish(capture, value, node, capture.addFor(value, node), proto === Object.prototype ? undefined : proto)
}

function captureArray(capture: Capture, value: unknown[], proto: object | null): number {
  const node: Node & { t: 'array' } = { t: 'array', length: value.length }
  const id = capture.addFor(value, node)
  const own = proto === Array.prototype ? undefined : proto
  const isDense = Object.keys(value).length === value.length && Reflect.ownKeys(value).length === value.length + 1
  if (!isDense || !Object.isExtensible(value)) return finish(capture, value, node, id, own, new Set(['length']))
  const items = new Array(value.length)
  for (let i = 0; i < value.length; i++) items[i] = capture.under(i, value[i])
  node.items = items
  if (own !== undefined) node.proto = capture.value(own)
  return id
}

/** V8 12 and later: `stack` is an accessor of the instance. */
function captureError(capture: Capture, value: Error, proto: object | null): number {
  const node: ObjectNode = { t: 'error' }
  const id = capture.addFor(value, node)
  const { stack } = value
  node.proto = capture.value(proto)
  captureProperties(capture, value, node, new Set(['stack']))
  node.props = [...(node.props ?? []), ['stack', 5, capture.value(stack)]]
  return id
}

/** `proto`: to be captured as well; undefined when it is the kind's own. */
function finish(
  capture: Capture,
  value: object,
  node: ObjectNode,
  id: number,
  proto: object | null | undefined,
  skip?: ReadonlySet<PropertyKey>,
): number {
  if (proto !== undefined) node.proto = proto === null ? null : capture.value(proto)
  captureProperties(capture, value, node, skip)
  if (!Object.isExtensible(value)) node.locked = Object.isFrozen(value) ? 3 : Object.isSealed(value) ? 2 : 1
  return id
}

function captureProperties(capture: Capture, value: object, node: ObjectParts, skip?: ReadonlySet<PropertyKey>): void {
  const keys = Reflect.ownKeys(value).filter((key) => !skip?.has(key))
  if (keys.length === 0) return
  if (keys.every((key): key is string => typeof key === 'string' && isPlain(value, key))) {
    node.keys = keys
    node.values = keys.map((key) => capture.under(key, (value as Record<string, unknown>)[key]))
  } else node.props = keys.map((key) => captureProperty(capture, value, key)) // All of them: their order is kept.
}

function isPlain(value: object, key: string): boolean {
  const descriptor = Object.getOwnPropertyDescriptor(value, key)
  return Boolean(descriptor?.writable && descriptor.enumerable && descriptor.configurable) && key !== '__proto__'
}

export function captureProperty(capture: Capture, value: object, key: PropertyKey): Property {
  const descriptor = Object.getOwnPropertyDescriptor(value, key) as PropertyDescriptor
  const { configurable, enumerable, writable } = descriptor
  const flags = (configurable ? 1 : 0) | (enumerable ? 2 : 0) | (writable ? 4 : 0)
  const name = capture.value(key)
  const hop = String(key)
  if ('value' in descriptor) return [name, flags, capture.under(hop, descriptor.value)]
  return [name, flags, capture.under(hop, descriptor.get), capture.under(hop, descriptor.set)]
}

function refuseHiddenState(capture: Capture, value: object, proto: object): void {
  const isCopied = hasKindOfItsOwn(value)
  for (let p: object | null = proto; p && p !== Object.prototype; p = Object.getPrototypeOf(p) as object | null) {
    const type = hasOwn.call(p, 'constructor') ? (p.constructor as unknown) : undefined
    if (typeof type !== 'function') continue
    const { isNativeType, isKnown, origin, mayHavePrivate } = factsOf(type)
    if (!isCopied && origin !== undefined)
      capture.refuse(`it holds state of this process (node:${origin})`, MAKE_THERE, value)
    if (!isCopied && isNativeType)
      capture.refuse(`JavaScript has no way to copy the inside of a ${type.name}`, MAKE_THERE, value)
    if (isKnown) return // Node's own from here on.
    const fields = mayHavePrivate ? internals(value).privateFields : []
    if (fields.length > 0)
      capture.refuse(`its private fields (${fields.join(', ')}) cannot be read from outside`, PRIVATE_HINT, value)
  }
}

const PRIVATE_HINT =
  "Make it inside the task or actor, use TypeScript's private instead of #, " +
  "or give the class static [Symbol.for('ray-ts.serialize')] and [Symbol.for('ray-ts.deserialize')]."

interface ClassFacts {
  readonly isNativeType: boolean
  /** A global, or of a Node module. */
  readonly isKnown: boolean
  /** The part of Node that it belongs to, unless that keeps no state outside of JavaScript. */
  readonly origin: string | undefined
  readonly mayHavePrivate: boolean
}

const facts = new WeakMap<Function, ClassFacts>()

/** Kept: thousands of instances share a class, and the inspector takes 0.1 ms. */
function factsOf(type: Function): ClassFacts {
  let known = facts.get(type)
  if (!known) {
    const text = Function.prototype.toString.call(type)
    const isNativeType = isNative(text)
    const isKnown = knownNode(type) !== undefined
    const builtin = builtinName(type) ?? (isNativeType || isKnown ? undefined : internalName(type))
    const origin = builtin?.startsWith('events') ? undefined : builtin
    known = { isNativeType, isKnown, origin, mayHavePrivate: /#[\p{ID_Start}$_]/u.test(text) }
    facts.set(type, known)
  }
  return known
}

/** Classes inside of Node that no module exports, such as those of timers. */
function internalName(type: Function): string | undefined {
  const { location } = internals(type)
  const url = location ? scriptOf(location.scriptId).url : ''
  return url.startsWith('node:') ? `${url.slice(5)}, ${type.name}` : undefined
}

/** Kinds that are copied with all they hold. */
function hasKindOfItsOwn(value: object): boolean {
  return (
    Array.isArray(value) ||
    ArrayBuffer.isView(value) ||
    types.isNativeError(value) ||
    types.isMap(value) ||
    types.isSet(value) ||
    types.isDate(value) ||
    types.isRegExp(value) ||
    types.isArrayBuffer(value) ||
    types.isBoxedPrimitive(value) ||
    types.isWeakMap(value) ||
    types.isWeakSet(value) ||
    value instanceof URL
  )
}
