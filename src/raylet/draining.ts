// A node that is being drained: it takes nothing new, what runs there goes on, and it leaves when nothing is left.
//
//     node.drain, or node.drainIfIdle while it is idle
//       ──► requests that wait here are asked for elsewhere ──► no lease, no driver ──► nothing stored ──► node.leaving
//
// Invariants:
//   D1. From then on no request is taken, except what is to run in bundles that are here: they end with the node, and are placed anew.
//   D2. It is not taken back: the node ends.
//   D3. One that is drained because it was idle was so when it began, and says that before it leaves; it takes no bundle either.

import type { Ms } from '../kernel/machine.ts'
import type { BundleAnswer, BundleStep, NodeDrain } from '../wire/cluster.ts'
import type { LeaseSpec } from '../wire/messages.ts'
import type { LeaseManager } from './lease-manager.ts'
import type { Outbox } from './outbox.ts'
import type { RayletInput } from './shell.ts'
import type { Spill } from './spill.ts'

/** How often a node that is being drained looks whether it is empty. */
const LEAVE_EVERY_MS: Ms = 250

export class Draining {
  readonly #leases: LeaseManager
  readonly #spill: Spill
  readonly #out: Outbox
  #drain: NodeDrain | null = null

  constructor(leases: LeaseManager, spill: Spill, out: Outbox) {
    this.#leases = leases
    this.#spill = spill
    this.#out = out
  }

  get isOn(): boolean {
    return this.#drain !== null
  }

  /** Because it was idle. */
  get isOfIdle(): boolean {
    return this.#drain?.reason === 'IDLE_TERMINATION'
  }

  /** True: it was not being drained before. */
  begin(drain: NodeDrain): boolean {
    const isNew = this.#drain === null
    this.#drain = drain
    return isNew
  }

  /** True: it has accepted (D3). */
  answer({ question, drain, holdsValues }: RayletInput & { t: 'drainIfIdle' }, hasDrivers: boolean): boolean {
    const why = this.isOfIdle ? null : this.whyNotIdle(hasDrivers, holdsValues)
    const refusal = why && `it is no longer idle: ${why}`
    this.#out.toGcs({ t: 'node.drainAnswered', question, drain, refusal })
    return refusal === null
  }

  /** A sentence; null: nobody would miss it. */
  whyNotIdle(hasDrivers: boolean, holdsValues: boolean): string | null {
    const { leases, waiting, bundles } = this.#leases
    if (leases.size > 0) return 'tasks or actors run there'
    if (waiting > 0) return 'requests wait there'
    if (Object.keys(bundles.reserved()).length > 0) return 'it holds bundles of placement groups'
    if (hasDrivers) return 'a program runs there'
    if (this.#spill.away + this.#spill.parked > 0) return 'its workers use other nodes, or wait for one'
    return holdsValues ? 'values are stored there' : null
  }

  /** D1 */
  refuses({ strategy }: LeaseSpec): boolean {
    return this.isOn && strategy.kind !== 'bundle'
  }

  /** D3: the GCS asked before it knew. Bundles that a node has when it is drained for another reason are still its own. */
  refusalOf(step: BundleStep): BundleAnswer | undefined {
    if (!this.isOn || step.t !== 'prepare' || this.#leases.bundles.list().length > 0) return undefined
    return { t: 'prepared', bundles: step.bundles, attempt: step.attempt, isReserved: false }
  }

  leaveIfDone(now: Ms, hasDrivers: boolean): void {
    const { leases, waiting } = this.#leases
    if (leases.size === 0 && waiting === 0 && !hasDrivers) this.#out.local({ t: 'leaveIfEmpty', detail: this.detail })
    this.#out.timer('leave', now + LEAVE_EVERY_MS)
  }

  /** For those who ask why the node has ended. */
  get detail(): string {
    return `it was drained (${this.#drain?.reason}: ${this.#drain?.message})`
  }
}
