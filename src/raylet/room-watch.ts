// Whether this node hears what all nodes have free. That costs what a cluster has of nodes, several times a second: only who has work to
// place hears it, and a while longer.
//
//   V4. While something that was asked for here is granted nowhere, this node watches; who begins to watch hears all that it had not heard.
//   V5. A GCS that has come back knows nobody who watches, and is told again.

import type { Ms } from '../kernel/machine.ts'
import type { Outbox } from './outbox.ts'

/** After the last need. */
const WATCH_MS: Ms = 2000

export class RoomWatch {
  readonly #out: Outbox
  #isOn = false
  /** What was free when it began to watch has been heard. */
  #isKnown = false
  #isAsked = false
  #neededAt: Ms = 0
  #isPlanned = false

  constructor(out: Outbox) {
    this.#out = out
  }

  get isOn(): boolean {
    return this.#isOn
  }

  need(now: Ms): void {
    this.#neededAt = now
    if (!this.#isOn) this.#say(true)
    this.#plan(now)
  }

  /** Somebody wants to know what is free: `roomsKnown` when it is as new as it gets. */
  ask(now: Ms, hasOthers: boolean): void {
    if (hasOthers) this.need(now)
    if (this.#isKnown || !hasOthers) this.#out.local({ t: 'roomsKnown' })
    else this.#isAsked = true
  }

  heard(): void {
    this.#isKnown = this.#isOn
    if (this.#isAsked) this.#out.local({ t: 'roomsKnown' })
    this.#isAsked = false
  }

  /** V5 */
  again(): void {
    if (this.#isOn) this.#say(true)
  }

  onTimer(now: Ms, isNeeded: boolean): void {
    this.#isPlanned = false
    if (isNeeded) this.#neededAt = now
    if (now - this.#neededAt >= WATCH_MS) this.#say(false)
    else this.#plan(now)
  }

  #say(isOn: boolean): void {
    this.#isOn = isOn
    this.#isKnown = false
    this.#out.toGcs({ t: 'rooms.watch', isOn })
  }

  #plan(now: Ms): void {
    if (this.#isPlanned) return
    this.#isPlanned = true
    this.#out.timer('watch', now + WATCH_MS)
  }
}
