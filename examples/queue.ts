// Producers and consumers around a bounded queue: a fast producer waits while the queue is full.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

const { Queue } = ray.util
const JOBS = 40

await using _cluster = await ray.init()
const jobs = new Queue<number>({ maxsize: 8 })
const results = new Queue<[job: number, square: number]>()

// A queue travels to tasks and actors like any other value.
const produce = ray.remote(async (queue: typeof jobs, from: number, to: number) => {
  for (let job = from; job < to; job++) await queue.put(job)
})

/** Works until nothing has come for a while. */
const consume = ray.remote(async (from: typeof jobs, to: typeof results) => {
  for (let done = 0; ; done++) {
    try {
      const job = await from.get({ timeoutS: 1 })
      await to.put([job, job * job])
    } catch (error) {
      if (error instanceof ray.exceptions.QueueEmpty) return done
      throw error
    }
  }
})

const producers = [produce.remote(jobs, 0, JOBS / 2), produce.remote(jobs, JOBS / 2, JOBS)]
const consumers = [consume.remote(jobs, results), consume.remote(jobs, results)]
await ray.get(producers)
const done = await ray.get(consumers)
assert.equal(
  done.reduce((sum, n) => sum + n, 0),
  JOBS,
)

const squares = await results.getNowaitBatch(JOBS)
for (const [job, square] of squares) assert.equal(square, job * job)
assert.equal(new Set(squares.map(([job]) => job)).size, JOBS)
console.log(`${squares.length} jobs done, each once`)
//> 40 jobs done, each once
