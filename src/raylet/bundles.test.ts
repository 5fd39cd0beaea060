// Failure would look like: resources that a bundle takes and never gives back, or a lease that uses what is another's.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bundleResourceName } from '../scheduling/bundle-names.ts'
import { toResources } from '../scheduling/resources.ts'
import type { LeaseSpec } from '../wire/messages.ts'
import { LeaseManager } from './lease-manager.ts'

const GROUP = '0a'.repeat(18)
const id = (index: number) => ({ groupId: GROUP, index })

function spec(resources: Record<string, number>, bundleIndex: number | null): LeaseSpec {
  const strategy =
    bundleIndex === null
      ? ({ kind: 'DEFAULT' } as const)
      : ({ kind: 'bundle', groupId: GROUP, bundleIndex, captures: false } as const)
  return {
    ...{ resources: toResources(resources), strategy, runtimeEnv: {}, jobId: '01', priority: 0 },
    ...{ onInfeasible: 'fail', name: 'f', retriable: true },
  }
}

test('[PG-01] a bundle is reserved when it fits, usable when committed, and gives everything back', () => {
  const manager = new LeaseManager(toResources({ CPU: 4, GPU: 2 }))
  expect(manager.bundles.prepare(id(0), 1, toResources({ CPU: 3, GPU: 1 }))).toBe(true)
  expect(manager.bundles.prepare(id(1), 1, toResources({ CPU: 2 }))).toBe(false)
  expect(manager.bundles.prepare(id(0), 1, toResources({ CPU: 3, GPU: 1 }))).toBe(true) // Said twice, done once (B2).
  expect(manager.free).toEqual(toResources({ CPU: 1, GPU: 1 }))
  expect(manager.bundles.has(spec({ CPU: 1 }, 0))).toBe(false)
  expect(manager.bundles.commit(id(0), 2)).toBe(false) // Another attempt's.
  expect([manager.bundles.commit(id(0), 1), manager.bundles.commit(id(0), 1)]).toEqual([true, true])
  expect(manager.free[bundleResourceName('CPU', GROUP, 0)]).toBe(30_000)
  manager.check()
  manager.bundles.leave(id(0))
  manager.check()
  expect([manager.free, manager.total]).toEqual([toResources({ CPU: 4, GPU: 2 }), toResources({ CPU: 4, GPU: 2 })])
})

test('[PG-01] what is asked for in one word is reserved whole or not at all (B4), and committed as far as it is there', () => {
  const manager = new LeaseManager(toResources({ CPU: 4 }))
  const set = (...indices: number[]) => ({ groupId: GROUP, indices })
  const cpus = (...all: number[]) => all.map((CPU) => toResources({ CPU }))
  expect(manager.bundles.prepareAll(set(0, 1, 2), 1, cpus(1, 2, 2))).toBe(false)
  expect([manager.free, manager.bundles.list()]).toEqual([toResources({ CPU: 4 }), []])
  expect(manager.bundles.prepareAll(set(0, 1), 1, cpus(1, 2))).toBe(true)
  expect(manager.bundles.prepareAll(set(0, 1), 1, cpus(1, 2))).toBe(true) // Said twice, done once (B2).
  expect(manager.free).toEqual(toResources({ CPU: 1 }))
  manager.bundles.leave(id(0))
  expect(manager.bundles.commitAll(set(0, 1), 1)).toEqual([1])
  manager.check()
})

test("[PG-07] a lease takes from its bundle only, and from the bundle's own GPUs", () => {
  const manager = new LeaseManager(toResources({ CPU: 2, GPU: 2 }))
  manager.bundles.prepare(id(0), 1, toResources({ CPU: 1, GPU: 1 }))
  manager.bundles.commit(id(0), 1)
  const grant = (leaseId: string, one: LeaseSpec, worker: number): readonly number[] | undefined => {
    manager.request(leaseId, 1, one)
    const request = [...manager.candidates()].find((candidate) => candidate.leaseId === leaseId)
    const granted = request && manager.grant(request, worker)
    manager.check()
    return granted?.gpuIds
  }
  expect(grant('in', spec({ CPU: 1, GPU: 1 }, -1), 7)).toEqual([0])
  expect(grant('full', spec({ CPU: 1 }, 0), 8)).toBeUndefined()
  expect(grant('marks', spec({}, 0), 8)).toEqual([]) // What asks for nothing still has room.
  expect(grant('out', spec({ CPU: 1, GPU: 1 }, null), 9)).toEqual([1])
  expect(manager.free).toMatchObject({ CPU: 0, GPU: 0 })
})

test('[PG-08] a bundle that is given back while it is used goes when its last lease has ended', () => {
  const manager = new LeaseManager(toResources({ CPU: 2 }))
  manager.bundles.prepare(id(0), 1, toResources({ CPU: 2 }))
  manager.bundles.commit(id(0), 1)
  manager.request('1.1', 1, spec({ CPU: 1 }, 0))
  manager.request('1.2', 1, spec({ CPU: 1 }, 0))
  const [first] = [...manager.candidates()]
  if (first) manager.grant(first, 7)
  expect(manager.block(7)).toBe(true) // It lends the bundle's CPU.
  manager.bundles.leave(id(0))
  expect([...manager.candidates()]).toEqual([])
  expect(manager.free.CPU).toBe(0)
  manager.check()
  manager.end('1.1')
  manager.check()
  expect(manager.free).toEqual(toResources({ CPU: 2 }))
})

test('any order of what is asked: the account is right after every step (B1)', () => {
  const step = fc.oneof(
    fc.record({
      t: fc.constant('prepare' as const),
      index: fc.nat(2),
      attempt: fc.nat(3),
      CPU: fc.integer({ min: 1, max: 3 }),
    }),
    fc.record({ t: fc.constantFrom<'commit' | 'leave'>('commit', 'leave'), index: fc.nat(2), attempt: fc.nat(3) }),
    fc.record({
      t: fc.constant('lease' as const),
      bundle: fc.constantFrom(null, -1, 0, 1),
      CPU: fc.constantFrom(0, 0.5, 1, 2),
    }),
    fc.record({ t: fc.constantFrom<'end' | 'block' | 'unblock'>('end', 'block', 'unblock'), worker: fc.nat(12) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const manager = new LeaseManager(toResources({ CPU: 4, GPU: 1 }))
      let worker = 0
      for (const one of steps) {
        if (one.t === 'prepare')
          manager.bundles.prepare(id(one.index), one.attempt, toResources({ CPU: one.CPU, GPU: 0.5 }))
        else if (one.t === 'commit') manager.bundles.commit(id(one.index), one.attempt)
        else if (one.t === 'leave') manager.bundles.leave(id(one.index))
        else if (one.t === 'lease') {
          manager.request(`1.${worker}`, 1, spec({ CPU: one.CPU }, one.bundle))
          const request = [...manager.candidates()].find(({ leaseId }) => leaseId === `1.${worker}`)
          if (request) manager.grant(request, worker)
          worker++
        } else if (one.t === 'end') manager.end(`1.${one.worker}`)
        else if (one.t === 'block') manager.block(one.worker)
        else if (one.t === 'unblock') manager.unblock(one.worker)
        manager.check()
      }
      for (const leaseId of [...manager.leases.keys()]) manager.end(leaseId)
      for (const index of [0, 1, 2]) manager.bundles.leave(id(index))
      expect(manager.free).toEqual(toResources({ CPU: 4, GPU: 1 }))
    }),
    { numRuns: 300 },
  )
})
