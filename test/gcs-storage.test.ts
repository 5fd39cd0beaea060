// Where the GCS keeps its state. Failure here looks like a cluster that forgot an actor, half of a change, or a store that two write.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type GcsStorage,
  makeGcsStorage,
  redisFromEnv,
  type StorageChange,
  type StorageOptions,
} from '../src/runtime/gcs-storage.ts'
import { sleep, tempDir, until } from './helpers.ts'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const put = (key: string, value: string, table = 'kv'): StorageChange => ({ table, key, value: bytes(value) })
const gone = (key: string, table = 'kv'): StorageChange => ({ table, key, value: null })

async function contentOf(storage: GcsStorage): Promise<Record<string, string>> {
  const records = await storage.load()
  return Object.fromEntries(records.map(({ table, key, value }) => [`${table}/${key}`, Buffer.from(value).toString()]))
}

const lmdbIn = (dir: string, options: StorageOptions = {}): Promise<GcsStorage> =>
  makeGcsStorage({ dir, redis: null, ...options })

async function opened(storage: GcsStorage | Promise<GcsStorage>): Promise<GcsStorage> {
  const one = await storage
  await one.open()
  return one
}

/** What every place does. `make` opens the same place again, whoever had it. */
function cases(make: () => Promise<GcsStorage>): void {
  test('[ARCH-07] records are there again, removed ones are not; long names and empty values too', async () => {
    const first = await opened(make())
    expect(await first.load()).toEqual([])
    const long = 'x'.repeat(5000)
    await first.write([put('a', '1'), put('b', '2'), put(long, 'long'), put('', ''), put('a', 'other', 'actors')])
    await first.write([gone('b'), gone('never there'), put('a', '3')])
    await first.close()
    await expect(first.write([put('a', '4')])).rejects.toMatchObject({ code: 'GCS_STORAGE_FAILED' })
    const second = await opened(make())
    expect(await contentOf(second)).toEqual({ 'kv/a': '3', 'kv/': '', [`kv/${long}`]: 'long', 'actors/a': 'other' })
    await second.write((await second.load()).map(({ table, key }) => ({ table, key, value: null })))
    await second.close()
  })

  test('[ARCH-07] any batches, many at once: what the last of them says', async () => {
    const storage = await opened(make())
    const change = fc.record({
      table: fc.constantFrom('jobs', 'actors'),
      key: fc.constantFrom('a', 'b', 'c', 'ü\u0000d', '\uD83D\uDE00'),
      value: fc.option(fc.uint8Array({ maxLength: 40 })),
    })
    const expected = new Map<string, Uint8Array>()
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(change, { maxLength: 5 }), { maxLength: 8 }), async (batches) => {
        await Promise.all(batches.map((batch) => storage.write(batch)))
        for (const { table, key, value } of batches.flat()) {
          if (value) expected.set(`${table}/${key}`, value)
          else expected.delete(`${table}/${key}`)
        }
        const records = await storage.load()
        expect(new Map(records.map(({ table, key, value }) => [`${table}/${key}`, value]))).toEqual(expected)
      }),
      { numRuns: 30 },
    )
    await storage.close()
  })
}

describe('lmdb', () => {
  const dir = path.join(tempDir(), 'gcs')
  cases(() => lmdbIn(dir))

  async function filled(): Promise<string> {
    const folder = tempDir()
    const storage = await opened(lmdbIn(folder))
    for (let i = 0; i < 5; i++) {
      await storage.write(Array.from({ length: 40 }, (_, k) => put(String(k), String(i).repeat(3000))))
    }
    await storage.close()
    return folder
  }

  test('[ARCH-07] a writer killed 50 times: all that was acknowledged is there, and no half of a batch', async () => {
    const folder = tempDir()
    const program = path.resolve('.cache', `gcs-writer-${process.pid}.mjs`)
    const flags = ['--bundle', '--platform=node', '--format=esm', '--packages=external', '--log-level=warning']
    execFileSync('node_modules/.bin/esbuild', ['test/programs/gcs-writer.ts', ...flags, `--outfile=${program}`])
    try {
      for (let life = 0; life < 50; life++) {
        const acknowledged = await killedWriter(program, folder)
        const storage = await opened(lmdbIn(folder))
        const content = await contentOf(storage)
        await storage.close()
        const last = Number(content['state/counter'] ?? 0)
        expect(last).toBeGreaterThanOrEqual(acknowledged)
        for (let n = Math.max(1, last - 24); n <= last; n++) {
          expect(content[`rows/${n % 50}`]?.startsWith(String(n)), `row of batch ${n} of ${last}`).toBe(true)
          expect(content[`rows/${(n + 25) % 50}`], `row that batch ${n} removed`).toBeUndefined()
        }
      }
    } finally {
      fs.rmSync(program)
    }
  }, 120_000)

  test('[ARCH-07] a truncated file is refused with what to do, or has lost nothing', async () => {
    const whole = await filled()
    const intact = await opened(lmdbIn(whole))
    const content = await contentOf(intact)
    await intact.close()
    const size = fs.statSync(path.join(whole, 'data.mdb')).size
    let refused = 0
    for (const left of [0, 100, 4096, 8192, Math.floor(size / 3), Math.floor(size / 2) + 77, size - 4096, size - 1]) {
      const folder = tempDir()
      fs.cpSync(whole, folder, { recursive: true })
      fs.truncateSync(path.join(folder, 'data.mdb'), left)
      const storage = await lmdbIn(folder)
      try {
        await storage.open()
        expect(await contentOf(storage)).toEqual(content)
      } catch (error) {
        refused++
        expect(error).toMatchObject({ code: 'GCS_STORAGE_DAMAGED', message: expect.stringContaining(folder) })
        expect(error).toMatchObject({ hint: expect.stringContaining('Put a copy of the folder back') })
      } finally {
        await storage.close()
      }
    }
    expect(refused).toBeGreaterThanOrEqual(5)
  })

  test('[ARCH-07] changed bytes and foreign files are noticed', async () => {
    const folder = await filled()
    const file = path.join(folder, 'data.mdb')
    const data = fs.readFileSync(file)
    const at = data.lastIndexOf('4'.repeat(100))
    data[at] = 0x35
    fs.writeFileSync(file, data)
    const storage = await opened(lmdbIn(folder))
    await expect(storage.load()).rejects.toMatchObject({ code: 'GCS_STORAGE_DAMAGED' })
    await storage.close()
    fs.writeFileSync(file, 'not a database'.repeat(1000))
    await expect(opened(lmdbIn(folder))).rejects.toMatchObject({ code: 'GCS_STORAGE_DAMAGED' })
    fs.rmSync(file)
    await expect(opened(lmdbIn(folder))).rejects.toMatchObject({ code: 'GCS_STORAGE_DAMAGED' })
  })

  test('[ARCH-07] a second one is refused while the first lives; one that was taken over is fenced', async () => {
    const folder = tempDir()
    const first = await opened(lmdbIn(folder))
    await first.write([put('a', '1')])
    const script = `import { LmdbStorage } from './src/runtime/lmdb-storage.ts'
      const storage = new LmdbStorage(process.argv[1])
      storage.open().then(() => console.log('opened'), (error) => console.log(error.code, error.message))`
    const flags = ['--import', 'tsx', '--input-type=module', '-e', script, folder]
    const second = spawnSync(process.execPath, flags, { encoding: 'utf8' })
    expect(second.stdout, second.stderr).toContain(`GCS_STORAGE_IN_USE`)
    expect(second.stdout).toContain(`process ${process.pid} uses it`)
    await first.write([put('a', '2')])
    expect(await contentOf(first)).toEqual({ 'kv/a': '2' })
    // As if by a process of another machine, which cannot see this one.
    const lmdb = await import('lmdb')
    const other = lmdb.open<Buffer, Buffer>({
      path: folder,
      noSubdir: false,
      encoding: 'binary',
      keyEncoding: 'binary',
    })
    await other.put(Buffer.from('\u0000owner'), Buffer.from('{"pid":1,"birth":"","host":"elsewhere","token":"other"}'))
    await expect(first.write([put('a', '3')])).rejects.toMatchObject({ code: 'GCS_STORAGE_IN_USE' })
    await expect(first.write([put('a', '4')])).rejects.toMatchObject({ code: 'GCS_STORAGE_IN_USE' })
    expect(await contentOf(first)).toEqual({ 'kv/a': '2' })
    await first.close()
    await other.close()
  })

  describe.skipIf(!mayMount())('on a small disk', () => {
    test('[ARCH-07] full: writes wait and go on when there is room; after the time-out a clear error, and nothing is lost', async () => {
      const folder = tempDir()
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder])
      try {
        const warnings: string[] = []
        const ballast = path.join(folder, 'ballast')
        const storage = await opened(lmdbIn(folder, { patienceMs: 3000, warn: (text) => warnings.push(text) }))
        await storage.write([put('first', 'kept')])
        fillDisk(ballast)
        const write = storage.write([put('large', 'x'.repeat(200_000))])
        await until(() => warnings.length > 0, 'a warning')
        expect(warnings[0]).toContain('no space is left there')
        fs.rmSync(ballast)
        await write
        expect(warnings.at(-1)).toContain('can be stored again')
        fillDisk(ballast)
        const lost = [storage.write([put('more', 'y'.repeat(400_000))]), storage.write([put('later', 'small')])]
        for (const one of await Promise.allSettled(lost)) {
          expect(one).toMatchObject({ status: 'rejected', reason: { code: 'GCS_STORAGE_FAILED' } })
        }
        fs.rmSync(ballast)
        await expect(storage.write([put('later', 'small')])).rejects.toMatchObject({ code: 'GCS_STORAGE_FAILED' }) // G3
        await storage.close()
        const again = await opened(lmdbIn(folder))
        expect(Object.keys(await contentOf(again)).sort()).toEqual(['kv/first', 'kv/large'])
        await again.close()
      } finally {
        execFileSync('umount', ['-l', folder])
      }
    })
  })
})

/** Kills it at a random moment; resolves to the last batch that it called durable. */
async function killedWriter(program: string, folder: string): Promise<number> {
  const child = spawn(process.execPath, [program, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  const ended = new Promise((resolve) => child.on('close', resolve))
  await until(() => text.includes('ready'), 'the writer is ready', 30_000)
  await sleep(Math.random() * 60)
  child.kill('SIGKILL')
  await ended
  return Math.max(0, ...text.split('\n').slice(1, -1).map(Number))
}

function mayMount(): boolean {
  const dir = fs.mkdtempSync('/tmp/mount-')
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir], { stdio: 'pipe' })
    execFileSync('umount', [dir])
    return true
  } catch {
    return false // Not root, or not allowed to in this container.
  } finally {
    fs.rmdirSync(dir)
  }
}

function fillDisk(file: string): void {
  const fd = fs.openSync(file, 'w')
  try {
    for (;;) fs.writeSync(fd, Buffer.alloc(4096))
  } catch {
    // Full.
  } finally {
    fs.closeSync(fd)
  }
}

const hasRedis = spawnSync('redis-server', ['--version']).status === 0

describe.skipIf(!hasRedis)(`Redis${hasRedis ? '' : ' (no redis-server is installed)'}`, () => {
  const dir = tempDir()
  let port = 0
  let server: ChildProcess
  const place = (namespace = 'default') => ({
    address: `127.0.0.1:${port}`,
    username: null,
    password: 'secret',
    namespace,
  })
  const redisFor = (namespace: string, options: StorageOptions = {}): Promise<GcsStorage> =>
    makeGcsStorage({ dir: '', redis: place(namespace), ...options })

  async function startServer(): Promise<void> {
    const flags = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--dir',
      dir,
      '--appendonly',
      'yes',
      '--appendfsync',
      'always',
    ]
    server = spawn('redis-server', [...flags, '--requirepass', 'secret', '--save', ''], { stdio: 'ignore' })
    await until(() => canConnect(port), 'the Redis server listens')
  }
  async function stopServer(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const ended = new Promise((resolve) => server.on('close', resolve))
    server.kill(signal)
    await ended
  }
  beforeAll(async () => {
    port = await freePort()
    await startServer()
  })
  afterAll(() => stopServer())

  cases(() => redisFor('cases'))

  test('[ARCH-07][FT-05] one hash a namespace; a namespace does not see another', async () => {
    const [one, two] = [await opened(redisFor('one')), await opened(redisFor('two'))]
    await one.write([put('a', '1')])
    await two.write([put('a', '2')])
    expect([await contentOf(one), await contentOf(two)]).toEqual([{ 'kv/a': '1' }, { 'kv/a': '2' }])
    expect(redisCli(port, 'KEYS', 'ray:*').trim().split('\n').sort()).toEqual(
      expect.arrayContaining(['ray:one', 'ray:two']),
    )
    redisCli(port, 'DEL', 'ray:one')
    expect(await contentOf(one)).toEqual({})
    await one.close()
    await two.close()
  })

  test('[ARCH-07][FT-05] Redis goes away: writes wait, in order, and go on; after the time-out a clear error', async () => {
    const warnings: string[] = []
    const storage = await opened(redisFor('away', { warn: (text) => warnings.push(text) }))
    await storage.write([put('a', '1')])
    await stopServer()
    const writes = [storage.write([put('a', '2')]), storage.write([put('b', '2')]), storage.write([put('a', '3')])]
    await until(() => warnings.length > 0, 'a warning')
    await startServer()
    await Promise.all(writes)
    expect(await contentOf(storage)).toEqual({ 'kv/a': '3', 'kv/b': '2' })
    await storage.close()
    const hasty = await opened(redisFor('away', { patienceMs: 500 }))
    await stopServer()
    const started = performance.now()
    await expect(hasty.write([put('c', '1')])).rejects.toMatchObject({ code: 'GCS_STORAGE_FAILED' })
    expect(performance.now() - started).toBeGreaterThanOrEqual(500)
    await expect(opened(redisFor('away', { patienceMs: 300 }))).rejects.toThrow(`Redis at 127.0.0.1:${port}`)
    await hasty.close()
    await startServer()
  })

  test('[ARCH-07][FT-05] a server that hangs is left for a new connection, and what it had of the old one changes nothing', async () => {
    const storage = await opened(redisFor('hang'))
    await storage.write([put('a', '1')])
    server.kill('SIGSTOP')
    const writes = [storage.write([put('a', '2')])]
    await sleep(100)
    writes.push(storage.write([put('a', '3')]))
    const resume = setTimeout(() => server.kill('SIGCONT'), 6000) // Longer than an answer may take.
    await Promise.all(writes)
    clearTimeout(resume)
    expect(await contentOf(storage)).toEqual({ 'kv/a': '3' })
    await storage.close()
  })

  test('[ARCH-07][FT-05] the newer GCS of a namespace fences the older one', async () => {
    const first = await opened(redisFor('fence'))
    await first.write([put('a', '1')])
    const second = await opened(redisFor('fence'))
    await expect(first.write([put('a', '2')])).rejects.toMatchObject({ code: 'GCS_STORAGE_IN_USE' })
    await second.write([put('b', '1')])
    expect(await contentOf(second)).toEqual({ 'kv/a': '1', 'kv/b': '1' })
    await first.close()
    await second.close()
  })

  test('[ARCH-07][FT-05] the wrong password is refused at once', async () => {
    const redis = { ...place(), password: 'wrong' }
    const error = await opened(makeGcsStorage({ dir: '', redis })).catch((one: unknown) => one)
    expect(error).toMatchObject({ code: 'GCS_STORAGE_FAILED', message: expect.stringContaining('WRONGPASS') })
  })
})

test('[ARCH-07][FT-05] the variables of the environment, and what the command line says before them', () => {
  expect(redisFromEnv({})).toBeNull()
  expect(redisFromEnv({ RAY_REDIS_ADDRESS: 'redis:6379' })).toEqual({
    address: 'redis:6379',
    username: null,
    password: null,
    namespace: 'default',
  })
  const env = {
    RAY_REDIS_ADDRESS: 'a:1',
    RAY_REDIS_PASSWORD: 'p',
    RAY_REDIS_USERNAME: 'u',
    RAY_external_storage_namespace: 'n',
  }
  expect(redisFromEnv(env, { password: 'given' })).toEqual({
    address: 'a:1',
    username: 'u',
    password: 'given',
    namespace: 'n',
  })
})

function redisCli(port: number, ...args: string[]): string {
  return execFileSync('redis-cli', ['-p', String(port), '-a', 'secret', '--no-auth-warning', ...args], {
    encoding: 'utf8',
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}
