// Failure here looks like state that is lost or doubled, calls out of order, or a dead actor without a reason.
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tempDir, until } from './helpers.ts'

beforeAll(() => ray.init({ numCpus: 4 }))
afterAll(() => ray.shutdown())

class Counter {
  private n: number
  constructor(n = 0) {
    this.n = n
  }
  increment(by = 1): number {
    this.n += by
    return this.n
  }
  pid(): number {
    return process.pid
  }
  crash(): void {
    process.exit(1)
  }
}
const RemoteCounter = ray.remote(Counter)

test('[ACT-01] an actor keeps its state in a process of its own', async () => {
  const counter = RemoteCounter.remote(10)
  expect(await ray.get(counter.increment.remote(5))).toBe(15)
  expect(await ray.get(counter.increment.remote(3))).toBe(18)
  expect(await ray.get(counter.pid.remote())).not.toBe(process.pid)
  expect(() => new (RemoteCounter as unknown as new () => object)()).toThrow(/called directly/)
})

test('[ACT-02] calls of one caller run in order', async () => {
  const counter = RemoteCounter.remote()
  const refs = Array.from({ length: 1000 }, () => counter.increment.remote())
  expect(await ray.get(refs)).toEqual(Array.from({ length: 1000 }, (_, i) => i + 1))
})

test('[ACT-02] a call that waits for its argument holds up later ones of the same caller', async () => {
  const slow = ray.remote(async () => {
    await new Promise((resolve) => setTimeout(resolve, 200))
    return 10
  })
  const counter = RemoteCounter.remote()
  const first = counter.increment.remote(slow.remote())
  const second = counter.increment.remote(1)
  expect(await ray.get([first, second])).toEqual([10, 11])
})

test('[ACT-03] what the constructor threw comes with every call', async () => {
  class Broken {
    constructor() {
      throw new RangeError('cannot begin')
    }
    m(): number {
      return 1
    }
  }
  const broken = ray.remote(Broken).remote()
  await expect(ray.get(broken.m.remote())).rejects.toThrow(/cannot begin/)
  await expect(ray.get(broken.m.remote())).rejects.toThrow(RangeError)
})

test('[ACT-04] resources that were asked for are held until the actor is killed', async () => {
  const before = 4
  await until(async () => (await ray.availableResources()).CPU === before, 'leases of earlier tasks are returned')
  const held = RemoteCounter.options({ numCpus: 2 }).remote()
  await ray.get(held.increment.remote())
  expect((await ray.availableResources()).CPU).toBe(before - 2)
  const free = RemoteCounter.remote()
  await ray.get(free.increment.remote())
  expect((await ray.availableResources()).CPU).toBe(before - 2)
  ray.kill(held)
  await until(async () => (await ray.availableResources()).CPU === before, 'two CPUs come back')
})

test('[ACT-05] names: found by name, taken names are refused, unknown ones explained, getIfExists', async () => {
  const counter = RemoteCounter.options({ name: 'global' }).remote(1)
  await ray.get(counter.increment.remote())
  const found = await ray.getActor<Counter>('global')
  expect(await ray.get(found.increment.remote())).toBe(3)
  const second = RemoteCounter.options({ name: 'global' }).remote()
  await expect(ray.get(second.increment.remote())).rejects.toThrow(ray.exceptions.ActorAlreadyExistsError)
  const same = RemoteCounter.options({ name: 'global', getIfExists: true }).remote()
  expect(await ray.get(same.increment.remote())).toBe(4)
  await expect(ray.getActor('nobody')).rejects.toThrow(/no actor is named 'nobody'[\s\S]*another namespace/)
  expect(await ray.util.listNamedActors()).toContain('global')
})

test('[ACT-07] maxRestarts: it comes back with fresh state, then stays dead', async () => {
  const counter = RemoteCounter.options({ maxRestarts: 1 }).remote()
  await ray.get(counter.increment.remote())
  const first = await ray.get(counter.pid.remote())
  await expect(ray.get(counter.crash.remote())).rejects.toThrow(ray.exceptions.RayActorError)
  expect(await ray.get(counter.increment.remote())).toBe(1)
  expect(await ray.get(counter.pid.remote())).not.toBe(first)
  await expect(ray.get(counter.crash.remote())).rejects.toThrow(ray.exceptions.ActorDiedError)
  await expect(ray.get(counter.increment.remote())).rejects.toThrow(ray.exceptions.ActorDiedError)
})

test('[ACT-08] maxTaskRetries repeats the call on the next life', async () => {
  const file = path.join(tempDir(), 'lives')
  class Fragile {
    async work(): Promise<string> {
      const { appendFileSync, readFileSync } = await import('node:fs')
      appendFileSync(file, 'x')
      if (readFileSync(file, 'utf8').length < 2) process.exit(1)
      return 'done'
    }
  }
  const fragile = ray.remote(Fragile).options({ maxRestarts: 2, maxTaskRetries: 2 }).remote()
  expect(await ray.get(fragile.work.remote())).toBe('done')
  expect(fs.readFileSync(file, 'utf8')).toBe('xx')
})

test('[ACT-09] the error of a dead actor says how its process ended', async () => {
  const counter = RemoteCounter.remote()
  const pid = await ray.get(counter.pid.remote())
  process.kill(pid, 'SIGKILL')
  const error = await ray.get(counter.increment.remote()).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(ray.exceptions.ActorDiedError)
  expect(String(error)).toMatch(/Counter \([0-9a-f]{32}\) is dead: it was ended by SIGKILL/)
})

test('[ACT-10] async methods overlap, up to maxConcurrency', async () => {
  class Meter {
    open = 0
    most = 0
    async nap(): Promise<void> {
      this.most = Math.max(this.most, ++this.open)
      await new Promise((resolve) => setTimeout(resolve, 20))
      this.open--
    }
    peak(): number {
      return this.most
    }
  }
  const meter = ray.remote(Meter).remote()
  await ray.get(Array.from({ length: 50 }, () => meter.nap.remote()))
  expect(await ray.get(meter.peak.remote())).toBe(50)
  const limited = ray.remote(Meter).options({ maxConcurrency: 5 }).remote()
  await ray.get(Array.from({ length: 50 }, () => limited.nap.remote()))
  expect(await ray.get(limited.peak.remote())).toBe(5)
})

test('[EXTRA-12] concurrency groups do not hold each other up', async () => {
  class Store {
    async compute(): Promise<string> {
      await new Promise((resolve) => setTimeout(resolve, 2000))
      return 'computed'
    }
    async read(): Promise<string> {
      return 'read'
    }
  }
  ray.method({ concurrencyGroup: 'io' })(Store.prototype.read)
  const store = ray
    .remote(Store)
    .options({ maxConcurrency: 1, concurrencyGroups: { io: 2 } })
    .remote()
  const computing = store.compute.remote()
  expect(await ray.get(store.read.remote(), { timeoutS: 1.5 })).toBe('read')
  await expect(ray.get(store.read.options({ concurrencyGroup: 'none' }).remote())).rejects.toThrow(
    /no concurrency group/,
  )
  ray.kill(store)
  await expect(ray.get(computing)).rejects.toThrow(ray.exceptions.ActorDiedError)
})

test('[ACT-12] maxPendingCalls refuses at once', async () => {
  class Slow {
    async nap(): Promise<void> {
      await new Promise((resolve) => setTimeout(resolve, 300))
    }
  }
  const slow = ray.remote(Slow).options({ maxPendingCalls: 2 }).remote()
  const two = [slow.nap.remote(), slow.nap.remote()]
  expect(() => slow.nap.remote()).toThrow(ray.exceptions.PendingCallsLimitExceeded)
  await ray.get(two)
  await ray.get(slow.nap.remote())
})

test('[ACT-14] handles travel; when the last one is let go, the actor ends', async () => {
  const counter = RemoteCounter.remote()
  const pid = await ray.get(counter.pid.remote())
  const use = ray.remote(async (handle: ray.ActorHandle<Counter>) => ray.get(handle.increment.remote(7)))
  expect(await ray.get(use.remote(counter))).toBe(7)
  expect(await ray.get(counter.increment.remote(1))).toBe(8)
  ;(counter as unknown as Disposable)[Symbol.dispose]()
  await until(() => !isRunning(pid), 'the actor ends when nobody holds it')
})

test('[ACT-14] calls that are under way keep their actor alive when its handle is gone', async () => {
  const slow = RemoteCounter.remote()
  const refs = [slow.increment.remote(1), slow.increment.remote(2), slow.pid.remote()] as const
  ;(slow as unknown as Disposable)[Symbol.dispose]() // Before the actor has started.
  const [, sum, pid] = await ray.get(refs)
  expect(sum).toBe(3)
  await until(() => !isRunning(pid), 'the actor ends after its last call')
})

test('[ACT-15] many waiting calls draw a warning', async () => {
  const warnings: string[] = []
  const listen = (warning: Error) => warnings.push(String(warning))
  process.on('warning', listen)
  class Idle {
    async nap(): Promise<void> {
      await new Promise((resolve) => setTimeout(resolve, 300))
    }
    touch(): void {}
  }
  const idle = ray.remote(Idle).options({ maxConcurrency: 1 }).remote()
  const refs = Array.from({ length: 5001 }, () => idle.touch.remote())
  await until(() => warnings.some((text) => /calls wait for the actor/.test(text)), 'a warning')
  await ray.get(refs)
  process.off('warning', listen)
})

test('[ACT-16] calling a method without .remote, or one that is not there, says what to do', () => {
  const counter = RemoteCounter.remote()
  expect(() => (counter.increment as unknown as () => void)()).toThrow(/increment\.remote/)
  expect(() => (counter as unknown as { foo: unknown }).foo).toThrow(/no method 'foo'[\s\S]*increment, pid, crash/)
})

test('[EXTRA-03] kill at once; exitActor ends it for good, restarts or not', async () => {
  const counter = RemoteCounter.options({ maxRestarts: 5 }).remote()
  await ray.get(counter.increment.remote())
  ray.kill(counter)
  await expect(ray.get(counter.increment.remote())).rejects.toThrow(/killed by ray\.kill/)
  class Leaver {
    leave(): void {
      ray.exitActor()
    }
  }
  const leaver = ray.remote(Leaver).options({ maxRestarts: 5 }).remote()
  await expect(ray.get(leaver.leave.remote())).rejects.toThrow(/exitActor/)
})

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
