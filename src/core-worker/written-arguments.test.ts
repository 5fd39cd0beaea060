// Fails when an argument goes out without its value, or a reference inside one that nobody else could resolve.

import { expect, test } from 'vitest'
import { makeObjectId } from '../ids/ids.ts'
import { ValueReader } from '../wire/task-frames.ts'
import type { Effects } from './effects.ts'
import { ReferenceTable } from './reference-table.ts'
import { referencesAmong, resolveArguments } from './written-arguments.ts'

const [INNER, OUTER, FAILED, OTHERS] = [1, 2, 3, 4].map((sequence) => makeObjectId(1, sequence)) as [
  number,
  number,
  number,
  number,
]
/** A written value of one byte: kind, length, byte. */
const WRITTEN = Buffer.from([0, 1, 0, 0, 0, 9])

function world(): { table: ReferenceTable; fx: Effects } {
  const table = new ReferenceTable(1, () => Buffer.from([5]))
  const fx: Effects = []
  for (const id of [INNER, OUTER, FAILED]) table.create(id)
  table.fulfil(INNER, { kind: 'primitive', value: 1 }, fx)
  table.fulfil(OUTER, { kind: 'inline', bytes: Buffer.from([7]), refs: [INNER] }, fx)
  table.fulfil(FAILED, { kind: 'error', bytes: Buffer.from('why') }, fx)
  return { table, fx: [] }
}

test('[TASK-14] [ACT-01] references inside a resolved value go with it, once, and the node learns of them (P2)', () => {
  const { table, fx } = world()
  const resolved = resolveArguments([WRITTEN, OUTER, OUTER], [OTHERS], table, fx)
  if (resolved.error !== null) throw new Error('it failed')
  expect(resolved.nested).toEqual([OTHERS, INNER])
  expect(fx).toEqual([
    {
      t: 'toNode',
      message: { t: 'object.publish', id: INNER, location: { kind: 'inline', bytes: Buffer.from([5]), refs: [] } },
    },
  ])
  const reader = new ValueReader(Buffer.from(resolved.blob), 0)
  expect(reader.u16()).toBe(3)
  const values = [1, 2, 3].map(() => {
    reader.next()
    return [reader.buffer[reader.start], reader.refs]
  })
  expect(values).toEqual([
    [9, []],
    [7, [INNER]],
    [7, [INNER]],
  ])
})

test('[TASK-15] [ACT-01] the first error in order is the answer, and leaves nothing in the next call’s arguments', () => {
  const { table, fx } = world()
  expect(referencesAmong([WRITTEN, FAILED, OUTER])).toEqual([FAILED, OUTER])
  expect(resolveArguments([WRITTEN, FAILED, OUTER], [], table, fx)).toEqual({ error: Buffer.from('why') })
  const blob = Buffer.from([1, 0, ...WRITTEN])
  expect(resolveArguments([WRITTEN], [OTHERS], table, fx)).toEqual({
    ...{ error: null, blob, nested: [OTHERS], locality: null },
  })
})

test('[PERF-06] stored values say on which node their bytes lie: summed up by the block of tags of who wrote them', () => {
  const { table, fx } = world()
  const stored = [makeObjectId(300, 1), makeObjectId(301, 1), makeObjectId(9, 1)]
  const ids = [5, 6, 7].map((sequence) => makeObjectId(1, sequence))
  for (const [i, id] of ids.entries()) {
    table.create(id)
    table.fulfil(id, { kind: 'stored', storageId: stored[i] as number, size: 1000, refs: [] }, fx)
  }
  const locality = [
    [300, 2000],
    [9, 1000],
  ]
  expect(resolveArguments([WRITTEN, ...ids], [], table, fx)).toMatchObject({ locality })
})
