// Makes of what shares the state of a process (the program's side, the worker's, a thread's) one script that V8 can keep compiled:
// compiling its 0.5 MB is a sixth of a worker's start, and loading it as ES modules another sixth.
//
//     core.cjs      the code, as the modules of the first build; each runs when it is first asked for
//     load.cjs      compiles the script, together with what V8 made of it last time, and hands out its modules
//     worker.cjs    a worker process: no ES module is loaded before user code wants one
//     resolve.js    how `import` finds a package, which a script cannot ask
//     index.js, thread.js    ES modules that export what the modules in the script do
//
// The script must not hold `import()`: in one that V8 takes from what it kept, Node 20 no longer knows whose import that is.
//
// Where the result is kept: RAY_TS_CODE_CACHE, a file of the node's session (runtime/node-server.ts). It holds the functions that have
// run in the worker that wrote it, and in a last byte which parts of the code these are (api/worker-entry.ts, W3).

import { isAscii } from 'node:buffer'
import fs from 'node:fs'
import path from 'node:path'
import { tokenizer } from 'acorn'
import { type BuildOptions, build } from 'esbuild'

const SCRIPT = 'core.cjs'
const LOADER = 'load.cjs'
const RESOLVER = 'resolve.js'
const WRAPPED = '(function (module, exports, require, importMeta) {'

/** `entries`: the modules of the script by name; all but `worker` get an ES module of that name. */
export async function makeCachedCore(options: BuildOptions, entries: Readonly<Record<string, string>>): Promise<void> {
  const dist = options.outdir as string
  const modules = path.join(dist, 'modules')
  const first = await build({ ...options, outdir: modules, entryPoints: { ...entries }, metafile: true })
  const names = Object.keys(entries)
  await build({
    stdin: {
      contents: `module.exports = { ${names.map((name) => `${name}: () => require('./${name}.js')`).join(', ')} }`,
      resolveDir: modules,
    },
    outfile: path.join(dist, SCRIPT),
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: options.target as string,
    packages: 'external',
    sourcemap: true,
    // Not minified: Node prints the line of an exception that nobody caught.
    define: { 'import.meta': 'importMeta' },
    banner: { js: WRAPPED },
    footer: { js: '})' },
    logLevel: 'warning',
  })
  fs.rmSync(modules, { recursive: true })
  const script = path.join(dist, SCRIPT)
  fs.writeFileSync(script, checked(lightImports(fs.readFileSync(script, 'utf8'))))
  fs.writeFileSync(path.join(dist, LOADER), loader)
  fs.writeFileSync(path.join(dist, RESOLVER), 'export const resolve = (name) => import.meta.resolve(name)\n')
  for (const name of names) {
    if (name === 'worker') fs.writeFileSync(path.join(dist, 'worker.cjs'), `require('./${LOADER}').worker()\n`)
    else {
      const output = Object.entries(first.metafile.outputs).find(([file]) => path.basename(file) === `${name}.js`)
      fs.writeFileSync(path.join(dist, `${name}.js`), facade(name, output?.[1].exports ?? []))
    }
  }
}

/** What a worker's start has no use for: Node compiles such a module anew in each process, so it is loaded when it is used. */
const LATE = ['node:module', 'node:os', 'node:timers/promises']

/** Each module of the source has its own import of `node:fs`, a copy of a hundred getters: 0.1 ms. */
function lightImports(code: string): string {
  const seen = new Map<string, string>()
  const late = new Map<string, string>()
  const once = code.replace(
    /\b(import_\w+) = (?:__toESM\()?require\("(node:[\w/]+)"\)(?:(?:, 1)?(\)))?;/g,
    (whole, name: string, id: string, isCopied: string | undefined) => {
      if (LATE.includes(id)) {
        late.set(name, id)
        return ''
      }
      if (!isCopied) return whole
      const earlier = seen.get(id)
      if (!earlier) seen.set(id, name)
      return earlier ? `${name} = ${earlier} ?? __toESM(require("${id}"), 1);` : whole
    },
  )
  const light = once.replace(/\b(import_\w+)(?=\.)/g, (name) =>
    late.has(name) ? `(lateBuiltin${LATE.indexOf(late.get(name) as string)}())` : name,
  )
  const loaders = LATE.map(
    (id, i) => `var late${i}; function lateBuiltin${i}() { return late${i} ??= __toESM(require("${id}"), 1) }`,
  )
  return light.replace(WRAPPED, `${WRAPPED} ${loaders.join(' ')}`)
}

/**
 * Without `import()`, and in ASCII: Node makes of a text with other characters one of twice the bytes, in twice the time. All of these are in
 * comments: esbuild escapes others.
 */
function checked(code: string): string {
  for (const { type, start, end } of tokenizer(code, { ecmaVersion: 'latest' })) {
    if (type.keyword === 'import') throw new Error(`${SCRIPT} has an import(): use importerOf of closures/modules.ts`)
    const token = code.slice(start, end)
    if (!isAscii(Buffer.from(token)))
      throw new Error(`${SCRIPT} has other characters than ASCII outside of comments: ${token}`)
  }
  return code.replace(/[^\0-\x7f]/g, '?')
}

function facade(name: string, exported: readonly string[]): string {
  const names = exported.length > 0 ? `export const { ${exported.join(', ')} } = ` : ''
  return `import load from './${LOADER}'\n${names}load.${name}()\n`
}

const loader = `'use strict'
const fs = require('fs')
const path = require('path')
const vm = require('vm')

/** Only an ES module knows how \`import\` resolves. */
const resolve = (name) => require('./${RESOLVER}').resolve(name)

function load() {
  const filename = path.join(__dirname, '${SCRIPT}')
  const place = process.env.RAY_TS_CODE_CACHE
  delete process.env.RAY_TS_CODE_CACHE
  let kept
  try {
    if (place) kept = fs.readFileSync(place)
  } catch {}
  const { href } = require('url').pathToFileURL(filename)
  const script = new vm.Script(fs.readFileSync(filename, 'latin1'), { filename: href, cachedData: kept?.subarray(0, -1) })
  const module = { exports: {} }
  script.runInThisContext()(module, module.exports, require, { url: href, resolve })
  if (place) {
    // Whoever runs with other flags of V8 than the first one finds it rejected, and leaves it.
    const parts = script.cachedDataRejected ? -1 : kept ? kept.at(-1) : 0
    const keep = (more) => {
      const whole = \`\${place}.\${process.pid}\`
      fs.writeFileSync(whole, Buffer.concat([script.createCachedData(), Buffer.of(parts | more)]), { mode: 0o600 })
      fs.renameSync(whole, place)
    }
    globalThis[Symbol.for('ray-ts.code')] = { parts, keep }
  }
  return module.exports
}

// Loaders like tsx load this file twice; of the code there must be one.
module.exports = globalThis[Symbol.for(\`ray-ts.core \${__filename}\`)] ??= load()
`
