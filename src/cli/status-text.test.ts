// Failure here looks like a tool that no longer finds what it looks for in `ray status`. The expected text is what Ray 2.58 printed for
// the same state (its node type is `node_` and the id), but for what is marked.

import { expect, test } from 'vitest'
import { toResources } from '../scheduling/resources.ts'
import type { ClusterStatus, NodeView } from '../wire/cluster.ts'
import { statusText } from './status-text.ts'

const GIB = 1024 ** 3
const GROUP = 'ab'.repeat(18)
const NOW = new Date(2026, 10, 25, 1, 39, 43, 966)
const RULE = '-'.repeat(63)

function node(letter: string, change: Partial<NodeView> = {}): NodeView {
  const total = toResources({ CPU: 2, a: 2, memory: 15.9 * GIB, object_store_memory: 6.81 * GIB, 'node:10.0.0.1': 1 })
  return {
    ...{ nodeId: letter.repeat(56), state: 'ALIVE', address: { host: '10.0.0.1', port: 1 }, hostname: 'h', pid: 1 },
    ...{
      sessionDir: '',
      isHead: true,
      total,
      available: { ...total, CPU: 0 },
      bundled: {},
      labels: {},
      tagBlocks: [],
      waiting: 0,
    },
    ...{ deathReason: null, version: 1, ...change },
  }
}

const DEFAULT = { kind: 'DEFAULT' } as const
const demand = (resources: Record<string, number>, count: number) => {
  return { resources: toResources(resources), strategy: DEFAULT, count }
}
const status = (change: Partial<ClusterStatus>): string =>
  statusText({ clusterId: 'c', nodes: [node('d')], demand: [], groups: [], actors: [], ...change }, NOW)

test('[CL-06] one busy node with demand, as Ray prints it', () => {
  const text = status({ demand: [demand({ CPU: 1 }, 2), demand({ CPU: 8 }, 1), demand({ CPU: 1 }, 1), demand({}, 4)] })
  expect(text).toBe(`======== Autoscaler status: 2026-11-25 01:39:43.966000 ========
Node status
${RULE}
Active:
 1 node_${'d'.repeat(56)}
Pending:
 (no pending nodes)
Recent failures:
 (no failures)

Resources
${RULE}
Total Usage:
 2.0/2.0 CPU
 0.0/2.0 a
 0B/15.90GiB memory
 0B/6.81GiB object_store_memory

From request_resources:
 (none)
Pending Demands:
 {'CPU': 1.0}: 3+ pending tasks/actors
 {'CPU': 8.0}: 1+ pending tasks/actors`)
})

test('[CL-06] several nodes are added up, in fractions that do not drift; dead ones are failures', () => {
  const total = toResources({ CPU: 1 })
  const [small, gone] = [
    node('b', { total, available: toResources({ CPU: 0.9 }) }),
    node('c', { state: 'DEAD', available: {}, address: { host: '10.0.0.9', port: 1 }, deathReason: 'it left' }),
  ]
  const text = status({ nodes: [node('d'), small, node('e', { total, available: toResources({ CPU: 0.8 }) }), gone] })
  expect(text).toContain(`Active:\n 1 node_${'d'.repeat(56)}\n 1 node_${'b'.repeat(56)}\n 1 node_${'e'.repeat(56)}\n`)
  expect(text).toContain(`Recent failures:\n node_${'c'.repeat(56)}: NodeTerminated (ip: 10.0.0.9)\n`)
  expect(text).toContain('\n 2.3/4.0 CPU\n')
  expect(text).toMatch(/Pending Demands:\n \(no resource demands\)$/)
})

test('[CL-06] nothing runs', () => {
  expect(status({ nodes: [] })).toContain('Active:\n (no active nodes)\n')
})

test('[CL-06][PG-01] what is reserved by placement groups, and used of it', () => {
  const grouped = { [`CPU_group_${GROUP}`]: 2, [`CPU_group_0_${GROUP}`]: 2, [`bundle_group_${GROUP}`]: 1000 }
  const [total, bundled] = [toResources({ CPU: 4 }), toResources(grouped)]
  const available = {
    ...total,
    ...bundled,
    ...toResources({ CPU: 1, [`CPU_group_${GROUP}`]: 1.5, [`CPU_group_0_${GROUP}`]: 1.5 }),
  }
  const text = status({
    nodes: [node('d', { total, bundled, available })],
    demand: [demand({ [`CPU_group_${GROUP}`]: 2, [`bundle_group_${GROUP}`]: 0.001 }, 1), demand({ CPU: 2 }, 1)],
  })
  expect(text).toContain('Total Usage:\n 1.5/4.0 CPU (0.5 used of 2.0 reserved in placement groups)\n')
  expect(text).toContain("\n {'CPU': 2.0}: 2+ pending tasks/actors (1+ using placement groups)")
  const strategy = { kind: 'bundle', groupId: GROUP, bundleIndex: 0, captures: false } as const
  const waits = { resources: toResources({ CPU: 1 }), strategy, count: 3 }
  expect(status({ demand: [waits] })).toContain("\n {'CPU': 1.0}: 3+ pending tasks/actors (3+ using placement groups)")
})

test('[CL-06][PG-02] placement groups that wait, as Ray prints them, and why', () => {
  const bundles = [{ CPU: 4 }, { CPU: 4 }, { CPU: 1, GPU: 0.5 }].map((one) => toResources(one))
  const text = status({
    demand: [demand({ CPU: 1 }, 1)],
    groups: [
      { strategy: 'STRICT_PACK', bundles, count: 2, reason: 'no node has so much' },
      { strategy: 'PACK', bundles: bundles.slice(0, 1), count: 1, reason: '' },
    ],
  })
  const lines = [
    " {'CPU': 1.0}: 1+ pending tasks/actors",
    " {'CPU': 4.0} * 2, {'CPU': 1.0, 'GPU': 0.5} * 1 (STRICT_PACK): 2+ pending placement groups",
    '   no node has so much',
    " {'CPU': 4.0} * 1 (PACK): 1+ pending placement groups",
  ]
  expect(text.slice(text.indexOf('Pending Demands:'))).toBe(['Pending Demands:', ...lines].join('\n'))
})

test('[CL-06] what the object stores hold', () => {
  const total = toResources({ CPU: 1, object_store_memory: 2 * GIB })
  const available = { ...total, ...toResources({ object_store_memory: 1.5 * GIB }) }
  expect(status({ nodes: [node('d', { total, available })] })).toContain('\n 512.00MiB/2.00GiB object_store_memory\n')
})

test('[CL-06] --verbose: each node, as Ray lists them', () => {
  const busy = node('d', { labels: { 'ray.io/node-id': 'd', region: 'eu' } })
  const idle = node('e', { total: toResources({ CPU: 1 }), available: toResources({ CPU: 1 }) })
  const text = statusText({ clusterId: 'c', nodes: [busy, idle], demand: [], groups: [], actors: [] }, NOW, true)
  expect(text.slice(text.indexOf('\n\nNode: '))).toBe(`

Node: h (10.0.0.1)
 Id: ${'d'.repeat(56)}
 Usage:
  2.0/2.0 CPU
  0.0/2.0 a
  0B/15.90GiB memory
  0B/6.81GiB object_store_memory
 Labels:
  region=eu
 Activity:
  Resource: CPU currently in use.

Node: h (10.0.0.1)
 Id: ${'e'.repeat(56)}
 Usage:
  0.0/1.0 CPU
 Activity:
  (no activity)`)
})
