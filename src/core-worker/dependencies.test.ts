// Fails when a task leaves without its arguments, twice, or waits for a value that is there.

import { expect, test } from 'vitest'
import { makeObjectId } from '../ids/ids.ts'
import { ValueReader } from '../wire/task-frames.ts'
import { Dependencies } from './dependencies.ts'
import type { Effects, Task } from './effects.ts'
import { ReferenceTable } from './reference-table.ts'
import { plainTask } from './task-fixture.ts'

const FIRST = makeObjectId(1, 1)
const SECOND = makeObjectId(1, 2)

function world(): { table: ReferenceTable; dependencies: Dependencies; fx: Effects; task: Task } {
  const table = new ReferenceTable(1, () => Buffer.from([5]))
  table.create(FIRST)
  table.create(SECOND)
  const task = plainTask(3, { args: null, pendingArgs: [FIRST, SECOND, FIRST] })
  return { table, dependencies: new Dependencies(table), fx: [], task }
}

test('[TASK-14] a task leaves once, with all values written in order (D1, P1)', () => {
  const { table, dependencies, fx, task } = world()
  expect(dependencies.add(task, fx)).toBeUndefined()
  table.fulfil(SECOND, { kind: 'stored', storageId: 77, size: 9, refs: [] }, fx)
  expect(dependencies.onReady(SECOND, fx)).toEqual([])
  table.fulfil(FIRST, { kind: 'primitive', value: 1 }, fx)
  expect(dependencies.onReady(FIRST, fx)).toEqual([{ task, error: null }])
  expect([dependencies.onReady(FIRST, fx), dependencies.waitingCount]).toEqual([[], 0])
  const reader = new ValueReader(Buffer.from(task.args as Uint8Array), 0)
  expect(reader.u16()).toBe(3)
  const kinds: unknown[] = []
  for (let i = 0; i < 3; i++) {
    reader.next()
    kinds.push(reader.isStored ? reader.storageId : [...reader.buffer.subarray(reader.start, reader.end)])
  }
  expect(kinds).toEqual([[5], 77, [5]])
})

test('[TASK-15] the first failing dependency is the task’s failure; a cancelled task waits for nothing', () => {
  const { table, dependencies, fx, task } = world()
  dependencies.add(task, fx)
  table.fulfil(FIRST, { kind: 'error', bytes: Buffer.from('why') }, fx)
  dependencies.onReady(FIRST, fx)
  table.fulfil(SECOND, { kind: 'primitive', value: 1 }, fx)
  expect(dependencies.onReady(SECOND, fx)).toEqual([{ task, error: Buffer.from('why') }])
  const other = world()
  other.dependencies.add(other.task, other.fx)
  other.dependencies.remove(other.task)
  expect(other.dependencies.waitingCount).toBe(0)
})

test('[FT-01] a value that is lost while its task waits for another is waited for again (D2)', () => {
  const { table, dependencies, fx, task } = world()
  table.fulfil(FIRST, { kind: 'stored', storageId: 77, size: 9, refs: [] }, fx)
  dependencies.add(task, fx)
  table.suspend((storageId) => storageId === 77, fx)
  table.fulfil(SECOND, { kind: 'primitive', value: 1 }, fx)
  expect([dependencies.onReady(SECOND, fx), dependencies.waitingCount]).toEqual([[], 1])
  table.fulfil(FIRST, { kind: 'primitive', value: 1 }, fx)
  expect(dependencies.onReady(FIRST, fx)).toEqual([{ task, error: null }])
})
