// Failure here looks like a definition of hundreds of megabytes that nobody warned of, or one that is copied more than it must.
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../helpers.ts'

const MB = 1024 * 1024
beforeAll(() => ray.init({ numCpus: 2 }))
afterAll(() => ray.shutdown())

test('[TASK-19][PAT-02] a capture of 20 MB works, and draws one warning that names the variable', async () => {
  const warnings: string[] = []
  const listen = (warning: Error): unknown => warnings.push(warning.message)
  process.on('warning', listen)
  const weights = new Float64Array((20 * MB) / 8).fill(2)
  const use = ray.remote(function useWeights(i: number) {
    return weights.length + (weights[i] as number)
  })
  expect(await ray.get([use.remote(0), use.remote(1)])).toEqual([20 * 131072 + 2, 20 * 131072 + 2])
  await until(() => warnings.length > 0, 'a warning')
  process.off('warning', listen)
  const hint = 'Put large data once with ray.put, and capture or pass its reference.'
  expect(warnings).toEqual([
    `The function useWeights is 20.0 MB large, most of it in the captured variable weights (20.0 MB). ${hint}`,
  ])
})

test('[TASK-19][PAT-02] 100 MB are refused before they are copied', () => {
  const table = new Uint8Array(100 * MB)
  const before = process.memoryUsage().arrayBuffers
  const use = ray.remote(function useTable() {
    return table.length
  })
  expect(() => use.remote()).toThrow(/useTable is 100\.0 MB large, .* captured variable table \(100\.0 MB\)/)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50 * MB)
})

test('[TASK-19] a warning names what is large, not what holds it', async () => {
  const small = { list: [1, 2, 3] }
  const big = { inside: { rows: Array.from({ length: 200 }, () => Buffer.alloc(MB)) } }
  const helper = () => [small, big]
  expect(() => ray.remote(() => helper()).remote()).toThrow(/most of it in the captured variable big \(200\.\d MB\)/)
})

test('[PERF-09] perProcess: a maker that fails is asked again', async () => {
  const tries = ray.perProcess(() => ({ n: 0 }))
  const flaky = ray.perProcess(() => {
    if (++tries().n < 2) throw new Error('not yet')
    return tries().n
  })
  const later = ray.perProcess(async () => {
    if (++tries().n < 5) throw new Error('not yet')
    return 'made'
  })
  class Uses {
    async use(): Promise<unknown[]> {
      const seen: unknown[] = []
      for (let i = 0; i < 2; i++) {
        try {
          seen.push(flaky())
        } catch (error) {
          seen.push((error as Error).message)
        }
      }
      const once = flaky()
      seen.push(once === flaky())
      for (let i = 0; i < 3; i++) seen.push(await later().catch((error: Error) => error.message))
      return seen
    }
  }
  expect(await ray.get(ray.remote(Uses).remote().use.remote())).toEqual([
    'not yet',
    2,
    true,
    'not yet',
    'not yet',
    'made',
  ])
  expect(() => ray.perProcess(3 as never)).toThrow(/takes a function that makes the value, but got number/)
})

test('[PERF-09] inspectSerializability lists all that stands in the way', () => {
  const config = { socket: new WeakRef({}), fine: 1, list: [Promise.resolve(), 2] }
  const square = () => config
  const { serializable, failures } = ray.util.inspectSerializability(square, 'square')
  expect(serializable).toBe(false)
  expect(failures.map((failure) => failure.path)).toEqual([
    'square → config.socket: WeakRef',
    'square → config.list[0]: Promise',
  ])
})
