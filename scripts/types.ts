// Writes dist/types/: the declarations of the public door in one file, so that nothing internal can be reached or seen through them.

import fs from 'node:fs'
import { generateDtsBundle } from 'dts-bundle-generator'
import ts from 'typescript'
import { sourceFiles } from './source-files.ts'

// What a program compiled without @types/node, or with an older `lib`, still needs.
const HEAD = '/// <reference lib="es2022" />\n/// <reference lib="esnext.disposable" />\n\n'

const doors = { index: 'src/index.ts', testing: 'src/testing/index.ts' }
const bundles = generateDtsBundle(
  Object.values(doors).map((filePath) => ({ filePath, output: { noBanner: true, exportReferencedTypes: false } })),
  { preferredConfigPath: 'tsconfig.types.json' },
)
fs.mkdirSync('dist/types', { recursive: true })
Object.keys(doors).forEach((door, i) => {
  const text = `${HEAD}${withComments(bundles[i] ?? '')}`
  // The second one says to TypeScript that `require('ray-ts')` works; it is the same module.
  for (const ending of ['d.ts', 'd.cts']) fs.writeFileSync(`dist/types/${door}.${ending}`, text)
})

/** The bundler drops the comments of what is exported through a namespace (`ray.util.Queue`): they are put back by name. */
function withComments(declarations: string): string {
  const comments = new Map<string, string>()
  const rooms = ['src/api', 'src/errors', 'src/values', 'src/runtime/closures']
  for (const file of rooms.flatMap(sourceFiles)) {
    for (const node of parse(file, fs.readFileSync(file, 'utf8')).statements) {
      const name = nameOf(node)
      if (name !== undefined && isExported(node) && !comments.has(name)) {
        const [comment] = ts.getJSDocCommentsAndTags(node)
        if (comment) comments.set(name, comment.getText())
      }
    }
  }
  const source = parse('index.d.ts', declarations)
  let [out, at] = ['', 0]
  const done = new Set<string>()
  for (const node of source.statements) {
    const name = nameOf(node)
    if (name === undefined || done.has(name)) continue
    done.add(name)
    const comment = comments.get(name)
    if (!comment || ts.getJSDocCommentsAndTags(node).length > 0) continue
    out += `${declarations.slice(at, node.getStart())}${comment}\n`
    at = node.getStart()
  }
  return out + declarations.slice(at)
}

function parse(name: string, code: string): ts.SourceFile {
  return ts.createSourceFile(name, code, ts.ScriptTarget.Latest, true)
}

function nameOf(node: ts.Statement): string | undefined {
  return (node as ts.Statement & { readonly name?: ts.Identifier }).name?.text
}

function isExported(node: ts.Statement): boolean {
  const modifiers = ts.canHaveModifiers(node) ? (ts.getModifiers(node) ?? []) : []
  return modifiers.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
}
