// Failure would look like: work on a node without room, on a draining one, or all of it on one node while others are idle.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { SchedulingStrategy } from '../wire/messages.ts'
import { bundleCapacity, bundleDemand } from './bundle-names.ts'
import { NodeTable, type SchedulableNode } from './node-table.ts'
import { type Ask, type Choosing, type Decision, pickNode } from './policies.ts'
import { fits, subtract, toResources } from './resources.ts'

interface MutableNode extends SchedulableNode {
  available: Record<string, number>
}

function node(nodeId: string, total: Record<string, number>, more: Partial<SchedulableNode> = {}): MutableNode {
  const all = toResources(total)
  return { nodeId, state: 'ALIVE', total: all, labels: {}, ...more, available: { ...(more.available ?? all) } }
}

/** A small generator, so that runs repeat. */
function choosing(seed = 1): Choosing {
  let state = seed
  return {
    random: () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state / 2 ** 32
    },
    spreadNext: 0,
  }
}

function ask(resources: Record<string, number>, more: Partial<Ask> = {}): Ask {
  return { name: 'f', resources: toResources(resources), strategy: { kind: 'DEFAULT' }, localNodeId: null, ...more }
}

const at = (nodeId: string): Decision => ({ kind: 'node', nodeId })
const WAIT = { kind: 'wait' }

/** Places one after the other, each taking what it asks for; the chosen nodes in order. */
function placeAll(nodes: readonly MutableNode[], asks: readonly Ask[], draws: Choosing = choosing()): string[] {
  const table = new NodeTable(nodes)
  return asks.map((one) => {
    const decision = pickNode(table, one, draws)
    if (decision.kind !== 'node') return decision.kind
    subtract((table.get(decision.nodeId) as MutableNode).available, one.resources)
    return decision.nodeId
  })
}

const countOf = (names: readonly string[]): Record<string, number> =>
  names.reduce<Record<string, number>>((counts, name) => {
    counts[name] = (counts[name] ?? 0) + 1
    return counts
  }, {})

test('DEFAULT: the local node until half of it is used, then the least used ones', () => {
  const nodes = ['a', 'b', 'c'].map((id) => node(id, { CPU: 4 }))
  const chosen = placeAll(nodes, new Array(12).fill(ask({ CPU: 1 }, { localNodeId: 'b' })))
  expect(chosen.slice(0, 2)).toEqual(['b', 'b'])
  expect(countOf(chosen.slice(0, 6))).toEqual({ a: 2, b: 2, c: 2 })
  expect(countOf(chosen)).toEqual({ a: 4, b: 4, c: 4 })
  expect(pickNode(new NodeTable(nodes), ask({ CPU: 1 }), choosing())).toMatchObject(WAIT)
})

test('DEFAULT: of equally used nodes the local one', () => {
  const nodes = ['a', 'b', 'c'].map((id) => node(id, { CPU: 4 }, { available: toResources({ CPU: 1 }) }))
  for (const local of ['a', 'b', 'c'])
    expect(pickNode(new NodeTable(nodes), ask({ CPU: 1 }, { localNodeId: local }), choosing())).toEqual(at(local))
})

test('DEFAULT: memory that is used counts as CPUs do', () => {
  const nodes = [
    node('a', { CPU: 4, memory: 100 }, { available: toResources({ CPU: 4, memory: 10 }) }),
    node('b', { CPU: 4, memory: 100 }, { available: toResources({ CPU: 1, memory: 100 }) }),
  ]
  expect(pickNode(new NodeTable(nodes), ask({ CPU: 1 }, { localNodeId: 'a' }), choosing())).toEqual(at('b'))
})

test('DEFAULT: random among the first fifth of idle nodes, so that askers do not collide', () => {
  const table = new NodeTable(Array.from({ length: 50 }, (_, i) => node(`n${i}`, { CPU: 4 })))
  const draws = choosing()
  const seen = new Set(Array.from({ length: 300 }, () => JSON.stringify(pickNode(table, ask({ CPU: 1 }), draws))))
  expect(seen.size).toBe(10)
})

test('DEFAULT: the node with most bytes of the arguments, while less than half of it is used', () => {
  const nodes = ['a', 'b', 'c'].map((id) => node(id, { CPU: 4 }))
  const withBytes = ask(
    { CPU: 1 },
    {
      localNodeId: 'a',
      localityBytes: new Map([
        ['b', 10],
        ['c', 1e9],
        ['gone', 1e10],
      ]),
    },
  )
  const chosen = placeAll(nodes, new Array(3).fill(withBytes))
  expect(chosen).toEqual(['c', 'c', 'a'])
})

test('DEFAULT: what needs no GPU avoids nodes that have them, until the others are full', () => {
  const nodes = [node('gpu', { CPU: 8, GPU: 1 }), node('a', { CPU: 1 }), node('b', { CPU: 1 })]
  const chosen = placeAll(nodes, new Array(3).fill(ask({ CPU: 1 }, { localNodeId: 'gpu' })))
  expect(chosen.slice(0, 2).sort()).toEqual(['a', 'b'])
  expect(chosen[2]).toBe('gpu')
  expect(placeAll(nodes, [ask({ CPU: 1, GPU: 1 }, { localNodeId: 'a' })])).toEqual(['gpu'])
})

test('SPREAD: in turn over the nodes that have room', () => {
  const nodes = ['a', 'b', 'c', 'd', 'e'].map((id) => node(id, { CPU: 4 }))
  const spread = ask({ CPU: 1 }, { strategy: { kind: 'SPREAD' }, localNodeId: 'a' })
  expect(countOf(placeAll(nodes, new Array(10).fill(spread)))).toEqual({ a: 2, b: 2, c: 2, d: 2, e: 2 })
  ;(nodes[2] as MutableNode).available = {}
  expect(countOf(placeAll(nodes, new Array(8).fill(spread)))).toEqual({ a: 2, b: 2, d: 2, e: 2 })
  expect(placeAll(nodes, [spread])).toEqual(['wait'])
})

test('what no node could ever hold: asked, and the node that comes closest', () => {
  const nodes = [node('a', { CPU: 8 }), node('b', { CPU: 2, GPU: 2 })]
  expect(pickNode(new NodeTable(nodes), ask({ CPU: 4, GPU: 1 }), choosing())).toEqual({
    kind: 'infeasible',
    asked: toResources({ CPU: 4, GPU: 1 }),
    largest: toResources({ CPU: 2, GPU: 2 }),
    labels: null,
    error: { code: 'INFEASIBLE', params: { name: 'f', asked: '{CPU: 4, GPU: 1}', largest: '{CPU: 2, GPU: 2}' } },
  })
  expect(pickNode(new NodeTable(), ask({ CPU: 1 }), choosing())).toMatchObject({ kind: 'infeasible', largest: {} })
})

test('draining and dead nodes get nothing, whatever asks', () => {
  const nodes = [
    node('a', { CPU: 4 }, { state: 'DRAINING' }),
    node('b', { CPU: 4 }, { state: 'DEAD' }),
    node('c', { CPU: 1 }),
  ]
  const strategies: SchedulingStrategy[] = [
    { kind: 'DEFAULT' },
    { kind: 'SPREAD' },
    { kind: 'nodeAffinity', nodeId: 'a', soft: true },
    { kind: 'nodeLabels', hard: [], soft: [] },
  ]
  for (const strategy of strategies) {
    const one = ask({ CPU: 1 }, { strategy, localNodeId: 'a', localityBytes: new Map([['a', 5]]) })
    expect(pickNode(new NodeTable(nodes), one, choosing())).toEqual(at('c'))
    expect(pickNode(new NodeTable(nodes), { ...one, resources: toResources({ CPU: 2 }) }, choosing()).kind).toBe(
      'infeasible',
    )
  }
})

const affinity = (
  nodeId: string,
  more: Partial<SchedulingStrategy & { kind: 'nodeAffinity' }> = {},
): SchedulingStrategy => ({
  kind: 'nodeAffinity',
  nodeId,
  soft: false,
  ...more,
})

test('node affinity, hard: that node, waiting for it if need be; refused when it is gone, drained or too small', () => {
  const table = new NodeTable([
    node('a', { CPU: 4 }),
    node('b', { CPU: 2 }),
    node('full', { CPU: 4 }, { available: {} }),
    node('dead', { CPU: 4 }, { state: 'DEAD' }),
    node('draining', { CPU: 4 }, { state: 'DRAINING' }),
  ])
  const pick = (nodeId: string, more = {}): Decision =>
    pickNode(table, ask({ CPU: 3 }, { strategy: affinity(nodeId, more), localNodeId: 'a' }), choosing())
  expect(pick('a')).toEqual(at('a'))
  expect(pick('full')).toMatchObject(WAIT)
  expect(pick('full', { failOnUnavailable: true })).toMatchObject({ kind: 'refused', error: { code: 'NODE_BUSY' } })
  const params = { name: 'f', nodeId: 'b', asked: '{CPU: 3}', has: '{CPU: 2}' }
  expect(pick('b')).toEqual({ kind: 'refused', error: { code: 'NODE_TOO_SMALL', params } })
  expect(pick('dead')).toEqual({
    kind: 'refused',
    error: { code: 'NODE_NOT_FOUND', params: { name: 'f', nodeId: 'dead' } },
  })
  expect(pick('never')).toMatchObject({ kind: 'refused', error: { code: 'NODE_NOT_FOUND' } })
  expect(pick('draining')).toMatchObject({ kind: 'refused', error: { code: 'NODE_DRAINING' } })
})

test('node affinity, soft: elsewhere when it is gone or too small, but not merely because it is busy', () => {
  const table = new NodeTable([
    node('a', { CPU: 4 }),
    node('b', { CPU: 2 }),
    node('full', { CPU: 4 }, { available: {} }),
  ])
  const pick = (nodeId: string, more = {}): Decision =>
    pickNode(
      table,
      ask({ CPU: 3 }, { strategy: affinity(nodeId, { soft: true, ...more }), localNodeId: 'b' }),
      choosing(),
    )
  expect(pick('b')).toEqual(at('a'))
  expect(pick('gone')).toEqual(at('a'))
  expect(pick('full')).toMatchObject(WAIT)
  expect(pick('full', { spillOnUnavailable: true })).toEqual(at('a'))
})

test('node labels: hard ones must match, soft ones should', () => {
  const table = new NodeTable([
    node('a', { CPU: 1 }, { labels: { zone: 'x', disk: 'ssd' } }),
    node('b', { CPU: 1 }, { labels: { zone: 'x' } }),
    node('c', { CPU: 1 }, { labels: { zone: 'y', disk: 'ssd' } }),
  ])
  const pick = (zones: readonly string[], resources = { CPU: 1 }): Decision => {
    const hard = [{ key: 'zone', operator: 'in', values: zones }] as const
    const soft = [{ key: 'disk', operator: 'exists' }] as const
    return pickNode(
      table,
      ask(resources, { strategy: { kind: 'nodeLabels', hard, soft }, localNodeId: 'c' }),
      choosing(),
    )
  }
  expect(pick(['x'])).toEqual(at('a'))
  table.set(node('a', { CPU: 1 }, { labels: { zone: 'x', disk: 'ssd' }, available: {} }))
  expect(pick(['x'])).toEqual(at('b'))
  table.set(node('b', { CPU: 1 }, { labels: { zone: 'x' }, available: {} }))
  expect(pick(['x'])).toMatchObject(WAIT)
  expect(pick(['z'])).toMatchObject({ kind: 'infeasible', labels: 'zone=z', error: { code: 'NO_SUCH_LABELS' } })
  expect(pick(['y'], { CPU: 2 })).toMatchObject({ kind: 'infeasible', labels: null, error: { code: 'INFEASIBLE' } })
})

test('label selectors hold for every strategy, and fall back in order', () => {
  const table = new NodeTable([
    node('a', { CPU: 1 }, { labels: { zone: 'x' } }),
    node('b', { CPU: 1 }, { labels: { zone: 'y' } }),
  ])
  const zone = (value: string) => [{ key: 'zone', operator: 'in', values: [value] }] as const
  for (const kind of ['DEFAULT', 'SPREAD'] as const) {
    const pick = (...zones: string[]): Decision =>
      pickNode(table, ask({ CPU: 1 }, { strategy: { kind }, localNodeId: 'a', selectors: zones.map(zone) }), choosing())
    expect(pick('y')).toEqual(at('b'))
    expect(pick('z', 'y')).toEqual(at('b'))
    expect(pick('y', 'x')).toEqual(at('b'))
    expect(pick('z')).toMatchObject({
      kind: 'infeasible',
      error: { code: 'NO_SUCH_LABELS', params: { labels: 'zone=z' } },
    })
    table.set(node('b', { CPU: 1 }, { labels: { zone: 'y' }, available: {} }))
    expect(pick('y', 'x')).toEqual(at('a'))
    expect(pick('y', 'z')).toMatchObject(WAIT)
    table.set(node('b', { CPU: 1 }, { labels: { zone: 'y' } }))
  }
  const hard = ask({ CPU: 1 }, { strategy: affinity('a'), selectors: [zone('y')] })
  expect(pickNode(table, hard, choosing())).toMatchObject({ kind: 'refused', error: { code: 'NO_SUCH_LABELS' } })
})

test('bundles: the node that holds the bundle, while the bundle has room', () => {
  const group = 'ab'.repeat(18)
  const one = toResources({ CPU: 1 })
  const two = toResources({ CPU: 2 })
  const a = node('a', { CPU: 4 }, { available: bundleCapacity(one, group, 0) })
  const b = node('b', { CPU: 4 }, { available: bundleCapacity(two, group, 1) })
  const table = new NodeTable([a, b, node('c', { CPU: 9 })])
  const bundles = [
    { resources: one, nodeId: 'a' },
    { resources: two, nodeId: 'b' },
    { resources: one, nodeId: null },
  ]
  const pick = (bundleIndex: number, cpus: number, localNodeId = 'c'): Decision =>
    pickNode(
      table,
      ask(
        { CPU: cpus },
        { strategy: { kind: 'bundle', groupId: group, bundleIndex, captures: false }, bundles, localNodeId },
      ),
      choosing(),
    )
  expect(pick(0, 1)).toEqual(at('a'))
  expect(pick(1, 1)).toEqual(at('b'))
  expect(pick(-1, 1)).toEqual(at('a'))
  expect(pick(-1, 1, 'b')).toEqual(at('b'))
  expect(pick(-1, 2)).toEqual(at('b'))
  expect(pick(-1, 0)).toEqual(at('a'))
  expect(pick(2, 1)).toMatchObject(WAIT) // not placed yet
  expect(pick(0, 2)).toMatchObject({
    kind: 'infeasible',
    error: { code: 'BUNDLE_TOO_SMALL', params: { asked: '{CPU: 2}', largest: '{CPU: 1}' } },
  })
  subtract(b.available, bundleDemand(one, group, 1))
  expect(pick(1, 1)).toEqual(at('b'))
  expect(pick(1, 2)).toMatchObject(WAIT)
})

test('what a choice looks at does not grow with the cluster', () => {
  let reads = 0
  const counted = (nodeId: string, cpusLeft: number): SchedulableNode => {
    const available = toResources({ CPU: cpusLeft })
    const it = {
      ...node(nodeId, { CPU: 4 }),
      get available() {
        reads++
        return available
      },
    }
    return it as SchedulableNode
  }
  const cost = (count: number, cpusLeft: number, localLeft: number): number => {
    const table = new NodeTable(
      Array.from({ length: count }, (_, i) => counted(`n${i}`, i === 0 ? localLeft : cpusLeft)),
    )
    reads = 0
    expect(pickNode(table, ask({ CPU: 1 }, { localNodeId: 'n0' }), choosing()).kind).toBe('node')
    return reads
  }
  expect(cost(4000, 4, 4)).toBe(cost(1, 4, 4)) // the local node fits
  expect(cost(4000, 1, 1)).toBeLessThanOrEqual(cost(150, 1, 1)) // all are rather full: a sample
  expect(cost(4000, 4, 0)).toBeLessThan(10) // the local node is full
})

const someNode = fc.record({
  state: fc.constantFrom('ALIVE', 'ALIVE', 'ALIVE', 'DRAINING', 'DEAD'),
  cpus: fc.integer({ min: 1, max: 4 }),
  used: fc.integer({ min: 0, max: 4 }),
  gpus: fc.constantFrom(0, 0, 1),
  zone: fc.constantFrom('x', 'y'),
})

test('any cluster, any question: only alive nodes with room; else wait, if one could; else infeasible or refused', () => {
  const strategy = fc.constantFrom<SchedulingStrategy>(
    { kind: 'DEFAULT' },
    { kind: 'SPREAD' },
    { kind: 'nodeLabels', hard: [{ key: 'zone', operator: 'notIn', values: ['y'] }], soft: [] },
  )
  fc.assert(
    fc.property(
      fc.array(someNode, { maxLength: 200 }),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom(0, 0, 0.5, 1),
      strategy,
      fc.integer(),
      (specs, cpus, gpus, how, seed) => {
        const nodes = specs.map((spec, i) => {
          const available = toResources({ CPU: Math.max(0, spec.cpus - spec.used), GPU: spec.gpus })
          return node(
            `n${i}`,
            { CPU: spec.cpus, GPU: spec.gpus },
            { state: spec.state as 'ALIVE', labels: { zone: spec.zone }, available },
          )
        })
        const one = ask({ CPU: cpus, GPU: gpus }, { strategy: how, localNodeId: 'n0' })
        const decision = pickNode(new NodeTable(nodes), one, { ...choosing(seed), spreadNext: Math.abs(seed % 300) })
        const allowed = nodes.filter(
          (it) => it.state === 'ALIVE' && (how.kind !== 'nodeLabels' || it.labels.zone === 'x'),
        )
        const withRoom = allowed.filter((it) => fits(one.resources, it.available))
        const able = allowed.filter((it) => fits(one.resources, it.total))
        if (decision.kind === 'node') expect(withRoom.map((it) => it.nodeId)).toContain(decision.nodeId)
        else {
          expect(withRoom).toEqual([])
          expect(decision.kind).toBe(able.length > 0 ? 'wait' : 'infeasible')
        }
      },
    ),
    { numRuns: 300 },
  )
})
