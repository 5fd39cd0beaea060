// The simulated world's clock: one heap of happenings, ordered by (time, order of planning). Everything random comes from one seed.
//
// Invariants:
//   D1. The same seed gives the same happenings in the same order: `hash` runs over every traced line.
//   D2. Time only goes on; a happening planned for the past happens now.

import type { Ms } from '../kernel/machine.ts'
import { Random } from './random.ts'

interface Happening {
  readonly at: Ms
  readonly order: number
  readonly run: () => void
}

const TRACE_LINES_MAX = 200_000

export class World {
  readonly random: Random
  /** For the kills between two writes. */
  readonly tears: Random
  /** For what exists only where there are several nodes. */
  readonly net: Random
  /** For the ends of the GCS. */
  readonly gcs: Random
  /** For placement groups. */
  readonly groups: Random
  /** For values on their way between nodes. */
  readonly transfers: Random
  /** Lines of what happened, when asked for. */
  readonly trace: string[] | null
  now: Ms = 0
  steps = 0
  hash = 0x811c9dc5
  readonly #heap: Happening[] = []
  #order = 0

  readonly seed: number

  constructor(seed: number, keepsTrace: boolean) {
    this.seed = seed
    this.random = new Random(seed)
    this.tears = new Random(~seed)
    this.net = new Random(seed ^ 0x5bd1e995)
    this.gcs = new Random(seed ^ 0x27d4eb2f)
    this.transfers = new Random(seed ^ 0x1b873593)
    this.groups = new Random(seed ^ 0x68e31da4)
    this.trace = keepsTrace ? [] : null
  }

  at(at: Ms, run: () => void): void {
    this.#push({ at: Math.max(at, this.now), order: ++this.#order, run })
  }

  after(delay: Ms, run: () => void): void {
    this.at(this.now + delay, run)
  }

  /** Runs what happens until `until`, or until `isDone` says so. */
  run(until: Ms, isDone: () => boolean = () => false): void {
    for (let next = this.#heap[0]; next && next.at <= until; next = this.#heap[0]) {
      this.#pop()
      this.now = next.at
      this.steps++
      next.run()
      if (isDone()) return
    }
    this.now = Math.max(this.now, until)
  }

  log(line: string): void {
    let { hash } = this
    const stamped = `${this.now.toFixed(3)} ${line}`
    for (let i = 0; i < stamped.length; i++) hash = Math.imul(hash ^ stamped.charCodeAt(i), 0x01000193)
    this.hash = hash
    if (this.trace && this.trace.length < TRACE_LINES_MAX) this.trace.push(stamped)
  }

  #push(happening: Happening): void {
    const heap = this.#heap
    let at = heap.push(happening) - 1
    while (at > 0) {
      const up = (at - 1) >> 1
      if (!isBefore(happening, heap[up] as Happening)) break
      heap[at] = heap[up] as Happening
      at = up
    }
    heap[at] = happening
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop() as Happening
    if (heap.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Happening, heap[child] as Happening)) child++
      if (!isBefore(heap[child] as Happening, last)) break
      heap[at] = heap[child] as Happening
      at = child
    }
    heap[at] = last
  }
}

function isBefore(a: Happening, b: Happening): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
