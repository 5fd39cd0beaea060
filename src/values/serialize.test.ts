// Failure here looks like a value that arrives different from how it was sent, or an error without a path.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ValueHost } from './contract.ts'
import { deserialize, serialize, serializeToBytes } from './serialize.ts'
import { UnserializableValueError } from './walk.ts'

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
  makeActorHandle: () => ({}),
  encodeCode: () => undefined,
  decodeCode: () => undefined,
}
const trip = <T>(value: T): T => deserialize(serializeToBytes(value, host), host) as T

test('[PERF-03] round trip of everything that JSON-like values hold', () => {
  fc.assert(
    fc.property(
      fc.anything({
        withBigInt: true,
        withDate: true,
        withMap: true,
        withSet: true,
        withTypedArray: true,
        withSparseArray: true,
        withNullPrototype: true,
      }),
      (value) => {
        expect(trip(value)).toStrictEqual(value)
      },
    ),
    { numRuns: 2000 },
  )
})

test('odd primitives, identity and cycles survive', () => {
  for (const value of [
    -0,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 31,
    -(2 ** 31),
    1.5,
    2n ** 70n,
    'é€😀',
    'x'.repeat(300),
    Symbol.iterator,
  ]) {
    expect(Object.is(trip(value), value)).toBe(true)
  }
  const shared = { n: 1 }
  const cycle: { self?: unknown; a: object; b: object } = { a: shared, b: shared }
  cycle.self = cycle
  const back = trip(cycle)
  expect(back.self).toBe(back)
  expect(back.a).toBe(back.b)
  expect(trip(JSON.parse('{"__proto__": 1}'))).toStrictEqual(JSON.parse('{"__proto__": 1}'))
})

test('errors keep class, cause, fields and stack', () => {
  const error = Object.assign(new RangeError('far', { cause: new TypeError('near') }), { code: 'E_FAR' })
  const back = trip(error) as RangeError & { code: string }
  expect(back).toBeInstanceOf(RangeError)
  expect(back.cause).toBeInstanceOf(TypeError)
  expect([back.message, back.code, back.stack]).toEqual(['far', 'E_FAR', error.stack])
})

test('[OBJ-02] a large typed array is a view over the bytes, 64-byte aligned', () => {
  const array = Float64Array.from({ length: 5000 }, (_, i) => i)
  const bytes = Buffer.from(new ArrayBuffer(serialize({ array, other: 1 }, host).byteLength))
  serialize({ array, other: 1 }, host).writeTo(bytes, 0)
  const back = deserialize(bytes, host) as { array: Float64Array }
  expect(back.array.buffer).toBe(bytes.buffer)
  expect(back.array.byteOffset % 64).toBe(0)
  expect(back.array).toEqual(array)
})

test('[OBJ-03] 10,000 references are found and made anew', () => {
  const refs = Array.from({ length: 10_000 }, (_, i) => new Ref(i * 3 + 2 ** 33))
  const serialized = serialize(refs, host)
  expect(serialized.refs).toEqual(refs.map((ref) => ref.id))
  expect(trip(refs)).toEqual(refs)
})

test('[OBJ-03] lists of references keep their identity, inside whatever holds them', () => {
  const list = Array.from({ length: 8 }, (_, i) => new Ref(i + 2 ** 40))
  const back = trip({ list, again: list, mixed: [list[0], 1, list[1]], map: new Map([[list[0], list]]) })
  expect(back.list).toEqual(list)
  expect(back.again).toBe(back.list)
  expect(back.mixed).toEqual([list[0], 1, list[1]])
  expect([...back.map.values()][0]).toBe(back.list)
})

test('what cannot travel is refused with its path', () => {
  const value = { config: { list: [1, Promise.resolve(1)] } }
  expect(() => serialize(value, host)).toThrow(UnserializableValueError)
  expect(() => serialize(value, host)).toThrow('config.list[1]: await it first')
  expect(() => serialize({ f: () => 1 }, host)).toThrow('the function f')
})
