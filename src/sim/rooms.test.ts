// Fails when a change of what nodes have free is not told, told twice, or read differently by a raylet.

import { expect, test } from 'vitest'
import { NodeManager } from '../gcs/node-manager.ts'
import { ClusterView } from '../raylet/cluster-view.ts'
import { type NodeView, roomEveryMs } from '../wire/cluster.ts'
import { PROTOCOL_VERSION } from '../wire/messages.ts'

function setUp() {
  const nodes = new NodeManager()
  for (const nodeId of ['a', 'b']) {
    nodes.register({
      ...{ t: 'node.register', nodeId, protocol: PROTOCOL_VERSION, version: '', address: { host: '', port: 1 } },
      ...{ hostname: '', pid: 1, sessionDir: '', isHead: false, total: { CPU: 20_000, GPU: 10_000 }, labels: {} },
      state: { processes: [], actors: [], bundles: [], tagBlocks: [] },
    })
  }
  const own = { nodeId: 'b', state: 'ALIVE', total: {}, available: {}, labels: {} } as const
  const view = new ClusterView({ ...own, waiting: 0 })
  view.update(nodes.takeChanged())
  const seen = (): Partial<NodeView> => {
    const { available, waiting } = view.get('a') as NodeView
    return { available, waiting }
  }
  return { nodes, view, seen }
}

test('[ARCH-22] what a node has free is told in short, bundles and what is lent too, and read as it was', () => {
  const { nodes, view, seen } = setUp()
  const available = { CPU: -10_000, GPU: 10_000, CPU_group_0_x: 5_000 }
  nodes.report('a', available, 3)
  const rooms = nodes.takeRooms()
  expect(rooms).toEqual([[1, 3, 3, { CPU: 30_000, CPU_group_0_x: -5_000 }]])
  expect(view.updateRooms(rooms).map(({ nodeId }) => nodeId)).toEqual(['a'])
  expect(seen()).toEqual({ available, waiting: 3 })
  expect(view.updateRooms(rooms)).toEqual([]) // V1
  nodes.report('a', { CPU: 20_000, GPU: 10_000 }, 0)
  view.updateRooms(nodes.takeRooms())
  expect(seen()).toEqual({ available: { CPU: 20_000, GPU: 10_000 }, waiting: 0 })
})

test('[ARCH-22] what is back to what was told is not told; what was given away meanwhile is', () => {
  const { nodes } = setUp()
  nodes.take('a', { CPU: 10_000 })
  nodes.report('a', { CPU: 20_000, GPU: 10_000 }, 0)
  expect(nodes.takeRooms()).toEqual([])
  for (const CPU of [10_000, 20_000]) {
    nodes.take('a', { CPU: 10_000 })
    expect(nodes.takeRooms().map(([, , , used]) => used)).toEqual([{ CPU }])
  }
})

test('[ARCH-22] one that comes back hears what all have heard, and what changes after that', () => {
  const { nodes, view, seen } = setUp()
  nodes.report('a', { CPU: 0, GPU: 10_000 }, 0)
  view.update(nodes.known())
  nodes.report('a', { CPU: 20_000, GPU: 10_000 }, 0)
  view.updateRooms(nodes.takeRooms())
  expect(seen().available).toEqual({ CPU: 20_000, GPU: 10_000 })
})

test('[ARCH-22] in large clusters rooms are told less often', () => {
  expect([4, 200, 2000].map(roomEveryMs)).toEqual([100, 100, 1000])
})
