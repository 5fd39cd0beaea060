// Fails when some order of messages, deaths and computing makes the machines lose, double, mix up or leak something; the message names
// the seed: `npm run sim -- --seed N` prints what happened.

import { describe, expect, test } from 'vitest'
import { BUGS } from './bugs.ts'
import { NET_BUGS } from './net-bugs.ts'
import { runSeed } from './scenario.ts'
import seeds from './seeds.json' with { type: 'json' }

/** Half of them have several nodes. */
const FIXED_SEEDS = 60
/** Bugs that are found so early are hunted here; `npm run sim -- --bugs` hunts all. */
const QUICK_BUG_SEEDS = 60

function failures(of: readonly number[], nodes = 0): string[] {
  const found: string[] = []
  for (const seed of of) {
    const { failure } = runSeed(seed, { nodes })
    if (failure) found.push(`seed ${seed}: ${failure.message}`)
  }
  return found
}

describe('the simulated cluster', () => {
  test('[ARCH-09] [ARCH-21] [TASK-09] [ACT-07] [FT-01] holds its invariants and comes to rest, whatever fails', () => {
    expect(failures(Array.from({ length: FIXED_SEEDS }, (_, seed) => seed))).toEqual([])
  })

  test('seeds that once failed', () => {
    expect(failures(seeds.one, 1)).toEqual([])
    expect(failures(seeds.two, 2)).toEqual([])
    expect(failures(seeds.three, 3)).toEqual([])
    expect(failures(seeds.four, 4)).toEqual([])
    expect(failures(seeds.drawn)).toEqual([])
  })

  test.each([...BUGS, ...NET_BUGS].filter(({ seeds: within }) => within <= QUICK_BUG_SEEDS))(
    'notices $name: $what',
    (bug) => {
      const found = Array.from({ length: bug.seeds }, (_, seed) => seed).some((seed) => runSeed(seed, { bug }).failure)
      expect(found).toBe(true)
    },
  )

  test('the same seed gives the same world', () => {
    for (const seed of [1, 30, 56]) expect(runSeed(seed).hash).toBe(runSeed(seed).hash)
  })
})
