// An actor whose calls compute at the same time: threads of one process, and one array of counts that all of them add to.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

const BINS = 10
const CALLS = 8
const SAMPLES = 100_000

class Histogram {
  /** Runs once; every thread gets the same memory. */
  static shared(bins: number): { counts: Int32Array } {
    return { counts: new Int32Array(new SharedArrayBuffer(bins * 4)) }
  }

  private readonly bins: number

  /** Runs in every thread: its fields are this thread's alone. */
  constructor(bins: number) {
    this.bins = bins
  }

  add(seed: number, samples: number): void {
    const { counts } = ray.getRuntimeContext().getShared<{ counts: Int32Array }>()
    let state = seed * 2_654_435_761
    for (let i = 0; i < samples; i++) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      Atomics.add(counts, Math.floor((state / 2 ** 32) * this.bins), 1)
    }
  }

  counts(): number[] {
    return [...ray.getRuntimeContext().getShared<{ counts: Int32Array }>().counts]
  }
}

await using _cluster = await ray.init()
const histogram = ray.remote(Histogram).options({ threaded: true, maxConcurrency: 2 }).remote(BINS)
await ray.get(Array.from({ length: CALLS }, (_, seed) => histogram.add.remote(seed + 1, SAMPLES)))

const counts = await ray.get(histogram.counts.remote())
const total = counts.reduce((sum, n) => sum + n, 0)
assert.equal(total, CALLS * SAMPLES)
assert.ok(counts.every((n) => Math.abs(n - total / BINS) < total / BINS / 10))
console.log(`${total} samples in ${counts.length} bins, none lost`)
//> 800000 samples in 10 bins, none lost
