// Fails when a task that waits for arguments is not named, counted twice, or when it is wrongly said how far what it waits for is.

import { expect, test } from 'vitest'
import { makeObjectId, type ObjectId } from '../ids/ids.ts'
import { CoreWorker } from './core-worker.ts'
import type { RemoteFunctionEntry, Task } from './effects.ts'
import { plainTask } from './task-fixture.ts'
import { listWaiting } from './waiting-tasks.ts'

const fnOf = (name: string): RemoteFunctionEntry => ({ key: `fn:${name}`, name, averageMicros: -1 })

function submit(core: CoreWorker, name: string, more: Partial<Task> = {}): ObjectId {
  const task = plainTask(core.sequences(1), { fn: fnOf(name), ...more })
  core.createReturns(task)
  core.submit(0, task)
  return makeObjectId(1, task.sequence)
}

const needing = (...pendingArgs: ObjectId[]): Partial<Task> => ({ args: null, pendingArgs })

test('[TASK-14] tasks that wait for arguments are listed by what makes these, and how far that is', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  const running = submit(core, 'slow')
  const address = { tag: 7, workerId: '', pid: 70, socket: 's7', nodeId: 'n' }
  core.onMessage(0, { t: 'lease.granted', leaseId: '1.1', worker: address, gpuIds: [] })
  const queued = submit(core, 'next')
  const middle = submit(core, 'middle', needing(running, queued))
  for (let i = 0; i < 3; i++) submit(core, 'last', needing(middle))
  const process = { kind: 'process', pid: 70, nodeId: 'n' }
  expect(core.waiting()).toEqual({
    waiting: [
      { what: 'arguments', name: 'middle', tasks: 1, values: 1, id: running, maker: { name: 'slow', place: process } },
      {
        what: 'arguments',
        name: 'middle',
        tasks: 1,
        values: 1,
        id: queued,
        maker: { name: 'next', place: { kind: 'worker', asked: {} } },
      },
      {
        what: 'arguments',
        name: 'last',
        tasks: 3,
        values: 1,
        id: middle,
        maker: { name: 'middle', place: { kind: 'arguments' } },
      },
    ],
    isCut: false,
  })
  expect(core.makerOf(running)).toEqual({ name: 'slow', place: process })
  const reader = { fn: { name: 'reader' } }
  const read = [running, queued].map((id) => [id, reader] as const)
  expect(core.waiting(read, 'get').waiting).toMatchObject([
    { what: 'get', name: 'reader', tasks: 1, id: running, maker: { name: 'slow' } },
    { what: 'get', name: 'reader', tasks: 1, id: queued, maker: { name: 'next' } },
  ])
})

test('[TASK-14] one task that waits for many values of one kind is one; what another process makes is left open', () => {
  const values = Array.from({ length: 5 }, (_, i) => makeObjectId(1, i + 1))
  const foreign = makeObjectId(2, 1)
  const task = plainTask(9, { fn: fnOf('all') })
  const pairs = [...values, foreign].map((id) => [id, task] as const)
  const making = plainTask(1, { fn: fnOf('one') })
  const { waiting } = listWaiting(pairs, (id) => (id === foreign ? undefined : making))
  expect(waiting).toMatchObject([
    { name: 'all', tasks: 1, values: 5, id: values[0], maker: { name: 'one' } },
    { name: 'all', tasks: 1, values: 1, id: foreign, maker: null },
  ])
})

test('[TASK-14] a million waiting tasks are not all looked at', () => {
  const task = plainTask(1)
  function* endless(): Iterable<readonly [ObjectId, Task]> {
    for (;;) yield [5, task]
  }
  expect(listWaiting(endless(), () => undefined).isCut).toBe(true)
})
