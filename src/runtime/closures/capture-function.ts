// A function or class by value: its text, changed where it must be, what it captures, and the state on it.
//
//     text ─► parse ─► refuse what cannot move ─► captured variables ─► edits ─► place and source map ─► own properties
//
//   N1. What is sent compiles: errors show on the driver, not in a far worker.

import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { types } from 'node:util'
import vm from 'node:vm'
import type { Capture } from './capture.ts'
import { learnImports } from './capture-import.ts'
import { captureVariables, type Edit } from './capture-variable.ts'
import { emit, META, SUPER } from './emit.ts'
import { captureClassState, captureFunctionState } from './function-state.ts'
import { type FunctionText, parseFunction } from './function-text.ts'
import { type Internals, internals } from './inspect.ts'
import { isNative } from './known-values.ts'
import type { FunctionNode, Node } from './payload.ts'
import { isHeld, nextId, registry, rememberClass } from './registry.ts'
import { type Script, scriptOf } from './scripts.ts'
import { shiftMap, sliceMap } from './source-map.ts'
import { type AnyNode, pathTo } from './syntax.ts'

export type AnyFunction = (...args: never[]) => unknown

/** A function on its way: what the parts of this work share. */
export interface Job {
  readonly fn: AnyFunction
  readonly text: string
  readonly parsed: FunctionText
  readonly script: Script
  readonly inner: Internals
  /** Where the text starts in the script; -1: unknown. */
  readonly start: number
  /** The nodes of the script around the text; null: unknown. */
  readonly around: readonly AnyNode[] | null
  readonly node: FunctionNode
  readonly edits: Edit[]
}

const HAS_THIS = /^(Function(Declaration|Expression)|PropertyDefinition|StaticBlock|ClassBody)$/

export function captureFunction(capture: Capture, fn: AnyFunction): number {
  return capture.within({ via: 'function', name: fn.name || 'anonymous' }, () => captureNamed(capture, fn))
}

function captureNamed(capture: Capture, fn: AnyFunction): number {
  if (types.isProxy(fn))
    capture.refuse(
      'a Proxy cannot be looked into',
      'Make it inside the task or actor, or with ray.perProcess(() => …).',
      fn,
    )
  const inner = internals(fn)
  if (inner.bound) return captureBound(capture, fn, inner.bound)
  const text = Function.prototype.toString.call(fn)
  const script = inner.location && !isNative(text) ? scriptOf(inner.location.scriptId) : null
  if (!script || script.url.startsWith('node:')) {
    const hint = 'Call it from a function of your own.'
    return capture.refuse('it is a function of Node or JavaScript that no global and no module gives', hint)
  }
  if (/[\\/]node_modules[\\/]/.test(script.url)) return captureExport(capture, fn, script)
  learnImports(capture, script, inner.scopes)
  return captureText(capture, fn, { text, script, inner })
}

function captureBound(capture: Capture, fn: AnyFunction, bound: NonNullable<Internals['bound']>): number {
  const node: Node & { t: 'bound' } = { t: 'bound', target: null, self: null, args: [] }
  const id = capture.addFor(fn, node)
  node.target = capture.under({ via: 'part', name: 'bound' }, bound.target)
  node.self = capture.under({ via: 'part', name: 'bound this' }, bound.self)
  node.args = bound.args.map((arg) => capture.under({ via: 'part', name: 'a bound argument' }, arg))
  return id
}

/** A function of a package: found among the exports of its file, or refused. */
function captureExport(capture: Capture, fn: AnyFunction, script: Script): number {
  const file = script.file
  let exported: unknown
  try {
    exported = createRequire(import.meta.url)(fileURLToPath(file))
  } catch {
    exported = undefined // Such modules cannot be looked into synchronously.
  }
  if (exported === fn)
    return capture.addFor(fn, {
      t: 'require',
      parent: file,
      code: `require(${JSON.stringify(fileURLToPath(file))})`,
      env: {},
    })
  const isObject = typeof exported === 'object' && exported !== null
  const members = Object.entries(isObject ? Object.getOwnPropertyDescriptors(exported) : {})
  const memberOf = (key: string): unknown => (exported as Record<string, unknown>)[key]
  const name =
    members.find(([key]) => memberOf(key) === fn)?.[0] ??
    members.find(([key]) => key === fn.name && isCopyOf(memberOf(key), fn))?.[0]
  if (name !== undefined) return capture.addFor(fn, { t: 'import', spec: file, imported: '*', path: [name] })
  const packageName = /.*[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/.exec(file)?.[1] ?? file
  const hint =
    `Move what you made with ${packageName} to a module of its own and import it, or make it in each process: ` +
    'ray.perProcess(() => …).'
  return capture.refuse(`it is inside the package ${packageName}, which does not export it`, hint)
}

/** Loaders like tsx give \`require\` a copy of its own of an ES module. */
function isCopyOf(exported: unknown, fn: AnyFunction): boolean {
  return typeof exported === 'function' && exported.name === fn.name && exported.length === fn.length
}

function captureText(
  capture: Capture,
  fn: AnyFunction,
  { text, script, inner }: { text: string; script: Script; inner: Internals },
): number {
  const parsed = parseFunction(text)
  if (!parsed) capture.refuse('its text cannot be parsed', 'Report it, please, with the text of the function.')
  const node: FunctionNode = { t: 'fn', name: fn.name, code: text, form: parsed.form }
  const id = capture.addFor(fn, node)
  const proto: unknown = Object.hasOwn(fn, 'prototype') ? fn.prototype : undefined
  if (isHeld(proto)) capture.addFor(proto, { t: 'member', of: id, key: 'prototype' }) // Its own variables may hold instances.
  const { location } = inner
  const start = location ? script.locate(text, location.line, location.column) : -1
  const around = start >= 0 && script.program ? pathTo(script.program, start, start + text.length) : null
  const job: Job = { fn, text, parsed, script, inner, start, around, node, edits: [] }
  refuseUnmovable(capture, job)
  if (script.isStrict) node.isStrict = true
  for (const range of parsed.analysis.importMeta) job.edits.push({ ...range, text: META })
  if (parsed.analysis.importMeta.length > 0) node.meta = script.file
  const free: NonNullable<FunctionNode['free']> = {}
  if (parsed.heritage) {
    job.edits.push({ ...parsed.heritage, text: SUPER })
    free[SUPER] = capture.under({ via: 'part', name: 'superclass' }, Object.getPrototypeOf(fn))
  }
  captureVariables(capture, job, free)
  if (Object.keys(free).length > 0) node.free = free
  place(job)
  applyEdits(job)
  if (parsed.classNode) {
    node.isClass = true
    const eager = Object.keys(free).filter((name) => name === SUPER || parsed.analysis.free.get(name)?.isEager)
    if (eager.length > 0) node.eager = eager
    node.classId = idOfClass(job)
    captureClassState(capture, fn, parsed.classNode, node)
  } else captureFunctionState(capture, fn, node)
  compile(capture, node)
  return id
}

function refuseUnmovable(capture: Capture, job: Job): void {
  const { analysis, form, node } = job.parsed
  const refuse = (what: string, hint: string): never => capture.refuse(what, hint)
  const isTopLevel = job.around !== null && !job.around.some((one) => HAS_THIS.test(one.type))
  const copyFirst = 'Copy what you need into a const before the function.'
  if (analysis.usesEval)
    refuse('it calls eval, so what it captures cannot be known', 'Use new Function(…), or no eval.')
  if (analysis.usesWith) refuse('it uses `with`, so what it captures cannot be known', 'Name the object instead.')
  if (form === 'expression') {
    if (analysis.usesThis && !(isTopLevel && job.script.isModule))
      refuse('it is an arrow function that uses `this` of the function around it', copyFirst)
    if (analysis.usesNewTarget && node.type === 'ArrowFunctionExpression')
      refuse('it is an arrow function that uses `new.target` of the function around it', copyFirst)
  }
  if (analysis.usesArguments)
    refuse('it is an arrow function that uses `arguments` of the function around it', copyFirst)
  if (analysis.usesSuper)
    refuse('it uses `super` of the class or object around it', 'Send the whole class, or call the method by name.')
  const foreign = [...analysis.privateUsed].filter((name) => !analysis.privateDeclared.has(name))
  if (foreign.length > 0) {
    const hint = 'Send the whole class, or give it a method that does this.'
    refuse(
      `it uses the private name${foreign.length > 1 ? 's' : ''} #${foreign.join(', #')} of a class around it`,
      hint,
    )
  }
}

/** Where the text stands, so that stacks are exact; scripts with a source map carry the part that covers it. */
function place(job: Job): void {
  const { script, node, text, start } = job
  if (script.file) node.url = script.file
  if (start < 0) return
  const { line, column } = script.position(start)
  const { startLine, startColumn } = script.raw
  node.line = line + startLine
  node.column = column + (line === 0 ? startColumn : 0)
  if (!script.map) return
  const lines = text.split('\n')
  const lastLength = lines[lines.length - 1]?.length ?? 0
  node.map = sliceMap(script.map, {
    line,
    column,
    endLine: line + lines.length - 1,
    endColumn: lines.length > 1 ? lastLength : column + lastLength,
    base: script.url,
  })
  node.map = shiftMap(node.map, editsByLine(text, job.edits))
}

/** The edits of each line of the text, with columns of that line. */
function editsByLine(text: string, edits: readonly Edit[]): Map<number, Edit[]> {
  const byLine = new Map<number, Edit[]>()
  for (const edit of edits) {
    const before = text.slice(0, edit.start)
    const line = before.split('\n').length - 1
    const lineStart = before.lastIndexOf('\n') + 1
    const own = { ...edit, start: edit.start - lineStart, end: edit.end - lineStart }
    byLine.set(line, [...(byLine.get(line) ?? []), own])
  }
  return byLine
}

function applyEdits({ parsed, edits, node }: Job): void {
  if (parsed.computedKey) edits.push({ ...parsed.computedKey, text: '"m"' })
  if (parsed.form !== 'expression') node.key = parsed.key
  edits.sort((a, b) => b.start - a.start)
  for (const { start, end, text } of edits) node.code = node.code.slice(0, start) + text + node.code.slice(end)
}

function idOfClass({ fn, script, start, text }: Job): string {
  let id = registry.classIds.get(fn)
  if (id === undefined) {
    const place = createHash('sha256').update(`${script.file}:${start}:${text}`).digest('hex').slice(0, 16)
    id = nextId(place)
    rememberClass(fn, id)
  }
  return id
}

const COMPILED_MAX = 2000
const compiled = new Set<string>()

function compile(capture: Capture, node: FunctionNode): void {
  const { text } = emit(node)
  if (compiled.has(text)) return
  try {
    new vm.Script(text) // N1
  } catch (error) {
    const hint = 'Report it, please, with the text of the function.'
    capture.refuse(`the text that would be sent does not compile (${(error as Error).message})`, hint)
  }
  if (compiled.size >= COMPILED_MAX) compiled.clear()
  compiled.add(text)
}
