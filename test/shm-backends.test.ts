// One suite for all ways of mapping stored values. Failure here looks like a crash, a view that changes, or a mapping that stays.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { chooseBackend } from '../src/runtime/shm/backend.ts'
import { HEADER_BYTES, makeHeader } from '../src/runtime/shm/layout.ts'
import { tempDir } from './helpers.ts'

const MB = 1024 * 1024
const root = fs.existsSync('/dev/shm') ? fs.mkdtempSync('/dev/shm/ray-ts-test-') : tempDir()
afterAll(() => fs.rmSync(root, { recursive: true }))

describe.each(['native', 'koffi', 'plain'] as const)('%s', (kind) => {
  const dir = path.join(root, kind)
  beforeAll(() => fs.mkdirSync(dir))
  const backend = chooseBackend(kind)

  test.each([1, 5000, 4 * MB, 40 * MB + 17])(
    '[ARCH-17][OBJ-02] %d bytes at an offset; writes stay private',
    (bytes) => {
      const file = path.join(dir, `at-${bytes}`)
      const value = Buffer.alloc(bytes, 'ray')
      fs.writeFileSync(file, Buffer.concat([Buffer.alloc(8 * HEADER_BYTES), makeHeader(), value]))
      const open = () => {
        const range = backend.openReader(file, { offset: 8 * HEADER_BYTES, bytes, isCounted: false })
        if (!range) throw new Error('not there')
        return Buffer.from(range.buffer, range.byteOffset, range.byteLength)
      }
      const [one, two] = [open(), open()]
      expect([one.equals(value), two.equals(value), one.byteOffset % 8]).toEqual([true, true, 0])
      one.fill(0)
      expect(two.equals(value)).toBe(true)
      expect(open().equals(value)).toBe(true)
      expect(
        fs
          .readFileSync(file)
          .subarray(9 * HEADER_BYTES)
          .equals(value),
      ).toBe(true)
    },
  )

  test('[ARCH-17] what is missing or too short is undefined', () => {
    const file = path.join(dir, 'short')
    fs.writeFileSync(file, Buffer.concat([makeHeader(), Buffer.alloc(100)]))
    const at = { offset: 0, bytes: 100, isCounted: true }
    expect(backend.openReader(file, at)?.byteLength).toBe(100)
    expect(backend.openReader(file, { ...at, bytes: 101 })).toBeUndefined()
    expect(backend.openReader(`${file}.not`, at)).toBeUndefined()
  })

  test.each([0, 1, 4097, 8 * MB, 33 * MB + 5])(
    '[ARCH-17] %d bytes are copied to where they belong, and nowhere else',
    (bytes) => {
      const source = Buffer.alloc(bytes + 2, 'typescript').subarray(1, bytes + 1)
      const target = new Uint8Array(bytes + 20).fill(7)
      for (const byTwo of [false, true]) {
        target.fill(7)
        backend.copy(target, 10, source, byTwo)
        expect(Buffer.from(target.buffer, 10, bytes).equals(source)).toBe(true)
        expect([target[9], target[bytes + 10], target[bytes + 19]]).toEqual([7, 7, 7])
        expect(() => backend.copy(target, 21, source, byTwo)).toThrow(RangeError)
      }
    },
  )

  test('[ARCH-17] an array of which little was ever written is copied whole, and may be written afterwards', () => {
    const [source, target] = [new Uint8Array(40 * MB), new Uint8Array(40 * MB).fill(7)]
    for (const at of [0, 20 * MB + 4095, 40 * MB - 1]) source[at] = at + 1
    backend.copy(target, 0, source, false)
    expect(Buffer.compare(target, source)).toBe(0)
    source.fill(5)
    backend.copy(target, 0, source, true)
    expect([target.every((x) => x === 5), source.length]).toEqual([true, target.length])
  })

  test('[ARCH-17] counters in shared memory, where the backend has them', () => {
    const file = path.join(dir, 'counter')
    fs.writeFileSync(file, Buffer.alloc(4096))
    const [a, b] = [backend.openShared(file, 4096), backend.openShared(file, 4096)]
    expect(a === null).toBe(kind === 'plain')
    if (!a || !b) return
    Atomics.add(new BigInt64Array(a), 0, 41n)
    Atomics.add(new BigInt64Array(b), 0, 1n)
    expect([Atomics.load(new BigInt64Array(a), 0), fs.readFileSync(file).readBigInt64LE(0)]).toEqual([42n, 42n])
  })

  test('[OBJ-02] views survive transfer, streams, threads, the collector and the limit of mappings', () => {
    const inner = path.join(dir, 'views')
    fs.mkdirSync(inner)
    const args = ['--expose-gc', '--import', 'tsx', 'test/programs/views.ts', kind, inner]
    const output = execFileSync(process.execPath, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
    expect(output).toContain(`all passed with ${kind}`)
  }, 120_000)
})

test.runIf(hasLargePages())(
  '[ARCH-17] copying an array that was never written faults once a large page, not once a page',
  () => {
    const [source, target] = [new Uint8Array(80 * MB), new Uint8Array(80 * MB).fill(1)]
    const before = process.resourceUsage().minorPageFault
    chooseBackend('native').copy(target, 0, source, false)
    expect(process.resourceUsage().minorPageFault - before).toBeLessThan(5000) // Of 20,480 pages.
    expect(target.every((x) => x === 0)).toBe(true)
  },
)

test('[ARCH-17] RAY_TS_SHM chooses, and an unknown one is an error', () => {
  expect(chooseBackend(undefined).kind).toBe('native')
  expect(() => chooseBackend('fast')).toThrow(/native, koffi or plain/)
})

test('[ARCH-17] the prebuilt addons are small, and are what build.sh makes', () => {
  const prebuilds = 'packages/native/prebuilds'
  for (const name of ['linux-x64.node', 'linux-arm64.node']) {
    expect(fs.statSync(path.join(prebuilds, name)).size).toBeLessThan(64 * 1024)
  }
  const out = path.join(root, 'built')
  let said = ''
  try {
    said = execFileSync('packages/native/build.sh', [out], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    // No compiler here is no fault; it must say which one is missing.
    said = String((error as { stdout: string }).stdout)
    expect(said).toMatch(/is missing|are not in/)
  }
  const source = fs.readFileSync('packages/native/shm.c', 'utf8')
  for (const symbol of ['openReader', 'openWriter', 'mappings']) {
    expect(source).toContain(`"${symbol}"`)
    for (const name of ['linux-x64.node', 'linux-arm64.node']) {
      expect(fs.readFileSync(path.join(prebuilds, name)).includes(symbol)).toBe(true)
    }
  }
  // Other versions of gcc make other bytes: compare only what this one built as committed before.
  for (const name of fs.existsSync(out) ? fs.readdirSync(out) : []) {
    const [built, committed] = [fs.readFileSync(path.join(out, name)), fs.readFileSync(path.join(prebuilds, name))]
    const compiler = /GCC: \([^)]*\) [\d.]+/
    const same = compiler.exec(built.toString('latin1'))?.[0] === compiler.exec(committed.toString('latin1'))?.[0]
    if (same) expect(built.equals(committed)).toBe(true)
  }
})

/** Some kernels are built without, or told never to give any: then there is nothing to see. */
function hasLargePages(): boolean {
  const file = '/sys/kernel/mm/transparent_hugepage/enabled'
  return process.platform === 'linux' && fs.existsSync(file) && !fs.readFileSync(file, 'utf8').includes('[never]')
}
