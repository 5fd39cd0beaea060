// The same table, with vitest itself as the program that sends functions: it rewrites imports and wraps modules.

import * as ray from 'ray-ts'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { caseNames, markedLine, type Outcome, programsOf } from './modes.ts'

interface Harness {
  runAll(mode: 'vitest'): Promise<Outcome[]>
}

interface Helper {
  origin(): string
}

const FIXTURES = '../fixtures/closures'
let outcomes: Map<string, Outcome>

beforeAll(async () => {
  const harness = (await import(`${FIXTURES}/harness.ts`)) as Harness
  for (const program of programsOf('vitest')) await import(`${FIXTURES}/${program}.ts`)
  await ray.init({ numCpus: 2 })
  outcomes = new Map((await harness.runAll('vitest')).map((outcome) => [outcome.name, outcome]))
}, 180_000)
afterAll(() => ray.shutdown())

describe.each(programsOf('vitest'))('%s', (program) => {
  test.each(caseNames(program))('[TASK-01] closures, vitest: %s', (name) => {
    const outcome = outcomes.get(name)
    const expected = program === 'stacks' ? markedLine('vitest', program, name) : outcome?.expected
    expect(outcome?.got).toBe(expected)
  })
})

test('[TASK-01] closures, vitest: vi.mock does not reach workers', async () => {
  vi.doMock('../fixtures/closures/helper.ts', () => ({ origin: () => 'the mock' }))
  const helper = (await import('../fixtures/closures/helper.ts' as string)) as Helper
  expect(helper.origin()).toBe('the mock')
  const there = ray.remote(async () => ((await import('../fixtures/closures/helper.ts' as string)) as Helper).origin())
  expect(await ray.get(there.remote())).toBe('the real module')
})
