// Failure here looks like a task that is refused although its node has just joined, or one that waits for ever for a node that never will.

import { expect, test } from 'vitest'
import type { GcsToNode, NodeView } from '../wire/cluster.ts'
import type { LeaseSpec } from '../wire/messages.ts'
import { Raylet } from './raylet.ts'

const SPEC: LeaseSpec = {
  ...{
    name: 'f',
    resources: { far: 10_000 },
    jobId: '01',
    strategy: { kind: 'DEFAULT' },
    priority: 0,
    retriable: true,
  },
  ...{ runtimeEnv: {}, onInfeasible: 'fail' },
}

function node() {
  const usual = { numWorkersSoftLimit: 0, maxStarting: 1, idleMs: 1e9, idleCheckMs: 1e9, prestart: 0 }
  const raylet = new Raylet({ nodeId: 'here', total: { CPU: 10_000 }, ...usual })
  const address = { tag: 1, workerId: '', pid: 1, socket: '', nodeId: 'here' }
  const job = { jobId: '01', namespace: '' }
  raylet.step(0, { kind: 'local', event: { t: 'registered', kind: 'driver', startupToken: '', address, job } })
  const hear = (message: GcsToNode) => raylet.step(1, { kind: 'local', event: { t: 'fromGcs', message } })
  const ask = () =>
    raylet.step(1, { kind: 'message', from: 1, message: { t: 'lease.request', leaseId: '1.1', spec: SPEC } })
  return { raylet, hear, ask }
}

const far: NodeView = {
  ...{ nodeId: 'far', state: 'ALIVE', address: { host: 'far', port: 1 }, hostname: '', pid: 1, sessionDir: '' },
  ...{ isHead: false, total: { far: 10_000 }, available: { far: 10_000 }, bundled: {}, labels: {}, tagBlocks: [] },
  ...{ waiting: 0, deathReason: null, version: 1 },
}
const registered: GcsToNode = {
  t: 'node.registered',
  clusterId: 'c',
  tags: { first: 1, count: 9 },
  nodes: [],
  system: {},
}
const question = { kind: 'local', event: { t: 'toGcs', message: { t: 'nodes.ask', question: 1 } } }
const refused = expect.objectContaining({
  kind: 'send',
  to: 1,
  message: expect.objectContaining({ t: 'lease.refused', leaseId: '1.1' }),
})

test('[ARCH-22] before it refuses what no known node could hold, it asks the GCS for others (F4)', () => {
  const { raylet, hear, ask } = node()
  expect(ask()).toContainEqual(question)
  expect(raylet.stats().waiting).toBe(1)
  expect(hear({ t: 'nodes.changed', nodes: [far] })).toContainEqual(
    expect.objectContaining({ event: expect.objectContaining({ t: 'toPeer', nodeId: 'far' }) }),
  )
  expect(hear({ t: 'nodes.told', question: 1 })).not.toContainEqual(refused)
})

test('[ARCH-22] with no other it is refused, once; also when the answer was lost with its connection', () => {
  for (const answer of [{ t: 'nodes.told', question: 1 } as const, registered]) {
    const { raylet, hear, ask } = node()
    ask()
    expect(hear(answer)).toContainEqual(refused)
    expect(hear(answer)).not.toContainEqual(refused)
    expect(raylet.stats().waiting).toBe(0)
  }
})

test('[ARCH-22] what was withdrawn meanwhile is not refused', () => {
  const { raylet, hear, ask } = node()
  ask()
  raylet.step(1, { kind: 'message', from: 1, message: { t: 'lease.cancel', leaseId: '1.1' } })
  expect(hear({ t: 'nodes.told', question: 1 })).not.toContainEqual(refused)
})
