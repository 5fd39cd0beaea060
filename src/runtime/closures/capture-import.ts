// Imports by reference: the specifier, the file that it is relative to, and the export's name.
//
//   M1. What the driver's own main file exports travels by value: importing it elsewhere would run the driver again.
//   M2. A CommonJS import runs its initializer again: bundlers and compilers put helpers around `require`.

import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Capture } from './capture.ts'
import { analyze } from './free-variables.ts'
import type { ImportEntry } from './import-table.ts'
import type { Scope } from './inspect.ts'
import type { ImportNode, Node, RequireNode, Value } from './payload.ts'
import { isHeld } from './registry.ts'
import { mainUrl, type Script } from './scripts.ts'
import { parseExpression } from './syntax.ts'

export interface ImportPlace {
  readonly script: Script
  readonly scopes: readonly Scope[]
}

/** undefined: it is no import after all (M1). */
export function captureImport(
  capture: Capture,
  entry: ImportEntry,
  value: unknown,
  place: ImportPlace,
): Value | undefined {
  const parent = place.script.file
  switch (entry.how) {
    case 'createRequire':
      return { r: capture.add({ t: 'ambient', what: 'require', url: parent }) }
    case 'esm': {
      const node = importNode(entry, parent)
      return node && { r: remember(capture, node, value) }
    }
    case 'vite': {
      const spec = fromVite(entry.spec, capture.options.viteRoot)
      return { r: remember(capture, { t: 'import', spec, parent, imported: entry.imported }, value) }
    }
    case 'cjs':
      return captureRequire(capture, entry, value, place)
  }
}

/** Notes everything that a script imports: then aliases and superclasses are known to be imports too. */
export function learnImports(capture: Capture, script: Script, scopes: readonly Scope[]): void {
  if (capture.scriptsLearned.has(script.id)) return
  capture.scriptsLearned.add(script.id)
  const scope =
    scopes.findLast((one) => one.kind === 'Module') ??
    scopes.findLast((one) => one.kind !== 'Global' && !one.kind.startsWith('Script'))
  if (!scope) return
  for (const [name, entry] of script.imports) {
    if (entry.how !== 'esm' || !(name in scope.object)) continue
    const value = readOrUndefined(scope.object, name)
    if (!isHeld(value) || capture.imported.has(value)) continue
    const node = importNode(entry, script.file)
    if (node) capture.imported.set(value, node)
  }
}

function readOrUndefined(object: Record<string, unknown>, name: string): unknown {
  try {
    return object[name]
  } catch {
    return undefined // Not initialized yet.
  }
}

function importNode(entry: ImportEntry & { how: 'esm' }, parent: string): ImportNode | undefined {
  const { spec, imported, attributes } = entry
  if (isMain(spec, parent)) return undefined // M1
  return { t: 'import', spec, parent, imported, ...(attributes.length > 0 ? { attributes } : {}) }
}

/** Loaders resolve with and without extensions: they do not count. */
function isMain(spec: string, parent: string): boolean {
  if (!/^\.|^\/|^file:/.test(spec)) return false
  const bare = (url: string): string => url.replace(/\.[cm]?[jt]sx?$/, '')
  return bare(new URL(spec, parent).href) === bare(mainUrl() ?? '')
}

function remember(capture: Capture, node: Node, value: unknown): number {
  if (!isHeld(value)) return capture.add(node)
  capture.imported.set(value, node)
  return capture.idOf(value) ?? capture.addFor(value, node)
}

function fromVite(spec: string, root: string | null): string {
  if (spec.startsWith('/@fs/')) return pathToFileURL(spec.slice(4)).href
  if (root !== null && spec.startsWith('/')) {
    const inRoot = path.join(root, spec)
    return pathToFileURL(existsSync(inRoot) ? inRoot : spec).href
  }
  return path.isAbsolute(spec) ? pathToFileURL(spec).href : spec
}

function captureRequire(
  capture: Capture,
  entry: ImportEntry & { how: 'cjs' },
  value: unknown,
  { script, scopes }: ImportPlace,
): Value | undefined {
  if (isMain(entry.spec, script.file)) return undefined // M1
  const known = isHeld(value) ? capture.idOf(value) : undefined
  if (known !== undefined) return { r: known }
  const env: RequireNode['env'] = {}
  const pick = entry.imported === '*' ? {} : { pick: entry.imported }
  const node: RequireNode = { t: 'require', parent: script.file, code: entry.code, env, ...pick }
  const id = isHeld(value) ? capture.addFor(value, node) : capture.add(node)
  for (const name of analyze(parseExpression(entry.code)).free.keys()) {
    if (name === 'require' || name === 'undefined') continue
    const scope = scopes.find((one) => one.kind !== 'Global' && name in one.object)
    if (scope) {
      env[name] = capture.under({ via: 'variable', name }, scope.object[name])
      continue
    }
    const declarations = declarationsOf(script, name)
    if (declarations !== null) env[name] = { declarations }
    else if (!(name in globalThis))
      capture.refuse(`the helper ${name} of an import cannot be seen`, 'Import the module without a helper around it.')
  }
  return { r: id }
}

/** `__toESM` and the like are captured by no function, so V8 has no value for them: their declarations are run again. */
function declarationsOf(script: Script, name: string): string | null {
  const seen = new Set<string>()
  const found: string[] = []
  const add = (wanted: string): void => {
    if (seen.has(wanted)) return
    seen.add(wanted)
    for (const statement of script.root.body) {
      if (statement.type === 'FunctionDeclaration' && statement.id.name === wanted) {
        for (const used of analyze(statement).free.keys()) add(used)
        found.push(script.raw.source.slice(statement.start, statement.end))
      } else if (statement.type === 'VariableDeclaration') {
        for (const one of statement.declarations) {
          if (one.id.type !== 'Identifier' || one.id.name !== wanted || !one.init) continue
          for (const used of analyze(one.init).free.keys()) add(used)
          found.push(`var ${script.raw.source.slice(one.start, one.end)}`)
        }
      }
    }
  }
  add(name)
  return found.length > 0 ? `${found.join(';')};return ${name}` : null
}
