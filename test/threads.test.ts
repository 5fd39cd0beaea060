// Failure here looks like calls that compute one after the other, counts that get lost between threads, or a caller that waits for
// ever because a thread ended.
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isAlive, until } from './helpers.ts'

beforeAll(() => ray.init({ numCpus: 2, logToDriver: false }))
afterAll(() => ray.shutdown())

/** What the threads share: one number a slot. */
interface Shared {
  readonly counts: Int32Array
}

class Cruncher {
  private own = 0
  static shared(slots: number): Shared {
    return { counts: new Int32Array(new SharedArrayBuffer(slots * 4)) }
  }
  private readonly label: string
  constructor(slots: number, label = 'none') {
    this.label = `${label}/${slots}`
  }
  /** Computes until `others` calls compute at the same time, or the time is over; the most that were seen. */
  overlap(others: number, patienceMs: number): number {
    const { counts } = ray.getRuntimeContext().getShared<Shared>()
    Atomics.add(counts, 0, 1)
    const deadline = performance.now() + patienceMs
    let most = 0
    while (most < others && performance.now() < deadline) most = Math.max(most, Atomics.load(counts, 0))
    return most
  }
  count(slot: number, times: number): number {
    const { counts } = ray.getRuntimeContext().getShared<Shared>()
    for (let i = 0; i < times; i++) Atomics.add(counts, slot, 1)
    return ++this.own
  }
  read(slot: number): number {
    return Atomics.load(ray.getRuntimeContext().getShared<Shared>().counts, slot)
  }
  where(): { pid: number; label: string; actor: string | null } {
    return { pid: process.pid, label: this.label, actor: ray.getRuntimeContext().getActorId() }
  }
  spin(): void {
    for (;;);
  }
  fail(): never {
    throw new RangeError('in a thread')
  }
  leave(): void {
    process.exit(3)
  }
  fill(): number {
    const kept: unknown[] = []
    for (;;) kept.push(new Array(100_000).fill(kept.length))
  }
  crashLater(): Promise<void> {
    setTimeout(() => {
      throw new Error('thrown in a timer')
    }, 1)
    return new Promise(() => {})
  }
}
const Threaded = ray.remote(Cruncher).options({ threaded: true, maxConcurrency: 10 })

test('[ACT-11] ten calls that compute overlap in one process', async () => {
  const actor = Threaded.remote(4, 'ten')
  const seen = await ray.get(Array.from({ length: 10 }, () => actor.overlap.remote(10, 30_000)))
  expect(seen).toEqual(Array.from({ length: 10 }, () => 10))
  const places = await ray.get(Array.from({ length: 20 }, () => actor.where.remote()))
  expect(new Set(places.map(({ pid }) => pid)).size).toBe(1)
  expect(places[0]).toMatchObject({ label: 'ten/4', actor: expect.stringMatching(/^[0-9a-f]{32}$/) })
})

test('[ACT-11] without threads the same calls run one after the other', async () => {
  class Plain {
    private open = 0
    most(): number {
      return ++this.open && this.open--
    }
  }
  const plain = ray.remote(Plain).options({ maxConcurrency: 10 }).remote()
  expect(await ray.get(Array.from({ length: 10 }, () => plain.most.remote()))).toEqual(new Array(10).fill(1))
})

test('[ACT-11] shared memory is one for all threads, instance fields are one each', async () => {
  const actor = Threaded.options({ maxConcurrency: 4 }).remote(2)
  const own = await ray.get(Array.from({ length: 40 }, () => actor.count.remote(1, 1000)))
  expect(await ray.get(actor.read.remote(1))).toBe(40_000)
  expect(Math.max(...own)).toBeLessThanOrEqual(40)
  expect(own.filter((n) => n === 1).length).toBeGreaterThan(1) // Several instances began to count.
})

test('[ACT-11] ray works inside a thread: tasks, put, get, references and handles that are kept', async () => {
  const double = ray.remote((x: number) => x * 2)
  class User {
    private kept: { ref: ray.ObjectRef<number> } | null = null
    async compute(x: number): Promise<number> {
      return ray.get(double.remote(await ray.get(ray.put(x))))
    }
    keep(box: { ref: ray.ObjectRef<number> }): ray.ObjectRef<string> {
      this.kept = box
      return ray.put('put in a thread')
    }
    async use(): Promise<number> {
      return this.kept ? ray.get(this.kept.ref) : -1
    }
    large(bytes: number): Uint8Array {
      return new Uint8Array(bytes).fill(7)
    }
    *items(n: number): Generator<number> {
      for (let i = 0; i < n; i++) yield i
    }
    pair(): number[] {
      return [1, 2]
    }
  }
  ray.method({ numReturns: 2 })(User.prototype.pair)
  const user = ray.remote(User).options({ threaded: true, maxConcurrency: 1 }).remote()
  expect(await ray.get(user.compute.remote(21))).toBe(42)
  const inner = await ray.get(user.keep.remote({ ref: double.remote(50) })) // Its only other reference is let go at once.
  expect(await ray.get(inner)).toBe('put in a thread')
  await ray.get(Array.from({ length: 50 }, (_, i) => double.remote(i)))
  ;(globalThis as { gc?: () => void }).gc?.()
  expect(await ray.get(user.use.remote())).toBe(100)
  const large = await ray.get(user.large.remote(1_000_000))
  expect([large.length, large[999_999]]).toEqual([1_000_000, 7])
  const items: number[] = []
  for await (const ref of user.items.remote(5)) items.push(await ray.get(ref))
  expect(items).toEqual([0, 1, 2, 3, 4])
  const [one, two] = user.pair.remote() as unknown as [ray.ObjectRef<number>, ray.ObjectRef<number>]
  expect(await ray.get([one, two])).toEqual([1, 2])
})

test('[ACT-11] errors are typed, and a thread that ends takes only its own call with it', async () => {
  const actor = Threaded.options({ maxConcurrency: 2 }).remote(2)
  await expect(ray.get(actor.fail.remote())).rejects.toThrow(RangeError)
  const { pid } = await ray.get(actor.where.remote())
  const exited = (await ray.get(actor.leave.remote()).catch((caught: unknown) => caught)) as Error
  expect(exited).toBeInstanceOf(ray.exceptions.WorkerCrashedError)
  expect(exited.message).toMatch(/the thread of actor Cruncher that ran Cruncher\.leave ended: it exited with code 3/)
  const thrown = (await ray.get(actor.crashLater.remote()).catch((caught: unknown) => caught)) as Error
  expect(thrown.message).toMatch(/Error: thrown in a timer/)
  await ray.get(actor.count.remote(1, 5))
  expect(await ray.get(actor.read.remote(1))).toBe(5)
  expect((await ray.get(actor.where.remote())).pid).toBe(pid)
})

test('[ACT-11][RES-06] a thread that fills its share of the heap ends alone', async () => {
  const limits = { memory: 900_000_000, enforceMemory: true, maxConcurrency: 4 }
  const actor = Threaded.options(limits).remote(2)
  await ray.get(actor.count.remote(1, 4))
  const error = (await ray.get(actor.fill.remote()).catch((caught: unknown) => caught)) as Error
  expect(error).toBeInstanceOf(ray.exceptions.OutOfMemoryError)
  expect(error.message).toMatch(/the thread of actor Cruncher that ran Cruncher\.fill ended because its heap was full/)
  expect(await ray.get(actor.read.remote(1))).toBe(4)
})

test('[ACT-11] cancel ends the thread of a call that computes; what waits is dropped; the actor goes on', async () => {
  const actor = Threaded.options({ maxConcurrency: 1 }).remote(2)
  await ray.get(actor.count.remote(1, 3))
  const spinning = actor.spin.remote()
  const waiting = actor.count.remote(1, 100)
  ray.cancel(waiting)
  await expect(ray.get(waiting)).rejects.toThrow(ray.exceptions.TaskCancelledError)
  ray.cancel(spinning)
  await expect(ray.get(spinning)).rejects.toThrow(ray.exceptions.TaskCancelledError)
  expect(await ray.get(actor.read.remote(1))).toBe(3) // Shared memory outlives the thread.
})

test('[ACT-11] exitActor in a thread, a constructor that throws, and options that cannot be', async () => {
  class Quitter {
    quit(): void {
      ray.exitActor()
    }
    pid(): number {
      return process.pid
    }
  }
  const quitter = ray.remote(Quitter).options({ threaded: true, maxConcurrency: 2, maxRestarts: 3 }).remote()
  const pid = await ray.get(quitter.pid.remote())
  await expect(ray.get(quitter.quit.remote())).rejects.toThrow(/exitActor/)
  await until(() => !isAlive(pid), 'its process ends')
  class Broken {
    constructor() {
      throw new TypeError('no instance')
    }
    m(): void {}
  }
  const broken = ray.remote(Broken).options({ threaded: true, maxConcurrency: 2 }).remote()
  await expect(ray.get(broken.m.remote())).rejects.toThrow(/no instance/)
  expect(() => ray.remote(Quitter).options({ threaded: true }).remote()).toThrow(
    /threaded was set without maxConcurrency/,
  )
  expect(() => ray.remote(Quitter).options({ threaded: true, maxConcurrency: 1000 }).remote()).toThrow(/at most 256/)
})
