// A node that is being drained: it takes nothing new, what runs there goes on, and it leaves when nothing is left.
//
//     node.drain ──► requests that wait here are asked for elsewhere ──► no lease, no driver ──► nothing stored ──► node.leaving
//
// Invariants:
//   D1. From then on no request is taken, except what is to run in bundles that are here: they end with the node, and are placed anew.
//   D2. It is not taken back: the node ends.

import type { NodeDrain } from '../wire/cluster.ts'
import type { LeaseSpec } from '../wire/messages.ts'

export class Draining {
  #drain: NodeDrain | null = null

  get isOn(): boolean {
    return this.#drain !== null
  }

  /** True: it was not being drained before. */
  begin(drain: NodeDrain): boolean {
    const isNew = this.#drain === null
    this.#drain = drain
    return isNew
  }

  /** D1 */
  refuses({ strategy }: LeaseSpec): boolean {
    return this.isOn && strategy.kind !== 'bundle'
  }

  /** For those who ask why the node has ended. */
  get detail(): string {
    return `it was drained (${this.#drain?.reason}: ${this.#drain?.message})`
  }
}
