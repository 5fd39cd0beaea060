// Failure here looks like a package that works in this checkout and nowhere else.
// It is packed, installed into an empty folder without a network, and used in every way that a program may import it.
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tempDir } from './helpers.ts'

const dir = tempDir()
const modules = path.resolve('node_modules')
const { dependencies } = JSON.parse(fs.readFileSync('package.json', 'utf8')) as { dependencies: object }

const PROGRAM = `
import * as ray from 'ray-ts'
async function main(): Promise<void> {
  await ray.init({ numCpus: 1 })
  const factor = 7
  const scale = ray.remote((x: number) => x * factor)
  const product: number = await ray.get(scale.remote(6))
  class Counter {
    n = 0
    increment(by = 1): number {
      return (this.n += by)
    }
  }
  const counter = ray.remote(Counter).remote()
  const error: unknown = await ray.get(ray.remote((): never => { throw new RangeError('far') }).remote()).catch((e: unknown) => e)
  console.log(product, await ray.get(counter.increment.remote(5)), error instanceof RangeError && error instanceof ray.RayTaskError)
  await ray.shutdown()
}
void main()
`
const PLAIN = PROGRAM.replace(/: (Promise<void>|number|unknown|never)/g, '')

beforeAll(() => {
  execFileSync(process.execPath, ['--import', 'tsx', 'scripts/types.ts'])
  execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', dir], { stdio: 'pipe' })
  const [tarball] = fs.readdirSync(dir)
  // What the package depends on comes from this checkout.
  const overrides = Object.fromEntries(Object.keys(dependencies).map((name) => [name, `file:${modules}/${name}`]))
  write('package.json', JSON.stringify({ name: 'user', dependencies: { 'ray-ts': `file:${tarball}` }, overrides }))
  const flags = ['--offline', '--no-audit', '--no-fund', '--ignore-scripts', '--omit=optional', '--omit=peer']
  execFileSync('npm', ['install', ...flags], { cwd: dir, stdio: 'pipe' })
}, 300_000)
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }))

function write(name: string, text: string): void {
  fs.writeFileSync(path.join(dir, name), text)
}

function node(...args: string[]): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { cwd: dir, encoding: 'utf8' })
  expect(status, stderr).toBe(0)
  return stdout
}

function compile(config: object): string {
  write('tsconfig.json', JSON.stringify(config))
  return spawnSync(process.execPath, [path.join(modules, 'typescript/bin/tsc'), '-p', dir], { encoding: 'utf8' }).stdout
}

test('plain JavaScript: import and require', () => {
  write('user.mjs', PLAIN)
  expect(node('user.mjs')).toBe('42 5 true\n')
  write('user.cjs', PLAIN.replace("import * as ray from 'ray-ts'", "const ray = require('ray-ts')"))
  expect(node('user.cjs')).toBe('42 5 true\n')
})

test.each(['node16', 'nodenext'])(
  'TypeScript compiled with module and moduleResolution %s, to both kinds of module',
  (kind) => {
    for (const [file, out] of [
      ['main.mts', 'out/main.mjs'],
      ['main.cts', 'out/main.cjs'],
    ] as const) {
      write(file, PROGRAM)
      const compilerOptions = { module: kind, moduleResolution: kind, target: 'es2022', strict: true, outDir: 'out' }
      const lib = ['es2023', 'esnext.disposable', 'dom']
      expect(compile({ compilerOptions: { ...compilerOptions, lib, types: [] }, files: [file] })).toBe('')
      expect(node(out)).toBe('42 5 true\n')
    }
  },
)

test('TypeScript for a bundler, and run by tsx', () => {
  write('user.ts', PROGRAM)
  const compilerOptions = {
    module: 'esnext',
    moduleResolution: 'bundler',
    target: 'es2022',
    strict: true,
    noEmit: true,
  }
  const lib = ['es2023', 'dom']
  expect(compile({ compilerOptions: { ...compilerOptions, lib, types: [] }, files: ['user.ts'] })).toBe('')
  fs.symlinkSync(path.join(modules, 'tsx'), path.join(dir, 'node_modules/tsx'))
  expect(node('--import', 'tsx', 'user.ts')).toBe('42 5 true\n')
})

test('[EXTRA-50] ray-ts/testing: compiled, imported and run, by the same copy of the package', () => {
  const program = `
import * as ray from 'ray-ts'
import { Cluster } from 'ray-ts/testing'
async function main(): Promise<void> {
  const cluster = await Cluster.start({ nodes: 1 })
  const connection: ray.Cluster = await cluster.connect({ logToDriver: false })
  console.log(await ray.get(ray.remote((x: number) => x * 7).remote(6)), connection.nodeId === cluster.head.nodeId)
  await cluster.shutdown()
}
void main()
`
  write('cluster.mts', program)
  const compilerOptions = { module: 'nodenext', target: 'es2022', strict: true, outDir: 'out', types: [] }
  expect(compile({ compilerOptions: { ...compilerOptions, lib: ['es2023', 'dom'] }, files: ['cluster.mts'] })).toBe('')
  expect(node('out/cluster.mjs')).toBe('42 true\n')
})

test('the program of the README runs as it is', () => {
  const code = /^```ts\n(.*?)^```/ms.exec(fs.readFileSync('README.md', 'utf8'))?.[1] ?? ''
  write('readme.mts', code)
  expect(node('--import', path.join(modules, 'tsx/dist/esm/index.mjs'), 'readme.mts')).toBe('[ 3, 6, 9 ]\n5\n')
})

test('import loads nothing but the package and Node, starts nothing, and the inside is closed', () => {
  write(
    'hook.mjs',
    `import fs from 'node:fs'
     export async function resolve(specifier, context, next) {
       const found = await next(specifier, context)
       fs.appendFileSync('loaded.txt', found.url + '\\n')
       return found
     }`,
  )
  write(
    'load.mjs',
    `import { createRequire, register } from 'node:module'
     register('./hook.mjs', import.meta.url)
     await import('ray-ts')
     const isOther = (file) => !file.endsWith('/node_modules/ray-ts/dist/load.cjs')
     console.log(JSON.stringify([Object.keys(createRequire(import.meta.url).cache).filter(isOther), process.getActiveResourcesInfo().filter((name) => !/^(Pipe|TTY)Wrap$/.test(name))]))
     const closed = []
     for (const name of ['dist/index.js', 'dist/worker.cjs', 'src/index.ts', 'internal'])
       await import('ray-ts/' + name).catch((error) => closed.push(error.code))
     console.log(closed.join())`,
  )
  const [first, second] = node('load.mjs').split('\n')
  expect(JSON.parse(first ?? '')).toEqual([[], []])
  expect(second).toBe(Array(4).fill('ERR_PACKAGE_PATH_NOT_EXPORTED').join())
  const loaded = fs.readFileSync(path.join(dir, 'loaded.txt'), 'utf8').trim().split('\n')
  expect(loaded.filter((url) => !url.startsWith('node:') && !url.includes('/node_modules/ray-ts/dist/'))).toEqual([])
})

test('the package holds what it needs and nothing else; the ray command runs', () => {
  const root = path.join(dir, 'node_modules/ray-ts')
  const files = fs.readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => /\.\w+$/.test(name))
  for (const name of [
    'dist/types/index.d.ts',
    'dist/types/testing.d.cts',
    'dist/prebuilds/linux-x64.node',
    'README.md',
    'LICENSE',
  ])
    expect(fs.existsSync(path.join(root, name)), name).toBe(true)
  expect(files.filter((name) => /(^|\/)tests?\/|\.test\.|\.tsbuildinfo|(?<!\.d)\.ts$/.test(name))).toEqual([])
  const ray = path.join(dir, 'node_modules/.bin/ray')
  expect(execFileSync(ray, ['--help'], { encoding: 'utf8', cwd: dir })).toContain('Usage: ray')
  const { version } = JSON.parse(fs.readFileSync('package.json', 'utf8')) as { version: string }
  expect(execFileSync(ray, ['--version'], { encoding: 'utf8', cwd: dir }).trim()).toBe(version)
})
