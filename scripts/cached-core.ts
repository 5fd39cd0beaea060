// Makes the largest file of dist/ one that V8 can keep compiled: compiling its 0.5 MB is a sixth of a worker's start.
//
//     core-HASH.js    takes the place of the ES module: runs the script, and exports what that exported
//     core-HASH.cjs   the same code as a script, which `vm.Script` takes together with what V8 made of it last time
//
// It must not hold `import()`: in a script that V8 takes from what it kept, Node 20 no longer knows whose import that is.
//
// Where the result is kept: RAY_TS_CODE_CACHE, a file of the node's session (runtime/node-server.ts). The first worker writes it.

import fs from 'node:fs'
import path from 'node:path'
import { tokenizer } from 'acorn'
import { build } from 'esbuild'

export async function makeCachedCore(dist: string): Promise<void> {
  const cores = fs.readdirSync(dist).filter((file) => /^core-.*\.js$/.test(file))
  const [core] = cores.sort((a, b) => fs.statSync(path.join(dist, b)).size - fs.statSync(path.join(dist, a)).size)
  if (!core) throw new Error('there is no core')
  const module = path.join(dist, core)
  const script = core.replace(/\.js$/, '.cjs')
  const text = fs.readFileSync(module, 'utf8')
  const imports = [...text.matchAll(/^(?:import|\} from) .*"(\.\/[^"]+)";$/gm)].map(([, file]) => file as string)
  const exported = /^export \{\n([^}]*)\n\};$/m.exec(text)?.[1] ?? ''
  const names = exported.split(',').map((one) => one.trim().split(' as ').at(-1) as string)
  if (names.length < 10) throw new Error(`what ${core} exports is not read`)
  await build({
    entryPoints: [module],
    outfile: path.join(dist, script),
    format: 'cjs',
    platform: 'node',
    target: 'node20.19',
    sourcemap: true,
    // Not minified: Node prints the line of an exception that nobody caught.
    define: { 'import.meta': 'importMeta' },
    banner: { js: '(function (module, exports, require, importMeta) {' },
    footer: { js: '})' },
    logLevel: 'warning',
  })
  const code = fs.readFileSync(path.join(dist, script), 'utf8')
  for (const { type } of tokenizer(code, { ecmaVersion: 'latest' }))
    if (type.keyword === 'import') throw new Error(`${script} has an import(): use importerOf of closures/modules.ts`)
  fs.writeFileSync(module, facade({ script, imports, names }))
  fs.rmSync(`${module}.map`)
}

function facade({ script, imports, names }: { script: string; imports: readonly string[]; names: readonly string[] }) {
  return `import fs from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import vm from 'node:vm'
${imports.map((file, i) => `import * as m${i} from '${file}'`).join('\n')}
const given = { ${imports.map((file, i) => `'${file}': m${i}`).join(', ')} }
const require = createRequire(import.meta.url)
const url = new URL('./${script}', import.meta.url)
const place = process.env.RAY_TS_CODE_CACHE
delete process.env.RAY_TS_CODE_CACHE
let cachedData
try {
  if (place) cachedData = fs.readFileSync(place)
} catch {}
const script = new vm.Script(fs.readFileSync(fileURLToPath(url), 'utf8'), {
  filename: url.href,
  cachedData,
})
const module = { exports: {} }
script.runInThisContext()(module, module.exports, (id) => given[id] ?? process.getBuiltinModule(id) ?? require(id), import.meta)
const keep = () => {
  const whole = \`\${place}.\${process.pid}\`
  fs.writeFileSync(whole, script.createCachedData(), { mode: 0o600 })
  fs.renameSync(whole, place)
}
if (place) {
  const isCached = cachedData !== undefined && !script.cachedDataRejected
  // Whoever runs with other flags of V8 than the first one finds it rejected, and leaves it.
  globalThis[Symbol.for('ray-ts.code')] = { isCached, keep: cachedData ? null : keep }
}
export const { ${names.join(', ')} } = module.exports
`
}
