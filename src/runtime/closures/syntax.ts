// JavaScript text as a typed ESTree. What V8 runs is already JavaScript (stripped, or compiled by tsx or tsc): no TypeScript parser.
//
//   Y1. acorn is loaded at the first parse only: most workers never parse.

import { createRequire } from 'node:module'
import type { AnyNode, ClassBody, Expression, ModuleDeclaration, Options, Pattern, Program, Statement } from 'acorn'

export type { AnyNode, Expression, Pattern, Program }
export type TopLevelStatement = Statement | ModuleDeclaration
export type FunctionNode = AnyNode & { type: 'FunctionDeclaration' | 'FunctionExpression' | 'ArrowFunctionExpression' }
export type ClassNode = AnyNode & { type: 'ClassDeclaration' | 'ClassExpression' }
export type ClassMember = ClassBody['body'][number]

const OPTIONS: Options = {
  ecmaVersion: 'latest',
  allowReturnOutsideFunction: true,
  allowAwaitOutsideFunction: true,
  allowImportExportEverywhere: true,
  allowSuperOutsideMethod: true,
  allowHashBang: true,
  checkPrivateFields: false,
}

type Acorn = Pick<typeof import('acorn'), 'parse' | 'parseExpressionAt'>
let loaded: Acorn | null = null

function acorn(): Acorn {
  loaded ??= createRequire(import.meta.url)('acorn') as Acorn // Y1
  return loaded
}

export function parse(source: string, sourceType: 'module' | 'script'): Program {
  try {
    return acorn().parse(source, { ...OPTIONS, sourceType })
  } catch (error) {
    if (sourceType === 'module') return acorn().parse(source, { ...OPTIONS, sourceType: 'script' })
    throw error
  }
}

export function parseExpression(source: string): Expression {
  return acorn().parseExpressionAt(source, 0, OPTIONS)
}

export function isNode(value: unknown): value is AnyNode {
  return typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string'
}

export function childrenOf(node: AnyNode): AnyNode[] {
  const found: AnyNode[] = []
  for (const value of Object.values(node) as unknown[]) {
    if (Array.isArray(value)) {
      for (const item of value) if (isNode(item)) found.push(item)
    } else if (isNode(value)) found.push(value)
  }
  return found
}

export function isFunctionNode(node: AnyNode): node is FunctionNode {
  return (
    node.type === 'FunctionDeclaration' || node.type === 'FunctionExpression' || node.type === 'ArrowFunctionExpression'
  )
}

export function isClassNode(node: AnyNode): node is ClassNode {
  return node.type === 'ClassDeclaration' || node.type === 'ClassExpression'
}

/** The declaration that an `export` wraps, or the statement itself. */
export function unwrapExport(statement: TopLevelStatement): AnyNode {
  const isExport = statement.type === 'ExportNamedDeclaration' || statement.type === 'ExportDefaultDeclaration'
  return ((isExport ? statement.declaration : null) ?? statement) as AnyNode
}

/** The nodes that enclose `[start, end)` strictly, outermost first. */
export function pathTo(program: Program, start: number, end: number): AnyNode[] {
  const path: AnyNode[] = []
  let node: AnyNode | undefined = program
  while (node) {
    if (!(node.start === start && node.end === end)) path.push(node)
    const inner: AnyNode | undefined = childrenOf(node).find((child) => child.start <= start && child.end >= end)
    const isIt: boolean = inner?.start === start && inner.end === end && (isFunctionNode(inner) || isClassNode(inner))
    node = isIt ? undefined : inner
  }
  return path
}
