// Labels of nodes, and what asks for them: selectors (`{ 'market-type': '!spot' }`) and the expressions of
// NodeLabelSchedulingStrategy (`{ 'market-type': NotIn('spot') }`). Both become the same conditions.
//
//   B1. A condition that excludes (`notIn`, `doesNotExist`) holds where the label is missing, as in Ray and Kubernetes.
//   B2. An empty list of conditions holds everywhere.

import type { LabelCondition, LabelConditions } from '../wire/messages.ts'

export type Labels = Readonly<Record<string, string>>

/** Ray's spelling: `'v'`, `'!v'`, `'in(a,b)'`, `'!in(a,b)'` by label. */
export type LabelSelector = Readonly<Record<string, string>>

const NAME = '[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?'
const DOMAIN = '[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9])?'
const KEY = new RegExp(`^(?:${DOMAIN}/)?${NAME}$`)
const VALUE = new RegExp(`^(!?)(${NAME})$`)
const LIST = new RegExp(`^(!?)in\\((${NAME}(?:, ?${NAME})*)\\)$`)

export function satisfies(labels: Labels, conditions: LabelConditions): boolean {
  for (const condition of conditions) if (!holds(labels, condition)) return false
  return true
}

function holds(labels: Labels, condition: LabelCondition): boolean {
  // Labels come from the outside: 'constructor' is no label of every node.
  const value = Object.hasOwn(labels, condition.key) ? labels[condition.key] : undefined
  switch (condition.operator) {
    case 'in':
      return value !== undefined && condition.values.includes(value)
    case 'notIn':
      return value === undefined || !condition.values.includes(value) // B1
    case 'exists':
      return value !== undefined
    case 'doesNotExist':
      return value === undefined
  }
}

/** `problem`: a sentence, when the selector is not one of Ray's. */
export function parseSelector(
  selector: LabelSelector,
): { readonly conditions: LabelConditions } | { readonly problem: string } {
  const conditions: LabelCondition[] = []
  for (const [key, text] of Object.entries(selector)) {
    if (!KEY.test(key))
      return { problem: `'${key}' is no label: letters and digits, with - _ . between, and one / after a domain` }
    const condition = parseOne(key, text)
    if (!condition) return { problem: `'${text}' for label '${key}' is none of 'v', '!v', 'in(a,b)', '!in(a,b)'` }
    conditions.push(condition)
  }
  return { conditions }
}

/** Of a selector that was checked where it was made; one that cannot be read excludes every node rather than none. */
export function conditionsOf(selector: LabelSelector): LabelConditions {
  const parsed = parseSelector(selector)
  return 'conditions' in parsed ? parsed.conditions : [{ key: '', operator: 'exists' }]
}

function parseOne(key: string, text: string): LabelCondition | undefined {
  if (text === '') return { key, operator: 'in', values: [''] }
  const match = LIST.exec(text) ?? VALUE.exec(text)
  if (!match) return undefined
  return { key, operator: match[1] === '!' ? 'notIn' : 'in', values: (match[2] as string).split(/, ?/) }
}

/** `zone=in(a,b), spot=!true` for people. */
export function formatConditions(conditions: LabelConditions): string {
  return conditions
    .map((condition) => {
      const { key } = condition
      if (condition.operator === 'exists') return `${key}=*`
      if (condition.operator === 'doesNotExist') return `no ${key}`
      const list = condition.values.length === 1 ? condition.values[0] : `in(${condition.values.join(',')})`
      return `${key}=${condition.operator === 'notIn' ? '!' : ''}${list}`
    })
    .join(', ')
}
