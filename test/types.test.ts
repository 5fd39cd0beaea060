// Failure here looks like a wrong program that compiles, a right one that does not, or an `any` that spreads into a user's code.
// The files of test/types/ are compiled twice: against the sources by `npm run check`, and here against the declarations we ship.
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import ts from 'typescript'
import { beforeAll, expect, test } from 'vitest'

const DECLARATIONS = 'dist/types/index.d.ts'
/** Of the compiler, for the files of test/types/ and the declarations themselves. */
let complaints = ''

beforeAll(() => {
  execFileSync(process.execPath, ['--import', 'tsx', 'scripts/types.ts'])
  const config = '.cache/tsconfig.shipped.json'
  fs.mkdirSync('.cache', { recursive: true })
  const compilerOptions = { customConditions: [], skipLibCheck: false }
  const include = ['../test/types/*.ts']
  fs.writeFileSync(config, JSON.stringify({ extends: '../tsconfig.json', compilerOptions, include, exclude: [] }))
  const tsc = path.resolve('node_modules/typescript/bin/tsc')
  const listed = spawnSync(process.execPath, [tsc, '-p', config, '--listFiles'], { encoding: 'utf8' })
  const files = listed.stdout.split('\n')
  expect(files.some((file) => file.endsWith(DECLARATIONS))).toBe(true)
  expect(files.filter((file) => file.includes('/ray-ts/src/') || file.endsWith('/src/index.ts'))).toEqual([])
  complaints = files.filter((line) => /error TS/.test(line)).join('\n')
}, 300_000)

const about = (file: string): string =>
  complaints
    .split('\n')
    .filter((line) => line.includes(file))
    .join('\n')

test('[TASK-01][TASK-02][TASK-03][TASK-12][EXTRA-01] types flow through tasks, get and wait; wrong uses do not compile', () => {
  expect(about('test/types/tasks.ts')).toBe('')
  expect(expectedErrors('test/types/tasks.ts')).toBeGreaterThan(35)
})

test('[ACT-01][ACT-13][ACT-16][EXTRA-07][EXTRA-29] types flow through actors, pools and queues; handles have only methods', () => {
  expect(about('test/types/actors.ts')).toBe('')
  expect(expectedErrors('test/types/actors.ts')).toBeGreaterThan(25)
})

test('the declarations compile by themselves, in a program without the types of Node too', () => {
  expect(complaints).toBe('')
  const alone = ts.createProgram([DECLARATIONS], {
    strict: true,
    noEmit: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  })
  const messages = ts.getPreEmitDiagnostics(alone).map((one) => ts.flattenDiagnosticMessageText(one.messageText, '\n'))
  expect(messages).toEqual([])
})

test('nothing that is exported is `any`', () => {
  const text = fs.readFileSync(DECLARATIONS, 'utf8')
  const source = ts.createSourceFile(DECLARATIONS, text, ts.ScriptTarget.Latest, true)
  const anys: string[] = []
  const visit = (node: ts.Node): void => {
    if (node.kind === ts.SyntaxKind.AnyKeyword) {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart())
      anys.push(`${line + 1}: ${text.split('\n')[line]?.trim()}`)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  expect(anys).toEqual([])
  for (const leak of ['CoreRuntime', 'ObjectId', '@internal']) expect(text).not.toContain(leak)
})

function expectedErrors(file: string): number {
  return fs.readFileSync(file, 'utf8').match(/@ts-expect-error/g)?.length ?? 0
}

test('everything that is exported says what it is', () => {
  const text = fs.readFileSync(DECLARATIONS, 'utf8')
  expect(undocumented(ts.createSourceFile(DECLARATIONS, text, ts.ScriptTarget.Latest, true))).toEqual([])
})

/** Exported declarations, and members of exported classes and interfaces, that say nothing about themselves. */
function undocumented(source: ts.SourceFile): string[] {
  const silent: string[] = []
  const seen = new Set<string>()
  const isSilent = (node: ts.Node): boolean => ts.getJSDocCommentsAndTags(node).length === 0
  const exported = exportedNames(source)
  for (const node of source.statements) {
    const named = node as ts.Statement & { readonly name?: ts.Identifier; readonly members?: ts.NodeArray<ts.Node> }
    const name = named.name?.text
    if (name === undefined || !exported.has(name)) continue
    if (isSilent(node) && !seen.has(name) && !ts.isModuleDeclaration(node)) silent.push(name)
    seen.add(name)
    const documented = new Set<string>()
    for (const member of named.members ?? []) {
      const { name: memberName } = member as ts.NamedDeclaration
      const label = memberName?.getText(source)
      const isInternal = label === undefined || /^(#private|\[|toString|toJSON|params)/.test(label)
      if (isInternal || documented.has(label)) continue
      documented.add(label)
      if (isSilent(member)) silent.push(`${name}.${label}`)
    }
  }
  return silent
}

function exportedNames(source: ts.SourceFile): Set<string> {
  const names = new Set<string>()
  const collect = (node: ts.Node): void => {
    if (ts.isExportDeclaration(node) && node.exportClause && ts.isNamedExports(node.exportClause)) {
      for (const { propertyName, name } of node.exportClause.elements) names.add((propertyName ?? name).text)
    }
    const modifiers = ts.canHaveModifiers(node) ? (ts.getModifiers(node) ?? []) : []
    if (modifiers.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)) {
      const { name } = node as ts.Statement & { readonly name?: ts.Identifier }
      if (name) names.add(name.text)
    }
    if (ts.isModuleDeclaration(node) || ts.isModuleBlock(node) || ts.isSourceFile(node)) ts.forEachChild(node, collect)
  }
  collect(source)
  return names
}
