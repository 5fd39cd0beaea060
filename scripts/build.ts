// Bundles src/ into dist/: one ESM build with shared chunks, so that workers and the programs they import see one copy of everything.

import fs from 'node:fs'
import path from 'node:path'
import { type BuildOptions, build, type Plugin } from 'esbuild'
import { makeCachedCore } from './cached-core.ts'

/** What shares the state of a process: one copy of everything. */
const core = { index: 'src/index.ts', worker: 'src/api/worker-entry.ts', thread: 'src/api/thread-entry.ts' }
/** Processes of their own, and what comes to a program through `ray-ts`. */
const entries: Record<string, string> = {
  node: 'src/runtime/node-main.ts',
  gcs: 'src/runtime/gcs-main.ts',
  cli: 'src/cli/main.ts',
  testing: 'src/testing/index.ts',
  reaper: 'src/testing/reaper.ts',
  'bench-rows': 'bench/rows.ts',
  'bench-cluster': 'bench/cluster-rows.ts',
}
for (const [name, file] of Object.entries(entries)) if (!fs.existsSync(file)) delete entries[name]

/** Every worker pays for what it loads: 0.15 s of a core before these two, 0.08 s with them, 0.06 s for a bare node. */
const startup: Plugin = {
  name: 'startup',
  setup(plugin) {
    const replaced: Readonly<Record<string, string>> = {
      msgpackr: 'scripts/bundled/msgpackr.js',
      acorn: 'scripts/bundled/acorn.js',
      'node:crypto': 'scripts/bundled/builtins.js',
      'node:inspector': 'scripts/bundled/builtins.js',
      'node:v8': 'scripts/bundled/builtins.js',
      'node:worker_threads': 'scripts/bundled/builtins.js',
      'msgpackr-pure': 'node_modules/msgpackr/index.js',
      'msgpackr-unpack': 'node_modules/msgpackr/unpack.js',
    }
    const filter = new RegExp(`^(${Object.keys(replaced).join('|')})$`)
    plugin.onResolve({ filter }, ({ path: name }) => ({ path: path.resolve(replaced[name] as string) }))
  },
}

fs.rmSync('dist', { recursive: true, force: true })
const options: BuildOptions = {
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  sourcemap: true,
  packages: 'external',
  plugins: [startup],
  logLevel: 'warning',
  logOverride: { 'import-is-undefined': 'error' },
}
await makeCachedCore(options, core)
await build({ ...options, entryPoints: entries })
fs.cpSync('packages/native/prebuilds', 'dist/prebuilds', { recursive: true })
fs.cpSync('node_modules/msgpackr/LICENSE', 'dist/licenses/msgpackr.txt')
