// Fails when a process that waits for something slow burns its processor.

import { performance } from 'node:perf_hooks'
import { expect, test } from 'vitest'
import { Spinner } from './spinner.ts'

const nap = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

test('what does not come is waited for asleep', async () => {
  const spinner = new Spinner()
  await nap(10)
  const before = performance.eventLoopUtilization()
  for (let i = 0; i < 20; i++) {
    spinner.expect()
    await nap(10)
  }
  expect(performance.eventLoopUtilization(before).utilization).toBeLessThan(0.5)
})

test('what comes at once is seen without sleeping', async () => {
  const spinner = new Spinner()
  let turns = 0
  spinner.expect()
  const count = (): void => {
    turns++
    if (turns < 5) setImmediate(count)
    else spinner.arrived()
  }
  setImmediate(count)
  await nap(5)
  expect(turns).toBe(5)
})
