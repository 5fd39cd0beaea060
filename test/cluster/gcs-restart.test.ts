// The GCS of a real cluster, killed and started again. Failure here looks like a counter that starts anew, a call that fails or waits
// for ever, or a name that nobody knows any more.
import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterEach, expect, test } from 'vitest'
import { GCS_CONFIG_VARIABLE, type GcsProcessConfig } from '../../src/runtime/node-config.ts'
import { resolveSystemConfig } from '../../src/runtime/system-config.ts'
import { tempDir, until } from '../helpers.ts'
import { endAll, otherTempDir, ray as run } from './processes.ts'

let gcs: ChildProcess | null = null
afterEach(async () => {
  await ray.shutdown()
  await endAll()
  await killGcs()
}, 60_000)

async function startGcs(sessionDir: string, port: number): Promise<number> {
  const storage = { kind: 'lmdb', dir: path.join(sessionDir, 'gcs') } as const
  const own = { clusterId: 'c'.repeat(56), host: '127.0.0.1', token: null, system: resolveSystemConfig({}, {}) }
  const config: GcsProcessConfig = { ...own, port, sessionDir, storage }
  const env = { ...process.env, [GCS_CONFIG_VARIABLE]: JSON.stringify(config) }
  const child = spawn(process.execPath, ['dist/gcs.js'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  gcs = child
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  await until(() => text.includes('ready'), 'the GCS is ready', 30_000)
  return Number(/ready (\d+)/.exec(text)?.[1])
}

async function killGcs(): Promise<void> {
  const child = gcs
  gcs = null
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('close', resolve))
  child.kill('SIGKILL')
  await ended
}

test('[ARCH-07][FT-05] tasks and actors go on while the GCS is dead; after its return all is as it was', async () => {
  const sessionDir = tempDir()
  const port = await startGcs(sessionDir, 0)
  const address = `127.0.0.1:${port}`
  for (const name of ['a', 'b']) {
    const joined = await run(['start', `--address=${address}`, '--num-cpus=2', `--temp-dir=${otherTempDir(name)}`])
    expect(joined.code, joined.err).toBe(0)
  }
  await ray.init({ address })
  class Counter {
    n = 0
    increment(): number {
      return ++this.n
    }
    pid(): number {
      return process.pid
    }
  }
  const Remote = ray.remote(Counter)
  const counter = Remote.options({ name: 'counter', lifetime: 'detached', maxRestarts: 5 }).remote()
  const pid = await ray.get(counter.pid.remote())
  const square = ray.remote((x: number) => x * x)
  let n = 0
  for (let life = 0; life < 3; life++) {
    // Its definition comes from the GCS, once a worker (the last one may have become an actor): one task at a time stays with one.
    expect(await ray.get(square.remote(1))).toBe(1)
    await killGcs()
    // Its calls do not pass the GCS, nor do tasks.
    for (let i = 0; i < 20; i++) expect(await ray.get(counter.increment.remote())).toBe(++n)
    for (const x of [2, 3, 4]) expect(await ray.get(square.remote(x))).toBe(x * x)
    // What needs it waits.
    const other = Remote.options({ name: `other ${life}`, numCpus: 0 }).remote()
    const found = ray.getActor<Counter>('counter')
    await startGcs(sessionDir, port)
    expect(await ray.get((await found).increment.remote())).toBe(++n)
    expect(await ray.get(other.increment.remote())).toBe(1)
  }
  expect(await ray.get(counter.pid.remote())).toBe(pid)
  // What has to be told is told: it dies and comes back, and its handle hears of it.
  process.kill(pid, 'SIGKILL')
  await until(
    async () => {
      const now = await ray.get(counter.pid.remote()).catch(() => pid)
      return now !== pid
    },
    'the actor is restarted',
    20_000,
  )
  expect((await ray.nodes()).filter(({ Alive }) => Alive)).toHaveLength(2)
}, 60_000)
