// Writes dist/types/: the declarations of the public door in one file, so that nothing internal can be reached or seen through them.

import fs from 'node:fs'
import { generateDtsBundle } from 'dts-bundle-generator'

// What a program compiled without @types/node, or with an older `lib`, still needs.
const HEAD = '/// <reference lib="es2022" />\n/// <reference lib="esnext.disposable" />\n\n'

const [text] = generateDtsBundle(
  [{ filePath: 'src/index.ts', output: { noBanner: true, exportReferencedTypes: false } }],
  { preferredConfigPath: 'tsconfig.types.json' },
)
fs.mkdirSync('dist/types', { recursive: true })
// The second one says to TypeScript that `require('ray-ts')` works; it is the same module.
for (const name of ['index.d.ts', 'index.d.cts']) fs.writeFileSync(`dist/types/${name}`, `${HEAD}${text}`)
