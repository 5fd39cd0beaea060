// An actor that goes on where its last life ended: `ray.actorState` keeps a few values in the cluster, whatever happens to the process.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

await using _cluster = await ray.init({ numCpus: 1 })

class Ledger {
  readonly #state = ray.actorState<{ balance: number; last: { what: string; amount: number } }>()
  #balance = this.#state.get('balance') ?? 0 // What an earlier life had set.

  async book(what: string, amount: number): Promise<number> {
    this.#balance += amount
    await Promise.all([this.#state.set('balance', this.#balance), this.#state.set('last', { what, amount })])
    return this.#balance // Both are kept: whoever gets this answer can rely on it.
  }

  last(): { what: string; amount: number } | undefined {
    return this.#state.get('last')
  }

  crash(): void {
    process.kill(process.pid, 'SIGKILL')
  }
}

const ledger = ray.remote(Ledger).options({ maxRestarts: -1, maxTaskRetries: 3 }).remote()
for (const [what, amount] of [
  ['rent', -700],
  ['salary', 2000],
  ['food', -30],
] as const) {
  console.log(what, await ray.get(ledger.book.remote(what, amount)))
  await ray.get(ledger.crash.options({ maxTaskRetries: 0 }).remote()).catch(() => {})
}
const last = await ray.get(ledger.last.remote())
assert.deepEqual(last, { what: 'food', amount: -30 })
console.log('last', last?.what)

//> rent -700
//> salary 1300
//> food 1270
//> last food
