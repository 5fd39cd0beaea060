// Ways of running a TypeScript program: each makes a folder with the programs of test/fixtures/closures, transformed, and starts it.

import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import ts from 'typescript'

export type ModeName =
  | 'plain ESM'
  | 'tsx ESM'
  | 'tsx CJS'
  | 'tsc ESM'
  | 'tsc CJS ES2022'
  | 'tsc CJS ES2017'
  | 'bundle'
  | 'type stripping'

export interface Outcome {
  readonly name: string
  readonly got: string
  readonly expected: string
}

export interface ModeRun {
  readonly outcomes: ReadonlyMap<string, Outcome>
  /** Everything else that the program printed. */
  readonly output: string
}

const SOURCES = path.resolve('test/fixtures/closures')
const PROGRAM_LIMIT_MS = 120_000

/** The programs that mode runs, besides main.ts. */
export function programsOf(mode: ModeName | 'vitest'): string[] {
  const isCommonJs = mode.includes('CJS')
  const canStripOnly = mode === 'type stripping'
  return [
    'cases',
    'refused',
    'stacks',
    ...(canStripOnly ? [] : ['typescript']),
    ...(isCommonJs ? ['commonjs'] : ['modules']),
  ]
}

/** The names of the cases in a program, read from its text: a case that does not run is then missing. */
export function caseNames(program: string): string[] {
  const text = fs.readFileSync(path.join(SOURCES, `${program}.ts`), 'utf8')
  return [...text.matchAll(/^(?:works|refused|differs|check|throwsAt)\('([^']+)'/gm)].map((match) => match[1] as string)
}

export const MODES: readonly ModeName[] = [
  'plain ESM',
  'tsx ESM',
  'tsx CJS',
  'tsc ESM',
  'tsc CJS ES2022',
  'tsc CJS ES2017',
  'bundle',
  ...((process.features as { typescript?: unknown }).typescript ? (['type stripping'] as const) : []),
]

export async function runMode(mode: ModeName): Promise<ModeRun> {
  const folder = path.resolve('.cache/closures', process.version, mode.replaceAll(' ', '-'))
  fs.rmSync(folder, { recursive: true, force: true })
  fs.mkdirSync(path.join(folder, 'node_modules'), { recursive: true })
  fs.symlinkSync(path.resolve('.'), path.join(folder, 'node_modules/ray-ts'))
  const type = mode.includes('CJS') ? 'commonjs' : 'module'
  fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ type }))
  fs.copyFileSync(path.join(SOURCES, 'data.json'), path.join(folder, 'data.json'))
  const imports = programsOf(mode).map((program) => `import './${program}.ts'`)
  const files = ['harness', 'helper', 'uses-main', 'main', ...programsOf(mode)]
  for (const file of files) {
    const text = fs.readFileSync(path.join(SOURCES, `${file}.ts`), 'utf8').replace('/*PROGRAMS*/', imports.join('\n'))
    writeProgram(mode, folder, file, text)
  }
  const compilerOptions = { experimentalDecorators: true, target: 'ES2022' }
  fs.writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
  if (mode === 'bundle') bundle(folder)
  return start(mode, folder)
}

function writeProgram(mode: ModeName, folder: string, file: string, text: string): void {
  if (mode.startsWith('tsx') || mode === 'bundle' || mode === 'type stripping') {
    fs.writeFileSync(path.join(folder, `${file}.ts`), text)
    return
  }
  const isCommonJs = mode.includes('CJS')
  const isPlain = mode === 'plain ESM'
  const source = text.replaceAll(/(['"])(\.\/[\w-]+)\.ts\1/g, "'$2.js'")
  const { outputText, sourceMapText } = ts.transpileModule(source, {
    fileName: `${file}.ts`,
    compilerOptions: {
      target: mode.endsWith('ES2017') ? ts.ScriptTarget.ES2017 : ts.ScriptTarget.ES2022,
      module: isCommonJs ? ts.ModuleKind.CommonJS : ts.ModuleKind.ESNext,
      experimentalDecorators: true,
      esModuleInterop: true,
      sourceMap: !isPlain,
      useDefineForClassFields: true,
    },
  })
  fs.writeFileSync(path.join(folder, `${file}.js`), outputText)
  if (!sourceMapText) return
  const map = {
    ...(JSON.parse(sourceMapText) as object),
    sources: [pathToFileURL(path.join(SOURCES, `${file}.ts`)).href],
  }
  fs.writeFileSync(path.join(folder, `${file}.js.map`), JSON.stringify(map))
}

/** As a command: in this process esbuild would leave a service running. */
function bundle(folder: string): void {
  const flags = [
    '--bundle',
    '--minify',
    '--keep-names',
    '--format=esm',
    '--platform=node',
    '--target=node20.19',
    '--sourcemap',
  ]
  const files = [path.join(folder, 'main.ts'), `--outfile=${path.join(folder, 'bundle.js')}`]
  execFileSync(path.resolve('node_modules/.bin/esbuild'), [
    ...files,
    ...flags,
    '--packages=external',
    '--log-level=error',
  ])
  for (const name of fs.readdirSync(folder)) if (name.endsWith('.ts')) fs.rmSync(path.join(folder, name))
}

function start(mode: ModeName, folder: string): Promise<ModeRun> {
  const extension = mode.startsWith('tsx') || mode === 'type stripping' ? 'ts' : 'js'
  const file = path.join(folder, `${mode === 'bundle' ? 'bundle' : 'main'}.${extension}`)
  const flags = mode.startsWith('tsx') ? ['--import', 'tsx'] : []
  const env: NodeJS.ProcessEnv = { ...process.env, CLOSURE_MODE: mode }
  for (const name of [
    'VITEST',
    'NODE_OPTIONS',
    'VITEST_WORKER_ID',
    'VITEST_POOL_ID',
    'TEST',
    'VITEST_MODE',
    'NODE_ENV',
  ])
    delete env[name]
  const child = spawn(process.execPath, [...flags, file], { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), PROGRAM_LIMIT_MS)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearTimeout(timer)
      const outcomes = new Map<string, Outcome>()
      const rest: string[] = code === 0 ? [] : [`exit code ${code}`]
      for (const line of text.split('\n')) {
        if (!line.startsWith('CASE ')) rest.push(line)
        else {
          const outcome = JSON.parse(line.slice(5)) as Outcome
          outcomes.set(outcome.name, outcome)
        }
      }
      resolve({ outcomes, output: rest.join('\n').trim() })
    })
  })
}

/** `file:line` of the line that a stack case marks, as the mode's users would see it. */
export function markedLine(mode: ModeName | 'vitest', program: string, name: string): string {
  const isPlain = mode === 'plain ESM'
  const folder = path.resolve('.cache/closures', process.version, 'plain-ESM')
  const file = isPlain ? path.join(folder, `${program}.js`) : path.join(SOURCES, `${program}.ts`)
  const line = fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .findIndex((text) => text.endsWith(`// LINE ${name}`))
  return `${path.basename(file)}:${line + 1}`
}
