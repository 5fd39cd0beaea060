// Full disks, small shared memory, and what crashes leave. Failure here looks like a lost value, a full disk, or files for ever.

import { execFileSync, spawn } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { tempDir, until } from './helpers.ts'
import { isAlive } from './leftovers.ts'

const MB = 1024 * 1024
const mounts: string[] = []

/** A file system of its own, `size` large. */
function mountTmpfs(size: number): string {
  const dir = tempDir()
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', dir], { stdio: 'pipe' })
  mounts.push(dir)
  return dir
}

function mayMount(): boolean {
  try {
    mountTmpfs(MB)
    return true
  } catch {
    return false // Not root, or not allowed to in this container.
  }
}

afterAll(() => {
  for (const dir of mounts) {
    execFileSync('umount', ['-l', dir]) // Views that the collector has not seen yet may hold it.
    fs.rmdirSync(dir)
  }
})
afterEach(() => ray.shutdown())

function usedFraction(dir: string): number {
  const { blocks, bfree } = fs.statfsSync(dir)
  return 1 - bfree / blocks
}

/** Puts 10 MB values until one is refused. */
function fill(): { refs: ray.ObjectRef<Buffer>[]; error: unknown } {
  const refs: ray.ObjectRef<Buffer>[] = []
  for (let i = 0; i < 100; i++) {
    try {
      refs.push(ray.put(Buffer.alloc(10 * MB, i)))
    } catch (error) {
      return { refs, error }
    }
  }
  return { refs, error: null }
}

function fits(): boolean {
  try {
    ray.put(Buffer.alloc(20 * MB))
    return true
  } catch {
    return false
  }
}

async function expectIntact(refs: readonly ray.ObjectRef<Buffer>[]): Promise<void> {
  for (const [i, ref] of refs.entries()) {
    const back = await ray.get(ref)
    expect(back.equals(Buffer.alloc(10 * MB, i))).toBe(true)
  }
}

// Mounting needs root; elsewhere there is no small disk to fill.
describe.skipIf(!mayMount())('on file systems of their own', () => {
  test('[ARCH-20] a disk is not filled beyond the threshold: OutOfDiskError, and nothing is lost', async () => {
    const disk = mountTmpfs(64 * MB)
    await ray.init({ numCpus: 1, objectStoreMemory: 80 * MB, objectSpilling: { directoryPath: disk } })
    const { refs, error } = fill()
    expect(error).toBeInstanceOf(ray.exceptions.OutOfDiskError)
    expect(error).toBeInstanceOf(ray.exceptions.ObjectStoreFullError)
    expect(String(error)).toMatch(/may be filled to 95 %/)
    expect(usedFraction(disk)).toBeLessThanOrEqual(0.95)
    expect(refs.length).toBeGreaterThanOrEqual(12)
    await expectIntact(refs)
    // A task's result that finds no room is its error, not a crash.
    const make = ray.remote(() => Buffer.alloc(60 * 1024 * 1024, 1), { maxRetries: 0 })
    await expect(ray.get(make.remote())).rejects.toThrow(ray.exceptions.OutOfDiskError)
    for (const ref of refs) ref[Symbol.dispose]()
    // What was read keeps its space until the collector has been; a refused put sends for it.
    await until(async () => (await ray.get(make.remote()).catch(() => [])).length === 60 * MB && fits(), 'room again')
  })

  test('[ARCH-20] localFsCapacityThreshold is kept', async () => {
    const disk = mountTmpfs(100 * MB)
    const systemConfig = { localFsCapacityThreshold: 0.5 }
    await ray.init({ numCpus: 1, objectStoreMemory: 80 * MB, objectSpilling: { directoryPath: disk }, systemConfig })
    expect(String(fill().error)).toMatch(/may be filled to 50 %/)
    expect(usedFraction(disk)).toBeLessThanOrEqual(0.5)
  })

  test('[ARCH-19][FT-04] a disk that is really full while values are moved: nothing is lost, and it goes on when there is room', async () => {
    const disk = mountTmpfs(64 * MB)
    const filler = path.join(disk, 'somebody else')
    fs.writeFileSync(filler, Buffer.alloc(50 * MB))
    const systemConfig = { localFsCapacityThreshold: 1 }
    await ray.init({ numCpus: 1, objectStoreMemory: 80 * MB, objectSpilling: { directoryPath: disk }, systemConfig })
    const { refs, error } = fill()
    expect(error).toBeInstanceOf(ray.exceptions.OutOfDiskError)
    fs.appendFileSync(filler, Buffer.alloc(64 * MB - fs.statSync(filler).size - usedBeside(disk, filler)))
    await expectIntact(refs)
    fs.rmSync(filler)
    let more: ray.ObjectRef<Buffer> | null = null
    await until(() => {
      try {
        more ??= ray.put(Buffer.alloc(10 * MB, refs.length))
      } catch {
        // Looked at again in a moment.
      }
      return more !== null
    }, 'room again')
    await expectIntact([...refs, more as unknown as ray.ObjectRef<Buffer>])
  })

  test('[ARCH-19] two folders, one of them full: the other serves', async () => {
    const [full, roomy] = [mountTmpfs(MB), tempDir()]
    const directoryPath = [full, roomy]
    await ray.init({ numCpus: 1, objectStoreMemory: 80 * MB, objectSpilling: { directoryPath } })
    const refs = Array.from({ length: 20 }, (_, i) => ray.put(Buffer.alloc(10 * MB, i)))
    await expectIntact(refs)
  })

  test.each([0, 4 * MB, 20 * MB])('[ARCH-17][OBJ-05] shared memory with only %d bytes left still works', (left) => {
    const shm = mountTmpfs(left + MB)
    fs.writeFileSync(path.join(shm, 'filler'), Buffer.alloc(MB))
    const env = { ...process.env, RAY_TS_SHM_DIR: shm }
    const output = execFileSync(process.execPath, ['test/programs/small-shm.mjs'], {
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const { sums, made, warnings } = JSON.parse(output) as { sums: number[][]; made: number[]; warnings: string[] }
    expect(sums).toEqual([1, 2, 3, 4, 5].map((i) => [i * MB, i, i]))
    expect(made).toEqual([1e6, 2])
    if (left > 0) expect(warnings.join()).toMatch(/has room for/)
    expect(fs.readdirSync(shm)).toEqual(['filler'])
  })
})

describe('after a crash of everything', () => {
  async function crashed(spillDir: string): Promise<string> {
    const child = spawn(process.execPath, ['test/programs/spiller.mjs', spillDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
    await until(() => /worker \d+/.test(text), 'it is under way')
    const [, dir, worker] = /session (.+) worker (\d+)/.exec(text) as unknown as [string, string, string]
    const node = Number.parseInt(fs.readFileSync(path.join(dir, 'node.pid'), 'utf8'), 10)
    // The node is stopped first, so that it cannot clean up after the others.
    process.kill(node, 'SIGSTOP')
    for (const pid of [child.pid as number, Number(worker), node]) process.kill(pid, 'SIGKILL')
    await until(() => ![child.pid as number, Number(worker), node].some(isAlive), 'all are gone')
    return dir
  }
  const start = (): string => {
    const program = `import * as ray from 'ray-ts'; const c = await ray.init({ numCpus: 1 }); console.log(c.sessionDir); await ray.shutdown()`
    return execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }).trim()
  }

  test('[ARCH-17][ARCH-19] the next start removes shared memory, spilled files and the session; live ones stay', async () => {
    const spillDir = tempDir()
    const mine = await ray.init({ numCpus: 1, objectSpilling: { directoryPath: spillDir } })
    const ref = ray.put(Buffer.alloc(2 * MB, 9))
    const dead = await crashed(spillDir)
    const shm = path.join(process.env.RAY_TS_SHM_DIR as string, `ray-ts-${path.basename(dead)}`)
    const spilled = path.join(spillDir, `ray_spilled_${path.basename(dead)}`)
    expect([dead, shm, spilled].map((dir) => fs.existsSync(dir))).toEqual([true, true, true])
    expect(fs.readdirSync(spilled).length).toBeGreaterThan(0)
    start()
    expect([dead, shm, spilled].map((dir) => fs.existsSync(dir))).toEqual([false, false, false])
    expect(fs.existsSync(mine.sessionDir)).toBe(true)
    expect(fs.existsSync(path.join(spillDir, `ray_spilled_${path.basename(mine.sessionDir)}`))).toBe(true)
    expect((await ray.get(ref))[MB]).toBe(9)
  })

  test('[ARCH-17] a process id that is used again keeps nothing alive', () => {
    const root = process.env.RAY_TMPDIR as string
    const mark = crypto.createHash('sha256').update(root).digest('hex').slice(0, 8)
    const name = `session_2026-01-01_00-00-00_000000_${process.pid}_${mark}beef`
    const dir = path.join(root, name)
    const shm = path.join(process.env.RAY_TS_SHM_DIR as string, `ray-ts-${name}`)
    fs.mkdirSync(dir, { recursive: true })
    fs.mkdirSync(shm)
    const birth = fs.readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ')[19]
    fs.writeFileSync(path.join(dir, 'driver.pid'), `${process.pid} ${birth}`)
    start()
    expect([fs.existsSync(dir), fs.existsSync(shm)]).toEqual([true, true])
    fs.writeFileSync(path.join(dir, 'driver.pid'), `${process.pid} ${Number(birth) - 1}`)
    start()
    expect([fs.existsSync(dir), fs.existsSync(shm)]).toEqual([false, false])
  })

  test('[ARCH-17] what belongs to another temp root is left to starts of that one', () => {
    const shm = path.join(
      process.env.RAY_TS_SHM_DIR as string,
      'ray-ts-session_2026-01-01_00-00-00_000000_1_0123abcdbeef',
    )
    fs.mkdirSync(shm)
    start()
    expect(fs.existsSync(shm)).toBe(true)
    fs.rmdirSync(shm)
  })
})

describe('the options', () => {
  const spillDirs = () => fs.readdirSync(dir).filter((name) => name.startsWith('ray_spilled_'))
  const dir = tempDir()

  test.each([
    ['an object', { type: 'filesystem', directoryPath: dir, bufferSize: 1_000_000 }],
    ["Ray's JSON", JSON.stringify({ type: 'filesystem', params: { directory_path: [dir], buffer_size: 1_000_000 } })],
    ["Ray's dictionary", { type: 'filesystem', params: { directory_path: dir } } as never],
  ] as const)('[ARCH-19] objectSpilling as %s', async (_, objectSpilling) => {
    await ray.init({ numCpus: 1, objectSpilling })
    expect(spillDirs()).toHaveLength(1)
    await ray.shutdown()
    expect(spillDirs()).toHaveLength(0)
    await ray.init({ numCpus: 1, systemConfig: { objectSpillingConfig: objectSpilling } })
    expect(spillDirs()).toHaveLength(1)
  })

  test('[ARCH-19][ARCH-16][PERF-01] what is wrong is refused at once, with what is right', async () => {
    const refuses = (options: unknown, text: RegExp) => expect(ray.init(options as never)).rejects.toThrow(text)
    await refuses({ objectSpilling: '{"type":' }, /not JSON/)
    await refuses({ objectSpilling: { type: 'smart_open' } }, /must be one of "filesystem"/)
    await refuses({ objectSpilling: { directoryPaths: dir } }, /Did you mean directoryPath/)
    await refuses({ objectSpilling: { directoryPath: [] } }, /a list of strings/)
    await refuses({ systemConfig: { maxIoWorkers: 0 } }, /at least 1/)
    await refuses({ systemConfig: { localFsCapacityThreshold: 95 } }, /between 0 and 1/)
    await refuses({ systemConfig: { minSpilingSize: 1 } }, /Did you mean minSpillingSize/)
    await refuses({ systemConfig: { min_spilling_size: 1 } }, /Write minSpillingSize/)
    expect(ray.isInitialized()).toBe(false)
  })
})

/** Bytes in use on the disk beside one file. */
function usedBeside(disk: string, file: string): number {
  const { blocks, bfree, bsize } = fs.statfsSync(disk)
  return (blocks - bfree) * bsize - fs.statSync(file).size
}
