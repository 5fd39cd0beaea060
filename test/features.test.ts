// Failure here looks like a row that counts as done although no passing test proves it.
import fs from 'node:fs'
import { expect, test } from 'vitest'
import { derive, idsOf, type Report, type Row, render } from '../scripts/conformance.ts'

const rows: Row[] = ['A-01', 'A-02', 'A-03', 'A-04', 'K8S-01'].map((id) => ({ id, title: `feature ${id} a|b` }))
const report = (...assertions: [string, string][]): Report => ({
  testResults: [
    { name: '/x/test/one.test.ts', assertionResults: assertions.map(([title, status]) => ({ title, status })) },
  ],
})

test('only passed tests of the report prove a row; a failed one spoils it', () => {
  const verdicts = derive(
    rows,
    { 'A-04': 'on purpose' },
    report(
      ['[A-01][A-02] both', 'passed'],
      ['[A-02] breaks', 'failed'],
      ['[A-03] later', 'skipped'],
      ['mentions [K8S-01]', 'passed'],
    ),
  )
  expect(verdicts.map(({ state, tests }) => [state, tests])).toEqual([
    ['passing', ['test/one.test.ts: both']],
    ['failing', ['test/one.test.ts: breaks']],
    ['missing', []],
    ['differs', []],
    ['missing', []],
  ])
  const { page, summary } = render(verdicts)
  expect(summary).toBe('1 passing, 1 failing, 1 differs, 2 missing')
  expect(page).toContain('| A-04 | feature A-04 a\\|b | differs | *on purpose* |')
})

test('ids stand at the start of titles', () => {
  expect(idsOf('[TASK-01] [K8S-02] does')).toEqual(['TASK-01', 'K8S-02'])
  expect(idsOf('does [TASK-01]')).toEqual([])
})

test('rows that do not exist are refused', () => {
  expect(() => derive(rows, {}, report(['[A-99] x', 'passed']))).toThrow('A-99')
  expect(() => derive(rows, { 'B-01': 'because' }, report())).toThrow('B-01')
})

test('every row is there, once, with its whole title', () => {
  const data = JSON.parse(fs.readFileSync('docs/features-data.json', 'utf8')) as Row[]
  expect(new Set(data.map(({ id }) => id)).size).toBe(data.length)
  expect(data.filter(({ id }) => id.startsWith('EXTRA-'))).toHaveLength(56)
  expect(data.length - 56).toBe(318)
  for (const { id, title } of data) expect(title.split('`').length % 2, `${id}: ${title}`).toBe(1)
})
