// Fails when the table and a Map that is given the same commands differ.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DenseTable } from './dense-table.ts'

test('a dense table answers as a Map does', () => {
  const base = 5 * 2 ** 32
  const key = fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 2 ** 32 - 300, max: 2 ** 32 - 1 }))
  const command = fc.tuple(fc.constantFrom('set', 'delete', 'get'), key, fc.integer())
  fc.assert(
    fc.property(fc.array(command, { maxLength: 300 }), (commands) => {
      const table = new DenseTable<number>(base)
      const model = new Map<number, number>()
      for (const [name, offset, value] of commands) {
        const id = base + offset
        if (name === 'set') {
          table.set(id, value)
          model.set(id, value)
        } else if (name === 'delete') expect(table.delete(id)).toBe(model.delete(id))
        else expect(table.get(id)).toBe(model.get(id))
        expect(table.size).toBe(model.size)
      }
      const byKey = (a: [number, number], b: [number, number]): number => a[0] - b[0]
      expect([...table].sort(byKey)).toEqual([...model].sort(byKey))
    }),
  )
})

test('keys of others are not found, and not taken', () => {
  const table = new DenseTable<string>(2 ** 32)
  expect(table.get(7)).toBeUndefined()
  expect(table.delete(2 * 2 ** 32)).toBe(false)
  expect(() => table.set(7, 'x')).toThrow(RangeError)
})
