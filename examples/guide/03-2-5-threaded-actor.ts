// Guide 3.2, fifth sample (threaded actors): calls that compute run in ten threads of one actor; a hundred may wait.
//
// Difference: threads of JavaScript share no heap, so each has an instance of the class of its own. What they share is the memory that
// `static shared` returns; Atomics take the place of the lock. See docs/actors.md.

import * as ray from 'ray-ts'

const KEYS = 50

class ThreadedActor {
  static shared(): { data: Float64Array; done: Int32Array } {
    return {
      data: new Float64Array(new SharedArrayBuffer(KEYS * 8)),
      done: new Int32Array(new SharedArrayBuffer(4)),
    }
  }

  process(key: number, value: number): number {
    const { data, done } = ray.getRuntimeContext().getShared<ReturnType<typeof ThreadedActor.shared>>()
    let sum = 0
    for (let i = 0; i < 100_000; i++) sum += Math.sqrt(value * i) // Stands for an expensive computation.
    data[key] = Math.round(sum) // Each key has a place of its own.
    Atomics.add(done, 0, 1)
    return data[key]
  }

  /** How many keys are there, and one of them: whichever thread answers. */
  look(key: number): [done: number, value: number | undefined] {
    const { data, done } = ray.getRuntimeContext().getShared<ReturnType<typeof ThreadedActor.shared>>()
    return [Atomics.load(done, 0), data[key]]
  }
}

await using _cluster = await ray.init()
const actor = ray.remote(ThreadedActor).options({ threaded: true, maxConcurrency: 10, maxPendingCalls: 100 }).remote()

const results = await ray.get(Array.from({ length: KEYS }, (_, i) => actor.process.remote(i, i)))
console.log(results[4])
console.log((await ray.get(actor.look.remote(4))).join(' '))

// More than a hundred waiting calls are refused at once.
try {
  for (let i = 0; i < 200; i++) actor.process.remote(0, i)
} catch (error) {
  console.log(error instanceof ray.exceptions.PendingCallsLimitExceeded)
}
//> 42163385
//> 50 42163385
//> true
