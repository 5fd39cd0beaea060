// Rewrites a value into what msgpack can carry, and back. Only values with something special in them come here.
//
// Every object met twice keeps its identity: it becomes `['def', n, …]` the first time and `['use', n]` later; cycles fall out of that.
//
// Special forms, `[name, …parts]`: u undefined · h hole · n number as text (-0 only: the rest is msgpack's) · b bigint · S string with half a
// surrogate pair, as UTF-16 · d date · r regexp
// · m map · M map of plain keys and values · s set · e error · t typed array (kind, out-of-band index, or bytes when small) · o object with own keys that msgpack would
// change · c code (closures) · a actor handle · x registered serializer · y registered symbol · w well-known symbol · l url · k boxed
// · T Arrow table
// (library, out-of-band index of its IPC stream) · R list of references only (8 bytes each, as in the extension type) · def/use identity.

import type { ObjectId } from '../ids/ids.ts'
import type { ByteRange, ValueHost } from './contract.ts'
import { customSerializer, deserializerNamed } from './custom.ts'

/** Buffers below this stay in band. */
const OUT_OF_BAND_BYTES = 1024
const DEPTH_MAX = 2000
/** A list of this many references or more travels as one block of ids: a third of the time of one extension each. */
const REF_LIST_MIN = 4
export const REF_BYTES = 8

export class Special {
  readonly parts: unknown[]
  constructor(parts: unknown[]) {
    this.parts = parts
  }
}

export class UnserializableValueError extends TypeError {
  override name = 'UnserializableValueError'
  readonly path: readonly string[]
  readonly hint: string
  constructor(what: string, path: readonly (string | number)[], hint: string) {
    super(`cannot serialize ${what}${path.length > 0 ? ` at ${formatPath(path)}` : ''}: ${hint}`)
    this.path = path.map(String)
    this.hint = hint
  }
}

function formatPath(path: readonly (string | number)[]): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`)).join('')
}

export interface WalkState {
  readonly host: ValueHost
  readonly refs: ObjectId[]
  /** Each in one piece, or in several that follow each other. */
  readonly buffers: (readonly ByteRange[])[]
  readonly seen: Map<object, Special>
  readonly path: (string | number)[]
  depth: number
  /** Objects that were met twice, so far. */
  identities: number
  readonly makeRef: (id: ObjectId) => object
}

/**
 * True when msgpack alone carries the value faithfully: JSON-like trees without shared objects, -0, odd keys, or strings that UTF-8
 * cannot hold.
 */
export function isPlain(value: unknown): boolean {
  const isIt = isPlainTree(value, 0)
  if (metCount > 0) forgetMet()
  return isIt
}

/** Objects of the tree that is being walked: the first few in a list, more in a set. Almost all values have few. */
const met: object[] = []
let metCount = 0
let metMore: Set<object> | null = null
const MET_LISTED_MAX = 8

function wasMet(value: object): boolean {
  for (let i = 0; i < met.length; i++) if (met[i] === value) return true
  if (met.length < MET_LISTED_MAX) met.push(value)
  else {
    metMore ??= new Set()
    if (metMore.size === metMore.add(value).size) return true
  }
  metCount++
  return false
}

function forgetMet(): void {
  met.length = 0
  metCount = 0
  metMore = null
}

function isPlainTree(value: unknown, depth: number): boolean {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed()
    case 'boolean':
      return true
    case 'number':
      return !Object.is(value, -0)
    case 'object':
      break
    default:
      return false
  }
  if (value === null) return true
  if (depth > 6) return false // Deep or cyclic: the careful walk decides.
  if (wasMet(value)) return false
  if (Array.isArray(value)) {
    if (value.length > 64 && depth > 0) return false
    for (let i = 0; i < value.length; i++) {
      if (value[i] === undefined || !isPlainTree(value[i], depth + 1)) return false
    }
    return Object.getPrototypeOf(value) === Array.prototype
  }
  if (Object.getPrototypeOf(value) !== Object.prototype) return false
  for (const key in value) {
    if (key === '__proto__' || key === 'constructor' || key === 'toJSON' || !key.isWellFormed()) return false
    if (!isPlainTree((value as Record<string, unknown>)[key], depth + 1)) return false
  }
  return Object.getOwnPropertySymbols(value).length === 0
}

export function rewrite(value: unknown, state: WalkState): unknown {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed() ? value : new Special(['S', Buffer.from(value, 'utf16le')])
    case 'boolean':
      return value
    case 'number':
      return Object.is(value, -0) ? new Special(['n', '-0']) : value
    case 'undefined':
      return new Special(['u'])
    case 'bigint':
      return new Special(['b', value.toString()])
    case 'symbol':
      return rewriteSymbol(value, state)
    case 'function':
      return rewriteCode(value, state)
    default:
      return value === null ? null : rewriteObject(value as object, state)
  }
}

function rewriteSymbol(value: symbol, state: WalkState): Special {
  const key = Symbol.keyFor(value)
  if (key !== undefined) return new Special(['y', key])
  const wellKnown = Object.getOwnPropertyNames(Symbol).find((name) => (Symbol as never)[name] === value)
  if (wellKnown !== undefined) return new Special(['w', wellKnown])
  throw new UnserializableValueError(`the symbol ${String(value)}`, state.path, 'only Symbol.for(…) keeps its identity')
}

function rewriteCode(value: object, state: WalkState): Special {
  const known = reuse(value, state)
  if (known) return known
  const bytes = state.host.encodeCode(value, state.refs)
  if (bytes) return define(value, state, () => ['c', bytes])
  const name = (value as { name?: string }).name || 'anonymous'
  throw new UnserializableValueError(`the function ${name}`, state.path, 'it cannot travel by value')
}

function reuse(value: object, state: WalkState): Special | undefined {
  const known = state.seen.get(value)
  if (!known) return undefined
  if (known.parts[0] !== 'def') {
    const inner = known.parts.slice()
    known.parts.length = 0
    known.parts.push('def', ++state.identities, ...inner)
  }
  return new Special(['use', known.parts[1]])
}

/** The special is known before its parts are, so that cycles find it. */
function define(value: object, state: WalkState, parts: () => unknown[]): Special {
  const special = new Special([])
  state.seen.set(value, special)
  // A cycle met inside turns it into a definition first: then these follow.
  for (const part of parts()) special.parts.push(part)
  return special
}

function rewriteObject(value: object, state: WalkState): unknown {
  const id = state.host.refId(value)
  if (id !== undefined) {
    state.refs.push(id)
    return state.makeRef(id)
  }
  const known = reuse(value, state)
  if (known) return known
  if (++state.depth > DEPTH_MAX) {
    throw new UnserializableValueError('a value nested this deep', [], `more than ${DEPTH_MAX} levels: flatten it`)
  }
  try {
    return rewriteKind(value, state)
  } finally {
    state.depth--
  }
}

function rewriteKind(value: object, state: WalkState): unknown {
  const handle = state.host.actorHandle(value)
  if (handle) {
    state.refs.push(handle.handleId)
    return define(value, state, () => ['a', handle.actorId, handle.handleId, handle.state])
  }
  const custom = customSerializer(value)
  if (custom) return define(value, state, () => ['x', custom.name, rewrite(custom.serialize(value), state)])
  if (Array.isArray(value)) {
    const ids = refsOnly(value, state.host)
    if (ids) return define(value, state, () => rewriteRefs(ids, state))
    return define(value, state, () => ['A', ...rewriteItems(value, state)])
  }
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer)
    return define(value, state, () => rewriteBuffer(value, state))
  if (value instanceof Date) return define(value, state, () => ['d', value.getTime()])
  if (value instanceof RegExp) return define(value, state, () => ['r', value.source, value.flags, value.lastIndex])
  const proto = Object.getPrototypeOf(value)
  if (proto === Map.prototype) {
    const plain = plainEntries(value as Map<unknown, unknown>)
    if (plain) return define(value, state, () => plain)
    return define(value, state, () => [
      'm',
      ...[...(value as Map<unknown, unknown>)].flat().map((x) => rewrite(x, state)),
    ])
  }
  if (proto === Set.prototype)
    return define(value, state, () => ['s', ...[...(value as Set<unknown>)].map((x) => rewrite(x, state))])
  if (value instanceof URL) return define(value, state, () => ['l', value.href])
  if (value instanceof Error && isStandardError(proto)) return define(value, state, () => rewriteError(value, state))
  if (value instanceof Number || value instanceof String || value instanceof Boolean) {
    return define(value, state, () => ['k', rewrite(value.valueOf(), state)])
  }
  if (proto === Object.prototype || proto === null)
    return define(value, state, () => rewriteFields(value, proto, state))
  const table = state.host.encodeTable?.(value)
  if (table) {
    state.buffers.push(table.parts)
    return define(value, state, () => ['T', table.library, state.buffers.length - 1])
  }
  refuseNative(value, state)
  const code = state.host.encodeCode(value, state.refs)
  if (code) return define(value, state, () => ['c', code])
  return define(value, state, () => rewriteFields(value, proto, state))
}

/** A map of plain primitives travels as two plain arrays: no walk on either side. */
function plainEntries(map: Map<unknown, unknown>): unknown[] | null {
  const keys = [...map.keys()]
  const values = [...map.values()]
  return keys.every(isPlainLeaf) && values.every(isPlainLeaf) ? ['M', keys, values] : null
}

function isPlainLeaf(value: unknown): boolean {
  return (typeof value !== 'object' || value === null) && isPlainTree(value, 0)
}

function refsOnly(items: readonly unknown[], host: ValueHost): ObjectId[] | null {
  if (items.length < REF_LIST_MIN) return null
  const ids: ObjectId[] = new Array(items.length)
  for (let i = 0; i < items.length; i++) {
    const item = items[i]
    const id = typeof item === 'object' && item !== null ? host.refId(item) : undefined
    if (id === undefined) return null
    ids[i] = id
  }
  return ids
}

function rewriteRefs(ids: readonly ObjectId[], state: WalkState): unknown[] {
  const bytes = Buffer.allocUnsafe(ids.length * REF_BYTES)
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i] as ObjectId
    state.refs.push(id)
    writeRef(bytes, i * REF_BYTES, id)
  }
  return ['R', bytes]
}

/** Owner and sequence, big endian. */
export function writeRef(bytes: Buffer, at: number, id: ObjectId): void {
  bytes.writeUInt32BE(Math.floor(id / 0x1_0000_0000), at)
  bytes.writeUInt32BE(id >>> 0, at + 4)
}

export function readRef(bytes: Uint8Array, at: number): ObjectId {
  const [b0, b1, b2, b3] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]] as [number, number, number, number]
  const owner = b0 * 0x100_0000 + ((b1 << 16) | (b2 << 8) | b3)
  const low = bytes[at + 4] as number
  const rest = ((bytes[at + 5] as number) << 16) | ((bytes[at + 6] as number) << 8) | (bytes[at + 7] as number)
  return owner * 0x1_0000_0000 + low * 0x100_0000 + rest
}

function rewriteItems(items: readonly unknown[], state: WalkState): unknown[] {
  const out: unknown[] = new Array(items.length)
  for (let i = 0; i < items.length; i++) {
    state.path.push(i)
    out[i] = i in items ? rewrite(items[i], state) : new Special(['h'])
    state.path.pop()
  }
  return out
}

function rewriteFields(value: object, proto: unknown, state: WalkState): unknown[] {
  const parts: unknown[] = ['o', proto === null ? 1 : 0]
  for (const key of Object.keys(value)) {
    state.path.push(key)
    parts.push(rewrite(key, state), rewrite((value as Record<string, unknown>)[key], state))
    state.path.pop()
  }
  for (const key of Object.getOwnPropertySymbols(value)) {
    if (Symbol.keyFor(key) === undefined) continue // A private symbol means nothing elsewhere.
    parts.push(new Special(['y', Symbol.keyFor(key)]), rewrite((value as Record<symbol, unknown>)[key], state))
  }
  return parts
}

const ERRORS: readonly ErrorConstructor[] = [
  Error,
  TypeError,
  RangeError,
  SyntaxError,
  ReferenceError,
  EvalError,
  URIError,
]

function isStandardError(proto: unknown): boolean {
  return ERRORS.some((type) => type.prototype === proto) || proto === AggregateError.prototype
}

function rewriteError(error: Error, state: WalkState): unknown[] {
  const fields: Record<string, unknown> = {}
  for (const key of Object.keys(error)) fields[key] = (error as unknown as Record<string, unknown>)[key]
  if ('cause' in error) fields.cause = error.cause
  if (error instanceof AggregateError) fields.errors = error.errors
  const type = (Object.getPrototypeOf(error) as { constructor: { name: string } }).constructor.name
  return ['e', type, error.name, error.message, error.stack ?? '', rewrite(fields, state)]
}

function rewriteBuffer(value: ArrayBufferView | ArrayBuffer, state: WalkState): unknown[] {
  if (value instanceof ArrayBuffer || !(value.buffer instanceof SharedArrayBuffer)) {
    const kind = Buffer.isBuffer(value) ? 'Buffer' : (value as { [Symbol.toStringTag]: string })[Symbol.toStringTag]
    const range: ByteRange =
      value instanceof ArrayBuffer ? { buffer: value, byteOffset: 0, byteLength: value.byteLength } : value
    const { buffer, byteOffset, byteLength } = range
    if (byteLength < OUT_OF_BAND_BYTES) return ['t', kind, Buffer.from(new Uint8Array(buffer, byteOffset, byteLength))]
    state.buffers.push([range])
    return ['t', kind, state.buffers.length - 1]
  }
  throw new UnserializableValueError(
    'a SharedArrayBuffer',
    state.path,
    'it cannot be shared between processes; send a copy',
  )
}

const HINTS: Readonly<Record<string, string>> = {
  Promise: 'await it first, and send its value',
  WeakMap: 'weak collections have no entries to send',
  WeakSet: 'weak collections have no entries to send',
  WeakRef: 'send what it refers to',
  SharedArrayBuffer: 'it cannot be shared between processes; send a copy',
  Generator: 'send the items, for example as an array',
  AsyncGenerator: 'send the items, for example as an array',
}

function refuseNative(value: object, state: WalkState): void {
  const tag = Object.prototype.toString.call(value).slice(8, -1)
  const hint = HINTS[tag]
  if (hint) throw new UnserializableValueError(`a ${tag}`, state.path, hint)
  if (
    typeof (value as { _handle?: unknown })._handle === 'object' ||
    typeof (value as { pipe?: unknown }).pipe === 'function'
  ) {
    const name = value.constructor?.name ?? 'stream'
    throw new UnserializableValueError(`a ${name}`, state.path, 'it is bound to this process; open it where it is used')
  }
}

export interface ReviveState {
  readonly host: ValueHost
  readonly buffers: readonly ByteRange[]
}

/** Brings specials back, in place where it can. */
export function revive(value: unknown, state: ReviveState): unknown {
  return reviveAny(value, state, new Map())
}

function reviveAny(value: unknown, state: ReviveState, defined: Map<unknown, unknown>): unknown {
  return value instanceof Special ? reviveSpecial(value.parts, state, defined, undefined) : value
}

function reviveSpecial(parts: unknown[], state: ReviveState, defined: Map<unknown, unknown>, key: unknown): unknown {
  const again = (part: unknown): unknown => reviveAny(part, state, defined)
  const keep = <T>(made: T): T => {
    if (key !== undefined) defined.set(key, made)
    return made
  }
  switch (parts[0]) {
    case 'def':
      return reviveSpecial(parts.slice(2), state, defined, parts[1])
    case 'use':
      return defined.get(parts[1])
    case 'u':
      return undefined
    case 'S':
      return Buffer.from(parts[1] as Uint8Array).toString('utf16le')
    case 'n':
      return Number(parts[1])
    case 'b':
      return BigInt(parts[1] as string)
    case 'y':
      return Symbol.for(parts[1] as string)
    case 'w':
      return (Symbol as unknown as Record<string, symbol>)[parts[1] as string]
    case 'd':
      return keep(new Date(parts[1] as number))
    case 'r': {
      const regexp = new RegExp(parts[1] as string, parts[2] as string)
      regexp.lastIndex = parts[3] as number
      return keep(regexp)
    }
    case 'l':
      return keep(new URL(parts[1] as string))
    case 'k':
      return keep(Object(again(parts[1])))
    case 't':
      return keep(reviveBuffer(parts[1] as string, parts[2] as number | Uint8Array, state))
    case 'c':
      return keep(state.host.decodeCode(parts[1] as Uint8Array))
    case 'T':
      return keep(reviveTable(parts[1] as string, parts[2] as number, state))
    case 'R':
      return reviveRefs(parts[1] as Uint8Array, state.host, keep)
    case 'a':
      return keep(state.host.makeActorHandle(parts[1] as string, parts[2] as number, parts[3]))
    case 'x':
      return keep(deserializerNamed(parts[1] as string)(again(parts[2])))
    default:
      return reviveContainer(parts, again, keep)
  }
}

function reviveTable(library: string, at: number, { host, buffers }: ReviveState): unknown {
  const range = buffers[at]
  if (!range || !host.decodeTable) throw new TypeError('a table without its bytes, or nobody to read it')
  return host.decodeTable(library, new Uint8Array(range.buffer, range.byteOffset, range.byteLength))
}

function reviveRefs(bytes: Uint8Array, host: ValueHost, keep: <T>(made: T) => T): unknown[] {
  const count = bytes.byteLength / REF_BYTES
  if (!Number.isInteger(count)) throw new TypeError('a list of references of the wrong length')
  const refs: unknown[] = keep(new Array(count))
  for (let i = 0; i < count; i++) refs[i] = host.makeRef(readRef(bytes, i * REF_BYTES))
  return refs
}

function reviveContainer(parts: unknown[], again: (part: unknown) => unknown, keep: <T>(made: T) => T): unknown {
  switch (parts[0]) {
    case 'A': {
      const array: unknown[] = keep(new Array(parts.length - 1))
      for (let i = 1; i < parts.length; i++) {
        const part = parts[i]
        if (part instanceof Special && part.parts[0] === 'h') continue
        array[i - 1] = again(part)
      }
      return array
    }
    case 'm': {
      const map = keep(new Map<unknown, unknown>())
      for (let i = 1; i < parts.length; i += 2) map.set(again(parts[i]), again(parts[i + 1]))
      return map
    }
    case 'M': {
      const [, keys, values] = parts as [string, unknown[], unknown[]]
      const map = keep(new Map<unknown, unknown>())
      for (let i = 0; i < keys.length; i++) map.set(keys[i], values[i])
      return map
    }
    case 's': {
      const set = keep(new Set<unknown>())
      for (let i = 1; i < parts.length; i++) set.add(again(parts[i]))
      return set
    }
    case 'o': {
      const object = keep(parts[1] === 1 ? Object.create(null) : {}) as Record<PropertyKey, unknown>
      for (let i = 2; i < parts.length; i += 2) {
        const key = again(parts[i]) as PropertyKey
        const value = again(parts[i + 1])
        if (key === '__proto__')
          Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true })
        else object[key] = value
      }
      return object
    }
    case 'e':
      return reviveError(parts, again, keep)
    default:
      throw new TypeError(`unknown special value ${String(parts[0])}`)
  }
}

function reviveError(parts: unknown[], again: (part: unknown) => unknown, keep: <T>(made: T) => T): Error {
  const [, type, name, message, stack] = parts as [string, string, string, string, string]
  const type_ = ERRORS.find((candidate) => candidate.name === type)
  const error = keep(type === 'AggregateError' ? new AggregateError([], message) : new (type_ ?? Error)(message))
  if (error.name !== name) define_(error, 'name', name)
  define_(error, 'stack', stack)
  const fields = again(parts[5]) as Record<string, unknown>
  for (const key of Object.keys(fields)) {
    if (key === 'cause' || key === 'errors') define_(error, key, fields[key])
    else (error as unknown as Record<string, unknown>)[key] = fields[key]
  }
  return error
}

function define_(target: object, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, writable: true, configurable: true, enumerable: false })
}

type ViewConstructor = (new (
  buffer: ArrayBufferLike,
  offset: number,
  length: number,
) => ArrayBufferView) & {
  readonly BYTES_PER_ELEMENT?: number
}

const VIEWS: ReadonlySet<string> = new Set([
  'Int8Array',
  'Uint8Array',
  'Uint8ClampedArray',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
  'BigInt64Array',
  'BigUint64Array',
  'Float16Array',
  'Float32Array',
  'Float64Array',
  'DataView',
])

function reviveBuffer(kind: string, at: number | Uint8Array, state: ReviveState): unknown {
  const range: ByteRange | undefined = typeof at === 'number' ? state.buffers[at] : new Uint8Array(at)
  if (!range) throw new TypeError(`buffer ${String(at)} is not in the value`)
  const { buffer, byteOffset, byteLength } = range
  if (kind === 'Buffer') return Buffer.from(buffer, byteOffset, byteLength)
  if (kind === 'ArrayBuffer') return buffer.slice(byteOffset, byteOffset + byteLength)
  const View = VIEWS.has(kind)
    ? (globalThis as unknown as Record<string, ViewConstructor | undefined>)[kind]
    : undefined
  if (!View) throw new TypeError(`there is no ${kind.slice(0, 40)} on this version of Node`)
  return new View(buffer, byteOffset, byteLength / (View.BYTES_PER_ELEMENT ?? 1))
}
