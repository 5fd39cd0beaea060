// A streaming pipeline: generator tasks yield items before they end, so the stages overlap and memory stays small.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

const BATCHES = 20
const BATCH = 1000

interface Reading {
  readonly sensor: number
  readonly value: number
}

/** Stands for a large file or a socket. It pauses while four batches have not been taken. */
const readBatches = ray
  .remote(function* (batches: number): Generator<Reading[]> {
    for (let batch = 0; batch < batches; batch++) {
      yield Array.from({ length: BATCH }, (_, i) => ({ sensor: i % 10, value: batch + i / BATCH }))
    }
  })
  .options({ generatorBackpressureNumObjects: 4 })

const clean = ray.remote((batch: Reading[]) => batch.filter(({ sensor }) => sensor !== 3)) // Sensor 3 is broken.

class Means {
  private readonly sums = new Map<number, [sum: number, count: number]>()

  add(batch: Reading[]): void {
    for (const { sensor, value } of batch) {
      const [sum, count] = this.sums.get(sensor) ?? [0, 0]
      this.sums.set(sensor, [sum + value, count + 1])
    }
  }

  result(): Map<number, number> {
    return new Map([...this.sums].map(([sensor, [sum, count]]) => [sensor, sum / count]))
  }
}

await using _cluster = await ray.init()
const means = ray.remote(Means).remote()

for await (const batch of readBatches.remote(BATCHES)) {
  // `batch` is a reference: the rows go from worker to worker and are never here.
  means.add.remote(clean.remote(batch))
}

// Calls of one caller run in order, so this one comes after all the adds.
const result = await ray.get(means.result.remote())
assert.equal(result.size, 9)
assert.equal(result.has(3), false)
console.log(`sensor 0: ${result.get(0)?.toFixed(3)} on average, of ${BATCHES} batches`)
//> sensor 0: 9.995 on average, of 20 batches
