// Fails when resources are counted wrongly, a lease is granted twice, or the wrong request comes first.

import { expect, test } from 'vitest'
import type { LeaseSpec, Resources } from '../wire/messages.ts'
import { LeaseManager } from './lease-manager.ts'

function spec(resources: Resources, more: Partial<LeaseSpec> = {}): LeaseSpec {
  const strategy = { kind: 'DEFAULT' } as const
  const usual = { strategy, runtimeEnv: {}, jobId: '01', priority: 0, onInfeasible: 'fail', name: 'f', retriable: true }
  return { resources, ...usual, ...more } as LeaseSpec
}

function grantFirst(manager: LeaseManager, worker: number): string | undefined {
  const [request] = [...manager.candidates()]
  const granted = request && manager.grant(request, worker)
  manager.check()
  return granted?.leaseId
}

test('[ARCH-22] a repeated request is known, waiting or granted (L2)', () => {
  const manager = new LeaseManager({ CPU: 10_000 })
  const outcomes = [manager.request('1.1', 1, spec({ CPU: 10_000 })), manager.request('1.1', 1, spec({ CPU: 10_000 }))]
  expect(grantFirst(manager, 7)).toBe('1.1')
  outcomes.push(manager.request('1.1', 1, spec({ CPU: 10_000 })))
  expect(outcomes).toEqual(['queued', 'known', 'known'])
  expect(manager.waiting).toBe(0)
})

test('[ARCH-22] higher priority first, then order; what does not fit holds nobody up (L4)', () => {
  const manager = new LeaseManager({ CPU: 20_000 })
  manager.request('1.1', 1, spec({ CPU: 20_000 }))
  manager.request('1.2', 1, spec({ CPU: 10_000 }))
  manager.request('1.3', 1, spec({ CPU: 10_000 }, { priority: 1 }))
  expect([grantFirst(manager, 7), grantFirst(manager, 8), grantFirst(manager, 9)]).toEqual(['1.3', '1.2', undefined])
})

test('[TASK-05] what no node can hold is refused, unless it may wait (L3)', () => {
  const manager = new LeaseManager({ CPU: 10_000 })
  expect(manager.request('1.1', 1, spec({ CPU: 10_001 }))).toBe('infeasible')
  expect(manager.request('1.2', 1, spec({ CPU: 10_001 }, { onInfeasible: 'wait' }))).toBe('queued')
  expect([...manager.candidates()]).toEqual([])
})

test('[TASK-18] a worker that waits lends its CPU, once, and takes it back (L1)', () => {
  const manager = new LeaseManager({ CPU: 10_000 })
  manager.request('1.1', 1, spec({ CPU: 10_000 }))
  grantFirst(manager, 7)
  expect([manager.block(7), manager.block(7), manager.free.CPU]).toEqual([true, false, 10_000])
  manager.request('7.1', 7, spec({ CPU: 10_000 }))
  expect(grantFirst(manager, 8)).toBe('7.1')
  manager.unblock(7)
  expect(manager.free.CPU).toBe(0)
  manager.unblock(7)
  expect(manager.free.CPU).toBe(-10_000) // Oversubscribed until one of them ends.
  manager.end('7.1')
  manager.end('1.1')
  manager.check()
  expect(manager.free.CPU).toBe(10_000)
})

test('[TASK-06] fractions share a GPU, whole ones take free ones', () => {
  const manager = new LeaseManager({ GPU: 20_000 })
  const gpuIds: (readonly number[] | undefined)[] = []
  for (const [at, units] of [4_000, 5_000, 10_000, 10_000].entries()) {
    manager.request(`1.${at}`, 1, spec({ GPU: units }))
    const [request] = [...manager.candidates()]
    gpuIds.push(request && manager.grant(request, 10 + at)?.gpuIds)
    manager.withdraw(`1.${at}`)
    manager.check()
  }
  expect(gpuIds).toEqual([[0], [0], [1], undefined])
})

test('[ACT-01] a placed actor keeps only what it asked to hold', () => {
  const manager = new LeaseManager({ CPU: 10_000 })
  manager.request('a1.0', 0, spec({ CPU: 10_000 }))
  grantFirst(manager, 7)
  manager.keepOnly('a1.0', {})
  manager.check()
  expect(manager.free.CPU).toBe(10_000)
})
