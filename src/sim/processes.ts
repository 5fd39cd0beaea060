// A simulated process: it lives, computes, takes turns of its event loop, and dies at any moment.
//
//   P1. What a turn wrote to a connection leaves at its end in one piece (as one write per tick); a process that is killed in the
//       middle of a turn, or between two of these writes, loses what has not left.
//   P2. A dead process takes no turn; its connections close after what had left it was delivered (N1).

import type { Ms } from '../kernel/machine.ts'
import type { Receiver, Socket } from './network.ts'
import type { World } from './world.ts'

/** Unwinds the turn in which a process dies. */
export class ProcessDeath extends Error {
  override name = 'ProcessDeath'
}

export interface ProcessEnd {
  readonly code: number | null
  readonly signal: string | null
}

export class SimProcess implements Receiver {
  readonly pid: number
  readonly name: string
  busyUntil: Ms = 0
  end: ProcessEnd | null = null
  readonly sockets = new Set<Socket>()
  /** Writes what this turn has gathered. */
  onTurnEnd: (() => void) | null = null
  onEnd: ((end: ProcessEnd) => void) | null = null
  readonly #world: World
  #depth = 0

  constructor(world: World, pid: number, name: string) {
    this.#world = world
    this.pid = pid
    this.name = name
  }

  get isAlive(): boolean {
    return this.end === null
  }

  enter(body: () => void): void {
    if (!this.isAlive) return
    this.#depth++
    try {
      body()
      if (this.#depth === 1) this.onTurnEnd?.()
    } catch (error) {
      if (!(error instanceof ProcessDeath) || this.#depth > 1) throw error
    } finally {
      this.#depth--
    }
  }

  /** A timer of the process: late when it computes. */
  after(delay: Ms, run: () => void): void {
    this.#world.after(delay, () => this.#fire(run))
  }

  /** As `after`, at a time. */
  at(at: Ms, run: () => void): void {
    this.#world.at(at, () => this.#fire(run))
  }

  /** `flushes`: `process.exit`, whose handlers write what is left; else the kernel ends it. */
  die(end: ProcessEnd, flushes: boolean): void {
    if (!this.isAlive) return
    if (flushes) this.onTurnEnd?.()
    this.end = end
    this.#world.log(`${this.name} ends ${end.code ?? end.signal}`)
    for (const socket of this.sockets) socket.close()
    this.onEnd?.(end)
    if (this.#depth > 0) throw new ProcessDeath()
  }

  #fire(run: () => void): void {
    if (!this.isAlive) return
    if (this.busyUntil > this.#world.now) this.#world.at(this.busyUntil, () => this.#fire(run))
    else this.enter(run)
  }
}
