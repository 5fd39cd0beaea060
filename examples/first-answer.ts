// Several searchers, one winner: the first answer is taken, and the others are cancelled.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

/** Looks for a divisor. It hears of its cancel through the signal of its task. */
const search = ray.remote(async (n: number, from: number, step: number): Promise<number> => {
  const { signal } = ray.getRuntimeContext()
  for (let d = from; ; d += step) {
    if (n % d === 0) return d
    if (d > n) d = from // Nothing there: this one would go on for ever.
    if ((d - from) % (step * 10_000) === 0) {
      // Let other things happen now and then; whoever never does is ended by force.
      await new Promise((resolve) => setImmediate(resolve))
      signal.throwIfAborted()
    }
  }
})

await using _cluster = await ray.init({ numCpus: 2 })
const n = 999_983 * 1_000_003
const searchers = [search.remote(n, 4, 2), search.remote(n, 3, 2)] // Even numbers never divide it.

const [[winner], losers] = await ray.wait(searchers)
assert.ok(winner)
for (const loser of losers) ray.cancel(loser)
const divisor = await ray.get(winner)
assert.equal(n % divisor, 0)

const outcomes = await Promise.allSettled(losers.map((loser) => ray.get(loser)))
for (const outcome of outcomes) {
  assert.equal(outcome.status, 'rejected')
  assert.ok(outcome.reason instanceof ray.exceptions.TaskCancelledError)
}
console.log(`${n} = ${divisor} × ${n / divisor}; ${losers.length} searcher was cancelled`)
//> 999985999949 = 999983 × 1000003; 1 searcher was cancelled
