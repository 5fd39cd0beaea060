// Failure here looks like too many processes, too few, or ones that nobody ends; or work that hangs on a worker that never came.
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterEach, expect, test } from 'vitest'
import { isAlive, tempDir, until } from './helpers.ts'

const savedCuda = process.env.CUDA_VISIBLE_DEVICES
afterEach(async () => {
  await ray.shutdown()
  if (savedCuda === undefined) delete process.env.CUDA_VISIBLE_DEVICES
  else process.env.CUDA_VISIBLE_DEVICES = savedCuda
})

const nextWarning = (): Promise<string> =>
  new Promise((resolve) => process.once('warning', (warning) => resolve(warning.message)))

/** Worker processes of a session, by their log files. */
const workersOf = (sessionDir: string): number[] =>
  fs
    .readdirSync(path.join(sessionDir, 'logs'))
    .map((name) => Number(/^worker-.*-(\d+)\.out$/.exec(name)?.[1]))
    .filter((pid) => pid > 0 && isAlive(pid))

test('[ARCH-09] tasks reuse their workers', async () => {
  const cluster = await ray.init({ numCpus: 2 })
  const pid = ray.remote(() => process.pid)
  const pids = new Set(await ray.get(Array.from({ length: 200 }, () => pid.remote())))
  expect(pids.size).toBeLessThanOrEqual(2)
  expect(workersOf(cluster.sessionDir).length).toBeLessThanOrEqual(2)
})

const START = 1
const TASK = 2
const ACTOR = 4

test('[ARCH-09] later workers of a node start with what V8 made of our code for earlier ones', async () => {
  const cluster = await ray.init({ numCpus: 1 })
  const file = path.join(cluster.sessionDir, 'worker.code')
  await until(() => fs.existsSync(file), 'the first worker has left it')
  class Probe {
    parts(): number | undefined {
      return (globalThis as { [key: symbol]: { parts: number } | undefined })[Symbol.for('ray-ts.code')]?.parts
    }
    environment(): string | undefined {
      return process.env.RAY_TS_CODE_CACHE
    }
  }
  const Remote = ray.remote(Probe).options({ numCpus: 0 })
  const [first, second] = [Remote.remote(), Remote.remote()]
  expect(await ray.get([first.parts.remote(), second.parts.remote()])).toEqual([0, START])
  await until(() => ((fs.readFileSync(file).at(-1) as number) & ACTOR) !== 0, 'an actor has left what its calls ran')
  const third = Remote.remote()
  expect(await ray.get(third.parts.remote())).toBe(START | ACTOR)
  await ray.get(ray.remote(() => 1).remote())
  await until(
    () => fs.readFileSync(file).at(-1) === (START | TASK | ACTOR),
    'a worker of tasks has left what these ran',
  )
  expect(await ray.get(third.environment.remote())).toBeUndefined() // Nothing that user code starts takes it for its own.
})

test('[ARCH-09] after a burst of tasks that wait for others the pool shrinks to its limit again; actors do not count', async () => {
  const cluster = await ray.init({ numCpus: 2 })
  const leaf = ray.remote(async () => {
    await new Promise((resolve) => setTimeout(resolve, 200))
    return 1
  })
  const parent = ray.remote(async () => ray.get(leaf.remote()))
  expect(await ray.get(Array.from({ length: 6 }, () => parent.remote()))).toEqual([1, 1, 1, 1, 1, 1])
  expect(workersOf(cluster.sessionDir).length).toBeGreaterThan(2)
  await until(() => workersOf(cluster.sessionDir).length === 2, 'the pool is back at two', 15_000)
  class Idle {
    ping(): number {
      return process.pid
    }
  }
  const actors = [ray.remote(Idle).remote(), ray.remote(Idle).remote()]
  await ray.get(actors.map((actor) => actor.ping.remote()))
  await ray.get([leaf.remote(), leaf.remote()])
  await new Promise((resolve) => setTimeout(resolve, 2500)) // Longer than the idle time and its check.
  expect(workersOf(cluster.sessionDir).length).toBe(4)
})

test('[ARCH-15] workerMaximumStartupConcurrency 1: no worker starts before the one before is there', async () => {
  const cluster = await ray.init({ numCpus: 4, systemConfig: { workerMaximumStartupConcurrency: 1 } })
  class Idle {
    ping(): number {
      return 1
    }
  }
  await ray.get(Array.from({ length: 4 }, () => ray.remote(Idle).remote().ping.remote()))
  // A worker's log files are made when it is started, its socket right before it registers. Nothing is printed.
  const times = (folder: string, pattern: RegExp): number[] =>
    fs
      .readdirSync(path.join(cluster.sessionDir, folder))
      .filter((name) => pattern.test(name))
      .map((name) => fs.statSync(path.join(cluster.sessionDir, folder, name)).mtimeMs)
      .sort((a, b) => a - b)
  const started = times('logs', /^worker-.*\.out$/)
  const ready = times('s', /^w\d+$/)
  expect(started.length).toBeGreaterThanOrEqual(4)
  for (let i = 1; i < started.length; i++) {
    expect(started[i], `${started} ${ready}`).toBeGreaterThanOrEqual((ready[i - 1] as number) - 10)
  }
})

test('[ARCH-09] a worker that never registers is given up, and whoever waits for it is told', async () => {
  const hang = path.join(tempDir(), 'hang.mjs')
  fs.writeFileSync(hang, 'setInterval(() => {}, 1000); await new Promise(() => {})')
  await ray.init({ numCpus: 1, systemConfig: { workerRegisterTimeoutSeconds: 1 } })
  const task = ray.remote(() => 1, { runtimeEnv: { envVars: { NODE_OPTIONS: `--import ${hang}` } } })
  await expect(ray.get(task.remote(), { timeoutS: 50 })).rejects.toThrow(ray.exceptions.RuntimeEnvSetupError)
  expect(await ray.get(ray.remote(() => 2).remote())).toBe(2)
})

test('[ARCH-09][EXTRA-02] a worker that computes delays nobody: what it owns is read, and cancel ends it', async () => {
  await ray.init({ numCpus: 2 })
  const file = path.join(tempDir(), 'computing')
  const share = ray.remote(async function share() {
    const { writeFileSync } = await import('node:fs')
    const inner = ray.put({ small: 1 })
    const large = ray.put(Buffer.alloc(300_000, 7))
    const box = await ray.getActor<{ keep(refs: object): void }>('box')
    await ray.get(box.keep.remote({ inner, large }))
    writeFileSync(file, 'x')
    for (;;);
  })
  class Box {
    refs: { inner: ray.ObjectRef<{ small: number }>; large: ray.ObjectRef<Buffer> } | null = null
    keep(refs: never): void {
      this.refs = refs
    }
    async read(): Promise<unknown> {
      if (!this.refs) throw new Error('nothing came')
      const [inner, large] = await ray.get([this.refs.inner, this.refs.large])
      return [inner, large.length, large[5]]
    }
  }
  const box = ray.remote(Box).options({ name: 'box', numCpus: 0 }).remote()
  const computing = share.remote()
  await until(() => fs.existsSync(file), 'it computes')
  const began = performance.now()
  expect(await ray.get(box.read.remote(), { timeoutS: 5 })).toEqual([{ small: 1 }, 300_000, 7])
  ray.cancel(computing)
  await expect(ray.get(computing, { timeoutS: 5 })).rejects.toThrow(ray.exceptions.TaskCancelledError)
  expect(performance.now() - began).toBeLessThan(5000)
})

test('[TASK-06][PERF-08] a task sees its GPUs only; fractions share one; its worker ends, unless maxCalls says otherwise', async () => {
  await ray.init({ numCpus: 4, numGpus: 2 })
  const see = ray.remote(
    async function see() {
      await new Promise((resolve) => setTimeout(resolve, 300))
      const { GPU } = ray.getRuntimeContext().getAcceleratorIds()
      return { ids: ray.getGpuIds(), visible: process.env.CUDA_VISIBLE_DEVICES, GPU, pid: process.pid }
    },
    { numGpus: 1 },
  )
  const [one, two] = await ray.get([see.remote(), see.remote()])
  expect([one, two].map(({ ids }) => ids).sort()).toEqual([[0], [1]])
  for (const { ids, visible, GPU } of [one, two]) expect([visible, GPU]).toEqual([String(ids[0]), [String(ids[0])]])
  await until(() => !isAlive(one.pid) && !isAlive(two.pid), 'the workers that had GPUs are gone')
  const both = await ray.get(see.options({ numGpus: 2 }).remote())
  expect([both.ids, both.visible]).toEqual([[0, 1], '0,1'])
  const folder = tempDir()
  const together = ray.remote(
    async (name: string) => {
      const { readdirSync, writeFileSync } = await import('node:fs')
      writeFileSync(`${folder}/${name}`, '')
      while (readdirSync(folder).length < 3) await new Promise((resolve) => setTimeout(resolve, 10))
      return ray.getGpuIds().join()
    },
    { numGpus: 0.5, numCpus: 0.5 },
  )
  expect((await ray.get(['a', 'b', 'c'].map((name) => together.remote(name)))).sort()).toEqual(['0', '0', '1'])
  const none = await ray.get(see.options({ numGpus: 0 }).remote())
  expect([none.ids, none.visible]).toEqual([[], ''])
  const kept = ray.remote(() => [process.pid, process.env.CUDA_VISIBLE_DEVICES], { numGpus: 1, maxCalls: 0 })
  const [first, second] = [await ray.get(kept.remote()), await ray.get(kept.remote())]
  expect(second).toEqual(first)
  class OnGpu {
    visible(): [string | undefined, (number | string)[]] {
      return [process.env.CUDA_VISIBLE_DEVICES, ray.getGpuIds()]
    }
  }
  const actor = ray.remote(OnGpu).options({ numGpus: 1 }).remote()
  const [visible, ids] = await ray.get(actor.visible.remote())
  expect(visible).toBe(String(ids[0]))
  await until(async () => (await ray.availableResources()).GPU === 1, 'the actor holds one for life')
})

test('[TASK-06] CUDA_VISIBLE_DEVICES of the program: its devices are the GPUs, by their names', async () => {
  process.env.CUDA_VISIBLE_DEVICES = '4,7'
  await expect(ray.init({ numGpus: 3 })).rejects.toThrow(/numGpus is 3, but CUDA_VISIBLE_DEVICES lists 2/)
  await ray.init({ numCpus: 2 })
  expect((await ray.clusterResources()).GPU).toBe(2)
  const see = ray.remote(() => [ray.getGpuIds(), process.env.CUDA_VISIBLE_DEVICES], { numGpus: 2 })
  expect(await ray.get(see.remote())).toEqual([[4, 7], '4,7'])
})

test('[TASK-03] a get that waits long draws a warning that says for what', async () => {
  await ray.init({ numCpus: 1, systemConfig: { fetchWarnTimeoutMilliseconds: 200 } })
  const nap = ray.remote(function nap() {
    return new Promise((resolve) => setTimeout(resolve, 3000))
  })
  await ray.get(ray.remote(() => 1).remote()) // The worker is there.
  const warned = nextWarning()
  const [running, waiting] = [nap.remote(), nap.options({ name: 'second' }).remote()]
  const outcome = ray.get(running, { timeoutS: 10 })
  expect(await warned).toMatch(/waiting for ObjectRef\([0-9a-f]{56}\) for \d+ s: nap runs on the worker with pid \d+/)
  const again = nextWarning()
  const second = ray.get(waiting).catch(() => {})
  expect(await again).toMatch(/second waits for free resources: it asks for \{CPU: 1\}/)
  ray.cancel(waiting)
  await Promise.all([outcome, second])
})

test('[PAT-01] get right after remote in a loop: one warning', async () => {
  await ray.init({ numCpus: 1 })
  const step = ray.remote((i: number) => i)
  const warnings: string[] = []
  const listen = (warning: Error): void => void warnings.push(warning.message)
  process.on('warning', listen)
  try {
    const refs = Array.from({ length: 300 }, (_, i) => step.remote(i))
    for (const ref of refs) await ray.get(ref)
    await new Promise(setImmediate)
    expect(warnings).toEqual([])
    for (let i = 0; i < 400; i++) await ray.get(step.remote(i))
    await new Promise(setImmediate)
    expect(warnings.length).toBe(1)
    expect(warnings[0]).toMatch(/ray\.get right after \.remote\(\) in a loop \(n=100[\s\S]*Submit them all first/)
  } finally {
    process.off('warning', listen)
  }
})

test('[PERF-05] very many tasks of a few microseconds draw a hint, once', async () => {
  await ray.init({ numCpus: 2 })
  const tiny = ray.remote(function tiny() {})
  const hint = nextWarning()
  let isOver = false
  const heard = hint.then(() => {
    isOver = true
  })
  for (let round = 0; round < 60 && !isOver; round++) {
    await ray.get(Array.from({ length: 20_000 }, () => tiny.remote()))
  }
  await heard
  expect(await hint).toMatch(/your tasks average \d+ µs \(tiny\)[\s\S]*chunksize/)
})
