// Failure here looks like a node that the kernel ends, a job that dies with one greedy task, or an error that does not say memory.
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterEach, expect, test } from 'vitest'
import { tempDir, until } from './helpers.ts'

afterEach(() => ray.shutdown())

const MB = 1_000_000

/** A node whose processes may use `megabytes` together, beside what it and its idle workers take. */
async function initWithBudget(megabytes: number): Promise<void> {
  await ray.init({
    numCpus: 2,
    logToDriver: false,
    systemConfig: { nodeMemoryLimitBytes: megabytes * MB, memoryUsageThreshold: 0.9, memoryMonitorRefreshMs: 50 },
  })
}

test('[FT-07][EXTRA-10] a task that fills memory dies alone; its error says who used how much', async () => {
  await initWithBudget(450)
  const hog = ray.remote(
    async function hog() {
      const kept: Buffer[] = []
      for (;;) {
        kept.push(Buffer.alloc(10_000_000, 1))
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    },
    { maxRetries: 3 },
  )
  const error = (await ray.get(hog.remote()).catch((caught: unknown) => caught)) as Error
  // The last of its owner's tasks is not run again and again.
  expect(error).toBeInstanceOf(ray.exceptions.OutOfMemoryError)
  expect(error.message).toMatch(/the node used [\d.]+ MB of 450\.0 MB \(0\.9\d*\), above the threshold 0\.9/)
  expect(error.message).toMatch(/this worker used \d{3}\.\d MB/)
  expect(error.message).toMatch(/The largest:\n\s+\d+\.\d MB {2}pid \d+ {2}hog/)
  const fine = ray.remote(() => 'fine')
  expect(await ray.get(fine.remote())).toBe('fine')
})

test('[FT-07][EXTRA-10] of several tasks of one owner the newest ends, and runs again when there is room', async () => {
  await initWithBudget(600)
  const folder = tempDir()
  const hold = ray.remote(
    async function hold(name: string, waits: boolean) {
      const { appendFileSync, existsSync } = process.getBuiltinModule('node:fs')
      appendFileSync(`${folder}/starts`, `${name}\n`)
      const kept: Buffer[] = []
      for (let i = 0; i < 30; i++) {
        kept.push(Buffer.alloc(10_000_000, 1))
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      appendFileSync(`${folder}/full`, `${name}\n`)
      while (waits && !existsSync(`${folder}/release`)) await new Promise((resolve) => setTimeout(resolve, 20))
      return `${name} held ${kept.length * 10} MB`
    },
    { maxRetries: 1 },
  )
  const starts = (name: string): number =>
    fs
      .readFileSync(path.join(folder, 'starts'), 'utf8')
      .split('\n')
      .filter((line) => line === name).length
  const first = hold.remote('first', true)
  await until(() => fs.existsSync(path.join(folder, 'full')), 'the first task holds its memory')
  const second = hold.options({ numCpus: 0.5 }).remote('second', false) // A lease of its own, newer than the first.
  await until(() => starts('second') >= 2, 'the second task was ended and begins again', 30_000)
  fs.writeFileSync(path.join(folder, 'release'), '')
  expect(await ray.get([first, second])).toEqual(['first held 300 MB', 'second held 300 MB'])
  expect(starts('first')).toBe(1)
})

test('[FT-07] an actor that fills memory: OutOfMemoryError for its callers', async () => {
  await initWithBudget(450)
  class Hoarder {
    private readonly kept: Buffer[] = []
    async take(): Promise<void> {
      for (;;) {
        this.kept.push(Buffer.alloc(10_000_000, 1))
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    }
  }
  const hoarder = ray.remote(Hoarder).remote()
  const error = (await ray.get(hoarder.take.remote()).catch((caught: unknown) => caught)) as Error
  expect(error).toBeInstanceOf(ray.exceptions.OutOfMemoryError)
  expect(error.message).toMatch(/actor Hoarder \([0-9a-f]{32}\)[\s\S]*above the threshold/)
})

test('[RES-06] memory reserves; enforceMemory caps the heap and ends a worker that uses more', async () => {
  await ray.init({ numCpus: 2, memory: 1000 * MB, logToDriver: false, systemConfig: { memoryMonitorRefreshMs: 50 } })
  const buffers = ray.remote(
    async function buffers(megabytes: number) {
      const kept: Buffer[] = []
      for (let i = 0; i < megabytes / 10; i++) {
        kept.push(Buffer.alloc(10_000_000, 1))
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      return kept.length
    },
    { memory: 150 * MB, maxRetries: 0 },
  )
  expect(await ray.get(buffers.remote(300))).toBe(30) // A reservation alone is only counted.
  const enforced = buffers.options({ enforceMemory: true })
  const error = (await ray.get(enforced.remote(300)).catch((caught: unknown) => caught)) as Error
  expect(error).toBeInstanceOf(ray.exceptions.OutOfMemoryError)
  expect(error.message).toMatch(/more than the 150\.0 MB that its option memory reserves/)
  const heap = ray.remote(
    function heap() {
      const kept: unknown[] = []
      for (;;) kept.push(new Array(100_000).fill(kept.length))
    },
    { memory: 105 * MB, enforceMemory: true, maxRetries: 0 },
  )
  await expect(ray.get(heap.remote())).rejects.toThrow(ray.exceptions.OutOfMemoryError)
  expect(() => enforced.options({ memory: 1 }).remote(1)).toThrow(/enforceMemory was set, but memory is 1 bytes/)
  await expect(ray.get(buffers.options({ memory: 2000 * MB }).remote(1))).rejects.toThrow(/can never be scheduled/)
})
