// Whatever value is captured, the same comes back, with its shared parts and cycles. Failure shows the smallest value that changes.

import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type ClosureHost, decodeCode, encodeCode, encodeFunction } from './index.ts'

const host: ClosureHost = {
  reduce: () => undefined,
  revive: (data) => data,
  makeRemote: (_, target) => target,
}

const typed = fc.oneof(
  fc.uint8Array(),
  fc.int16Array(),
  fc.float32Array(),
  fc.float64Array(),
  fc.bigInt64Array(),
  fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  fc.uint8Array().map((bytes) => new Uint8Array(bytes).buffer),
  fc.uint8Array({ minLength: 8, maxLength: 32 }).map((bytes) => new DataView(new Uint8Array(bytes).buffer, 1, 6)),
)
const anything = fc.anything({
  maxDepth: 4,
  withBigInt: true,
  withBoxedValues: true,
  withMap: true,
  withSet: true,
  withNullPrototype: true,
  withSparseArray: true,
  withObjectString: true,
  withUnicodeString: true,
})
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    anything,
    typed,
    fc.date({ noInvalidDate: true }), // Node holds no two invalid ones for equal.
    fc.constantFrom(Symbol.iterator, Symbol.for('x'), /a+/gi, new URL('http://a/b')),
    tie('tree'),
  ),
  tree: fc.oneof(
    fc.array(tie('any'), { maxLength: 4 }),
    fc.dictionary(fc.string(), tie('any'), { maxKeys: 4 }),
    fc.array(fc.tuple(tie('any'), tie('any')), { maxLength: 3 }).map((entries) => new Map(entries)),
    fc.array(tie('any'), { maxLength: 3 }).map((items) => new Set(items)),
    fc.tuple(fc.string(), tie('any')).map(([message, cause]) => new RangeError(message, { cause })),
  ),
})).any

test('[PERF-09] any value comes back the same', () => {
  fc.assert(
    fc.property(value, (original) => {
      const copy = (decodeCode(encodeCode({ original }, host), host) as { original: unknown }).original
      expect(isDeepStrictEqual(copy, original)).toBe(true)
      if (typeof original === 'object' && original !== null) expect(copy).not.toBe(original)
    }),
    { numRuns: 1000 },
  )
})

test('[PERF-09] an invalid date comes back as one', () => {
  const { date } = decodeCode(encodeCode({ date: new Date(Number.NaN) }, host), host) as { date: Date }
  expect(date).toBeInstanceOf(Date)
  expect(date.getTime()).toBeNaN()
})

test('[PERF-09] what a function captures is what it finds', () => {
  fc.assert(
    fc.property(value, (original) => {
      const { bytes, hash } = encodeFunction(() => original, 'f', host)
      const copy = decodeCode(bytes, host) as () => unknown
      expect(isDeepStrictEqual(copy(), original)).toBe(true)
      expect(encodeFunction(() => original, 'f', host).bytes.length).toBe(bytes.length)
      expect(hash).toMatch(/^[0-9a-f]{40}$/)
    }),
    { numRuns: 300 },
  )
})

test('[PERF-09] graphs keep who is who', () => {
  const graph = fc
    .tuple(fc.integer({ min: 1, max: 12 }), fc.array(fc.tuple(fc.nat(11), fc.nat(11), fc.nat(3)), { maxLength: 30 }))
    .map(([size, edges]) => {
      const nodes: (Record<string, unknown> | unknown[] | Map<unknown, unknown>)[] = Array.from(
        { length: size },
        (_, i) => (i % 3 === 0 ? { i } : i % 3 === 1 ? [i] : new Map<unknown, unknown>([['i', i]])),
      )
      for (const [from, to, key] of edges) {
        const source = nodes[from % size]
        const target = nodes[to % size]
        if (source instanceof Map) source.set(`k${key}`, target)
        else if (Array.isArray(source)) source[key + 1] = target
        else if (source) source[`k${key}`] = target
      }
      return nodes
    })
  fc.assert(
    fc.property(graph, (nodes) => {
      const copies = decodeCode(encodeCode(nodes, host), host) as typeof nodes
      const names = new Map<unknown, number>(copies.map((copy, i) => [copy, i]))
      const of = new Map<unknown, number>(nodes.map((node, i) => [node, i]))
      const shape = (all: typeof nodes, ids: Map<unknown, number>): unknown =>
        all.map((node) =>
          (node instanceof Map ? [...node] : Object.entries(node)).map(([key, to]) => [key, ids.get(to) ?? to]),
        )
      expect(shape(copies, names)).toEqual(shape(nodes, of))
      expect(names.size).toBe(nodes.length)
    }),
    { numRuns: 500 },
  )
})

test('[PERF-09] bytes that are no payload are refused, never half understood', () => {
  const good = encodeCode({ a: [1, 2, 3], b: new Uint8Array(100) }, host)
  fc.assert(
    fc.property(fc.nat(good.length - 1), (length) => {
      expect(() => decodeCode(good.subarray(0, length), host)).toThrow()
    }),
    { numRuns: 200 },
  )
  expect(() => decodeCode(Buffer.from('{"nodes":[]}'), host)).toThrow(/no function or class of ray-ts/)
})
