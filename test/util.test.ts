// Failure here looks like items lost or doubled, results out of order, or a pool that leaves processes behind.
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'

beforeAll(() => ray.init({ numCpus: 3 }))
afterAll(() => ray.shutdown())

const { Queue, ActorPool, Pool, mapBounded, mapUnordered, asCompleted } = ray.util

test('[EXTRA-07] producers and consumers share a queue; full and empty are typed errors', async () => {
  const queue = new Queue<number>({ maxsize: 4 })
  const produce = ray.remote(async (to: typeof queue.actor, from: number) => {
    for (let i = from; i < from + 50; i++) await ray.get(to.put.remote(i, null))
  })
  const producers = [produce.remote(queue.actor, 0), produce.remote(queue.actor, 50)]
  const got: number[] = []
  for (let i = 0; i < 100; i++) got.push(await queue.get({ timeoutS: 20 }))
  await ray.get(producers)
  expect(got.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i))
  expect(await queue.empty()).toBe(true)
  await expect(queue.getNowait()).rejects.toThrow(ray.exceptions.QueueEmpty)
  await expect(queue.get({ timeoutS: 0.05 })).rejects.toThrow(/empty after 0\.05 s/)
  await queue.putNowaitBatch([1, 2, 3, 4])
  expect(await queue.full()).toBe(true)
  await expect(queue.putNowait(5)).rejects.toThrow(ray.exceptions.QueueFull)
  await expect(queue.put(5, { timeoutS: 0.05 })).rejects.toThrow(ray.exceptions.QueueFull)
  expect(await queue.getNowaitBatch(2)).toEqual([1, 2])
  expect(await queue.size()).toBe(2)
  queue.shutdown()
})

class Worker {
  async double(value: number): Promise<number> {
    await new Promise((resolve) => setTimeout(resolve, (value * 37) % 50))
    return value * 2
  }
}

test('[EXTRA-07] a queue travels: as an argument, captured, and inside a value', async () => {
  const queue = new Queue<string>({ maxsize: 10 })
  const given = ray.remote((to: typeof queue) => to.put('given'))
  const captured = ray.remote(() => queue.put('captured'))
  const nested = ray.remote(async (box: { queues: (typeof queue)[] }) => {
    for (const to of box.queues) await to.put(`nested of ${to.maxsize}`)
    return box.queues[0] === box.queues[1]
  })
  await ray.get([given.remote(queue), captured.remote()])
  expect(await ray.get(nested.remote({ queues: [queue, queue] }))).toBe(true)
  const got = await queue.getNowaitBatch(4)
  expect(got.sort()).toEqual(['captured', 'given', 'nested of 10', 'nested of 10'])
  queue.shutdown()
})

test('[ACT-13] an actor pool: in order, and as they come', async () => {
  const type = ray.remote(Worker)
  const pool = new ActorPool([type.remote(), type.remote()])
  const ordered: number[] = []
  for await (const value of pool.map((actor, v: number) => actor.double.remote(v), [1, 2, 3, 4, 5, 6]))
    ordered.push(value)
  expect(ordered).toEqual([2, 4, 6, 8, 10, 12])
  const any: number[] = []
  for await (const value of pool.mapUnordered((actor, v: number) => actor.double.remote(v), [1, 2, 3, 4, 5, 6]))
    any.push(value)
  expect(any.sort((a, b) => a - b)).toEqual([2, 4, 6, 8, 10, 12])
  expect(pool.hasNext()).toBe(false)
  expect(pool.hasFree()).toBe(true)
  await expect(pool.getNext()).rejects.toThrow(/no more results/)
  pool.submit((actor, v: number) => actor.double.remote(v), 21)
  expect(await pool.getNext({ timeoutS: 10 })).toBe(42)
})

test('[EXTRA-29] a process pool with the verbs of multiprocessing', async () => {
  const pool = new Pool({
    processes: 2,
    initializer: (base: number) => {
      ;(globalThis as { base?: number }).base = base
    },
    initargs: [100],
  })
  const plus = (x: number) => ((globalThis as { base?: number }).base ?? 0) + x
  expect(await pool.map(plus, [1, 2, 3])).toEqual([101, 102, 103])
  expect(await pool.starmap((a: number, b: number) => a * b, [[2, 3] as const, [4, 5] as const])).toEqual([6, 20])
  const seen: number[] = []
  for await (const value of pool.imap(plus, [5, 6, 7])) seen.push(value)
  expect(seen).toEqual([105, 106, 107])
  const any: number[] = []
  for await (const value of pool.imapUnordered(plus, [5, 6, 7])) any.push(value)
  expect(any.sort()).toEqual([105, 106, 107])
  expect(await pool.apply((a: string) => a.toUpperCase(), ['x'])).toBe('X')
  pool.close()
  await expect(pool.apply(plus, [1])).rejects.toThrow(/closed/)
  await pool.join()
})

test('[EXTRA-29] a pool: order, unordered as they come, chunks, errors, applyAsync, terminate', async () => {
  const pool = new Pool({ processes: 2 })
  const slow = async (ms: number) => {
    await new Promise((resolve) => setTimeout(resolve, ms))
    return ms
  }
  const first: number[] = []
  for await (const value of pool.imapUnordered(slow, [1500, 1, 2, 3], { chunksize: 1 })) first.push(value)
  expect(first.at(-1)).toBe(1500) // It began first and held nobody up.
  const inOrder: number[] = []
  for await (const value of pool.imap(slow, [200, 1, 2], { chunksize: 1 })) inOrder.push(value)
  expect(inOrder).toEqual([200, 1, 2])
  const many = Array.from({ length: 100 }, (_, i) => i)
  expect(await pool.map((x: number) => -x, many, { chunksize: 7 })).toEqual(many.map((x) => -x))
  expect(await pool.map((x: number) => x, [])).toEqual([])
  const fail = (x: number) => {
    if (x === 2) throw new RangeError('two')
    return x
  }
  await expect(pool.map(fail, [1, 2, 3])).rejects.toThrow(RangeError)
  await expect(pool.apply(() => process.exit(1), [])).rejects.toThrow(ray.exceptions.RayActorError)
  expect(await pool.map((x: number) => x, [1, 2, 3])).toEqual([1, 2, 3]) // The process that died was replaced.
  const promise = pool.applyAsync(slow, [50])
  expect(promise).toBeInstanceOf(Promise)
  expect(await promise).toBe(50)
  await expect(pool.join()).rejects.toThrow(/close\(\) or terminate\(\) first/)
  const open = pool.apply(slow, [60_000])
  pool.terminate()
  await expect(open).rejects.toThrow(ray.exceptions.ActorDiedError)
  await expect(pool.map(slow, [1])).rejects.toThrow(/closed/)
  await pool.join()
})

test('[EXTRA-29] close lets work under way end; join waits for it', async () => {
  const broken = new Pool({
    processes: 1,
    initializer: () => {
      throw new RangeError('no start')
    },
  })
  await expect(broken.map((x: number) => x, [1])).rejects.toThrow(/no start/)
  broken.terminate()
  const pool = new Pool({ processes: 2 })
  const results = pool.map((x: number) => x * x, [1, 2, 3])
  pool.close()
  await pool.join()
  expect(await results).toEqual([1, 4, 9])
})

test('[PERF-02][EXTRA-05] bounded maps keep few in flight and lose nothing', async () => {
  const square = ray.remote((x: number) => x * x)
  let most = 0
  let open = 0
  const submit = (x: number) => {
    most = Math.max(most, ++open)
    return square.remote(x)
  }
  const ordered: number[] = []
  for await (const value of mapBounded(submit, Array(200).keys(), { inFlight: 10 })) {
    open--
    ordered.push(value)
  }
  expect(ordered).toEqual(Array.from({ length: 200 }, (_, i) => i * i))
  expect(most).toBeLessThanOrEqual(10)
  let sum = 0
  for await (const value of mapUnordered((x: number) => square.remote(x), [1, 2, 3], { inFlight: 2 })) sum += value
  for await (const value of asCompleted([square.remote(4)])) sum += value
  expect(sum).toBe(1 + 4 + 9 + 16)
  const double = ray.remote((x: number) => 2 * x)
  const doubled: number[] = []
  for await (const one of mapBounded(double, [1, 2, 3], { inFlight: 2 })) doubled.push(one)
  expect(doubled).toEqual([2, 4, 6])
  const wrong = { maxInFlight: 2 } as { inFlight?: number }
  await expect(mapUnordered(double, [1], wrong).next()).rejects.toThrow(/maxInFlight[\s\S]*inFlight/)
})
