// Fails when a worker that was asked for where one task's arguments lie is given to a task whose arguments lie elsewhere.

import { expect, test } from 'vitest'
import type { CoreOutput } from './effects.ts'
import { plainTask } from './task-fixture.ts'
import { TaskSubmitter } from './task-submitter.ts'

/** Tags of two other nodes. */
const [ON_B, ON_C] = [300, 600]

test('[PERF-06] a worker is asked for where most bytes of the arguments lie, and gets the tasks of that place only', () => {
  const submitter = new TaskSubmitter(1)
  const effects: CoreOutput[] = []
  const [plain, onB, onC] = [
    plainTask(1),
    plainTask(2, { locality: [[ON_B, 10], [ON_C, 5]] }), // biome-ignore format: one line a task
    plainTask(3, { locality: [[ON_C, 10], [2, 9]] }), // biome-ignore format: one line a task
  ]
  const here = plainTask(4, { locality: [[2, 10]] })
  for (const task of [plain, onB, onC, here]) submitter.submit(0, task, effects)
  const asked = effects.flatMap((effect) =>
    effect.t === 'toNode' && effect.message.t === 'lease.request' ? [effect.message] : [],
  )
  expect(asked.map(({ spec }) => spec.locality)).toEqual([undefined, onB.locality, onC.locality, undefined])
  const grant = (index: number): unknown[] => {
    const fx: CoreOutput[] = []
    submitter.onGranted(1, asked[index]?.leaseId as string, { tag: 900 + index, socket: '' } as never, fx)
    submitter.check()
    return fx.flatMap((effect) => (effect.t === 'push' ? [effect.task] : []))
  }
  expect(grant(2)).toEqual([onC])
  expect(grant(1)).toEqual([onB])
  expect(grant(0)).toEqual([plain])
  expect(submitter.remove(onB, [])).toBe(false)
  expect(submitter.remove(here, [])).toBe(true)
})
