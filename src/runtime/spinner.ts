// Keeps the event loop awake for a moment when an answer, or the next call, is expected at once.
//
// A process that sleeps in epoll is woken after 40 to 90 µs on a virtual machine, more than all our work for a call; one that polls
// sees the bytes at once. So whoever calls one thing after the other (`await ray.get(f.remote())`) finds both ends awake: a round trip
// of 20 to 25 µs instead of 100, and less processor time for each. RAY_TS_SPIN_MICROS=0 turns it off.
//
// Invariants:
//   S1. It never polls longer than `spinMs` after the last sign of life, and only where few calls are under way: streams of calls
//       need no wake-ups.
//   S2. It learns: where polling does not pay, or where it was taken off its processor, it stops trying for a while that doubles.

import os from 'node:os'
import { monotonicMs } from './clock.ts'

/** Null until it is asked for: with it comes node:os. */
let spinMs: number | null = null
/** Longer between two turns: somebody else needs this processor. */
const PREEMPTED_MS = 0.5
const SKIP_MAX = 1024
/** So many in a row may be bad luck. */
const MISSES_FREE = 3

export class Spinner {
  #isExpecting = false
  #isTurning = false
  #deadline = 0
  #lastTurn = 0
  #misses = 0
  /** Occasions to let pass. */
  #skip = 0
  readonly #turn = (): void => this.#onTurn()

  /** Something should arrive very soon. */
  expect(): void {
    spinMs ??= os.availableParallelism() > 1 ? Number(process.env.RAY_TS_SPIN_MICROS ?? 150) / 1000 : 0
    if (spinMs === 0) return
    if (this.#skip > 0) {
      this.#skip--
      return
    }
    const now = monotonicMs()
    this.#isExpecting = true
    this.#deadline = now + spinMs
    this.#lastTurn = now
    if (this.#isTurning) return
    this.#isTurning = true
    setImmediate(this.#turn)
  }

  /** It arrived. */
  arrived(): void {
    if (!this.#isExpecting) return
    this.#isExpecting = false
    this.#misses = 0
  }

  #onTurn(): void {
    this.#isTurning = false
    if (!this.#isExpecting) return
    const now = monotonicMs()
    if (now < this.#deadline && now - this.#lastTurn < PREEMPTED_MS) {
      this.#lastTurn = now
      this.#isTurning = true
      setImmediate(this.#turn)
      return
    }
    this.#isExpecting = false
    this.#misses++
    this.#skip = this.#misses < MISSES_FREE ? 0 : Math.min(SKIP_MAX, 2 ** (this.#misses - MISSES_FREE))
  }
}
