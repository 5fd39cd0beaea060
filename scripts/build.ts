// Bundles src/ into dist/: one ESM build with shared chunks, so that workers and the programs they import see one copy of everything.

import fs from 'node:fs'
import { build } from 'esbuild'

const entries: Record<string, string> = {
  index: 'src/index.ts',
  worker: 'src/api/worker-entry.ts',
  node: 'src/runtime/node-main.ts',
  cli: 'src/cli/main.ts',
  'bench-rows': 'bench/rows.ts',
}
for (const [name, file] of Object.entries(entries)) if (!fs.existsSync(file)) delete entries[name]

fs.rmSync('dist', { recursive: true, force: true })
await build({
  entryPoints: entries,
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  sourcemap: true,
  keepNames: true,
  packages: 'external',
  logLevel: 'warning',
})
fs.cpSync('packages/native/prebuilds', 'dist/prebuilds', { recursive: true })
