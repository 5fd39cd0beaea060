// A script that V8 runs, with what its syntax says: imports, module-level names, and which of them are assigned.
//
//   K1. A script is read and parsed once, at the first function of it that travels.

import { readFileSync, realpathSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { topLevelNames } from './declarations.ts'
import { analyze } from './free-variables.ts'
import { type ImportEntry, importTable, type ModuleRoot, moduleRoot } from './import-table.ts'
import { type RawScript, readScript, readScriptsAhead } from './inspect.ts'
import type { SourceMapData } from './source-map.ts'
import { type AnyNode, type Program, parse, unwrapExport } from './syntax.ts'

const INITIALIZED_AT_ONCE = /Function|Class|Literal|ObjectExpression|ArrayExpression|NewExpression/

export class Script {
  readonly id: string
  /** As V8 has it, as a URL where it is a file. */
  readonly url: string
  /** `url` without query and fragment. */
  readonly file: string
  readonly raw: RawScript
  readonly isStrict: boolean
  /** null: it could not be parsed. */
  readonly program: Program | null
  readonly root: ModuleRoot
  readonly imports: ReadonlyMap<string, ImportEntry>
  readonly map: SourceMapData | null
  readonly #lineStarts: number[] = [0]
  #topNames: Set<string> | null = null
  #reassigned: Set<string> | null = null
  #initialized: Set<string> | null = null

  constructor(id: string, raw: RawScript) {
    this.id = id
    this.raw = raw
    this.url = toUrl(raw.url)
    this.file = this.url.replace(/[?#].*$/, '')
    const isOwn = !/[\\/]node_modules[\\/]|^node:/.test(this.url) // Only what travels by value is parsed.
    this.program = isOwn ? tryParse(raw) : null
    this.root = this.program ? moduleRoot(this.program) : { body: [], roots: new Set() }
    this.imports = importTable(this.root.body, raw.source)
    this.isStrict = raw.isModule || isUseStrict(this.program?.body[0])
    this.map = isOwn ? readMap(raw, this.url) : null
    for (let at = raw.source.indexOf('\n'); at >= 0; at = raw.source.indexOf('\n', at + 1))
      this.#lineStarts.push(at + 1)
  }

  get isModule(): boolean {
    return this.raw.isModule
  }

  /** Where text that V8 places at `line` and `column` starts in the source; -1 when it is not there. */
  locate(text: string, line: number, column: number): number {
    const { source, startLine, startColumn } = this.raw
    const near = (this.#lineStarts[line - startLine] ?? 0) + column - (line === startLine ? startColumn : 0)
    const start = source.lastIndexOf(text, near)
    return start < 0 || start + text.length < near ? -1 : start
  }

  /** Line and column, from 0, relative to the source. */
  position(offset: number): { readonly line: number; readonly column: number } {
    let low = 0
    let high = this.#lineStarts.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#lineStarts[middle] ?? 0) <= offset) low = middle
      else high = middle - 1
    }
    return { line: low, column: offset - (this.#lineStarts[low] ?? 0) }
  }

  get topNames(): ReadonlySet<string> {
    this.#topNames ??= topLevelNames(this.root.body)
    return this.#topNames
  }

  /** Is the module-level variable `name` assigned after its declaration? */
  isReassigned(name: string): boolean {
    if (!this.#reassigned) {
      this.#reassigned = new Set()
      for (const statement of this.root.body)
        for (const [free, use] of analyze(statement).free) if (use.isAssigned) this.#reassigned.add(free)
    }
    return this.#reassigned.has(name)
  }

  /** Is it a module-level class, or a constant whose initializer can be seen not to be undefined? */
  isInitialized(name: string): boolean {
    if (!this.#initialized) {
      this.#initialized = new Set()
      for (const statement of this.root.body) addInitialized(unwrapExport(statement), this.#initialized)
    }
    return this.#initialized.has(name)
  }
}

const known = new Map<string, Script>()

export function scriptOf(id: string): Script {
  let script = known.get(id)
  if (!script) {
    script = new Script(id, readScript(id))
    known.set(id, script)
  }
  return script
}

/** Reads the program's main file ahead of need. */
export function readMainScript(): void {
  const main = mainUrl()
  if (main === null) return
  for (const [id, raw] of readScriptsAhead((url) => toUrl(url).replace(/[?#].*$/, '') === main))
    if (!known.has(id)) known.set(id, new Script(id, raw))
}

/** The file that the user started. */
export function mainUrl(): string | null {
  if (!process.argv[1]) return null
  try {
    return pathToFileURL(realpathSync(process.argv[1])).href
  } catch {
    return pathToFileURL(process.argv[1]).href // `node dir` and `node file` without its extension.
  }
}

function toUrl(url: string): string {
  if (/^(\[eval|\[stdin|REPL\d)/.test(url)) return pathToFileURL(path.join(process.cwd(), url)).href
  return path.isAbsolute(url) ? pathToFileURL(url).href : url
}

function tryParse(raw: RawScript): Program | null {
  try {
    return parse(raw.source, raw.isModule ? 'module' : 'script')
  } catch {
    return null // A syntax that acorn does not know yet: scopes still tell a lot.
  }
}

function isUseStrict(statement: AnyNode | undefined): boolean {
  return statement?.type === 'ExpressionStatement' && statement.directive === 'use strict'
}

function readMap(raw: RawScript, url: string): SourceMapData | null {
  const { sourceMapUrl } = raw
  if (!sourceMapUrl) return null
  try {
    const inline = /^data:application\/json[^,]*;base64,(.*)$/s.exec(sourceMapUrl)
    if (inline) return JSON.parse(Buffer.from(inline[1] as string, 'base64').toString()) as SourceMapData
    return url.startsWith('file:')
      ? (JSON.parse(readFileSync(new URL(sourceMapUrl, url), 'utf8')) as SourceMapData)
      : null
  } catch {
    return null // Without its map, a stack shows the compiled file.
  }
}

function addInitialized(node: AnyNode, names: Set<string>): void {
  if (node.type === 'ClassDeclaration' && node.id) names.add(node.id.name)
  if (node.type !== 'VariableDeclaration' || node.kind !== 'const') return
  for (const { id, init } of node.declarations)
    if (id.type === 'Identifier' && init && INITIALIZED_AT_ONCE.test(init.type)) names.add(id.name)
}
