// What a simulated cluster costs: processor time by machine and by what it heard, messages and bytes by whose sake they are for.
//
//   X1. Whoever drives the simulation brings the clock; where it stands still nothing but times is missing.
//   X2. Times are of the clock on the wall, less the share of it that the run did not have (`share`, set at its end).

import { encodeMessage } from '../../wire/codec.ts'

/** For whose sake a message is sent; `upkeep`: that nodes know of each other and live. */
export type Sake = 'task' | 'actor' | 'group' | 'process' | 'upkeep'
/** Between machines, or between processes of one. */
export type Leg = 'gcs' | 'peer' | 'local' | 'tasks'
export type MachineKind = 'gcs' | 'raylet' | 'owner'

export interface Sum {
  count: number
  /** Bytes, or milliseconds. */
  amount: number
}

const SAKES: readonly [start: string, sake: Sake][] = [
  ['lease.', 'task'],
  ['room.', 'task'],
  ['worker.assigned', 'task'],
  ['actor', 'actor'],
  ['pg.', 'group'],
  ['bundles.', 'group'],
  ['group.', 'group'],
  ['worker.', 'process'],
  ['tags.', 'process'],
  ['job.', 'process'],
]

export function sakeOf(t: string): Sake {
  return SAKES.find(([start]) => t.startsWith(start))?.[1] ?? 'upkeep'
}

export class Meter {
  readonly clock: () => number
  readonly steps = new Map<string, Sum>()
  readonly messages = new Map<string, Sum>()
  /** By machine: its name, and how long it has computed. */
  readonly busy = new Map<string, number>()
  encodingMs = 0
  /** Of a processor, how much the run had: what else ran meanwhile is not to count. */
  share = 1
  readonly #kinds = new Map<string, string>()
  /** What goes to many is encoded once, in the same way by `runtime/gcs-server.ts`. */
  #last: object | null = null
  #lastBytes = 0

  constructor(clock: () => number) {
    this.clock = clock
  }

  /** Runs a step of the machine `name`. */
  step<T>(kind: MachineKind, name: string, what: string, run: () => T): T {
    const began = this.clock()
    const result = run()
    const took = this.clock() - began
    tally(this.steps, `${kind} ${what}`, took, 1)
    this.busy.set(name, (this.busy.get(name) ?? 0) + took)
    return result
  }

  /** Encodes it, as it would be; it is written so many times. */
  message(leg: Leg, message: { readonly t: string }, times = 1): void {
    if (message !== this.#last) {
      const began = this.clock()
      this.#lastBytes = encodeMessage(message).length + 4
      this.#last = message
      this.encodingMs += this.clock() - began
    }
    tally(this.messages, `${leg} ${this.#sakeOf(message)}`, this.#lastBytes * times, times)
  }

  frame(leg: Leg, what: string, bytes: number): void {
    tally(this.messages, `${leg} ${what}`, bytes, 1)
  }

  #sakeOf(message: { readonly t: string }): string {
    const inner = (message as { readonly message?: { readonly t: string } }).message?.t
    const t = inner ?? message.t // `forward` and `deliver` carry it.
    let key = this.#kinds.get(t)
    if (!key) this.#kinds.set(t, (key = `${sakeOf(t)} ${t}`))
    return key
  }

  /** Messages of a leg for the sake of one thing. */
  sum(leg: Leg, sake: Sake): Sum {
    const sum: Sum = { count: 0, amount: 0 }
    for (const [key, { count, amount }] of this.messages) {
      if (!key.startsWith(`${leg} ${sake} `)) continue
      sum.count += count
      sum.amount += amount
    }
    return sum
  }

  cpuOf(start: string): Sum {
    const sum: Sum = { count: 0, amount: 0 }
    for (const [key, { count, amount }] of this.steps) {
      if (!key.startsWith(start)) continue
      sum.count += count
      sum.amount += amount * this.share
    }
    return sum
  }
}

function tally(sums: Map<string, Sum>, key: string, amount: number, count: number): void {
  const sum = sums.get(key)
  if (!sum) sums.set(key, { count, amount })
  else {
    sum.count += count
    sum.amount += amount
  }
}
