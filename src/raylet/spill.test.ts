// Fails when a lease goes where there is no room, waits where it need not, or is refused although some node could hold it.

import { expect, test } from 'vitest'
import { toResources } from '../scheduling/resources.ts'
import type { GcsToNode, NodeView } from '../wire/cluster.ts'
import type { LeaseSpec } from '../wire/messages.ts'
import { Raylet } from './raylet.ts'

const DRIVER = 1

function viewOf(nodeId: string, cpus: number, more: Partial<NodeView> = {}): NodeView {
  const total = toResources({ CPU: cpus })
  return {
    ...{ nodeId, state: 'ALIVE', address: { host: '', port: 0 }, hostname: '', pid: 0, sessionDir: '', isHead: false },
    ...{
      total,
      available: total,
      bundled: {},
      labels: {},
      tagBlocks: [],
      waiting: 0,
      deathReason: null,
      version: 1,
      ...more,
    },
  }
}

/** A node 'me' of two CPUs and two idle workers. */
function node(workers = 2) {
  const usual = { numWorkersSoftLimit: 8, maxStarting: 8, idleMs: 1000, idleCheckMs: 1000, prestart: 2 }
  const raylet = new Raylet({ nodeId: 'me', total: toResources({ CPU: 2 }), ...usual })
  const address = (tag: number) => ({ tag, workerId: '', pid: tag, socket: '', nodeId: 'me' })
  raylet.step(0, { kind: 'start' })
  const register = (kind: 'driver' | 'worker', startupToken: string, tag: number) =>
    raylet.step(0, { kind: 'local', event: { t: 'registered', kind, startupToken, address: address(tag) } })
  register('driver', '', DRIVER)
  for (let i = 1; i <= workers; i++) register('worker', `w${i}`, DRIVER + i)
  const spec = (more: Partial<LeaseSpec> = {}): LeaseSpec => ({
    ...{ resources: toResources({ CPU: 1 }), strategy: { kind: 'DEFAULT' }, runtimeEnv: {}, jobId: '01', priority: 0 },
    ...{ onInfeasible: 'fail', name: 'f', retriable: true, ...more },
  })
  let leases = 0
  /** Where the request went. */
  const ask = (more: Partial<LeaseSpec> = {}): string => {
    const before = raylet.leases.waiting
    const message = { t: 'lease.request', leaseId: `l${++leases}`, spec: spec(more) } as const
    const effects = raylet.step(1, { kind: 'message', from: DRIVER, message })
    // The GCS knows of no other nodes.
    for (const effect of [...effects]) {
      if (effect.kind !== 'local' || effect.event.t !== 'toGcs' || effect.event.message.t !== 'nodes.ask') continue
      const { question } = effect.event.message
      const told = { t: 'fromGcs', message: { t: 'nodes.told', question } } as const
      effects.push(...raylet.step(1, { kind: 'local', event: told }))
    }
    for (const effect of effects) {
      if (effect.kind === 'send' && effect.message.t === 'lease.granted') return 'me'
      if (effect.kind === 'send' && effect.message.t === 'lease.refused') return effect.message.error.code
      if (effect.kind !== 'local' || effect.event.t !== 'toPeer' || effect.event.message.t !== 'lease.request') continue
      return `${effect.event.nodeId}${effect.event.message.mayWait ? ' waits' : ''}`
    }
    return raylet.leases.waiting > before ? 'me waits' : 'parked'
  }
  const change = (...nodes: NodeView[]) =>
    raylet.step(2, { kind: 'local', event: { t: 'fromGcs', message: { t: 'nodes.changed', nodes } } })
  return { raylet, ask, change }
}

test('[ARCH-22] [ARCH-23] here until half is used, then where least is used, and what fits nowhere waits here', () => {
  const { ask, change } = node()
  change(viewOf('a', 2), viewOf('b', 2))
  expect([ask(), ask(), ask()].sort()).toEqual(['a', 'b', 'me'])
  expect([ask(), ask(), ask()].sort()).toEqual(['a', 'b', 'me'])
  expect(ask()).toBe('me waits')
})

test('[ARCH-22] what waits here goes to a node that has become free, and only what can run there', () => {
  const { raylet, ask, change } = node()
  change(viewOf('a', 4, { available: {} }))
  expect([ask(), ask(), ask(), ask({ resources: toResources({ CPU: 2 }) })]).toEqual([
    'me',
    'me',
    'me waits',
    'me waits',
  ])
  const moved = change(viewOf('a', 4, { available: toResources({ CPU: 1 }), version: 2 }))
  const sent = moved.flatMap((effect) => (effect.kind === 'local' && effect.event.t === 'toPeer' ? [effect.event] : []))
  expect(sent).toMatchObject([{ nodeId: 'a', message: { t: 'lease.request', leaseId: 'l3', mayWait: false } }])
  expect(raylet.leases.waiting).toBe(1)
})

test('[ARCH-22] a request that waits for a worker to start has its resources: the next one goes elsewhere', () => {
  const { ask, change } = node(0)
  change(viewOf('a', 2))
  expect([ask({ resources: toResources({ CPU: 2 }) }), ask(), ask(), ask()]).toEqual(['me waits', 'a', 'a', 'me waits'])
})

test('[ARCH-24] SPREAD: in turn over all nodes that have room, this one too', () => {
  const { ask, change } = node()
  change(viewOf('a', 2), viewOf('b', 2))
  const strategy = { kind: 'SPREAD' } as const
  const chosen = Array.from({ length: 6 }, () => ask({ strategy }))
  expect([...chosen].sort()).toEqual(['a', 'a', 'b', 'b', 'me', 'me'])
  expect(new Set(chosen.slice(0, 3)).size).toBe(3)
})

test('[ARCH-25] node affinity: there, waiting if need be; refused at once when it is gone; soft: elsewhere', () => {
  const { ask, change } = node()
  change(viewOf('a', 2, { available: {} }), viewOf('gone', 2, { state: 'DEAD' }))
  const to = (nodeId: string, soft: boolean) => ask({ strategy: { kind: 'nodeAffinity', nodeId, soft } })
  expect(to('a', false)).toBe('a waits')
  expect(to('me', false)).toBe('me')
  expect(to('gone', false)).toBe('NODE_NOT_FOUND')
  expect(to('gone', true)).toBe('me')
  expect(to('a', true)).toBe('a waits')
})

test('[ARCH-22] refused is what no living node could hold; with onInfeasible: wait it is parked until one joins', () => {
  const { raylet, ask, change } = node()
  change(viewOf('a', 4))
  const resources = toResources({ CPU: 8 })
  expect(ask({ resources })).toBe('INFEASIBLE')
  expect(ask({ resources, onInfeasible: 'wait' })).toBe('parked')
  change(viewOf('a', 4, { available: {}, version: 2 }))
  expect(raylet.spill.parked).toBe(1)
  change(viewOf('b', 8))
  expect([raylet.spill.parked, raylet.spill.away]).toEqual([0, 1])
})

test('[PERF-06] [ARCH-23] a request goes to the node where most bytes of its arguments lie, while less than half of it is used', () => {
  const { ask, change } = node()
  change(
    viewOf('b', 2, { tagBlocks: [{ first: 256, count: 256 }] }),
    viewOf('c', 2, { tagBlocks: [512, 768].map((first) => ({ first, count: 256 })) }),
  )
  const locality = [[300, 1000], [600, 900], [800, 900], [9999, 5000]] as const // biome-ignore format: a row
  expect(ask({ locality })).toBe('c')
  expect(ask({ locality })).not.toBe('c')
})

test('[EXTRA-35] a node that is drained sends away what waits, refuses what comes, and leaves when nothing is left', () => {
  const { raylet, ask, change } = node()
  change(viewOf('a', 2, { available: {}, tagBlocks: [{ first: 256, count: 256 }] }))
  expect([ask(), ask(), ask()]).toEqual(['me', 'me', 'me waits'])
  const tell = (message: GcsToNode) => raylet.step(3, { kind: 'local', event: { t: 'fromGcs', message } })
  const drain = { reason: 'PREEMPTION', message: 'why', deadlineMs: null } as const
  const locals = (effects: ReturnType<typeof tell>) =>
    effects.flatMap((effect) => (effect.kind === 'local' ? [effect.event] : []))
  expect(locals(tell({ t: 'node.drain', drain }))).toMatchObject([
    { t: 'toPeer', nodeId: 'a', message: { t: 'lease.request', leaseId: 'l3', mayWait: true } },
  ])
  expect(ask()).toBe('a waits')
  expect(ask({ strategy: { kind: 'nodeAffinity', nodeId: 'me', soft: false } })).toBe('NODE_DRAINING')
  const { spec } = raylet.leases.leases.get('l1') as { spec: LeaseSpec }
  const request = { t: 'lease.request', owner: 300, leaseId: 'p1', spec, mayWait: true } as const
  const answer = raylet.step(3, { kind: 'local', event: { t: 'fromPeer', nodeId: 'a', message: request } })
  expect(locals(answer)).toMatchObject([{ t: 'toPeer', nodeId: 'a', message: { t: 'lease.rejected', leaseId: 'p1' } }])
  const looks = () => locals(raylet.step(4, { kind: 'timer', key: 'leave' })).map(({ t }) => t)
  for (const leaseId of ['l1', 'l2'])
    raylet.step(4, { kind: 'message', from: DRIVER, message: { t: 'lease.return', leaseId, dispose: false } })
  expect(looks()).toEqual([])
  raylet.step(4, { kind: 'local', event: { t: 'gone', tag: DRIVER, pid: 1, code: 0, signal: null } })
  expect(looks()).toEqual(['leaveIfEmpty'])
})

test('[ARCH-22] priority counts where a request waits, whoever asked: of this node, or of another one', () => {
  const { raylet, ask, change } = node(1)
  change(viewOf('a', 2, { available: {}, tagBlocks: [{ first: 256, count: 256 }] }))
  const resources = toResources({ CPU: 2 })
  expect([ask({ resources }), ask({ resources, priority: 1 })]).toEqual(['me', 'me waits'])
  const { spec } = raylet.leases.leases.get('l1') as { spec: LeaseSpec }
  for (const [leaseId, priority] of [
    ['p1', 0],
    ['p2', 5],
  ] as const) {
    const message = { t: 'lease.request', owner: 300, leaseId, spec: { ...spec, priority }, mayWait: true } as const
    raylet.step(2, { kind: 'local', event: { t: 'fromPeer', nodeId: 'a', message } })
  }
  const granted: string[] = []
  const end = (leaseId: string) => {
    const from = DRIVER
    const effects = raylet.step(3, { kind: 'message', from, message: { t: 'lease.return', leaseId, dispose: false } })
    for (const effect of effects) {
      if (effect.kind === 'send' && effect.message.t === 'lease.granted') granted.push(effect.message.leaseId)
      if (effect.kind === 'local' && effect.event.t === 'toPeer' && effect.event.message.t === 'lease.granted')
        granted.push(effect.event.message.leaseId)
    }
  }
  for (const leaseId of ['l1', 'p2', 'l2']) end(leaseId)
  expect(granted).toEqual(['p2', 'l2', 'p1'])
})
