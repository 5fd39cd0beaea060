// What the GCS is told of a node again and again: what is free, what waits, what its bundles have.
//
//   R1. A change is told within `everyMs`, and nothing where nothing changed.
//   R2. A GCS that has come back knows nothing of it, and is told all.

import type { Ms } from '../kernel/machine.ts'
import { UNITS } from '../scheduling/resources.ts'
import type { Resources } from '../wire/messages.ts'
import type { LeaseManager } from './lease-manager.ts'
import type { Outbox } from './outbox.ts'
import type { Spill } from './spill.ts'

export class Reports {
  readonly #leases: LeaseManager
  readonly #spill: Spill
  readonly #out: Outbox
  /** Of `leases.changes`, `spill.parked`, `bundles.changes` and the bytes stored, when the GCS was told last. */
  #told = { leases: 0, parked: 0, bundles: 0, stored: 0 }
  #storedBytes = 0
  #isPlanned = false

  constructor(leases: LeaseManager, spill: Spill, out: Outbox) {
    this.#leases = leases
    this.#spill = spill
    this.#out = out
  }

  /** What the object store has in shared memory. */
  stored(bytes: number): void {
    this.#storedBytes = bytes
  }

  /** R2 */
  forget(): void {
    this.#told = { leases: -1, parked: 0, bundles: 0, stored: 0 }
  }

  /** After each step. */
  plan(now: Ms, everyMs: Ms): void {
    const { leases, parked, stored } = this.#told
    // By their number: parked requests are taken out and parked again whenever nodes change.
    const isTold = this.#leases.changes === leases && this.#spill.parked === parked && this.#storedBytes === stored
    if (this.#isPlanned || isTold) return
    this.#isPlanned = true
    this.#out.timer('report', now + everyMs)
  }

  send(): void {
    const { changes, waiting, bundles, room } = this.#leases
    const demand = [...this.#leases.demand(), ...this.#spill.demand()]
    const report = { t: 'node.report', available: lessStored(room, this.#storedBytes), waiting, demand } as const
    const isSame = bundles.changes === this.#told.bundles
    this.#isPlanned = false
    this.#told = { leases: changes, parked: this.#spill.parked, bundles: bundles.changes, stored: this.#storedBytes }
    this.#out.toGcs(isSame ? report : { ...report, bundled: this.#leases.bundled() })
  }
}

/** Of the object store only what no object takes is free. */
export function lessStored(free: Resources, storedBytes: number): Resources {
  const { object_store_memory: store } = free
  if (store === undefined) return { ...free }
  return { ...free, object_store_memory: Math.max(0, store - storedBytes * UNITS) }
}
