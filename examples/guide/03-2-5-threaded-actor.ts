// Guide 3.2, fifth sample (threaded actors): ten calls at once in one actor, a hundred waiting at most.
//
// Difference: JavaScript has no threads on a shared heap. Calls of a class with async methods overlap wherever they await; between two
// awaits nothing else runs, so that state needs no lock. Work that computes is a task of its own, which the actor awaits.

import * as ray from 'ray-ts'

const expensiveComputation = ray.remote((value: number) => {
  let sum = 0
  for (let i = 0; i < 100_000; i++) sum += Math.sqrt(value * i)
  return Math.round(sum)
})

class ThreadedActor {
  private readonly data = new Map<string, number>()
  private open = 0
  private openMax = 0

  async process(key: string, value: number): Promise<number> {
    this.openMax = Math.max(this.openMax, ++this.open)
    const result = await ray.get(expensiveComputation.remote(value))
    this.data.set(key, result)
    this.open--
    return result
  }

  async stats(): Promise<[keys: number, openMax: number]> {
    return [this.data.size, this.openMax]
  }
}

await using _cluster = await ray.init()
const actor = ray.remote(ThreadedActor).options({ maxConcurrency: 10, maxPendingCalls: 100 }).remote()

const results = await ray.get(Array.from({ length: 50 }, (_, i) => actor.process.remote(`key ${i}`, i)))
const [keys, openMax] = await ray.get(actor.stats.remote())
console.log(results[4], keys, openMax)

// More than a hundred waiting calls are refused at once.
try {
  for (let i = 0; i < 200; i++) actor.process.remote('more', i)
} catch (error) {
  console.log(error instanceof ray.exceptions.PendingCallsLimitExceeded)
}
//> 42163385 50 10
//> true
