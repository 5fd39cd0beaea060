// The variables that a function captures: found in V8's scopes, told apart by the syntax around the function.
//
//   W1. Whether a name is module-level is decided by the syntax (tsx and vitest wrap modules in functions).
//   W2. A module-level variable that a function assigns becomes a cell, which all functions of the payload share.
//   W3. A local variable that is assigned and shared cannot be told from two equal ones: it is refused.

import type { Capture } from './capture.ts'
import type { Job } from './capture-function.ts'
import { captureImport } from './capture-import.ts'
import { declaringScope } from './declarations.ts'
import { cellName, SUPER } from './emit.ts'
import type { FreeVariable, NameUse } from './free-variables.ts'
import type { Scope } from './inspect.ts'
import type { Captured, Node, Value } from './payload.ts'

export interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** One free name of a function. */
interface Lookup {
  readonly name: string
  readonly use: FreeVariable
  readonly scope: Scope
  /** Where the scope that declares it starts; -1: the top; null: unknown. */
  readonly declaredAt: number | null
  readonly isTop: boolean
}

const COMMONJS = new Set(['require', '__filename', '__dirname'])
const VITE_NAME = /^__(vi|vite_ssr)_/
const DECLARE_FIRST = 'Move this call below its declaration.'

export function captureVariables(capture: Capture, job: Job, free: Record<string, Captured>): void {
  for (const [name, use] of job.parsed.analysis.free) {
    if (name === SUPER || name === 'undefined' || name === 'arguments') continue
    const { scopes } = job.inner
    const depth = scopes.findIndex((one) => one.kind !== 'Global' && name in one.object)
    if (depth < 0) {
      const made = captureUnseen(capture, job, name)
      if (made !== undefined) free[name] = made
      continue
    }
    const scope = scopes[depth] as Scope
    const declaredAt = job.around ? declaringScope(job.around, name) : null
    const lookup = { name, use, scope, declaredAt, isTop: isTopLevel(job, depth, declaredAt) }
    free[name] = capture.within({ via: 'variable', name }, () => captureOne(capture, job, lookup))
  }
}

/** V8 keeps only what some function uses: an import may still be known by its text. */
function captureUnseen(capture: Capture, job: Job, name: string): Value | undefined {
  if (name in globalThis) return undefined
  const { script, around } = job
  const entry = script.imports.get(name)
  if (entry) {
    const made = captureImport(capture, entry, undefined, { script, scopes: job.inner.scopes })
    if (made !== undefined) return made
  }
  if (around && (declaringScope(around, name) >= 0 || script.topNames.has(name))) {
    const hint = 'Use it in a method of the class as well, or make it a global.'
    capture.refuse(`V8 does not keep its variable ${name}, which only the class body itself uses`, hint)
  }
  return undefined // A global of the worker, or a ReferenceError there as here.
}

function isTopLevel(job: Job, depth: number, declaredAt: number | null): boolean {
  const { scopes } = job.inner
  const kind = scopes[depth]?.kind ?? ''
  if (/^(Module|Script)$/.test(kind)) return true
  if (declaredAt !== null) return declaredAt === -1 || job.script.root.roots.has(declaredAt)
  // Without syntax: the outermost function scope of a CommonJS file.
  const isOutermost = !scopes.slice(depth + 1).some((one) => /^(Closure|Local|Block|Catch|With)/.test(one.kind))
  return !job.script.isModule && /^Closure|^Local/.test(kind) && isOutermost
}

function captureOne(capture: Capture, job: Job, lookup: Lookup): Captured {
  const { name, use, scope, isTop } = lookup
  const { script } = job
  const ambient = captureAmbient(capture, job, lookup)
  if (ambient !== undefined) return ambient
  let value: unknown
  try {
    value = scope.object[name]
  } catch {
    capture.refuse('it is used before it is initialized', DECLARE_FIRST)
  }
  if (isRequire(value)) return { r: capture.addFor(value, { t: 'ambient', what: 'require', url: script.file }) }
  const entry = script.imports.get(name)
  if (entry && (isTop || VITE_NAME.test(name) || entry.how === 'vite')) {
    const imported = captureImport(capture, entry, value, { script, scopes: job.inner.scopes })
    if (imported !== undefined) return imported
  }
  // Node 20 gives undefined for what is not initialized.
  if (value === undefined && !use.isTypeofOnly && script.isInitialized(name))
    capture.refuse('it is still undefined, although its declaration gives it a value', DECLARE_FIRST)
  if (isTop && (use.isAssigned || script.isReassigned(name))) return captureCell(capture, job, name, value)
  if (!isTop) refuseSharedLocal(capture, job, lookup, value)
  return capture.value(value)
}

/** What createRequire made, under whatever name. */
function isRequire(value: unknown): value is NodeJS.Require {
  return typeof value === 'function' && value.name === 'require' && 'resolve' in value && 'cache' in value
}

/** What a module system gives to every module. */
function captureAmbient(capture: Capture, job: Job, { name, use, scope, isTop }: Lookup): Value | undefined {
  const url = job.script.file
  if (isTop && !job.script.isModule) {
    if (name === 'exports') return captureExports(capture, job, use, scope)
    if (name === 'module') return { r: capture.add({ t: 'ambient', what: 'module', url }) }
    if (COMMONJS.has(name))
      return { r: capture.add({ t: 'ambient', what: name as 'require' | '__filename' | '__dirname', url }) }
  }
  if (!VITE_NAME.test(name)) return undefined
  if (name.includes('import_meta')) return { r: capture.add({ t: 'ambient', what: 'import.meta', url }) }
  if (!name.includes('dynamic_import')) return undefined
  const { viteRoot } = capture.options
  return { r: capture.add({ t: 'ambient', what: 'dynamicImport', url, ...(viteRoot === null ? {} : { viteRoot }) }) }
}

/** tsc writes `exports.factor`: one object per module, with the members that are used. */
function captureExports(capture: Capture, { script }: Job, use: FreeVariable, scope: Scope): Value {
  if (!use.members)
    capture.refuse('it uses `exports` other than as exports.name', 'Name what you need in a variable of its own.')
  let known = capture.exportsOf.get(script.id)
  if (!known) {
    known = { id: capture.add({ t: 'object', keys: [], values: [] }), names: new Set() }
    capture.exportsOf.set(script.id, known)
  }
  const node = capture.nodes[known.id] as Node & { t: 'object' }
  const exported = scope.object.exports as Record<string, unknown>
  for (const member of use.members) {
    if (known.names.has(member)) continue
    known.names.add(member)
    const value = capture.under(member, exported[member])
    node.keys?.push(member)
    node.values?.push(value)
  }
  return { r: known.id }
}

function captureCell(capture: Capture, job: Job, name: string, value: unknown): Captured {
  const key = `${job.script.id}:${name}`
  let cell = capture.cells.get(key)
  if (cell === undefined) {
    const node: Node & { t: 'cell' } = { t: 'cell', value: null }
    cell = capture.add(node)
    capture.cells.set(key, cell)
    node.value = capture.value(value)
  }
  for (const one of job.parsed.analysis.free.get(name)?.uses ?? []) job.edits.push(cellEdit(one, name))
  return { cell } // W2
}

function cellEdit({ start, end, form }: NameUse, name: string): Edit {
  const member = `${cellName(name)}.v`
  if (form === 'shorthand') return { start, end, text: `${name}: ${member}` }
  return { start, end, text: form === 'callee' ? `(0,${member})` : member } // Called with no `this`.
}

function refuseSharedLocal(capture: Capture, job: Job, lookup: Lookup, value: unknown): void {
  const key = `${job.script.id}:${lookup.declaredAt}:${lookup.name}`
  const seen = capture.locals.get(key) ?? []
  const own = { from: job.fn, value, isAssigned: lookup.use.isAssigned }
  for (const other of seen) {
    if (other.from === job.fn || !(other.isAssigned || own.isAssigned) || !Object.is(other.value, value)) continue
    const hint = 'Put it in an object, { value: … }, or in a field of a class.'
    capture.refuse(
      'it is assigned, and shared by two functions that travel: V8 cannot tell whether it is one variable',
      hint,
    ) // W3
  }
  seen.push(own)
  capture.locals.set(key, seen)
}
