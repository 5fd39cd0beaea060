// Failure here looks like a process, socket or file that stays behind, or a caller that waits for ever.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { leftovers, tempDir, until } from './helpers.ts'

describe('workers that fail', () => {
  beforeAll(() => ray.init({ numCpus: 2 }))
  afterAll(() => ray.shutdown())

  test('[TASK-17] kill -9 in a task, with and without retries', async () => {
    const suicide = ray.remote(() => process.kill(process.pid, 'SIGKILL'), { maxRetries: 0 })
    const error = await ray.get(suicide.remote()).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(ray.exceptions.WorkerCrashedError)
    expect(String(error)).toMatch(/SIGKILL/)
  })

  test('[TASK-17] a stack overflow is an error, not a crash', async () => {
    const dive = ray.remote(function dive(n: number): number {
      const deeper = (m: number): number => deeper(m + 1) + 1
      return deeper(n)
    })
    await expect(ray.get(dive.remote(0))).rejects.toThrow(RangeError)
  })

  test('[TASK-17] a worker that fills its heap dies alone, and says so', async () => {
    const fill = ray.remote(
      () => {
        const kept: unknown[] = []
        for (;;) kept.push(new Array(100_000).fill(kept.length))
      },
      { maxRetries: 0, runtimeEnv: { envVars: { NODE_OPTIONS: '--max-old-space-size=64' } } },
    )
    const error = (await ray.get(fill.remote(), { timeoutS: 50 }).catch((caught: unknown) => caught)) as Error
    expect(error).toBeInstanceOf(ray.exceptions.OutOfMemoryError)
    expect(error.message).toMatch(/its JavaScript heap was full, and it was ended by SIGABRT/)
    const fine = ray.remote(() => 1)
    expect(await ray.get(fine.remote())).toBe(1)
  })

  test('[PERF-09] a result that cannot be serialized is an error with its path', async () => {
    const leak = ray.remote(() => ({ a: { socket: new (process.getBuiltinModule('node:net').Socket)() } }))
    await expect(ray.get(leak.remote())).rejects.toThrow(/a\.socket/)
  })

  test('[ACT-03] an actor whose constructor never returns can be killed, and its calls fail', async () => {
    class Stuck {
      constructor() {
        for (;;);
      }
      m(): number {
        return 1
      }
    }
    const stuck = ray.remote(Stuck).remote()
    const call = stuck.m.remote()
    await expect(ray.get(call, { timeoutS: 0.5 })).rejects.toThrow(ray.exceptions.GetTimeoutError)
    ray.kill(stuck)
    await expect(ray.get(call, { timeoutS: 10 })).rejects.toThrow(ray.exceptions.ActorDiedError)
  })

  test('[ARCH-09] a crash of one worker leaves the node and the others alone; the pool refills', async () => {
    const pid = ray.remote(async () => {
      await new Promise((resolve) => setTimeout(resolve, 100))
      return process.pid
    })
    const crash = ray.remote(() => process.exit(7), { maxRetries: 0 })
    await Promise.allSettled([ray.get(crash.remote()), ray.get(crash.remote())])
    const pids = new Set(await ray.get([pid.remote(), pid.remote(), pid.remote(), pid.remote()]))
    expect(pids.size).toBeLessThanOrEqual(2)
  })

  test('[OBJ-04] ten thousand references dropped at once', async () => {
    const noop = ray.remote((i: number) => i)
    let refs: unknown[] = Array.from({ length: 10_000 }, (_, i) => noop.remote(i))
    refs = []
    expect(refs).toEqual([])
    expect(await ray.get(noop.remote(5))).toBe(5)
  })
})

describe('the node process', () => {
  test('[ARCH-02] kill -9 of the node: calls fail with a typed error, and nothing is left', async () => {
    const cluster = await ray.init({ numCpus: 2 })
    const nap = ray.remote(() => new Promise((resolve) => setTimeout(resolve, 60_000)))
    const ref = nap.remote()
    const pid = Number.parseInt(fs.readFileSync(path.join(cluster.sessionDir, 'node.pid'), 'utf8'), 10)
    const failed = expect(ray.get(ref)).rejects.toThrow(ray.exceptions.LocalRayletDiedError)
    process.kill(pid, 'SIGKILL')
    await failed
    await ray.shutdown()
    await until(() => leftovers(cluster.sessionDir).length === 0, 'nothing is left', 5000)
  })

  test('[CL-01] a full /dev/shm is not the end: values go to disk', async () => {
    if (process.getuid?.() !== 0) return
    const small = path.join(tempDir(), 'shm')
    fs.mkdirSync(small, { recursive: true })
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', small])
    } catch {
      return // Mounting is not allowed here.
    }
    const { RAY_TS_SHM_DIR } = process.env
    process.env.RAY_TS_SHM_DIR = small
    try {
      await ray.init({ numCpus: 1 })
      const refs = [1, 2, 3].map((n) => ray.put(Buffer.alloc(5_000_000, n)))
      const back = await ray.get(refs)
      expect(back.map((one) => one[4_999_999])).toEqual([1, 2, 3])
    } finally {
      await ray.shutdown()
      process.env.RAY_TS_SHM_DIR = RAY_TS_SHM_DIR
      execFileSync('umount', ['-l', small])
    }
  })
})
