// Failure would look like: a node that left is still chosen, or one that joined never is.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { hasGpu, NodeTable, type SchedulableNode } from './node-table.ts'

const node = fc.record({
  nodeId: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
  state: fc.constantFrom('ALIVE', 'DRAINING', 'DEAD'),
  total: fc.constantFrom({ CPU: 1 }, { CPU: 1, GPU: 1 }),
  available: fc.constant({}),
  labels: fc.constant({}),
})
const change = fc.oneof({ weight: 4, arbitrary: node }, fc.constantFrom('a', 'b', 'c', 'd', 'e'))

test('whatever joins, changes and leaves: the lists hold the alive nodes, each once', () => {
  fc.assert(
    fc.property(fc.array(change), (changes) => {
      const table = new NodeTable()
      const model = new Map<string, SchedulableNode>()
      for (const step of changes) {
        if (typeof step === 'string') {
          table.delete(step)
          model.delete(step)
        } else {
          table.set(step)
          model.set(step.nodeId, step)
        }
      }
      const alive = [...model.values()].filter((one) => one.state === 'ALIVE')
      const sort = (nodes: SchedulableNode[]): SchedulableNode[] => nodes.sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1))
      expect(sort([...table.withGpu])).toEqual(sort(alive.filter(hasGpu)))
      expect(sort([...table.withoutGpu])).toEqual(sort(alive.filter((one) => !hasGpu(one))))
      expect(sort(Array.from({ length: table.size }, (_, i) => table.at(i)))).toEqual(sort(alive))
      for (const id of ['a', 'b', 'c', 'd', 'e']) expect(table.get(id)).toBe(model.get(id))
    }),
  )
})
