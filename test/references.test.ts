// Who keeps a value alive, and for how long. Failure here looks like a value freed while a borrower holds it, or one that stays when
// nobody does.
import v8 from 'node:v8'
import vm from 'node:vm'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { sleep, until } from './helpers.ts'

const MB = 1024 * 1024
v8.setFlagsFromString('--expose-gc')
const gc = vm.runInNewContext('gc') as () => void

beforeAll(() => ray.init({ numCpus: 2, objectStoreMemory: 400 * MB }))
afterAll(() => ray.shutdown())

/** Of the node's book: values in the store, wherever they lie. */
async function stored(): Promise<number> {
  return (await ray.util.nodeStats()).objects as number
}

/** In a worker: references that nobody there holds are found. */
const collect = ray.remote(async () => {
  process.getBuiltinModule('node:v8').setFlagsFromString('--expose-gc')
  ;(process.getBuiltinModule('node:vm').runInNewContext('gc') as () => void)()
  await new Promise((resolve) => setTimeout(resolve, 20))
})

async function gone(what: string): Promise<void> {
  await until(async () => {
    gc()
    await ray.get([collect.remote(), collect.remote()])
    return (await stored()) === 0
  }, what)
}

/** A value that lies in the store. */
const large = (fill: number): Buffer => Buffer.alloc(MB, fill)
const first = ray.remote((data: Uint8Array) => data[0] as number)

class Keeper {
  private kept: unknown = null
  keep(value: unknown): void {
    this.kept = value
  }
  async read(): Promise<number> {
    const box = this.kept as { ref: ray.ObjectRef<Uint8Array> }
    return (await ray.get(box.ref))[0] as number
  }
  give(): unknown {
    return this.kept
  }
  drop(): void {
    this.kept = null
  }
  collect(): void {
    process.getBuiltinModule('node:v8').setFlagsFromString('--expose-gc')
    ;(process.getBuiltinModule('node:vm').runInNewContext('gc') as () => void)()
  }
}

test('[ARCH-21][OBJ-04] the collector frees what no reference reaches, without `using` or `free`', async () => {
  await (async () => {
    const refs = Array.from({ length: 20 }, (_, i) => ray.put(large(i)))
    expect(await stored()).toBe(20)
    expect((await ray.get(refs[19] as ray.ObjectRef<Buffer>))[0]).toBe(19)
  })()
  await gone('20 values without references')
})

test('[OBJ-04] `using` lets go at the end of the block; a second handle keeps the value', async () => {
  let other: ray.ObjectRef<Buffer>
  {
    using ref = ray.put(large(5))
    const [copy] = await ray.get(ray.put([ref]))
    other = copy as ray.ObjectRef<Buffer>
  }
  gc()
  await sleep(0)
  gc() // The disposed handle is collected: it must not let go a second time.
  await sleep(0)
  expect((await ray.get(other))[0]).toBe(5)
  other[Symbol.dispose]()
  other[Symbol.dispose]()
  await gone('the value')
})

test('[ARCH-21] a reference inside a put value, inside another put value', async () => {
  const outer = (() => {
    const inner = ray.put(large(7))
    return ray.put({ deep: [new Map([['middle', ray.put({ ref: inner })]])] })
  })()
  gc()
  await sleep(10)
  gc()
  const { deep } = await ray.get(outer)
  const middle = deep[0]?.get('middle') as ray.ObjectRef<{ ref: ray.ObjectRef<Buffer> }>
  expect((await ray.get((await ray.get(middle)).ref))[0]).toBe(7)
  outer[Symbol.dispose]()
  expect((await ray.get((await ray.get(middle)).ref))[0]).toBe(7)
  middle[Symbol.dispose]()
  await gone('all three')
})

test('[ARCH-21] a reference returned by a task, made there: its maker keeps it for us', async () => {
  const make = ray.remote((fill: number) => ({ ref: ray.put(Buffer.alloc(1024 * 1024, fill)) }))
  const box = await ray.get(make.remote(9))
  expect(await ray.get(first.remote(box.ref))).toBe(9)
  box.ref[Symbol.dispose]()
  await gone('the value')
})

test('[ARCH-21] a reference passed on through two tasks that do not look at it', async () => {
  const pass = ray.remote((box: { ref: ray.ObjectRef<Buffer> }) => box)
  const again = ray.remote((box: { ref: ray.ObjectRef<Buffer> }) => ray.get(pass.remote(box)))
  const last = await (async () => {
    const ref = ray.put(large(11))
    const result = again.remote({ ref })
    ref[Symbol.dispose]()
    return ray.get(result)
  })()
  gc()
  await sleep(10)
  expect((await ray.get(last.ref))[0]).toBe(11)
  last.ref[Symbol.dispose]()
  await gone('the value')
})

test('[ARCH-21] borrowers: two actors hold it, one gives it on, each lets go', async () => {
  const [a, b] = [ray.remote(Keeper).remote(), ray.remote(Keeper).remote()]
  const ref = ray.put(large(13))
  await ray.get(a.keep.remote({ ref }))
  ref[Symbol.dispose]()
  expect(await ray.get(a.read.remote())).toBe(13)
  // The result of one call is the argument of the other: nobody here looks inside.
  await ray.get(b.keep.remote(a.give.remote()))
  await ray.get(a.drop.remote())
  await ray.get(a.collect.remote())
  expect(await ray.get(b.read.remote())).toBe(13)
  await ray.get(b.drop.remote())
  await until(async () => {
    await ray.get([a.collect.remote(), b.collect.remote()])
    gc()
    return (await stored()) === 0
  }, 'the value, when the last borrower has let go')
})

test('[ARCH-21] a borrower that is killed holds nothing any more', async () => {
  const keeper = ray.remote(Keeper).remote()
  const ref = ray.put(large(17))
  await ray.get(keeper.keep.remote({ ref }))
  ref[Symbol.dispose]()
  expect(await ray.get(keeper.read.remote())).toBe(17)
  expect(await stored()).toBe(1)
  ray.kill(keeper)
  await gone('the value')
})

test('[ARCH-21] an owner that is killed: the borrower gets OwnerDiedError, and the store is empty', async () => {
  class Owner {
    make(): { ref: ray.ObjectRef<Buffer> } {
      return { ref: ray.put(Buffer.alloc(1024 * 1024, 19)) }
    }
  }
  const owner = ray.remote(Owner).remote()
  const { ref } = await ray.get(owner.make.remote())
  expect((await ray.get(ref))[0]).toBe(19)
  ray.kill(owner)
  await until(async () => (await stored()) === 0, 'the value of a dead owner')
  const late = ray.remote((box: { ref: ray.ObjectRef<Buffer> }) => ray.get(box.ref))
  await expect(ray.get(late.remote({ ref }))).rejects.toThrow(ray.exceptions.OwnerDiedError)
})

test('[OBJ-04] free gives a value up for everyone, at once', async () => {
  const ref = ray.put(large(23))
  const view = await ray.get(ref)
  ref.free()
  expect(await stored()).toBe(0)
  expect(view[MB - 1]).toBe(23) // Who has it, has it.
  await expect(ray.get(ref)).rejects.toThrow(ray.exceptions.ObjectFreedError)
  await expect(ray.get(first.remote(ref))).rejects.toThrow(ray.exceptions.ObjectFreedError)
})

test('[OBJ-04][ARCH-21] 1000 puts of 10 MB, references simply dropped: the store stays as it is', async () => {
  const block = Buffer.alloc(10 * MB)
  let peakBytes = 0
  let spilled = 0
  for (let i = 0; i < 1000; i++) {
    block[0] = i
    expect(await ray.get(first.remote(ray.put(block)))).toBe(i % 256)
    if (i % 20 !== 19) continue
    const stats = await ray.util.nodeStats()
    peakBytes = Math.max(peakBytes, stats.shmBytes as number)
    spilled = stats.spilledObjectsEver as number
  }
  expect(peakBytes).toBeLessThanOrEqual(400 * MB)
  // Owners collect before values move: nearly none of a thousand went to disk.
  expect(spilled).toBeLessThan(200)
  await gone('all thousand')
}, 120_000)

test('[OBJ-04] 10,000 references dropped at once', async () => {
  const refs = Array.from({ length: 10_000 }, (_, i) => ray.put(i))
  const boxes = Array.from({ length: 100 }, (_, i) =>
    ray.put({ refs: refs.slice(i * 100, i * 100 + 100), data: large(1).subarray(0, 200_000) }),
  )
  expect(await stored()).toBe(100)
  refs.length = 0
  boxes.length = 0
  await gone('all of them')
})
