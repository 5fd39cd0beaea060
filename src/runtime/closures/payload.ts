// What travels: a graph of nodes as JSON, and the bytes of captured buffers behind it.
//
//     | format u8 = 2 | 3 bytes 0 | JSON length u32 | JSON | pad to 8 | buffer 0 | pad to 8 | buffer 1 | … |
//
// The JSON holds the lengths of the buffers. Base64 inside the JSON would cost 26 to 51 ms for 8 MB; this costs one copy.
//
//   P1. Equal captures give equal bytes, in every process that runs the same files. `VERSION` changes with the meaning of a node.

export const FORMAT = 2
const VERSION = 2
const HEAD_BYTES = 8

/** A value inside a node: a JSON primitive as it is, or what JSON lacks. */
export type Value =
  | null
  | boolean
  | number
  | string
  | NodeReference
  | { readonly u: 1 }
  | { readonly n: string }
  | { readonly b: string }
  | { readonly wellKnown: string }
  | { readonly registered: string }

export interface NodeReference {
  readonly r: number
}

/** A captured variable: its value, or a cell that several functions share and may assign. */
export type Captured = Value | { readonly cell: number }

/** Key; configurable 1, enumerable 2, writable 4; value, or getter and setter. */
export type Property = readonly [Value, number, Value] | readonly [Value, number, Value, Value]

export interface ObjectParts {
  /** Plain properties: names, and their values. */
  keys?: string[]
  values?: Value[]
  /** All others. */
  props?: Property[]
  proto?: Value
  /** 1: not extensible, 2: sealed, 3: frozen. */
  locked?: 1 | 2 | 3
}

export interface ImportNode {
  readonly t: 'import'
  readonly spec: string
  readonly parent?: string
  readonly imported: string
  readonly attributes?: readonly (readonly [string, string])[]
  /** Members to follow from there. */
  readonly path?: readonly string[]
}

export interface RequireNode {
  readonly t: 'require'
  readonly parent: string
  readonly code: string
  /** Names that `code` uses: values, or declarations to run. */
  readonly env: Record<string, Value | { readonly declarations: string }>
  readonly pick?: string
}

/** What a module's own scope provides, made anew for the module `url`. */
export interface AmbientNode {
  readonly t: 'ambient'
  readonly what: 'require' | '__filename' | '__dirname' | 'module' | 'import.meta' | 'dynamicImport'
  readonly url: string
  readonly viteRoot?: string
}

export interface SlicedMap {
  readonly sources: readonly string[]
  readonly lines: readonly (readonly (readonly [number, number, number, number])[])[]
}

export interface FunctionNode {
  readonly t: 'fn'
  name: string
  code: string
  /** How `code` becomes an expression, and the key it then has. */
  form: 'expression' | 'method' | 'get' | 'set' | 'static method'
  key?: string
  isStrict?: boolean
  isClass?: boolean
  classId?: string
  /** The text needs `import.meta` of this module. */
  meta?: string
  free?: Record<string, Captured>
  /** Those of `free` that the class needs while it is evaluated. */
  eager?: string[]
  url?: string
  line?: number
  column?: number
  map?: SlicedMap
  props?: Property[]
  protoProps?: Property[]
  protoProto?: Value
  ownProto?: Value
}

export type Node =
  | ImportNode
  | RequireNode
  | AmbientNode
  | FunctionNode
  | { readonly t: 'symbol'; readonly description?: string }
  | { readonly t: 'global'; readonly path: readonly string[] }
  | { readonly t: 'hidden'; readonly index: number }
  | { readonly t: 'member'; readonly of: number; readonly key: string }
  | { readonly t: 'cell'; value: Value }
  | { readonly t: 'bound'; target: Value; self: Value; args: Value[] }
  | { readonly t: 'reduced'; readonly data: unknown }
  | { readonly t: 'remote'; readonly kind: string; target: Value; options: Value }
  | { readonly t: 'per process'; readonly key: string; make: Value }
  | { readonly t: 'registered'; readonly name: string; data: Value }
  | { readonly t: 'custom'; type: Value; data: Value }
  /** Keys that are not captured are not sent: nobody could ask for them. */
  | { readonly t: 'weak map'; readonly entries: (readonly [Value, Value])[] }
  | { readonly t: 'weak set'; readonly items: Value[] }
  | { readonly t: 'boxed'; readonly value: Value }
  | { readonly t: 'bytes'; readonly at: number }
  | { readonly t: 'buffer'; readonly at: number }
  | {
      readonly t: 'view'
      readonly kind: string
      readonly of: Value
      readonly offset: number
      readonly length: number
      proto?: Value
    }
  | { readonly t: 'url'; readonly href: string }
  | ObjectNode

/** What may have prototype, properties and locks of its own. */
export type ObjectNode = ObjectParts &
  (
    | { readonly t: 'object' }
    | { readonly t: 'array'; readonly length: number; items?: Value[] }
    | { readonly t: 'date'; readonly time: Value }
    | { readonly t: 'regexp'; readonly source: string; readonly flags: string }
    | { readonly t: 'error' }
    | { readonly t: 'map'; entries: (readonly [Value, Value])[] }
    | { readonly t: 'set'; items: Value[] }
  )

export interface Payload {
  readonly nodes: readonly Node[]
  readonly root: Value
  readonly buffers: readonly Uint8Array[]
}

export function isReference(value: Captured): value is NodeReference {
  return typeof value === 'object' && value !== null && 'r' in value
}

export function isCell(value: Captured): value is { readonly cell: number } {
  return typeof value === 'object' && value !== null && 'cell' in value
}

export function payloadBytes(json: string, buffers: readonly Uint8Array[]): number {
  return buffers.reduce((sum, buffer) => sum + buffer.byteLength + 8, json.length + HEAD_BYTES)
}

export function toJson({ nodes, root, buffers }: Payload): string {
  const lengths = buffers.map((buffer) => buffer.byteLength)
  return JSON.stringify({ v: VERSION, nodes, root, ...(lengths.length > 0 ? { lengths } : {}) })
}

export function pack(json: string, buffers: readonly Uint8Array[]): Buffer {
  const text = Buffer.from(json)
  const head = Buffer.alloc(HEAD_BYTES)
  head[0] = FORMAT
  head.writeUInt32LE(text.length, 4)
  const parts: Uint8Array[] = [head, text]
  let end = HEAD_BYTES + text.length
  for (const buffer of buffers) {
    const padding = Buffer.alloc(padded(end) - end)
    parts.push(padding, buffer)
    end += padding.length + buffer.byteLength
  }
  return Buffer.concat(parts, end)
}

export function unpack(bytes: Uint8Array): Payload {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const jsonEnd = HEAD_BYTES + (view.length >= HEAD_BYTES ? view.readUInt32LE(4) : 0)
  if (view[0] !== FORMAT || jsonEnd > view.length)
    throw new TypeError('these bytes hold no function or class of ray-ts')
  const parsed = JSON.parse(view.toString('utf8', HEAD_BYTES, jsonEnd)) as {
    v: number
    nodes: Node[]
    root: Value
    lengths?: number[]
  }
  if (parsed.v !== VERSION)
    throw new TypeError(`this code was written by another version of ray-ts (format ${parsed.v}, here ${VERSION})`)
  const buffers: Uint8Array[] = []
  let end = jsonEnd
  for (const length of parsed.lengths ?? []) {
    const start = padded(end)
    end = start + length
    if (end > view.length) throw new TypeError('the bytes of a function end too early')
    buffers.push(view.subarray(start, end))
  }
  return { nodes: parsed.nodes, root: parsed.root, buffers }
}

function padded(length: number): number {
  return Math.ceil(length / 8) * 8
}
