import { describe, expect, test } from 'vitest'
import { UNITS } from '../scheduling/resources.ts'
import type { LeaseSpec } from '../wire/messages.ts'
import type { Granted } from './lease-manager.ts'
import { MemoryGuard, type MemoryReading } from './memory-guard.ts'

function lease(worker: number, owner: number, retriable: boolean, more: Partial<LeaseSpec> = {}): Granted {
  const spec: LeaseSpec = {
    resources: { CPU: UNITS },
    strategy: { kind: 'DEFAULT' },
    runtimeEnv: {},
    jobId: '01000000',
    priority: 0,
    onInfeasible: 'fail',
    name: `task${worker}`,
    retriable,
    ...more,
  }
  return {
    leaseId: `l${worker}`,
    owner,
    spec,
    worker,
    order: worker,
    gpuIds: [],
    held: {},
    blocked: 0,
    bundle: null,
    lent: {},
  }
}

function reading(usedBytes: number, bytes: Record<number, number> = {}): MemoryReading {
  const workers = new Map(Object.entries(bytes).map(([tag, own]) => [Number(tag), { pid: Number(tag), bytes: own }]))
  return { usedBytes, limitBytes: 1000, workers }
}

describe('[FT-07] who has to go', () => {
  const order = (leases: Granted[]): unknown => {
    const [first] = new MemoryGuard(0.9).onReading(reading(950), leases, [])
    return first && [first.tag, first.retry]
  }

  test('nobody below the threshold, somebody from it on', () => {
    const guard = new MemoryGuard(0.9)
    expect(guard.onReading(reading(899), [lease(1, 9, true)], [])).toEqual([])
    expect(guard.onReading(reading(900), [lease(1, 9, true)], [])).toHaveLength(1)
  })

  test('what may be retried goes before what may not', () => {
    expect(order([lease(1, 9, true), lease(2, 9, true), lease(3, 9, false)])).toEqual([2, 'free'])
  })

  test('the newest of the larger group', () => {
    expect(order([lease(1, 8, true), lease(2, 8, true), lease(3, 7, true)])).toEqual([2, 'free'])
  })

  test('of equal groups the one that began last; the last of its group is not run again (M2)', () => {
    expect(order([lease(1, 8, true), lease(2, 7, true)])).toEqual([2, 'never'])
    expect(order([lease(1, 8, false), lease(2, 8, false)])).toEqual([2, 'never'])
  })

  test('one at a time (M1)', () => {
    const guard = new MemoryGuard(0.9)
    const leases = [lease(1, 9, true), lease(2, 9, true)]
    expect(guard.onReading(reading(990), leases, []).map(({ tag }) => tag)).toEqual([2])
    expect(guard.onReading(reading(990), leases, [])).toEqual([])
    guard.onGone(2)
    expect(guard.onReading(reading(990), [leases[0] as Granted], []).map(({ tag }) => tag)).toEqual([1])
  })

  test('an idle worker that holds much goes before any work (M4)', () => {
    const held = { 1: 500e6, 2: 300e6, 3: 90e6, 4: 20e6 }
    const orders = new MemoryGuard(0.9).onReading(reading(950, held), [lease(1, 9, true)], [2, 3, 4])
    expect(orders).toMatchObject([{ tag: 2, isIdle: true }])
    const small = new MemoryGuard(0.9).onReading(reading(950, held), [lease(1, 9, true)], [4])
    expect(small).toMatchObject([{ tag: 1, isIdle: false }])
  })

  test('[RES-06] a promise to stay within its reservation is kept, however much is free (M3)', () => {
    const capped = { resources: { memory: 100 * UNITS }, heapMiB: 1 }
    const leases = [lease(1, 9, true, capped), lease(2, 9, true, { resources: { memory: 100 * UNITS } })]
    const orders = new MemoryGuard(0.9).onReading(reading(300, { 1: 101, 2: 199 }), leases, [])
    expect(orders).toMatchObject([{ tag: 1, retry: 'counted' }])
    expect(new MemoryGuard(0.9).onReading(reading(300, { 1: 100, 2: 199 }), leases, [])).toEqual([])
  })

  test('the text names the largest first', () => {
    const leases = [lease(1, 9, false), lease(2, 9, false)]
    const [first] = new MemoryGuard(0.9).onReading(reading(950, { 1: 600e6, 2: 2e9 }), leases, [])
    expect(first?.detail).toMatch(
      /this worker used 2\.00 GB\. The largest:\n\s+2\.00 GB {2}pid 2 {2}task2\n\s+600\.0 MB {2}pid 1 {2}task1/,
    )
  })
})
