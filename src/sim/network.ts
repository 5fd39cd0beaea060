// Connections between simulated processes: bytes in order, late, in arbitrary pieces; nothing is lost unless an end dies.
//
// Invariants:
//   N1. What one end wrote before it closed or died is delivered, in order, before the other end sees the close: as sockets do.
//   N2. Connections are late independently of one another: order between two of them means nothing.
//   N3. A process that computes takes nothing in; what came meanwhile is handed over afterwards, its connections in any order.
//   N4. Between machines a road may hold things up for a while, in one direction or both (as TCP does, that sends again), or reset a
//       connection: what was on its way is lost, each end notices by itself, and what is written meanwhile goes nowhere.

import type { Ms } from '../kernel/machine.ts'
import type { World } from './world.ts'

export interface Latency {
  /** How often a write is late, and by how much at most. */
  readonly slowChance: number
  readonly slowMaxMs: Ms
  /** How often a write arrives in two pieces. */
  readonly splitChance: number
}

/** Whoever receives: a process that may compute or be dead. */
export interface Receiver {
  readonly isAlive: boolean
  busyUntil: Ms
  /** Runs `body` as one turn of the process's event loop. */
  enter(body: () => void): void
}

/** One direction between two machines. */
export interface Way {
  /** Nothing arrives before. */
  heldUntil: Ms
  /** Of a slow machine: how much later everything is, at most. */
  extraMs: Ms
}

/** What joins two machines, seen from the one that dials. */
export interface Road {
  readonly out: Way
  readonly back: Way
  /** The dialling ends of the connections on it. */
  readonly sockets: Set<Socket>
}

export function makeRoad(): Road {
  return { out: { heldUntil: 0, extraMs: 0 }, back: { heldUntil: 0, extraMs: 0 }, sockets: new Set() }
}

export interface SocketEvents {
  onData(chunk: Buffer): void
  /** `isReset`: what the other end had written may be lost. */
  onClose(isReset: boolean): void
}

const USUAL_MS: Ms = 0.2

/** One end of a connection. */
export class Socket {
  #events: SocketEvents | null = null
  other!: Socket
  isClosed = false
  /** How it comes to this end, from another machine. */
  way: Way | null = null
  #isReset = false
  readonly #world: World
  readonly #latency: () => Latency
  readonly #receiver: Receiver
  /** What is on its way to this end; null: the close. */
  readonly #incoming: { readonly at: Ms; readonly chunk: Buffer | null }[] = []
  #lastAt: Ms = 0
  #isPlanned = false

  constructor(world: World, latency: () => Latency, receiver: Receiver) {
    this.#world = world
    this.#latency = latency
    this.#receiver = receiver
  }

  /** Nothing is handed over before somebody listens. */
  listen(events: SocketEvents): void {
    this.#events = events
    const [next] = this.#incoming
    if (next) this.#plan(Math.max(next.at, this.#world.now))
  }

  write(bytes: Buffer): void {
    if (this.isClosed || this.#isReset || bytes.length === 0) return
    const { random } = this.#world
    if (bytes.length > 1 && random.chance(this.#latency().splitChance)) {
      const cut = random.int(1, bytes.length - 1)
      this.other.#arrive(bytes.subarray(0, cut))
      this.other.#arrive(bytes.subarray(cut))
    } else this.other.#arrive(bytes)
  }

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    if (!this.#isReset) this.other.#arrive(null)
  }

  /** N4 */
  reset(withinMs: Ms): void {
    for (const end of [this, this.other] as Socket[]) {
      if (end.#isReset) continue
      end.#isReset = true
      end.#incoming.length = 0
      end.#lastAt = this.#world.now + this.#world.net.next() * withinMs
      end.#incoming.push({ at: end.#lastAt, chunk: null })
      end.#plan(end.#lastAt)
    }
  }

  #arrive(chunk: Buffer | null): void {
    const { random } = this.#world
    const { slowChance, slowMaxMs } = this.#latency()
    const late = random.chance(slowChance) ? random.next() * slowMaxMs : 0
    const usual = random.next() * USUAL_MS
    this.#lastAt = Math.max(this.#lastAt, this.#wayIsFree() + usual + late)
    this.#incoming.push({ at: this.#lastAt, chunk })
    this.#plan(this.#lastAt)
  }

  #wayIsFree(): Ms {
    const { now, net } = this.#world
    if (!this.way) return now
    const { heldUntil, extraMs } = this.way
    return Math.max(now, heldUntil) + (extraMs > 0 ? net.next() * extraMs : 0)
  }

  #plan(at: Ms): void {
    if (this.#isPlanned) return
    this.#isPlanned = true
    this.#world.at(at, () => {
      this.#isPlanned = false
      this.#deliver()
    })
  }

  #deliver(): void {
    const receiver = this.#receiver
    const events = this.#events
    if (!receiver.isAlive || this.isClosed || !events) return
    if (receiver.busyUntil > this.#world.now) {
      this.#plan(receiver.busyUntil + this.#world.random.next() * 0.001) // N3
      return
    }
    const next = this.#incoming.shift()
    if (next) {
      receiver.enter(() => {
        if (next.chunk) events.onData(next.chunk)
        else {
          this.isClosed = true
          if (!this.#isReset) this.other.isClosed = true
          events.onClose(this.#isReset)
        }
      })
    }
    const following = this.#incoming[0]
    if (following) this.#plan(following.at)
  }
}

/** `road`: between two machines, from `a` to `b`. */
export function connect(
  world: World,
  latency: () => Latency,
  a: Receiver,
  b: Receiver,
  road: Road | null = null,
): [Socket, Socket] {
  const first = new Socket(world, latency, a)
  const second = new Socket(world, latency, b)
  if (road) {
    first.way = road.back
    second.way = road.out
    road.sockets.add(first)
  }
  first.other = second
  second.other = first
  return [first, second]
}
