// A function's own text, parsed: what kind of expression it is, and what it uses from outside.
//
//   X1. The heritage of a class is not among its variables: V8 does not keep it for the class, so the actual superclass is captured.

import { SUPER } from './emit.ts'
import { type Analysis, analyze } from './free-variables.ts'
import {
  type AnyNode,
  type ClassNode,
  type Expression,
  isClassNode,
  isFunctionNode,
  parseExpression,
} from './syntax.ts'

export type Form = 'expression' | 'method' | 'get' | 'set' | 'static method'

export interface FunctionText {
  readonly form: Form
  /** For members: the key, or where a computed one stands. */
  readonly key: string
  readonly computedKey: Range | null
  readonly node: AnyNode
  readonly classNode: ClassNode | null
  readonly heritage: Range | null
  readonly analysis: Analysis
}

/** Of the function's text. */
export interface Range {
  readonly start: number
  readonly end: number
}

const CACHE_MAX = 1000
const cache = new Map<string, FunctionText | null>()

/** null: it cannot be parsed. */
export function parseFunction(text: string): FunctionText | null {
  let parsed = cache.get(text)
  if (parsed === undefined) {
    if (cache.size >= CACHE_MAX) cache.clear()
    parsed = parseNew(text)
    cache.set(text, parsed)
  }
  return parsed
}

function parseNew(text: string): FunctionText | null {
  const expression = tryParse(`(${text})`)
  if (expression && (isFunctionNode(expression) || isClassNode(expression)))
    return finish(expression, 1, { form: 'expression', key: '', computedKey: null })
  const object = tryParse(`({${text}})`)
  if (object?.type === 'ObjectExpression' && object.properties.length === 1) {
    const [member] = object.properties
    if (member?.type === 'Property') {
      const form = member.kind === 'init' ? 'method' : member.kind
      return finish(member, 2, { form, ...keyOf(member.key, member.computed, text, 2) })
    }
  }
  const inside = tryParse(`(function(){return (${text})})`) // \`new.target\` of a function around it.
  const returned = inside?.type === 'FunctionExpression' ? inside.body.body[0] : undefined
  if (returned?.type === 'ReturnStatement' && returned.argument && isFunctionNode(returned.argument))
    return finish(returned.argument, 20, { form: 'expression', key: '', computedKey: null })
  const type = tryParse(`(class{${text}})`)
  const member = type?.type === 'ClassExpression' ? type.body.body[0] : undefined
  if (member?.type !== 'MethodDefinition') return null
  return finish(member, 7, { form: 'static method', ...keyOf(member.key, member.computed, text, 7) })
}

function tryParse(text: string): Expression | null {
  try {
    return parseExpression(text)
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
}

function keyOf(
  key: AnyNode,
  isComputed: boolean,
  text: string,
  offset: number,
): Pick<FunctionText, 'key' | 'computedKey'> {
  if (isComputed) {
    const start = key.start - offset - 1
    return { key: 'm', computedKey: { start, end: text.indexOf(']', key.end - offset) + 1 } }
  }
  if (key.type === 'Identifier') return { key: key.name, computedKey: null }
  return { key: key.type === 'Literal' ? String(key.value) : '', computedKey: null }
}

function finish(node: AnyNode, offset: number, rest: Pick<FunctionText, 'form' | 'key' | 'computedKey'>): FunctionText {
  shift(node, offset)
  const classNode = isClassNode(node) ? node : null
  let heritage: Range | null = null
  if (classNode?.superClass && classNode.superClass.type !== 'Literal') {
    const { start, end } = classNode.superClass
    heritage = { start, end }
    classNode.superClass = { type: 'Identifier', name: SUPER, start, end } // X1
  }
  return { ...rest, node, classNode, heritage, analysis: analyze(node) }
}

/** Makes positions count from the start of the text. */
function shift(node: AnyNode, by: number): void {
  const seen = new Set<unknown>()
  const move = (value: unknown): void => {
    if (typeof value !== 'object' || value === null || seen.has(value)) return
    seen.add(value)
    if (Array.isArray(value)) {
      for (const item of value) move(item)
      return
    }
    const one = value as { start?: number; end?: number }
    if (typeof one.start === 'number') one.start -= by
    if (typeof one.end === 'number') one.end -= by
    for (const inner of Object.values(value)) move(inner)
  }
  move(node)
}
