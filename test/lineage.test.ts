// Fails when a lost value is not made again, is made again without need, or hangs whoever waits for it.

import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { tempDir, until } from './helpers.ts'

let cluster: ray.Cluster
let runs: string
const BYTES = 300_000

beforeAll(async () => {
  cluster = await ray.init({ numCpus: 2 })
})
afterAll(() => ray.shutdown())
beforeEach(() => {
  runs = path.join(tempDir(), 'runs')
  fs.writeFileSync(runs, '')
})

/** As when the node that held them is gone. */
function loseStored(): void {
  const shm = path.join(process.env.RAY_TS_SHM_DIR ?? '/dev/shm', `ray-ts-${path.basename(cluster.sessionDir)}`)
  for (const name of fs.readdirSync(shm)) if (/^\d+-\d+$/.test(name)) fs.rmSync(path.join(shm, name))
}

function countRuns(): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const name of fs.readFileSync(runs, 'utf8').split('\n')) if (name) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

const make = ray.remote(async (file: string, n: number) => {
  const { appendFileSync } = await import('node:fs')
  appendFileSync(file, 'make\n')
  return new Uint8Array(300_000).fill(n)
})
const next = ray.remote(async (file: string, before: Uint8Array) => {
  const { appendFileSync } = await import('node:fs')
  appendFileSync(file, 'next\n')
  return before.map((x) => x + 1)
})

test('[FT-03] a lost value is made again by its task, and the values that this needs with it', async () => {
  const links = [make.remote(runs, 1)]
  for (let i = 0; i < 4; i++) links.push(next.remote(runs, links[i] as never))
  const last = links[4] as ray.ObjectRef<Uint8Array>
  await ray.wait([last])
  expect(countRuns()).toEqual({ make: 1, next: 4 })
  for (const link of links.slice(0, 4)) link[Symbol.dispose]() // Nobody holds them: only the last one needs them.
  loseStored()
  const value = await ray.get(last)
  expect([value.length, value[0], value[BYTES - 1]]).toEqual([BYTES, 5, 5])
  expect(countRuns()).toEqual({ make: 2, next: 8 })
})

test('[FT-03] a task whose argument is lost gets it made again', async () => {
  const made = make.remote(runs, 7)
  await ray.wait([made])
  loseStored()
  const value = await ray.get(next.remote(runs, made as never))
  expect(value[0]).toBe(8)
  expect(countRuns().make).toBe(2)
})

test('[FT-03] what was put, or may not be retried, is lost with a clear error', async () => {
  const put = ray.put(new Uint8Array(BYTES))
  const once = make.options({ maxRetries: 0 }).remote(runs, 1)
  await ray.wait([once])
  loseStored()
  await expect(ray.get(put)).rejects.toThrow(ray.exceptions.ObjectLostError)
  await expect(ray.get(once)).rejects.toThrow(ray.exceptions.ObjectLostError)
})

test('[FT-01][FT-03] a value that is lost while its task waits for another one is waited for again', async () => {
  const [first, second] = ['first', 'second'].map((name) => path.join(path.dirname(runs), name)) as [string, string]
  const when = ray.remote(async (file: string) => {
    const { existsSync } = await import('node:fs')
    while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5))
    return 1
  })
  const makeTwice = ray.remote(async (file: string, gate: string) => {
    const { appendFileSync, existsSync, readFileSync } = await import('node:fs')
    appendFileSync(file, 'make\n')
    const isFirst = readFileSync(file, 'utf8') === 'make\n'
    while (!isFirst && !existsSync(gate)) await new Promise((resolve) => setTimeout(resolve, 5))
    return new Uint8Array(300_000).fill(7)
  })
  const sum = ray.remote((value: Uint8Array, more: number) => (value[0] as number) + more)
  const made = makeTwice.remote(runs, second)
  await ray.wait([made])
  const late = when.remote(first)
  const total = sum.remote(made as never, late as never)
  loseStored()
  const again = ray.get(made)
  await until(() => countRuns().make === 2, 'it is made again')
  fs.writeFileSync(first, '')
  await ray.wait([late])
  fs.writeFileSync(second, '')
  expect(await ray.get(total)).toBe(8)
  expect((await again).length).toBe(BYTES)
})
