// The whole table of what travels, in every way of running a program. Failure here looks like a function that works under tsx and not
// when compiled, or a value that arrives as something else.

import { beforeAll, describe, expect, test } from 'vitest'
import { caseNames, MODES, type ModeRun, markedLine, programsOf, runMode } from './modes.ts'

const ROWS: Readonly<Record<string, string>> = {
  cases: 'TASK-01',
  refused: 'PERF-09',
  stacks: 'TASK-01',
  typescript: 'ACT-01',
  modules: 'TASK-01',
  commonjs: 'TASK-01',
}

describe.each(MODES)('%s', (mode) => {
  let ran: ModeRun
  beforeAll(async () => {
    ran = await runMode(mode)
  }, 180_000)

  test('[TASK-01] the program prints nothing but its results', () => {
    expect(ran.output).toBe('')
  })

  for (const program of programsOf(mode)) {
    const names = caseNames(program)
    test(`[TASK-01] ${program} has cases`, () => expect(names.length).toBeGreaterThan(2))
    test.each(names)(`[${ROWS[program]}] closures, ${mode}: %s`, (name) => {
      const outcome = ran.outcomes.get(name)
      expect(outcome, `it did not run:\n${ran.output}`).toBeDefined()
      const expected = program === 'stacks' ? markedLine(mode, program, name) : outcome?.expected
      expect(outcome?.got).toBe(expected)
    })
  }
})
