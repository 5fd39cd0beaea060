// Failure here looks like a wrong value, a task that runs twice or never, or an error without its cause.
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { sleep, tempDir } from './helpers.ts'

beforeAll(() => ray.init({ numCpus: 2 }))
afterAll(() => ray.shutdown())

const napping = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
const add = ray.remote((a: number, b: number) => a + b)
const count = (file: string) => (fs.existsSync(file) ? fs.readFileSync(file, 'utf8').length : 0)

test('[TASK-01] .remote returns at once while the task runs elsewhere', async () => {
  const slow = ray.remote(async (ms: number) => {
    await new Promise((resolve) => setTimeout(resolve, ms))
    return process.pid
  })
  await ray.get(slow.remote(0))
  const began = performance.now()
  const ref = slow.remote(300)
  expect(performance.now() - began).toBeLessThan(50)
  expect(await ray.get(ref)).not.toBe(process.pid)
  expect(() => (slow as unknown as () => void)()).toThrow(/called directly[\s\S]*\.remote/)
})

test('[TASK-02] top-level references are resolved, nested ones stay references', async () => {
  const see = ray.remote(async (top: number, nested: { ref: ray.ObjectRef<number> }) => {
    return [top, nested.ref instanceof ray.ObjectRef, await ray.get(nested.ref)]
  })
  expect(await ray.get(see.remote(ray.put(1), { ref: ray.put(2) }))).toEqual([1, true, 2])
})

test('[TASK-03] get keeps the order, fails with the first error, and times out', async () => {
  const after = ray.remote(async (ms: number, value: string) => {
    await new Promise((resolve) => setTimeout(resolve, ms))
    if (value === 'bad') throw new RangeError(value)
    return value
  })
  expect(await ray.get([after.remote(60, 'a'), after.remote(30, 'b'), after.remote(0, 'c')])).toEqual(['a', 'b', 'c'])
  await expect(ray.get([after.remote(5000, 'late'), after.remote(0, 'bad')])).rejects.toThrow(RangeError)
  await expect(ray.get(after.remote(5000, 'late'), { timeoutS: 0.05 })).rejects.toThrow(ray.exceptions.GetTimeoutError)
  await expect(ray.get(after.remote(5000, 'late'), { timeoutS: 0 })).rejects.toThrow(ray.exceptions.GetTimeoutError)
  await expect(ray.get(5 as never)).rejects.toThrow(/takes ObjectRefs, but got number 5/)
})

test('[TASK-04] the error of a task is the user’s own, with its fields and where it was thrown', async () => {
  class QuotaError extends Error {
    readonly left: number
    constructor(left: number) {
      super(`only ${left} left`)
      this.left = left
    }
  }
  const spend = ray.remote(function spend() {
    throw new QuotaError(7)
  })
  const error = await ray.get(spend.remote()).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(ray.exceptions.RayTaskError)
  expect(error).toBeInstanceOf(QuotaError)
  const { left, message, stack } = error as QuotaError
  expect(left).toBe(7)
  expect(message).toMatch(/^ray::spend\(\) \(pid=\d+\)/)
  expect(stack).toMatch(/in the worker:[\s\S]*at spend .*tasks\.test\.ts[\s\S]*called from:[\s\S]*tasks\.test\.ts/)
  expect(stack).not.toMatch(/job-runner|core-runtime|waiting\.ts|node:internal/)
})

test('[TASK-17] an error of the runtime names the call that met it, not our frames', async () => {
  const late = ray.remote(async () => {
    await new Promise((resolve) => setTimeout(resolve, 60_000))
  })
  const ref = late.remote()
  async function mine(): Promise<void> {
    await ray.get(ref, { timeoutS: 0.01 })
  }
  const { stack } = (await mine().catch((error: unknown) => error)) as Error
  expect(stack).toMatch(/^GetTimeoutError[\s\S]*at (async )?mine .*tasks\.test\.ts/)
  expect(stack).not.toMatch(/waiting\.ts|node:internal/)
  ray.cancel(ref)
})

test('[TASK-05] half a CPU each: four run at a time on two CPUs', async () => {
  const file = path.join(tempDir(), 'log')
  const overlap = ray.remote(
    async () => {
      const { appendFileSync, readFileSync } = await import('node:fs')
      appendFileSync(file, '+')
      await new Promise((resolve) => setTimeout(resolve, 400))
      const text = readFileSync(file, 'utf8')
      return text.length
    },
    { numCpus: 0.5 },
  )
  expect(await ray.get([overlap.remote(), overlap.remote(), overlap.remote(), overlap.remote()])).toContain(4)
})

test('[TASK-07] CPU inside resources is refused', () => {
  expect(() => ray.remote(() => 1, { resources: { CPU: 1 } })).toThrow(/use numCpus/)
})

test('[TASK-08] options gives a new function; maxCalls cannot be set there', async () => {
  const named = add.options({ name: 'sum' })
  expect(named).not.toBe(add)
  expect(await ray.get(named.remote(1, 2))).toBe(3)
  expect(() => add.options({ maxCalls: 1 } as never)).toThrow(/maxCalls cannot be set in \.options/)
})

test('[TASK-09] a crash is retried, an exception is not', async () => {
  const file = path.join(tempDir(), 'runs')
  const crash = ray.remote(
    async (untilRun: number) => {
      const { appendFileSync, readFileSync } = await import('node:fs')
      appendFileSync(file, 'x')
      if (readFileSync(file, 'utf8').length < untilRun) process.exit(1)
      return 'done'
    },
    { maxRetries: 3 },
  )
  expect(await ray.get(crash.remote(3))).toBe('done')
  expect(count(file)).toBe(3)
  const once = ray.remote(() => process.exit(3), { maxRetries: 0 })
  const error = await ray.get(once.remote()).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(ray.exceptions.WorkerCrashedError)
  expect(String(error)).toMatch(/code 3/)
})

test('[TASK-10] listed exceptions are retried, others are not', async () => {
  const file = path.join(tempDir(), 'runs')
  class Flaky extends Error {}
  const flaky = ray.remote(
    async (kind: string) => {
      const { appendFileSync, readFileSync } = await import('node:fs')
      appendFileSync(file, 'x')
      if (readFileSync(file, 'utf8').length < 3) throw kind === 'listed' ? new Flaky('again') : new TypeError('no')
      return 'ok'
    },
    { retryExceptions: [Flaky], maxRetries: 5 },
  )
  expect(await ray.get(flaky.remote('listed'))).toBe('ok')
  expect(count(file)).toBe(3)
  fs.rmSync(file)
  await expect(ray.get(flaky.remote('other'))).rejects.toThrow(TypeError)
  expect(count(file)).toBe(1)
})

test('[TASK-11] maxCalls ends the worker after that many runs', async () => {
  const pid = ray.remote(() => process.pid, { maxCalls: 2 })
  const pids: number[] = []
  for (let i = 0; i < 4; i++) pids.push(await ray.get(pid.remote()))
  expect(pids[0]).toBe(pids[1])
  expect(pids[2]).toBe(pids[3])
  expect(pids[0]).not.toBe(pids[2])
})

test('[TASK-12] maxTaskRetries on a task points to maxRetries', () => {
  expect(() => ray.remote(() => 1, { maxTaskRetries: 1 } as never)).toThrow(/maxRetries/)
})

test('[TASK-13] environment variables belong to the task', async () => {
  const read = ray.remote(() => process.env.FLAVOUR)
  const mint = read.options({ runtimeEnv: { envVars: { FLAVOUR: 'mint' } } })
  const lime = read.options({ runtimeEnv: { envVars: { FLAVOUR: 'lime' } } })
  expect(await ray.get([mint.remote(), lime.remote(), read.remote()])).toEqual(['mint', 'lime', undefined])
})

test('[TASK-14] a chain of tasks runs without the driver waiting in between', async () => {
  let ref = add.remote(0, 1)
  for (let i = 0; i < 5; i++) ref = add.remote(ref, 1)
  expect(await ray.get(ref)).toBe(6)
})

test('[TASK-15] what depends on a failed task does not run, and fails with its error', async () => {
  const file = path.join(tempDir(), 'ran')
  const fail = ray.remote((): string => {
    throw new RangeError('upstream')
  })
  const after = ray.remote(async (value: string) => {
    const { writeFileSync } = await import('node:fs')
    writeFileSync(file, value)
  })
  await expect(ray.get(after.remote(fail.remote()))).rejects.toThrow(RangeError)
  expect(fs.existsSync(file)).toBe(false)
})

test('[TASK-16] wait: at most numReturns, order kept, each seen once', async () => {
  const nap = ray.remote(async (ms: number) => {
    await new Promise((resolve) => setTimeout(resolve, ms))
    return ms
  })
  let rest = Array.from({ length: 12 }, (_, i) => nap.remote((i * 7) % 30))
  const all = new Set(rest)
  while (rest.length > 0) {
    const [done, others] = await ray.wait(rest, { numReturns: Math.min(2, rest.length) })
    expect(done.length).toBeLessThanOrEqual(2)
    for (const ref of done) expect(all.delete(ref)).toBe(true)
    rest = others
  }
  expect(all.size).toBe(0)
  const late = nap.remote(5000)
  expect(await ray.wait([late], { timeoutS: 0.05 })).toEqual([[], [late]])
  await expect(ray.wait([late, late])).rejects.toThrow(/twice/)
  await expect(ray.wait([late], { numReturns: 2 })).rejects.toThrow(/only 1 references/)
  ray.cancel(late)
})

test('[TASK-16] a loop that polls, or only finds what is there, lets replies and timers in', async () => {
  const refs = Array.from({ length: 20 }, (_, i) => add.remote(i, 1))
  let open = refs
  let polls = 0
  while (open.length > 0 && polls++ < 1_000_000) [, open] = await ray.wait(open, { timeoutS: 0 })
  expect(open).toEqual([])
  const there = ray.put(1)
  let isTimerHeard = false
  setTimeout(() => {
    isTimerHeard = true
  }, 1)
  for (let i = 0; i < 10_000_000 && !isTimerHeard; i++) await ray.get(there)
  expect(isTimerHeard).toBe(true)
})

test('[TASK-17] infeasible work fails at once, with what was asked and what there is', async () => {
  const big = ray.remote(() => 1, { numCpus: 64 })
  const error = await ray.get(big.remote()).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(ray.exceptions.TaskUnschedulableError)
  expect(String(error)).toMatch(/CPU: 64.*largest node has.*CPU: 2/)
})

test('[TASK-18] nested tasks do not deadlock: a waiting task lends its CPU', async () => {
  const leaf = ray.remote((n: number) => n * 2)
  const tree: ray.RemoteFunction<(depth: number) => Promise<number>> = ray.remote(
    async (depth: number): Promise<number> => {
      if (depth === 0) return ray.get(leaf.remote(1))
      const [a, b] = await ray.get([tree.remote(depth - 1), tree.remote(depth - 1)])
      return (a as number) + (b as number)
    },
  )
  expect(await ray.get(tree.remote(3))).toBe(16)
})

test('[TASK-20] the name option names the task in its errors and context', async () => {
  const who = ray.remote(() => ray.getRuntimeContext().getTaskName(), { name: 'renamed' })
  expect(await ray.get(who.remote())).toBe('renamed')
})

test('[EXTRA-01] generators: items come before the end, errors at the failing item, back-pressure holds', async () => {
  const items = ray.remote(async function* (n: number, nap: number) {
    for (let i = 0; i < n; i++) {
      yield i
      await new Promise((resolve) => setTimeout(resolve, nap))
    }
  })
  const generator = items.remote(3, 300)
  const began = performance.now()
  const first = await generator.next()
  expect(await ray.get(first.value as ray.ObjectRef<number>)).toBe(0)
  expect(performance.now() - began).toBeLessThan(280)
  const seen: unknown[] = []
  for await (const ref of generator) seen.push(await ray.get(ref))
  expect(seen).toEqual([1, 2])

  const failing = ray.remote(function* () {
    yield 1
    throw new RangeError('third')
  })
  const got: unknown[] = []
  await expect(
    (async () => {
      for await (const ref of failing.remote()) got.push(await ray.get(ref))
    })(),
  ).rejects.toThrow(RangeError)
  expect(got).toEqual([1])

  const file = path.join(tempDir(), 'made')
  const eager = ray.remote(
    function* () {
      const { appendFileSync } = process.getBuiltinModule('node:fs')
      for (let i = 0; i < 100; i++) {
        appendFileSync(file, 'x')
        yield i
      }
    },
    { generatorBackpressureNumObjects: 4 },
  )
  const held = eager.remote()
  await held.next()
  await sleep(300)
  expect(count(file)).toBeLessThanOrEqual(6)
  let total = 1
  for await (const ref of held) total += Number((await ray.get(ref)) >= 0)
  expect(total).toBe(100)
})

test('[EXTRA-01] numReturns: 3 gives three references', async () => {
  const three = ray.remote(() => ['a', 'b', 'c'], { numReturns: 3 } as never).options({ numReturns: 3 })
  const refs = three.remote()
  expect(await ray.get(refs)).toEqual(['a', 'b', 'c'])
  const wrong = ray.remote(() => ['a']).options({ numReturns: 2 })
  await expect(ray.get(wrong.remote())).rejects.toThrow(/array of 2 values/)
})

test("[EXTRA-02] cancel: one that does not listen goes on in nobody's way: its worker is not used again", async () => {
  const file = path.join(tempDir(), 'alive')
  const deaf = ray.remote(async (at: string) => {
    const { writeFileSync } = await import('node:fs')
    writeFileSync(at, String(process.pid))
    for (;;) await new Promise((resolve) => setTimeout(resolve, 10))
  })
  const ref = deaf.remote(file)
  await expect.poll(() => fs.existsSync(file) && fs.readFileSync(file, 'utf8'), { timeout: 10_000 }).toBeTruthy()
  const pid = Number(fs.readFileSync(file, 'utf8'))
  ray.cancel(ref)
  await expect(ray.get(ref, { timeoutS: 10 })).rejects.toThrow(ray.exceptions.TaskCancelledError)
  await expect.poll(() => fs.existsSync(`/proc/${pid}`), { timeout: 10_000 }).toBe(false)
})

test('[EXTRA-02] cancel: pending never runs, a running task hears its signal, one that computes is ended, children too', async () => {
  const file = path.join(tempDir(), 'ran')
  const listening = ray.remote(async () => {
    const { signal } = ray.getRuntimeContext()
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  })
  const running = listening.remote()
  await napping(200)
  ray.cancel(running)
  await expect(ray.get(running, { timeoutS: 10 })).rejects.toThrow(ray.exceptions.TaskCancelledError)

  const spin = ray.remote((): number => {
    for (;;);
  })
  const spinning = [spin.remote(), spin.remote()]
  const pending = ray.remote(async () => {
    const { writeFileSync } = await import('node:fs')
    writeFileSync(file, 'x')
  })
  const waiting = pending.remote()
  await napping(300)
  ray.cancel(waiting)
  await expect(ray.get(waiting, { timeoutS: 10 })).rejects.toThrow(ray.exceptions.TaskCancelledError)
  for (const ref of spinning) ray.cancel(ref)
  for (const ref of spinning)
    await expect(ray.get(ref, { timeoutS: 10 })).rejects.toThrow(ray.exceptions.TaskCancelledError)
  expect(fs.existsSync(file)).toBe(false)

  const parent = ray.remote(async () => {
    await ray.get(spin.remote())
  })
  const family = parent.remote()
  await napping(500)
  ray.cancel(family)
  await expect(ray.get(family, { timeoutS: 10 })).rejects.toThrow(ray.exceptions.TaskCancelledError)
  expect(await ray.get([add.remote(1, 1), add.remote(2, 2)], { timeoutS: 20 })).toEqual([2, 4])
})
