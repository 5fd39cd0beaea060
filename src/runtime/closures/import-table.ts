// Which local names of a script are imports, and how to import the same elsewhere. And where its module-level declarations stand:
// tsx (CommonJS), vitest and old bundlers wrap a whole module in a function.
//
//   T1. "Module level" is decided by the syntax, never by the kind of V8's scope.

import { type AnyNode, type Expression, isFunctionNode, type Program, type TopLevelStatement } from './syntax.ts'

/** How a local name was imported. `imported` is an export's name, or `*` for the whole module. */
export type ImportEntry =
  | {
      readonly how: 'esm'
      readonly spec: string
      readonly imported: string
      readonly attributes: readonly (readonly [string, string])[]
    }
  /** `code` is the initializer, `require("x")` with whatever helper is around it, to be run again. */
  | { readonly how: 'cjs'; readonly spec: string; readonly imported: string; readonly code: string }
  /** Vitest's rewritten import. */
  | { readonly how: 'vite'; readonly spec: string; readonly imported: string }
  | { readonly how: 'createRequire' }

type Source =
  | { readonly how: 'esm'; readonly spec: string }
  | { readonly how: 'vite'; readonly spec: string }
  | { readonly how: 'cjs'; readonly spec: string; readonly code: string }
  | { readonly how: 'createRequire' }

const VITE_IMPORT = /^__(vi|vite_ssr)_(import|dynamic_import)__$/
const WRAPPERS_MAX = 6

export function importTable(body: readonly TopLevelStatement[], source: string): Map<string, ImportEntry> {
  const table = new Map<string, ImportEntry>()
  for (const statement of body.flatMap<TopLevelStatement>((s) => (s.type === 'BlockStatement' ? s.body : [s]))) {
    if (statement.type === 'ImportDeclaration') addImport(statement, table)
    else if (statement.type === 'VariableDeclaration') addVariables(statement, source, table)
    else if (statement.type === 'ExportNamedDeclaration' && statement.declaration?.type === 'VariableDeclaration')
      addVariables(statement.declaration, source, table)
  }
  return table
}

function addImport(node: AnyNode & { type: 'ImportDeclaration' }, table: Map<string, ImportEntry>): void {
  const attributes = node.attributes.map((a) => [nameOf(a.key), String(a.value.value)] as const)
  const spec = String(node.source.value)
  for (const specifier of node.specifiers) {
    let imported = '*'
    if (specifier.type === 'ImportDefaultSpecifier') imported = 'default'
    else if (specifier.type === 'ImportSpecifier') imported = nameOf(specifier.imported)
    table.set(specifier.local.name, { how: 'esm', spec, imported, attributes })
  }
}

function addVariables(
  node: AnyNode & { type: 'VariableDeclaration' },
  source: string,
  table: Map<string, ImportEntry>,
): void {
  for (const { id, init } of node.declarations) {
    const from = sourceOf(init, source)
    if (!from) continue
    if (id.type === 'Identifier') table.set(id.name, toEntry(from, '*'))
    if (id.type !== 'ObjectPattern') continue
    for (const property of id.properties) {
      if (property.type !== 'Property' || property.computed || property.value.type !== 'Identifier') continue
      table.set(property.value.name, toEntry(from, nameOf(property.key)))
    }
  }
}

function toEntry(from: Source, imported: string): ImportEntry {
  if (from.how === 'esm') return { how: 'esm', spec: from.spec, imported, attributes: [] }
  if (from.how === 'vite') return { how: 'vite', spec: from.spec, imported }
  return from.how === 'createRequire' ? from : { ...from, imported }
}

/** What an initializer imports, if it is a require or an awaited import, bare or with a helper around it. */
function sourceOf(init: Expression | null | undefined, source: string): Source | undefined {
  if (!init) return undefined
  if (init.type === 'AwaitExpression') return awaited(init.argument)
  const cjs = (spec: string): Source => ({ how: 'cjs', spec, code: source.slice(init.start, init.end) })
  const own = requiredBy(init)
  if (own !== undefined) return cjs(own)
  if (init.type === 'CallExpression') {
    const wrapped = requiredBy(init.arguments[0])
    if (wrapped !== undefined) return cjs(wrapped)
    if (init.callee.type === 'Identifier' && /createRequire$/.test(init.callee.name)) return { how: 'createRequire' }
  }
  if (init.type === 'MemberExpression' && !init.computed) {
    const spec = requiredBy(init.object)
    if (spec !== undefined) return cjs(spec)
  }
  return undefined
}

function awaited(node: Expression): Source | undefined {
  if (node.type === 'ImportExpression') {
    return node.source.type === 'Literal' ? { how: 'esm', spec: String(node.source.value) } : undefined
  }
  if (node.type !== 'CallExpression' || node.callee.type !== 'Identifier') return undefined
  const [first] = node.arguments
  if (!VITE_IMPORT.test(node.callee.name) || first?.type !== 'Literal') return undefined
  return { how: 'vite', spec: String(first.value) }
}

function requiredBy(node: AnyNode | undefined): string | undefined {
  if (node?.type !== 'CallExpression' || node.callee.type !== 'Identifier') return undefined
  const [first] = node.arguments
  return node.callee.name === 'require' && first?.type === 'Literal' ? String(first.value) : undefined
}

function nameOf(key: AnyNode): string {
  if (key.type === 'Identifier') return key.name
  return key.type === 'Literal' ? String(key.value) : ''
}

export interface ModuleRoot {
  /** The statements at module level. */
  readonly body: readonly TopLevelStatement[]
  /** Starts of the functions and blocks around them. */
  readonly roots: ReadonlySet<number>
}

export function moduleRoot(program: Program): ModuleRoot {
  const roots = new Set<number>()
  let body: readonly TopLevelStatement[] = program.body
  for (let i = 0; i < WRAPPERS_MAX; i++) {
    const wrapper = findWrapper(body)
    if (!wrapper) break
    const block = wrapper.type === 'BlockStatement' ? wrapper : isFunctionNode(wrapper) ? wrapper.body : null
    if (block?.type !== 'BlockStatement') break
    roots.add(wrapper.start)
    roots.add(block.start)
    body = block.body
  }
  return { body, roots }
}

/** The function or block that holds most of the text of `body`. */
function findWrapper(body: readonly TopLevelStatement[]): AnyNode | undefined {
  const length = (body.at(-1)?.end ?? 0) - (body[0]?.start ?? 0)
  for (const statement of body) {
    const node = unwrapCall(statement)
    if (!node || node.end - node.start < 0.6 * length) continue
    if (node.type === 'BlockStatement' || (isFunctionNode(node) && node.body.type === 'BlockStatement')) return node
  }
  return undefined
}

function unwrapCall(statement: TopLevelStatement): AnyNode | null {
  let node: AnyNode | null = null
  if (statement.type === 'ExpressionStatement') node = statement.expression
  else if (statement.type === 'ReturnStatement') node = statement.argument ?? null
  else if (statement.type === 'BlockStatement') return statement
  for (let i = 0; node && i < WRAPPERS_MAX; i++) {
    if (node.type === 'UnaryExpression' || node.type === 'AwaitExpression') node = node.argument
    else if (node.type === 'AssignmentExpression') node = node.right
    else if (node.type === 'CallExpression')
      node = node.callee.type === 'MemberExpression' ? node.callee.object : node.callee
    else break
  }
  return node
}
