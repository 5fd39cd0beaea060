// Estimates π with tasks, and shows progress that the tasks report to an actor while they run.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

const TASKS = 8
const SAMPLES = 400_000

class Progress {
  private done = 0

  report(samples: number): void {
    this.done += samples
  }

  fraction(): number {
    return this.done / (TASKS * SAMPLES)
  }
}

/** Points of the unit square that fall into the quarter circle. The generator is seeded, so that every run gives the same. */
const sample = ray.remote((seed: number, progress: ray.ActorHandle<Progress>) => {
  let state = seed * 2_654_435_761
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
  let inside = 0
  for (let i = 1; i <= SAMPLES; i++) {
    if (Math.hypot(random(), random()) <= 1) inside++
    if (i % (SAMPLES / 4) === 0) progress.report.remote(SAMPLES / 4)
  }
  return inside
})

await using _cluster = await ray.init()
const progress = ray.remote(Progress).remote()
const refs = Array.from({ length: TASKS }, (_, seed) => sample.remote(seed + 1, progress))

// Wait for all, but look in between.
let running = refs
while (running.length > 0) {
  ;[, running] = await ray.wait(running, { numReturns: running.length, timeoutS: 0.1 })
  if (process.stdout.isTTY)
    process.stdout.write(`\r${Math.round((await ray.get(progress.fraction.remote())) * 100)} % `)
}

const inside = (await ray.get(refs)).reduce((sum, n) => sum + n, 0)
const pi = (4 * inside) / (TASKS * SAMPLES)
assert.ok(Math.abs(pi - Math.PI) < 0.005, `${pi}`)
console.log(`π is about ${pi.toFixed(2)}`)
//> π is about 3.14
