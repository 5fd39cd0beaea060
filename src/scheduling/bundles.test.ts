// Failure would look like: bundles that together exceed their node, half a group placed, two bundles of a STRICT_SPREAD group on
// one node, or a group that waits although there is a place for it.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bundleCapacity, bundleDemand, isBundleResource } from './bundle-names.ts'
import { type GroupAsk, type GroupPlan, type GroupStrategy, planGroup, sumOf } from './bundles.ts'
import { NodeTable, type SchedulableNode } from './node-table.ts'
import { fits, toResources } from './resources.ts'

function node(nodeId: string, total: Record<string, number>, more: Partial<SchedulableNode> = {}): SchedulableNode {
  return { nodeId, state: 'ALIVE', total: toResources(total), available: toResources(total), labels: {}, ...more }
}

function plan(
  nodes: readonly SchedulableNode[],
  strategy: GroupStrategy,
  bundles: readonly Record<string, number>[],
  more: Partial<GroupAsk> = {},
): GroupPlan {
  return planGroup(new NodeTable(nodes), { strategy, bundles: bundles.map(toResources), ...more })
}

/** Node of each bundle, in order; or why not. */
function placesOf(found: GroupPlan): string[] | string {
  if (found.kind !== 'planned') return found.kind
  return [...found.nodeOf].sort(([a], [b]) => a - b).map(([, nodeId]) => nodeId)
}

const cpus = (...amounts: number[]): { CPU: number }[] => amounts.map((CPU) => ({ CPU }))

test('STRICT_PACK: one node for all; pending with the reason when the sum exceeds every node', () => {
  const nodes = [node('a', { CPU: 2 }), node('b', { CPU: 4 })]
  expect(placesOf(plan(nodes, 'STRICT_PACK', cpus(2, 2)))).toEqual(['b', 'b'])
  expect(plan(nodes, 'STRICT_PACK', cpus(3, 2))).toEqual({
    kind: 'infeasible',
    reason: 'its bundles together ask for {CPU: 5} on one node, but the largest node has {CPU: 4}',
    asked: toResources({ CPU: 5 }),
    largest: toResources({ CPU: 4 }),
  })
  const busy = [node('a', { CPU: 2 }), node('b', { CPU: 4 }, { available: toResources({ CPU: 1 }) })]
  expect(plan(busy, 'STRICT_PACK', cpus(2, 1))).toMatchObject({
    kind: 'wait',
    reason: expect.stringContaining('{CPU: 2} + {CPU: 1}'),
  })
})

test('STRICT_PACK: the soft target if it has room, else another', () => {
  const nodes = [node('a', { CPU: 2 }), node('b', { CPU: 8 })]
  expect(placesOf(plan(nodes, 'STRICT_PACK', cpus(1, 1), { softTargetNodeId: 'a' }))).toEqual(['a', 'a'])
  expect(placesOf(plan(nodes, 'STRICT_PACK', cpus(2, 1), { softTargetNodeId: 'a' }))).toEqual(['b', 'b'])
})

test('PACK: one node when one can take all, else as few as it can', () => {
  const nodes = [node('a', { CPU: 2 }), node('b', { CPU: 4 }), node('c', { CPU: 2 })]
  expect(placesOf(plan(nodes, 'PACK', cpus(1, 1, 1, 1)))).toEqual(['b', 'b', 'b', 'b'])
  const places = placesOf(plan(nodes, 'PACK', cpus(1, 1, 1, 1, 1, 1)))
  expect(new Set(places).size).toBe(2)
  expect(placesOf(plan(nodes, 'PACK', cpus(2, 2, 2, 2)))).toHaveLength(4)
  expect(placesOf(plan(nodes, 'PACK', cpus(2, 2, 2, 2, 1)))).toBe('infeasible')
})

test('STRICT_SPREAD: a node of its own for each, or pending', () => {
  const nodes = [node('a', { CPU: 4 }), node('b', { CPU: 4 })]
  expect(new Set(placesOf(plan(nodes, 'STRICT_SPREAD', cpus(1, 1))))).toEqual(new Set(['a', 'b']))
  expect(plan(nodes, 'STRICT_SPREAD', cpus(1, 1, 1))).toMatchObject({
    kind: 'infeasible',
    reason: 'it asks for 3 nodes, one a bundle, but of 2 only 2 fit',
  })
})

test('STRICT_SPREAD: finds the one way there is', () => {
  // Taken in order, the first bundle would take the emptiest node, which alone fits the last.
  const nodes = [node('a', { CPU: 8, x: 1 }), node('b', { CPU: 8, y: 1 }), node('c', { CPU: 4, x: 1, y: 1 })]
  const bundles = [{ x: 1 }, { y: 1, x: 1 }, { y: 1 }]
  expect(placesOf(plan(nodes, 'STRICT_SPREAD', bundles))).toEqual(['a', 'c', 'b'])
})

test('SPREAD: distinct nodes as far as they go, then shared', () => {
  const nodes = [node('a', { CPU: 4 }), node('b', { CPU: 4 })]
  expect(new Set(placesOf(plan(nodes, 'SPREAD', cpus(1, 1))))).toEqual(new Set(['a', 'b']))
  const three = placesOf(plan(nodes, 'SPREAD', cpus(1, 1, 1)))
  expect([...three].sort().join('')).toMatch(/^(aab|abb)$/)
})

test('GPU bundles are placed first', () => {
  const nodes = [node('gpu', { CPU: 2, GPU: 1 }), node('a', { CPU: 1 })]
  expect(placesOf(plan(nodes, 'PACK', [{ CPU: 1 }, { CPU: 2, GPU: 1 }]))).toEqual(['a', 'gpu'])
})

test('draining nodes and nodes without the labels get no bundle', () => {
  const nodes = [
    node('a', { CPU: 9 }, { state: 'DRAINING' }),
    node('b', { CPU: 1 }, { labels: { zone: 'x' } }),
    node('c', { CPU: 5 }, { labels: { zone: 'y' } }),
  ]
  const selectors = [[{ key: 'zone', operator: 'in', values: ['x'] }], []] as const
  for (const strategy of ['PACK', 'SPREAD', 'STRICT_SPREAD'] as const)
    expect(placesOf(plan(nodes, strategy, cpus(1, 1), { selectors }))).toEqual(['b', 'c'])
  expect(plan(nodes, 'PACK', cpus(2), { selectors })).toMatchObject({
    kind: 'infeasible',
    reason:
      'one of its bundles asks for {CPU: 2} on one node, but the largest node with the labels zone=x has {CPU: 1}',
  })
})

test('lost bundles: those in place stay, and count', () => {
  const nodes = [node('a', { CPU: 4 }), node('b', { CPU: 4 }), node('c', { CPU: 4 })]
  const placed = new Map([
    [0, 'a'],
    [2, 'b'],
  ])
  expect(placesOf(plan(nodes, 'STRICT_SPREAD', cpus(1, 1, 1), { placed }))).toEqual(['c'])
  expect(placesOf(plan(nodes.slice(0, 2), 'STRICT_SPREAD', cpus(1, 1, 1), { placed }))).toBe('infeasible')
  expect(placesOf(plan(nodes, 'PACK', cpus(1, 1, 1), { placed }))).toEqual(['a'])
  expect(placesOf(plan(nodes, 'STRICT_PACK', cpus(1, 1), { placed: new Map([[0, 'b']]) }))).toEqual(['b'])
})

const someNodes = fc.array(
  fc.record({
    CPU: fc.integer({ min: 0, max: 6 }),
    GPU: fc.integer({ min: 0, max: 2 }),
    used: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
  { maxLength: 6 },
)
const someBundles = fc.array(
  fc.record({ CPU: fc.constantFrom(0.1, 0.5, 1, 2, 4), GPU: fc.constantFrom(0, 0, 0.5, 1) }),
  { minLength: 1, maxLength: 5 },
)

function clusterOf(specs: readonly { CPU: number; GPU: number; used: number }[]): SchedulableNode[] {
  return specs.map(({ CPU, GPU, used }, i) =>
    node(`n${i}`, { CPU, GPU }, { available: toResources({ CPU: Math.ceil(CPU * used), GPU: Math.ceil(GPU * used) }) }),
  )
}

/** Is there any way at all? By trying all. */
function exists(
  nodes: readonly SchedulableNode[],
  strategy: GroupStrategy,
  bundles: readonly Record<string, number>[],
): boolean {
  const tryFrom = (index: number, places: readonly number[]): boolean => {
    if (index === bundles.length) return true
    return nodes.some((it, i) => {
      if (strategy === 'STRICT_SPREAD' && places.includes(i)) return false
      if (strategy === 'STRICT_PACK' && places.length > 0 && places[0] !== i) return false
      const together = bundles.filter((_, other) => other === index || places[other] === i).map(toResources)
      return fits(sumOf(together), it.available) && tryFrom(index + 1, [...places, i])
    })
  }
  return tryFrom(0, [])
}

test.each(['PACK', 'SPREAD', 'STRICT_PACK', 'STRICT_SPREAD'] as const)(
  '%s, any cluster: all or nothing, no node exceeded, and its rule kept',
  (strategy) => {
    fc.assert(
      fc.property(someNodes, someBundles, (specs, bundles) => {
        const nodes = clusterOf(specs)
        const found = plan(nodes, strategy, bundles)
        if (found.kind !== 'planned') {
          // Packing is a heuristic; the others find a way whenever there is one.
          if (strategy.startsWith('STRICT')) expect(exists(nodes, strategy, bundles)).toBe(false)
          expect(found.reason).not.toBe('')
          return
        }
        expect([...found.nodeOf.keys()].sort()).toEqual(bundles.map((_, index) => index))
        for (const it of nodes) {
          const mine = bundles.filter((_, index) => found.nodeOf.get(index) === it.nodeId).map(toResources)
          expect(fits(sumOf(mine), it.available)).toBe(true)
        }
        const used = new Set(found.nodeOf.values()).size
        if (strategy === 'STRICT_SPREAD') expect(used).toBe(bundles.length)
        if (strategy === 'STRICT_PACK') expect(used).toBe(1)
        if (strategy === 'PACK' && exists(nodes, 'STRICT_PACK', bundles)) expect(used).toBe(1)
        if (strategy === 'SPREAD' && exists(nodes, 'STRICT_SPREAD', bundles)) expect(used).toBe(bundles.length)
      }),
      { numRuns: 300 },
    )
  },
)

test("the names are Ray's, and those who ask for nothing take a mark of the bundle", () => {
  const group = '0a'.repeat(18)
  expect(bundleCapacity(toResources({ CPU: 2 }), group, 3)).toEqual(
    toResources({
      [`CPU_group_${group}`]: 2,
      [`CPU_group_3_${group}`]: 2,
      [`bundle_group_${group}`]: 1000,
      [`bundle_group_3_${group}`]: 1000,
    }),
  )
  expect(bundleDemand({}, group, 0)).toEqual({ [`bundle_group_${group}`]: 10, [`bundle_group_0_${group}`]: 10 })
  expect(Object.keys(bundleCapacity(toResources({ CPU: 2 }), group, 3)).every(isBundleResource)).toBe(true)
  expect(['CPU', 'my_group_x', 'bundle_group_3'].some(isBundleResource)).toBe(false)
})
