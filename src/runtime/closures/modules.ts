// Importing for code that came from elsewhere: as from the user's own file, at its place.
//
//   O1. A specifier resolves relative to the file that the code was written in.
//   O2. TypeScript files are imported as the program does: with its own loader where it has one (execArgv), else with Node's type
//       stripping, else with tsx, which is then loaded at the first need.

import { existsSync } from 'node:fs'
import { createRequire, Module } from 'node:module'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import vm from 'node:vm'
import type { AmbientNode, ImportNode, Node } from './payload.ts'

type Importer = (spec: string, options?: unknown) => Promise<Record<string, unknown>>

export const USE_MAIN_LOADER = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER

const importers = new Map<string, Importer>()
const modules = new Map<string, Record<string, unknown>>()

/** Imports what the nodes refer to; null when all of it is there. */
export function prefetch(nodes: readonly Node[]): Promise<unknown> | null {
  const missing = nodes.filter((node): node is ImportNode => node.t === 'import' && !modules.has(keyOf(node)))
  const isRequiring = nodes.some((node) => node.t === 'require' || (node.t === 'ambient' && node.what === 'require'))
  const sharing = isRequiring ? shareOwnCopy() : null
  if (missing.length === 0) return sharing
  return Promise.all([
    sharing,
    ...missing.map(async (node) => {
      const { attributes, parent, spec } = node
      const isBareJson = !attributes && /\.json$/.test(spec) // Vite takes the attribute away.
      const given = isBareJson ? [['type', 'json'] as const] : attributes
      const options = given ? { with: Object.fromEntries(given) } : undefined
      modules.set(keyOf(node), await importFrom(parent ?? import.meta.url, spec, options))
    }),
  ])
}

let hasSharedCopy = false

/** Loaders like tsx give \`require\` a copy of its own of an ES module; of this package there must be one only. */
function shareOwnCopy(): Promise<void> | null {
  if (hasSharedCopy) return null
  hasSharedCopy = true
  const own = fileURLToPath(new URL('./index.js', import.meta.url)) // Beside the chunk that holds this, in what is published.
  if (!existsSync(own)) return null
  return importFrom(import.meta.url, pathToFileURL(own).href).then((exports) => {
    const module = Object.assign(new Module(own), { exports, loaded: true, filename: own })
    createRequire(import.meta.url).cache[own] ??= module
  })
}

/** What an import node stands for. Its module has been prefetched. */
export function importedValue(node: ImportNode): unknown {
  const module = modules.get(keyOf(node))
  if (!module) throw new Error(`${node.spec} has not been imported`)
  let value: unknown = module
  if (node.imported !== '*') {
    if (!(node.imported in module)) throw new SyntaxError(`${node.spec} has no export ${node.imported}`)
    value = module[node.imported]
  }
  if (!node.path) return value
  if (node.spec.startsWith('node:')) value = module.default ?? module
  for (const key of node.path) value = (value as Record<string, unknown>)[key]
  return value
}

function keyOf({ parent, spec, attributes }: ImportNode): string {
  return `${parent ?? ''}|${spec}|${attributes ? JSON.stringify(attributes) : ''}`
}

async function importFrom(parent: string, spec: string, options?: unknown): Promise<Record<string, unknown>> {
  if (/\.[mc]?tsx?$/.test(spec) && !readsTypeScript()) await registerTsx()
  const importer = importerOf(parent)
  try {
    return await importer(spec, options)
  } catch (error) {
    if (!isAboutTypeScript(error) || !(await registerTsx())) throw error
    const url = /^\.|^\//.test(spec) ? new URL(spec, parent).href : spec
    return importer(url.startsWith('file:') ? `${url}?ray` : spec, options) // Node remembers that the url failed.
  }
}

function importerOf(parent: string): Importer {
  let importer = importers.get(parent)
  if (!importer) {
    silenceExperimentalWarning()
    const text = '(spec,options)=>options?import(spec,options):import(spec)'
    importer = new vm.Script(text, {
      filename: parent,
      importModuleDynamically: USE_MAIN_LOADER as never,
    }).runInThisContext() as Importer
    importers.set(parent, importer)
  }
  return importer
}

/** Runs `work`, which requires modules, once more with tsx when TypeScript stood in the way. */
export function requiring<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!isAboutTypeScript(error) || !registerTsxForRequire()) throw error
    return work()
  }
}

function readsTypeScript(): boolean {
  const flags = [...process.execArgv, process.env.NODE_OPTIONS ?? ''].join(' ')
  return (
    Boolean((process.features as { typescript?: unknown }).typescript) || /tsx|ts-node|swc|esbuild|jiti/.test(flags)
  )
}

function isAboutTypeScript(error: unknown): boolean {
  const { code } = error as { code?: string }
  const isUnread = code === 'ERR_UNKNOWN_FILE_EXTENSION' || code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX'
  const stack = error instanceof SyntaxError ? String(error.stack).split('\n')[0] : ''
  return isUnread || /\.[mc]?tsx?:\d+/.test(stack ?? '') || code === 'ERR_INVALID_TYPESCRIPT_SYNTAX'
}

let tsx: Promise<boolean> | null = null

/** tsx is the user's, an optional peer: looked for from the program's folder, then from here. */
function registerTsx(): Promise<boolean> {
  tsx ??= (async () => {
    for (const from of tsxParents()) {
      try {
        const { register } = (await importerOf(from)('tsx/esm/api')) as { register: () => unknown }
        register()
        return true
      } catch (error) {
        if ((error as { code?: string }).code !== 'ERR_MODULE_NOT_FOUND') throw error
      }
    }
    return false
  })()
  return tsx
}

let hasTsxForRequire = false

function registerTsxForRequire(): boolean {
  if (hasTsxForRequire) return false
  hasTsxForRequire = true
  for (const from of tsxParents()) {
    try {
      const { register } = createRequire(from)('tsx/cjs/api') as { register: () => unknown }
      register()
      return true
    } catch (error) {
      if ((error as { code?: string }).code !== 'MODULE_NOT_FOUND') throw error
    }
  }
  return false
}

function tsxParents(): string[] {
  return [pathToFileURL(path.join(process.cwd(), 'index.js')).href, import.meta.url]
}

/** What the module `node.url` itself would see under these names. */
export function ambientValue({ what, url, viteRoot }: AmbientNode): unknown {
  switch (what) {
    case 'require':
      return createRequire(url)
    case '__filename':
      return fileURLToPath(url)
    case '__dirname':
      return path.dirname(fileURLToPath(url))
    case 'module':
      return { exports: {} }
    case 'import.meta':
      return metaOf(url)
    case 'dynamicImport':
      return (spec: string, options?: unknown) => importFrom(url, fromVite(spec, viteRoot), options)
  }
}

function fromVite(spec: string, root: string | undefined): string {
  if (spec.startsWith('/@fs/')) return pathToFileURL(spec.slice(4)).href
  return root !== undefined && spec.startsWith('/') && existsSync(root + spec) ? pathToFileURL(root + spec).href : spec
}

/** `import.meta` of the module `url`. */
export function metaOf(url: string): object {
  const filename = url.startsWith('file:') ? fileURLToPath(url) : url
  const resolve = (spec: string): string => {
    if (/^\.|^\/|^[a-z]+:/i.test(spec)) return new URL(spec, url).href
    const found = createRequire(url).resolve(spec)
    return path.isAbsolute(found) ? pathToFileURL(found).href : found
  }
  return Object.assign(Object.create(null) as object, {
    url,
    filename,
    dirname: path.dirname(filename),
    main: false,
    resolve,
  })
}

let isSilenced = false

/** The constant is experimental in name; the warning of its first import would reach every user. */
function silenceExperimentalWarning(): void {
  if (isSilenced) return
  isSilenced = true
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    const options = { importModuleDynamically: USE_MAIN_LOADER as never }
    void new vm.Script("import('node:path')", options).runInThisContext()
  } finally {
    process.emitWarning = emitWarning
  }
}
