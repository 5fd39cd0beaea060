// Which names a piece of syntax declares, and where.

import {
  type AnyNode,
  childrenOf,
  isClassNode,
  isFunctionNode,
  type Pattern,
  type TopLevelStatement,
  unwrapExport,
} from './syntax.ts'

/** Adds the names that a pattern binds. */
export function addPatternNames(pattern: Pattern | null | undefined, names: Set<string>): void {
  switch (pattern?.type) {
    case 'Identifier':
      names.add(pattern.name)
      return
    case 'ObjectPattern':
      for (const property of pattern.properties) {
        addPatternNames(property.type === 'RestElement' ? property.argument : property.value, names)
      }
      return
    case 'ArrayPattern':
      for (const element of pattern.elements) addPatternNames(element, names)
      return
    case 'AssignmentPattern':
      addPatternNames(pattern.left, names)
      return
    case 'RestElement':
      addPatternNames(pattern.argument, names)
  }
}

/** Adds the names of `var`s below `node`, which are hoisted, without entering functions and classes. */
export function addHoistedNames(node: AnyNode, names: Set<string>): void {
  if (node.type === 'VariableDeclaration') {
    if (node.kind === 'var') for (const { id } of node.declarations) addPatternNames(id, names)
    return
  }
  if (isFunctionNode(node) || isClassNode(node) || /Expression$|Literal$|^Identifier$/.test(node.type)) return
  for (const child of childrenOf(node)) addHoistedNames(child, names)
}

/** Adds what the statements of one block declare in it: `let`, `const`, functions, classes, imports. */
export function addBlockNames(statements: readonly TopLevelStatement[], names: Set<string>): void {
  for (const statement of statements) {
    const node = unwrapExport(statement)
    if (node.type === 'VariableDeclaration') {
      if (node.kind !== 'var') for (const { id } of node.declarations) addPatternNames(id, names)
    } else if (node.type === 'FunctionDeclaration' || node.type === 'ClassDeclaration') {
      if (node.id) names.add(node.id.name)
    } else if (node.type === 'ImportDeclaration') {
      for (const { local } of node.specifiers) names.add(local.name)
    }
  }
}

export function topLevelNames(body: readonly TopLevelStatement[]): Set<string> {
  const names = new Set<string>()
  for (const statement of body) addHoistedNames(unwrapExport(statement), names)
  addBlockNames(body, names)
  return names
}

/** Where the innermost node of `path` that declares `name` starts; -1: at the top, or nowhere. */
export function declaringScope(path: readonly AnyNode[], name: string): number {
  for (let i = path.length - 1; i > 0; i--) {
    const node = path[i] as AnyNode
    if (namesDeclaredBy(node).has(name)) return node.start
  }
  return -1
}

const declared = new WeakMap<AnyNode, ReadonlySet<string>>()

function namesDeclaredBy(node: AnyNode): ReadonlySet<string> {
  let names = declared.get(node)
  if (!names) {
    const found = new Set<string>()
    addOwnNames(node, found)
    names = found
    declared.set(node, names)
  }
  return names
}

function addOwnNames(node: AnyNode, names: Set<string>): void {
  if (isFunctionNode(node)) {
    for (const param of node.params) addPatternNames(param, names)
    if (node.body.type === 'BlockStatement') {
      addHoistedNames(node.body, names)
      addBlockNames(node.body.body, names)
    }
  } else if (node.type === 'BlockStatement' || node.type === 'StaticBlock') addBlockNames(node.body, names)
  else if (node.type === 'ForStatement') addLoopNames(node.init, names)
  else if (node.type === 'ForInStatement' || node.type === 'ForOfStatement') addLoopNames(node.left, names)
  else if (node.type === 'CatchClause') addPatternNames(node.param, names)
  else if (isClassNode(node) && node.id) names.add(node.id.name)
}

function addLoopNames(head: AnyNode | null | undefined, names: Set<string>): void {
  if (head?.type === 'VariableDeclaration') for (const { id } of head.declarations) addPatternNames(id, names)
}
