// Properties of values as bytes, over everything that may travel. Failure here looks like a value that arrives different, a shared
// object that arrives twice, or bytes from a broken peer that end the process.
import assert from 'node:assert'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ValueHost } from './contract.ts'
import { deserialize, serialize, serializeToBytes } from './serialize.ts'

class Ref {
  readonly id: number
  constructor(id: number) {
    this.id = id
  }
}

const host: ValueHost = {
  refId: (value) => (value instanceof Ref ? value.id : undefined),
  makeRef: (id) => new Ref(id),
  actorHandle: () => undefined,
  makeActorHandle: (actorId, handleId, state) => ({ actorId, handleId, state }),
  encodeCode: () => undefined,
  decodeCode: (bytes) => bytes.length,
}
const trip = (value: unknown): unknown => {
  const { byteLength } = serialize(value, host)
  const bytes = new Uint8Array(new ArrayBuffer(byteLength + 64), 64)
  serialize(value, host).writeTo(bytes, 0)
  return deserialize(bytes, host)
}

const NODE_KINDS = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  BigInt64Array,
  BigUint64Array,
  Float32Array,
  Float64Array,
]

/** Names that JavaScript, msgpack or promises give a meaning of their own. */
const oddKeys = [
  '__proto__',
  'constructor',
  'toString',
  'toJSON',
  'hasOwnProperty',
  'valueOf',
  'then',
  'length',
  '',
  '0',
  'default',
]

const text = fc.string({ unit: 'binary', maxLength: 300 })
const leaf = fc.oneof(
  fc.constantFrom<unknown>(
    -0,
    0,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    null,
    undefined,
    true,
    Symbol.iterator,
    Symbol.for('shared'),
    2 ** 53,
    -(2 ** 31) - 1,
  ),
  fc.integer(),
  fc.double(),
  fc.bigInt(),
  text,
  fc.constantFrom('\ud800', 'a\udc00b', '\uffff', '\u0000'),
  fc.date({ noInvalidDate: false }),
  fc.constantFrom(/a(?<b>c)/giu, /[\\/]/, /(?:)/),
  fc.integer({ min: 0, max: 2 ** 33 }).map((n) => new Ref(n + 2 ** 32)),
  fc
    .tuple(fc.constantFrom(...NODE_KINDS), fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 8 }))
    .map(([Kind, length, offset]) => {
      const buffer = new ArrayBuffer(offset * 8 + length * Kind.BYTES_PER_ELEMENT)
      new Uint8Array(buffer).forEach((_, i, all) => {
        all[i] = i * 7
      })
      return new Kind(buffer, offset * 8, length)
    }),
  fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes)),
  fc.uint8Array({ maxLength: 3000 }).map((bytes) => new DataView(bytes.slice().buffer)),
  fc.uint8Array({ maxLength: 3000 }).map((bytes) => bytes.slice().buffer),
  fc.webUrl().map((url) => new URL(url)),
  text.map((message) => Object.assign(new RangeError(message, { cause: message }), { code: 'E_ODD' })),
  text.map((message) => new AggregateError([new Error(message), 1, undefined], message)),
)

const { value } = fc.letrec<{ value: unknown; key: string }>((tie) => ({
  key: fc.oneof({ weight: 3, arbitrary: text }, fc.constantFrom(...oddKeys)),
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 8 }),
    fc.array(fc.integer(), { minLength: 60, maxLength: 70 }),
    fc.sparseArray(tie('value'), { maxLength: 8, noTrailingHole: false }),
    fc.array(fc.tuple(tie('key'), tie('value')), { maxLength: 6 }).map((entries) => {
      const object = {}
      for (const [key, one] of entries) {
        Object.defineProperty(object, key, { value: one, enumerable: true, configurable: true, writable: true })
      }
      return object
    }),
    fc.array(fc.tuple(tie('value'), tie('value')), { maxLength: 5 }).map((entries) => new Map(entries)),
    fc.array(tie('value'), { maxLength: 5 }).map((items) => new Set(items)),
    fc.dictionary(tie('key'), tie('value'), { maxKeys: 4, noNullPrototype: false }),
  ),
}))

test('[PERF-03] whatever may travel arrives equal, odd keys, holes, -0 and lone surrogates included', () => {
  fc.assert(
    fc.property(value, (one) => {
      assert.deepStrictEqual(trip(one), one) // Compares prototypes, where `toStrictEqual` trusts `constructor`.
    }),
    { numRuns: 1500 },
  )
})

test('[PERF-03] bytes do not depend on where they lie, and are as long as announced', () => {
  fc.assert(
    fc.property(value, fc.integer({ min: 0, max: 70 }), (one, shift) => {
      const serialized = serialize(one, host)
      const joined = Buffer.concat(serialized.parts)
      expect(joined.length).toBe(serialized.byteLength)
      const moved = new Uint8Array(shift + joined.length)
      moved.set(joined, shift)
      assert.deepStrictEqual(deserialize(moved.subarray(shift), host), one)
    }),
    { numRuns: 500 },
  )
})

test('[PERF-03] shared objects arrive once, cycles closed: any graph', () => {
  const graph = fc.array(
    fc.tuple(fc.constantFrom('object', 'array', 'map', 'set'), fc.array(fc.nat(9), { maxLength: 4 })),
    {
      minLength: 1,
      maxLength: 10,
    },
  )
  /** Nodes by number, in the order of a walk: equal for equal graphs. */
  const shape = (root: unknown): unknown[] => {
    const numbers = new Map<unknown, number>()
    const out: unknown[] = []
    const visit = (node: unknown): number => {
      const known = numbers.get(node)
      if (known !== undefined) return known
      const number = numbers.size
      numbers.set(node, number)
      const children =
        node instanceof Map
          ? [...node.entries()].flat()
          : node instanceof Set
            ? [...node]
            : Object.values(node as object)
      out[number] = [
        (node as object).constructor.name,
        children.map((child) => (typeof child === 'object' ? visit(child) : child)),
      ]
      return number
    }
    visit(root)
    return out
  }
  fc.assert(
    fc.property(graph, (plan) => {
      const make = { object: () => ({}), array: () => [], map: () => new Map(), set: () => new Set() }
      const nodes = plan.map(([kind]) => make[kind as keyof typeof make]() as object)
      plan.forEach(([, edges], i) => {
        edges.forEach((to, at) => {
          const [node, child] = [nodes[i] as object, nodes[to % nodes.length]]
          if (node instanceof Map) node.set(child, at)
          else if (node instanceof Set) node.add(child)
          else (node as Record<number, unknown>)[at] = child
        })
      })
      expect(shape(trip(nodes[0]))).toEqual(shape(nodes[0]))
    }),
    { numRuns: 2000 },
  )
})

test('[PERF-03] a receiver never shares memory with the sender', () => {
  const buffer = new Float64Array(1000).fill(1)
  const sent = { buffer, list: [{ a: 1 }], map: new Map([['k', { b: 2 }]]) }
  const back = trip(sent) as typeof sent
  back.buffer[0] = 9
  ;(back.list[0] as { a: number }).a = 9
  ;(back.map.get('k') as { b: number }).b = 9
  expect([buffer[0], sent.list[0]?.a, sent.map.get('k')?.b]).toEqual([1, 1, 2])
})

/** The only ways in which bytes may fail: an error, soon. */
function readsOrThrows(bytes: Uint8Array): void {
  try {
    deserialize(bytes, host)
  } catch (error) {
    expect(error).toBeInstanceOf(Error)
  }
}

test('[PERF-03] hostile bytes are an error or some value, never a crash', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 400 }), (bytes) => readsOrThrows(bytes)),
    { numRuns: 5000 },
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (inBand) => {
      const bytes = Buffer.alloc(8 + 8 * Math.ceil(inBand.length / 8) + 8)
      bytes.writeUInt32LE(16, 0)
      bytes.writeUInt32LE(inBand.length, 4)
      bytes.set(inBand, 8)
      readsOrThrows(bytes)
    }),
    { numRuns: 5000 },
  )
  const flips = fc.array(fc.tuple(fc.nat(10_000), fc.nat(255)), { minLength: 1, maxLength: 6 })
  fc.assert(
    fc.property(value, flips, fc.nat(10_000), (one, changes, cut) => {
      const bytes = serializeToBytes(one, host)
      for (const [at, to] of changes) bytes[at % bytes.length] = to
      readsOrThrows(bytes)
      readsOrThrows(bytes.subarray(0, 1 + (cut % bytes.length)))
    }),
    { numRuns: 1000 },
  )
  expect(Object.keys(Object.prototype)).toEqual([]) // Nothing was polluted.
})

test('[PERF-03] nesting as deep as the stack is refused when written, and an error when read', () => {
  let deep: unknown = 1
  for (let i = 0; i < 100_000; i++) deep = [deep]
  expect(() => serialize(deep, host)).toThrow(/levels|deep/)
  const inBand = Buffer.alloc(100_000, 0x91)
  const bytes = Buffer.alloc(8 + inBand.length + 8)
  bytes.writeUInt32LE(16, 0)
  bytes.writeUInt32LE(inBand.length, 4)
  bytes.set(inBand, 8)
  readsOrThrows(bytes)
})
