// What a seed draws: the node's size, and which faults happen how often. Each seed switches some off and weighs the others wildly.

import type { Ms } from '../kernel/machine.ts'
import type { Resources } from '../wire/messages.ts'
import type { Latency } from './network.ts'
import type { Random } from './random.ts'

export interface Faults extends Latency {
  readonly total: Resources
  readonly softLimit: number
  readonly maxStarting: number
  readonly prestart: number
  readonly idleMs: Ms
  readonly startMaxMs: Ms
  readonly startFailureChance: number
  /** How often an idempotent request is sent twice. */
  readonly repeatChance: number
  /** Mean time between kills of a worker at any moment; 0: none. */
  readonly killEveryMs: Ms
  /** How often a worker dies between two writes of one turn. */
  readonly tearChance: number
  /** How often a driver computes for a while between its steps. */
  readonly busyChance: number
  /** Scripts that crash or throw. */
  readonly crashChance: number
  readonly throwChance: number
  readonly cancelChance: number
  readonly actorChance: number
  readonly streamChance: number
  readonly secondDriver: 'none' | 'lives' | 'dies'
  /** Calls get references; else calls that throw are retried, out of order: both together may wait for each other for ever. */
  readonly callsGet: boolean
  readonly steps: number
}

/** `tears`: drawn from numbers of its own, so that a saved seed still means the same run. */
export function drawFaults(random: Random, tears: Random): Faults {
  const often = (chance: number, max: number): number => (random.chance(chance) ? random.next() * max : 0)
  const cpus = random.int(1, 4)
  const drawn = {
    total: { CPU: cpus * 10_000, GPU: random.chance(0.3) ? 20_000 : 0, special: 10_000, places: 1_000_000 },
    softLimit: random.int(1, cpus + 1),
    maxStarting: random.int(1, 4),
    prestart: random.int(0, cpus),
    idleMs: random.chance(0.5) ? 40 : 1000,
    startMaxMs: random.chance(0.3) ? 800 : 40,
    startFailureChance: often(0.3, 0.4),
    slowChance: often(0.6, 0.3),
    slowMaxMs: random.chance(0.5) ? 20 : 400,
    splitChance: often(0.3, 0.2),
    repeatChance: often(0.4, 0.5),
    killEveryMs: random.chance(0.45) ? 40 + random.next() * 400 : 0,
    busyChance: often(0.5, 0.3),
    crashChance: often(0.5, 0.25),
    throwChance: often(0.5, 0.25),
    cancelChance: often(0.5, 0.2),
    actorChance: often(0.7, 0.5),
    streamChance: often(0.5, 0.3),
    secondDriver: random.chance(0.3) ? (random.chance(0.6) ? 'dies' : 'lives') : 'none',
    callsGet: random.chance(0.7),
    steps: random.int(5, 60),
  } as const
  return { ...drawn, tearChance: drawn.killEveryMs > 0 && tears.chance(0.4) ? tears.next() * 0.02 : 0 }
}

/** From here on nothing fails any more. */
export function healed(faults: Faults): Faults {
  return {
    ...faults,
    startFailureChance: 0,
    slowChance: 0,
    splitChance: 0,
    repeatChance: 0,
    killEveryMs: 0,
    tearChance: 0,
    busyChance: 0,
  }
}
