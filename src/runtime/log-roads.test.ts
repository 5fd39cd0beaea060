// Failure here looks like lines on the wrong driver, lines that are lost between nodes, or links that are full of them.

import { expect, test } from 'vitest'
import type { NodeView } from '../wire/cluster.ts'
import type { FromNode, LogBatch } from '../wire/messages.ts'
import { type LogMessage, LogRoads } from './log-roads.ts'

const ADDRESS = { host: '10.0.0.1', port: 1 }
const viewOf = (nodeId: string, state: NodeView['state'] = 'ALIVE'): NodeView => ({
  ...{
    nodeId,
    state,
    address: ADDRESS,
    hostname: '',
    pid: 1,
    sessionDir: '',
    isHead: false,
    total: {},
    available: {},
    bundled: {},
  },
  ...{ labels: {}, tagBlocks: [], waiting: 0, deathReason: null, version: 1 },
})
const batchOf = (jobId: string, ...lines: string[]): LogBatch => {
  return { pid: 7, jobId, name: 'f', ip: '10.0.0.2', isError: false, lines }
}

/** A node at 10.0.0.2 that sees the given others. */
function node(...others: string[]) {
  const views = others.map((nodeId) => viewOf(nodeId))
  const sent: [string, LogMessage][] = []
  const kept = { bytes: 0 }
  const roads = new LogRoads({
    host: '10.0.0.2',
    send: (to, message) => void sent.push([to, message]),
    keptBytes: () => kept.bytes,
    others: () => views,
  })
  const driver = (tag: number, jobId: string): FromNode[] => {
    const shown: FromNode[] = []
    roads.add(tag, { jobId, send: (message) => void shown.push(message), unreadBytes: () => 0 })
    return shown
  }
  return { roads, sent, kept, driver }
}

test('[CL-03] all nodes hear which jobs have their driver here, also those that join, and when it leaves', () => {
  const { roads, sent, driver } = node('a')
  roads.nodes([viewOf('a')])
  expect(sent).toEqual([]) // Nobody is here.
  driver(1, '01')
  roads.nodes([viewOf('a'), viewOf('b')])
  driver(2, '02')
  roads.remove(1)
  expect(sent).toEqual([
    ['a', { t: 'log.wanted', jobs: ['01'] }],
    ['b', { t: 'log.wanted', jobs: ['01'] }],
    ['a', { t: 'log.wanted', jobs: ['01', '02'] }],
    ['a', { t: 'log.wanted', jobs: ['02'] }],
  ])
})

test('[CL-03] lines go to the drivers of their job, here and elsewhere, and nowhere else', () => {
  const { roads, sent, driver } = node('a')
  const shown = driver(1, '01')
  sent.length = 0
  roads.onPeer('a', { t: 'log.wanted', jobs: ['02'] })
  roads.lines('01', batchOf('01', 'here'))
  roads.lines('02', batchOf('02', 'there'))
  roads.lines('03', batchOf('03', 'nowhere'))
  expect(shown).toEqual([{ t: 'log.lines', batch: { ...batchOf('01', 'here'), ip: '' } }])
  expect(sent).toEqual([['a', { t: 'log.lines', batch: batchOf('02', 'there') }]])
  roads.onPeer('a', { t: 'log.lines', batch: { ...batchOf('01', 'from afar'), ip: '10.0.0.1' } })
  roads.onPeer('a', { t: 'log.lines', batch: batchOf('03', 'of nobody') })
  expect(shown.slice(1)).toEqual([{ t: 'log.lines', batch: { ...batchOf('01', 'from afar'), ip: '10.0.0.1' } }])
  roads.nodes([viewOf('a', 'DEAD')])
  roads.lines('02', batchOf('02', 'too late'))
  expect(sent).toHaveLength(1)
})

test('[CL-03] what was said before it was known who wants it follows (R3), the newest of it', () => {
  const { roads, sent } = node()
  for (let i = 0; i < 150; i++) roads.lines('01', batchOf('01', `line ${i}`))
  roads.onPeer('a', { t: 'log.wanted', jobs: ['01'] })
  expect(sent).toHaveLength(100)
  expect(sent.at(-1)).toEqual(['a', { t: 'log.lines', batch: batchOf('01', 'line 149') }])
  roads.onPeer('b', { t: 'log.wanted', jobs: ['01'] })
  expect(sent).toHaveLength(100)
})

test('[CL-03] a flood does not fill a link: what is dropped is counted (R2)', () => {
  const { roads, sent, kept } = node()
  roads.onPeer('a', { t: 'log.wanted', jobs: ['01'] })
  roads.lines('01', batchOf('01', 'first'))
  kept.bytes = 1024 * 1024 + 1
  for (let i = 0; i < 1000; i++) roads.lines('01', batchOf('01', 'flood', 'flood'))
  kept.bytes = 0
  roads.lines('01', batchOf('01', 'last'))
  const lines = sent.map(([, message]) => (message.t === 'log.lines' ? message.batch.lines[0] : message.t))
  expect(lines).toEqual(['first', expect.stringMatching(/^\[2000 lines of workers are not shown: they came/), 'last'])
})

test('[CL-03] a flush ends when every node has answered, or is dead', async () => {
  const { roads, sent, driver } = node('a', 'b')
  driver(1, '01')
  sent.length = 0
  const done = new Promise<void>((resolve) => roads.flush(resolve))
  expect(sent.map(([to, { t }]) => [to, t])).toEqual([
    ['a', 'log.flush'],
    ['b', 'log.flush'],
  ])
  roads.onPeer('a', { t: 'log.flushed', flush: 1 })
  roads.nodes([viewOf('b', 'DEAD')])
  await done
})
