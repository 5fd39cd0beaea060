// Fails when the node loses a worker, counts for the dead, or ends what others need.

import { expect, test } from 'vitest'
import type { GcsToNode, NodeView } from '../wire/cluster.ts'
import type { ActorInfo, LeaseSpec, ToNode, WorkerAddress } from '../wire/messages.ts'
import { Raylet } from './raylet.ts'
import type { RayletInput } from './shell.ts'

function addressOf(tag: number): WorkerAddress {
  return { tag, workerId: '', pid: tag, socket: `s${tag}`, nodeId: '' }
}

/** A node with driver 1 and an idle worker 2. */
function node(idleMs = 1000): { raylet: Raylet; tell: (from: number, message: ToNode) => unknown[] } {
  const usual = { numWorkersSoftLimit: 0, maxStarting: 1, idleCheckMs: 10, prestart: 1 }
  const raylet = new Raylet({ nodeId: '', total: { CPU: 10_000 }, idleMs, ...usual })
  const join = (kind: 'driver' | 'worker', startupToken: string, tag: number): void => {
    const event = { t: 'registered', kind, startupToken, address: addressOf(tag), jobId: '01' } as const
    raylet.step(0, { kind: 'local', event })
  }
  raylet.step(0, { kind: 'start' })
  join('driver', '', 1)
  join('worker', 'w1', 2)
  const tell = (from: number, message: ToNode): unknown[] => raylet.step(1, { kind: 'message', from, message })
  return { raylet, tell }
}

test('[ARCH-21] a hold for a process that has ended is not passed on (N4)', () => {
  const { tell } = node()
  const hold = (borrower: number): ToNode => ({
    t: 'ref.route',
    to: 1,
    body: { t: 'ref.add', id: 5, borrower, via: borrower },
  })
  expect(tell(2, hold(9))).toEqual([])
  const body = { t: 'ref.add', id: 5, borrower: 2, via: 2 }
  expect(tell(2, hold(2))).toEqual([{ kind: 'send', to: 1, message: { t: 'ref.routed', from: 2, body } }])
})

test('[ARCH-09] an idle worker that owns what others need goes on', () => {
  const { raylet, tell } = node(5)
  const ordered = raylet.step(20, { kind: 'timer', key: 'idle' })
  expect(ordered[0]).toEqual({ kind: 'send', to: 2, message: { t: 'worker.exit', detail: 'idle' } })
  expect(raylet.pool.workers.get(2)?.state).toBe('exiting')
  tell(2, { t: 'worker.stays' })
  expect(raylet.pool.workers.get(2)?.state).toBe('idle')
  raylet.check()
})

test('[ARCH-07] of a driver that ends while it waits for its job the GCS hears too', () => {
  const { raylet } = node()
  raylet.step(1, {
    kind: 'local',
    event: { t: 'fromGcs', message: { t: 'tags.granted', tags: { first: 9, count: 9 } } },
  })
  const tag = raylet.takeTag() ?? 0
  const gone = { t: 'gone', tag, pid: 7, code: 0, signal: null } as const
  const told = raylet.step(2, { kind: 'local', event: gone }).filter(({ kind }) => kind === 'local')
  expect(told).toContainEqual({
    kind: 'local',
    event: { t: 'toGcs', message: expect.objectContaining({ t: 'worker.gone', kind: 'driver' }) },
  })
  expect(raylet.step(3, { kind: 'local', event: gone })).toEqual([])
})

test('[ARCH-09] whoever asked for an object that nobody holds any more is forgotten', () => {
  const { raylet, tell } = node()
  tell(2, { t: 'object.resolve', id: 2 ** 32 + 1 })
  expect(raylet.stats().asked).toBe(1)
  tell(1, { t: 'object.unpublish', ids: [2 ** 32 + 1] })
  expect(raylet.stats().asked).toBe(0)
})

test('[ARCH-09] a question that comes when its object has gone is forgotten with the word that its asker waits no more', () => {
  const { raylet, tell } = node()
  tell(1, { t: 'object.unpublish', ids: [2 ** 32 + 1] })
  tell(1, { t: 'ref.route', to: 2, body: { t: 'ref.lost', id: 2 ** 32 + 1 } })
  tell(2, { t: 'object.resolve', id: 2 ** 32 + 1 })
  expect(raylet.stats().asked).toBe(1)
  tell(2, { t: 'object.unresolve', id: 2 ** 32 + 1 })
  expect(raylet.stats().asked).toBe(0)
})

test('[ARCH-22] ends are told to nodes that have met this one; who hears of a process elsewhere has met its node first (N6)', () => {
  const { raylet, tell } = node()
  const view: NodeView = {
    state: 'ALIVE',
    ...{ nodeId: 'b', address: { host: '', port: 1 }, hostname: '', pid: 1, sessionDir: '' },
    ...{
      isHead: false,
      total: {},
      available: {},
      bundled: {},
      labels: {},
      tagBlocks: [{ first: 256, count: 256 }],
      waiting: 0,
    },
    ...{ deathReason: null, version: 1 },
  }
  const fromGcs = (message: GcsToNode): unknown[] =>
    raylet.step(1, { kind: 'local', event: { t: 'fromGcs', message } }).filter(({ kind }) => kind !== 'timer')
  fromGcs({ t: 'nodes.changed', nodes: [view, { ...view, nodeId: 'c', tagBlocks: [{ first: 512, count: 256 }] }] })
  const info = { actorId: 'a', state: 'ALIVE', address: { ...addressOf(300), nodeId: 'b' } } as ActorInfo
  const told = { kind: 'send', to: 1, message: { t: 'actor.state', info } }
  const deliver = { t: 'deliver', to: 1, message: { t: 'actor.state', info } } as const
  expect(fromGcs(deliver)).toEqual([{ kind: 'local', event: { t: 'meet', nodeId: 'b' } }, told])
  raylet.hello('', 1, 'b')
  expect(fromGcs(deliver)).toEqual([told])
  const body = { t: 'ref.add', id: 5, borrower: 600, via: 2 } as const
  expect(tell(2, { t: 'ref.route', to: 1, body })).toEqual([
    { kind: 'local', event: { t: 'meet', nodeId: 'c' } },
    { kind: 'send', to: 1, message: { t: 'ref.routed', from: 2, body } },
  ])
  const gone = { t: 'gone', tag: 2, pid: 2, code: 0, signal: null } as const
  const effects = raylet.step(2, { kind: 'local', event: gone })
  const to = effects.flatMap((one) => (one.kind === 'local' && one.event.t === 'toPeer' ? [one.event.nodeId] : []))
  expect(to).toEqual(['b'])
})

const SPEC = {
  ...{ name: 'f', jobId: '01', resources: { CPU: 10_000 }, priority: 0, runtimeEnv: {} },
  ...{ onInfeasible: 'fail', strategy: { kind: 'DEFAULT' } },
} as unknown as LeaseSpec

function view(more: Partial<NodeView>): NodeView {
  return {
    ...{
      nodeId: 'b',
      state: 'ALIVE',
      address: { host: '', port: 1 },
      hostname: '',
      pid: 1,
      sessionDir: '',
      isHead: false,
    },
    ...{
      total: { CPU: 10_000 },
      bundled: {},
      available: { CPU: 10_000 },
      labels: {},
      tagBlocks: [],
      waiting: 0,
      deathReason: null,
    },
    ...{ version: 1, ...more },
  }
}

/** A node of a cluster, with tags from 256 on: driver 256 and an idle worker 257. */
function member(): { raylet: Raylet; local: (event: RayletInput) => unknown[] } {
  const usual = { numWorkersSoftLimit: 1, maxStarting: 1, idleMs: 1000, idleCheckMs: 10, prestart: 1 }
  const raylet = new Raylet({ nodeId: 'a', total: { CPU: 10_000 }, ...usual })
  const local = (event: RayletInput): unknown[] => raylet.step(0, { kind: 'local', event })
  const tags = { first: 256, count: 256 }
  local({ t: 'fromGcs', message: { t: 'node.registered', clusterId: 'c', tags, nodes: [], system: {} } })
  raylet.step(0, { kind: 'start' })
  local({ t: 'registered', kind: 'driver', startupToken: '', address: addressOf(256) })
  local({ t: 'registered', kind: 'worker', startupToken: 'w1', address: addressOf(257) })
  return { raylet, local }
}

test('[ACT-07][FT-01] actors live on when the node with the first tags dies: the GCS, tag 0, is not of it', () => {
  const { raylet, local } = member()
  const tagBlocks = [{ first: 1, count: 255 }]
  const known = (more: Partial<NodeView>): unknown =>
    local({ t: 'fromGcs', message: { t: 'nodes.changed', nodes: [view({ tagBlocks, ...more })] } })
  known({})
  const ask = (leaseId: string): unknown =>
    local({ t: 'fromGcs', message: { t: 'actorLease.request', leaseId, actorId: leaseId, spec: SPEC, mayWait: true } })
  ask('a1')
  ask('a2')
  const before = raylet.stats()
  known({ state: 'DEAD', available: {}, version: 2 })
  expect([raylet.pool.workers.get(257)?.state, raylet.stats()]).toEqual(['leased', before])
})

test('[ARCH-22] what waits here goes to another node when the note that this one is busy is over', () => {
  const { raylet, local } = member()
  local({ t: 'fromGcs', message: { t: 'nodes.changed', nodes: [view({})] } })
  const asked = (leaseId: string): unknown[] =>
    raylet.step(0, { kind: 'message', from: 256, message: { t: 'lease.request', leaseId, spec: SPEC } })
  asked('256.1')
  asked('256.2')
  local({ t: 'fromPeer', nodeId: 'b', message: { t: 'lease.rejected', owner: 256, leaseId: '256.2', available: {} } })
  expect(raylet.leases.waiting).toBe(1)
  const message = { t: 'lease.request', owner: 256, leaseId: '256.2', spec: SPEC, mayWait: false }
  expect(raylet.step(500, { kind: 'timer', key: 'notes' })).toContainEqual({
    ...{ kind: 'local', event: { t: 'toPeer', nodeId: 'b', message } },
  })
})

test('[ARCH-22] what concerns a process of a node that has just joined waits until the GCS has told of it (H6)', () => {
  const { raylet, tell } = node()
  const fromGcs = (message: GcsToNode): unknown[] =>
    raylet.step(1, { kind: 'local', event: { t: 'fromGcs', message } }).filter(({ kind }) => kind !== 'timer')
  fromGcs({ t: 'tags.granted', tags: { first: 1, count: 255 } })
  const add = { t: 'ref.add', id: 5, borrower: 600, via: 2 } as const
  expect(tell(2, { t: 'ref.route', to: 1, body: add })).toEqual([
    { kind: 'send', to: 1, message: { t: 'ref.routed', from: 2, body: add } },
  ])
  const accept = { t: 'ref.accept', id: 600 * 2 ** 32, borrower: 2, via: 1, isLate: false } as const
  expect(tell(2, { t: 'ref.route', to: 600, body: accept })).toEqual([])
  expect(tell(2, { t: 'object.resolve', id: 600 * 2 ** 32 })).toEqual([])
  expect(tell(2, { t: 'object.resolve', id: 600 * 2 ** 32 + 1 })).toEqual([])
  expect(tell(2, { t: 'object.unresolve', id: 600 * 2 ** 32 + 1 })).toEqual([])
  const view: NodeView = {
    state: 'ALIVE',
    ...{ nodeId: 'c', address: { host: '', port: 1 }, hostname: '', pid: 1, sessionDir: '' },
    ...{ isHead: false, total: {}, available: {}, labels: {}, tagBlocks: [{ first: 512, count: 256 }], waiting: 0 },
    ...{ deathReason: null, version: 1, bundled: {} },
  }
  const told = fromGcs({ t: 'nodes.changed', nodes: [view] })
  const toC = (message: unknown): unknown => ({ kind: 'local', event: { t: 'toPeer', nodeId: 'c', message } })
  expect(told).toEqual([
    { kind: 'local', event: { t: 'meet', nodeId: 'c' } },
    toC({ t: 'ref.route', from: 2, to: 600, body: accept }),
    toC({ t: 'object.resolve', from: 2, id: 600 * 2 ** 32 }),
  ])
})
