// Failure here looks like a page with code that does not compile, a program that prints something else, or a link to nothing.
// Blocks marked `ts` are compiled; those with `ray.init(` or `Cluster.start(` are whole programs and run: `// …` after console.log is what it prints.
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { beforeAll, expect, test } from 'vitest'

const PAGES = ['README.md', ...fs.readdirSync('docs').map((name) => path.join('docs', name))].filter(
  (file) => file.endsWith('.md') && !file.endsWith('features.md'),
)
const FOLDER = '.cache/docs'
/** Written by a run of the benchmarks. */
const MADE_LATER = new Set(['docs/benchmarks.md'])

interface Block {
  readonly name: string
  readonly code: string
  readonly isProgram: boolean
}

const blocks: Block[] = PAGES.flatMap((page) =>
  [...fs.readFileSync(page, 'utf8').matchAll(/^```ts\n(.*?)^```/gms)].map(([, code = ''], i) => ({
    name: `${path.basename(page, '.md')}-${i + 1}`,
    code: `${/from 'ray-ts'/.test(code) ? '' : "import * as ray from 'ray-ts'\n"}${code}\nexport {}\n`,
    isProgram: code.includes('ray.init(') || code.includes('Cluster.start('),
  })),
)

beforeAll(() => {
  fs.rmSync(FOLDER, { recursive: true, force: true })
  fs.mkdirSync(FOLDER, { recursive: true })
  for (const { name, code } of blocks) fs.writeFileSync(path.join(FOLDER, `${name}.ts`), code)
})

test('code blocks of the pages compile', () => {
  expect(blocks.length).toBeGreaterThan(8)
  // A page is read by people with other settings than ours.
  const compilerOptions = { erasableSyntaxOnly: false, noUncheckedIndexedAccess: false }
  const config = { extends: '../../tsconfig.json', compilerOptions, include: ['*.ts'], exclude: [] }
  fs.writeFileSync(path.join(FOLDER, 'tsconfig.json'), JSON.stringify(config))
  const tsc = path.resolve('node_modules/typescript/bin/tsc')
  const { stdout } = spawnSync(process.execPath, [tsc, '-p', FOLDER], { encoding: 'utf8' })
  expect(stdout).toBe('')
}, 120_000)

test.each(blocks.filter(({ isProgram }) => isProgram))(
  'the program $name prints what its comments say',
  ({ name, code }) => {
    const output = execFileSync(process.execPath, ['--import', 'tsx', path.join(FOLDER, `${name}.ts`)], {
      encoding: 'utf8',
    })
    const promised = [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map(([, line = '']) => line)
    const bare = (text: string): string => text.replace(/\s/g, '')
    expect(output.trim().split('\n').map(bare)).toEqual(promised.map(bare))
  },
)

test('links between pages lead somewhere', () => {
  const dead = PAGES.flatMap((page) =>
    [
      ...fs
        .readFileSync(page, 'utf8')
        .replace(/^```.*?^```/gms, '')
        .matchAll(/\]\((?!https?:)([^)#]+)/g),
    ]
      .map(([, target = '']) => path.join(path.dirname(page), target))
      .filter((target) => !fs.existsSync(target) && !MADE_LATER.has(target))
      .map((target) => `${page} → ${target}`),
  )
  expect(dead).toEqual([])
})

test('the reference of everything exported is built without a warning', () => {
  const out = path.resolve('.cache/api')
  const typedoc = path.resolve('node_modules/typedoc/bin/typedoc')
  const { status, stdout, stderr } = spawnSync(process.execPath, [typedoc, '--out', out], { encoding: 'utf8' })
  expect(`${stdout}${stderr}`).not.toMatch(/warning|error/i)
  expect(status).toBe(0)
  expect(fs.existsSync(path.join(out, 'functions/remote.html'))).toBe(true)
}, 180_000)
