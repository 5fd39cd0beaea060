// Fails when room stands empty while others wait for it, is offered twice or to who does not want it, or when a node that waits does not
// hear what is free.

import { expect, test } from 'vitest'
import { toResources } from '../scheduling/resources.ts'
import type { GcsToNode, NodeToGcs, NodeView, RayletToRaylet } from '../wire/cluster.ts'
import type { LeaseSpec } from '../wire/messages.ts'
import { Raylet } from './raylet.ts'
import type { RayletInput } from './shell.ts'

const DRIVER = 1
const FULL = { CPU: 0 }

function viewOf(nodeId: string, first: number, available: NodeView['available'] = FULL): NodeView {
  return {
    ...{ nodeId, state: 'ALIVE', address: { host: '', port: 0 }, hostname: '', pid: 0, sessionDir: '', isHead: false },
    ...{
      total: toResources({ CPU: 2 }),
      available,
      bundled: {},
      labels: {},
      waiting: 0,
      deathReason: null,
      version: 1,
    },
    tagBlocks: [{ first, count: 256 }],
  }
}

/** A node 'me' of two CPUs, two idle workers and a driver, among 'a', 'b' and 'c', which are full. */
class World {
  readonly raylet: Raylet
  now = 0
  timers = new Map<string, number>()
  #said: [to: string, message: RayletToRaylet | NodeToGcs][] = []
  isKnown = false

  constructor() {
    const usual = { numWorkersSoftLimit: 8, maxStarting: 8, idleMs: 1e9, idleCheckMs: 1e9, prestart: 2 }
    this.raylet = new Raylet({ nodeId: 'me', total: toResources({ CPU: 2 }), ...usual })
    const address = (tag: number) => ({ tag, workerId: '', pid: tag, socket: '', nodeId: 'me' })
    this.#do({ kind: 'start' })
    this.local({ t: 'registered', kind: 'driver', startupToken: '', address: address(DRIVER) })
    for (const i of [1, 2])
      this.local({ t: 'registered', kind: 'worker', startupToken: `w${i}`, address: address(DRIVER + i) })
    this.gcs({ t: 'nodes.changed', nodes: [viewOf('a', 256), viewOf('b', 512), viewOf('c', 768)] })
    this.take()
  }

  #do(input: Parameters<Raylet['step']>[1]): void {
    for (const effect of this.raylet.step(this.now, input)) {
      if (effect.kind === 'timer') this.timers.set(effect.key, effect.at)
      else if (effect.kind === 'local' && effect.event.t === 'toPeer')
        this.#said.push([effect.event.nodeId, effect.event.message])
      else if (effect.kind === 'local' && effect.event.t === 'toGcs') this.#said.push(['gcs', effect.event.message])
      else if (effect.kind === 'local' && effect.event.t === 'roomsKnown') this.isKnown = true
    }
    this.raylet.check()
  }

  local(event: RayletInput): void {
    this.#do({ kind: 'local', event })
  }

  gcs(message: GcsToNode): void {
    this.local({ t: 'fromGcs', message })
  }

  peer(nodeId: string, message: RayletToRaylet): void {
    this.local({ t: 'fromPeer', nodeId, message })
  }

  spec(more: Partial<LeaseSpec> = {}): LeaseSpec {
    return {
      ...{
        resources: toResources({ CPU: 1 }),
        strategy: { kind: 'DEFAULT' },
        runtimeEnv: {},
        jobId: '01',
        priority: 0,
      },
      ...{ onInfeasible: 'fail', name: 'f', retriable: true, ...more },
    }
  }

  ask(leaseId: string, more: Partial<LeaseSpec> = {}): void {
    this.#do({ kind: 'message', from: DRIVER, message: { t: 'lease.request', leaseId, spec: this.spec(more) } })
  }

  end(leaseId: string): void {
    this.#do({ kind: 'message', from: DRIVER, message: { t: 'lease.return', leaseId, dispose: false } })
  }

  fire(key: string): void {
    this.now = this.timers.get(key) ?? this.now
    this.#do({ kind: 'timer', key })
  }

  /** What was said since, but for reports, in short. */
  take(): string[] {
    const said = this.#said.splice(0).filter(([, { t }]) => t !== 'node.report' && t !== 'worker.joined')
    return said.map(([to, message]) => {
      if (message.t === 'room.want' || message.t === 'room.offer') return `${to} ${message.t} ${message.resources.CPU}`
      if (message.t === 'lease.request') return `${to} ${message.t} ${message.leaseId} ${message.mayWait}`
      return message.t === 'rooms.watch' ? `${to} ${message.t} ${message.isOn}` : `${to} ${message.t}`
    })
  }
}

const want = (CPU: number): RayletToRaylet => ({ t: 'room.want', resources: toResources({ CPU }) })
const offer = (CPU: number): RayletToRaylet => ({ t: 'room.offer', resources: toResources({ CPU }) })

test('[ARCH-22] what waits here makes the node watch and want room elsewhere; an offer takes the best of it there, or is declined', () => {
  const world = new World()
  for (const leaseId of ['l1', 'l2']) world.ask(leaseId)
  expect(world.take()).toEqual([])
  world.ask('l3')
  world.ask('l4', { priority: 1 })
  world.ask('l5')
  const wants = world.take()
  expect(wants.filter((said) => !said.includes('room.want'))).toEqual(['gcs rooms.watch true'])
  const asked = wants.filter((said) => said.includes('room.want')).map((said) => said.slice(0, 1))
  expect(new Set(asked).size).toBe(asked.length) // Each owes one offer.
  expect(asked.length).toBeGreaterThan(0)
  const [first = ''] = asked
  world.peer(first, offer(1))
  const [taken, ...next] = world.take()
  expect(taken).toBe(`${first} lease.request l4 false`)
  expect(next).toHaveLength(1) // O4: for those that still wait.
  expect(next[0]).toContain('room.want')
  world.peer(first, { t: 'lease.rejected', owner: DRIVER, leaseId: 'l4', available: FULL })
  expect(world.take().filter((said) => !said.includes('want'))).toEqual([])
  expect(world.raylet.leases.waiting).toBe(3)
  for (const leaseId of ['l1', 'l2', 'l3', 'l4', 'l5']) world.end(leaseId)
  for (const leaseId of ['l3', 'l4', 'l5']) world.end(leaseId)
  world.take()
  world.peer('a', offer(1))
  expect(world.take()).toEqual(['a room.decline'])
})

test('[ARCH-22] room that is left is offered in the order of wants, once; declined, to the next; to nobody while it is drained', () => {
  const world = new World()
  for (const leaseId of ['l1', 'l2']) world.ask(leaseId)
  world.peer('a', want(1))
  world.peer('b', want(2))
  world.peer('c', want(1))
  expect(world.take()).toEqual([])
  world.end('l1')
  expect(world.take()).toEqual(['a room.offer 10000'])
  world.end('l2')
  expect(world.take()).toEqual(['c room.offer 10000']) // O2, O3
  world.peer('c', { t: 'room.decline' })
  expect(world.take()).toEqual([])
  world.peer('a', { t: 'room.decline' })
  expect(world.take()).toEqual(['b room.offer 20000'])
  world.peer('a', want(1))
  world.peer('b', { t: 'lease.request', owner: 512, leaseId: 'b1', spec: world.spec(), mayWait: false })
  expect(world.take()).toEqual(['b lease.granted', 'a room.offer 10000'])
  world.peer('a', { t: 'room.decline' })
  world.gcs({ t: 'node.drain', drain: { reason: 'PREEMPTION', message: '', deadlineMs: null } })
  world.peer('c', want(1))
  expect(world.take()).toEqual([])
})

test('[ARCH-22] what a lost node was offered goes to another, and what it wanted is forgotten', () => {
  const world = new World()
  for (const leaseId of ['l1', 'l2']) world.ask(leaseId)
  for (const nodeId of ['a', 'b']) world.peer(nodeId, want(2))
  for (const leaseId of ['l1', 'l2']) world.end(leaseId)
  expect(world.take()).toEqual(['a room.offer 20000'])
  world.gcs({ t: 'nodes.changed', nodes: [{ ...viewOf('a', 256), state: 'DEAD', version: 2 }] })
  expect(world.take()).toEqual(['b room.offer 20000'])
})

test('[ARCH-22] it watches until nothing has waited for a while, and says so again to a GCS that has come back', () => {
  const world = new World()
  for (const leaseId of ['l1', 'l2', 'l3']) world.ask(leaseId, { priority: 1 })
  world.take()
  const register = (): void =>
    world.gcs({ t: 'node.registered', clusterId: '', tags: { first: 1, count: 256 }, nodes: [], system: {} })
  register()
  expect(world.take()).toEqual(['gcs rooms.watch true'])
  world.fire('watch')
  expect([world.take(), world.raylet.watch.isOn]).toEqual([[], true])
  for (const leaseId of ['l1', 'l2', 'l3']) world.end(leaseId)
  world.take()
  world.fire('watch')
  expect([world.take(), world.raylet.watch.isOn]).toEqual([['gcs rooms.watch false'], false])
  register()
  expect(world.take()).toEqual([])
  // Whoever asks what is free has an answer when it is known.
  world.local({ t: 'askRooms' })
  expect([world.take(), world.isKnown]).toEqual([['gcs rooms.watch true'], false])
  world.gcs({ t: 'nodes.room', rooms: [] })
  expect(world.isKnown).toBe(true)
})

test('[ARCH-22] after two rejections in a row what could run here waits here, whatever is known of others; then one is asked for to find out', () => {
  const world = new World()
  const free = { available: toResources({ CPU: 2 }), version: 2 }
  for (const leaseId of ['l1', 'l2']) world.ask(leaseId)
  const blocks = { a: 256, b: 512, c: 768 }
  const nodes = Object.entries(blocks).map(([nodeId, first]) => ({ ...viewOf(nodeId, first), ...free }))
  world.gcs({ t: 'nodes.changed', nodes })
  world.take()
  const reject = (nodeId: string, leaseId: string): void =>
    world.peer(nodeId, { t: 'lease.rejected', owner: DRIVER, leaseId, available: FULL })
  /** Of whom something is asked, and what. */
  const requests = (): [nodeId: string, leaseId: string][] =>
    world.take().flatMap((said) => {
      const [nodeId = '', t, leaseId = ''] = said.split(' ')
      return t === 'lease.request' ? [[nodeId, leaseId]] : []
    })
  world.ask('l3')
  const [[first = ''] = []] = requests()
  reject(first, 'l3')
  const [[second = ''] = []] = requests()
  expect(second).not.toBe(first)
  reject(second, 'l3')
  expect(requests()).toEqual([]) // F5, though the third has room.
  world.ask('l4')
  expect([requests(), world.raylet.leases.waiting]).toEqual([[], 2])
  world.fire('notes')
  const [[third = '', moved] = [], ...others] = requests()
  expect([moved, others]).toEqual(['l3', []])
  reject(third, 'l3')
  expect([requests(), world.raylet.leases.waiting]).toEqual([[], 2])
  world.fire('notes')
  const [[fourth = ''] = []] = requests()
  const worker = {
    tag: (blocks[fourth as keyof typeof blocks] ?? 0) + 1,
    workerId: '',
    pid: 1,
    socket: '',
    nodeId: fourth,
  }
  world.peer(fourth, { t: 'lease.granted', owner: DRIVER, leaseId: 'l4', worker, gpuIds: [] })
  expect(world.raylet.leases.waiting).toBe(1)
})
