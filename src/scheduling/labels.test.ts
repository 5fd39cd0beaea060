// Failure would look like: work on a spot machine that asked for '!spot', or a selector that Ray takes and we refuse.

import { expect, test } from 'vitest'
import type { LabelConditions } from '../wire/messages.ts'
import { formatConditions, parseSelector, satisfies } from './labels.ts'

function conditions(selector: Record<string, string>): LabelConditions {
  const parsed = parseSelector(selector)
  if ('problem' in parsed) throw new Error(parsed.problem)
  return parsed.conditions
}

const spot = { 'ray.io/market-type': 'spot', zone: 'a' }
const plain = { zone: 'b' }

test.each([
  ['zone', 'a', true, false],
  ['zone', '!a', false, true],
  ['zone', 'in(a,c)', true, false],
  ['zone', 'in(a, b)', true, true],
  ['zone', '!in(a,c)', false, true],
  ['ray.io/market-type', 'spot', true, false],
  ['ray.io/market-type', '!spot', false, true], // missing is not equal
  ['ray.io/market-type', '!in(spot,on-demand)', false, true],
  ['zone', '', false, false],
  ['constructor', '!x', true, true],
  ['constructor', 'Object', false, false],
])('selector %s: %s', (key, text, onSpot, onPlain) => {
  expect(satisfies(spot, conditions({ [key]: text }))).toBe(onSpot)
  expect(satisfies(plain, conditions({ [key]: text }))).toBe(onPlain)
})

test('all conditions of a selector must hold', () => {
  expect(satisfies(spot, conditions({ zone: 'a', 'ray.io/market-type': 'spot' }))).toBe(true)
  expect(satisfies(spot, conditions({ zone: 'a', 'ray.io/market-type': '!spot' }))).toBe(false)
  expect(satisfies(spot, [])).toBe(true)
})

test('expressions: exists and doesNotExist', () => {
  const exists: LabelConditions = [{ key: 'ray.io/market-type', operator: 'exists' }]
  const missing: LabelConditions = [{ key: 'ray.io/market-type', operator: 'doesNotExist' }]
  expect([satisfies(spot, exists), satisfies(plain, exists)]).toEqual([true, false])
  expect([satisfies(spot, missing), satisfies(plain, missing)]).toEqual([false, true])
})

// The examples of Ray's own label_utils.py.
test.each(['spot', '!GPU', '213521', 'in(A123, B456, C789)', '!in(spot, on-demand)', 'valid-value', 'a-._b'])(
  'takes %s',
  (text) => {
    expect(parseSelector({ key: text })).toHaveProperty('conditions')
  },
)

test.each(['-spot', 'spot_', 'in()', 'in(spot,', 'in(H100, TPU!GPU)', '!!!in(H100, TPU)', 'my@label', 'x'.repeat(64)])(
  'refuses %s',
  (text) => {
    expect(parseSelector({ key: text })).toHaveProperty('problem')
  },
)

test.each(['-abc', 'abc-', 'my@label', 'prefix_/name', `${'x'.repeat(254)}/name`, 'a/b/c', ''])(
  'refuses the label %s',
  (key) => {
    expect(parseSelector({ [key]: 'v' })).toHaveProperty('problem')
  },
)

test('in words', () => {
  const all = [...conditions({ zone: '!in(a,b)', gpu: 'H100' }), { key: 'ssd', operator: 'exists' } as const]
  expect(formatConditions(all)).toBe('zone=!in(a,b), gpu=H100, ssd=*')
})
