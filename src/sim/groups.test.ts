// Placement groups over several nodes: the production GCS and raylets, joined by queues that keep their order. Failure would look
// like: a lease at a node without its bundle, one that goes to and fro, or one that hangs when the bundle moves or the group goes.

import { expect, test } from 'vitest'
import { Gcs } from '../gcs/gcs.ts'
import type { WorkerTag } from '../ids/ids.ts'
import { Raylet } from '../raylet/raylet.ts'
import type { RayletEffect } from '../raylet/shell.ts'
import { bundleResourceName } from '../scheduling/bundle-names.ts'
import { toResources } from '../scheduling/resources.ts'
import type { NodeToGcs } from '../wire/cluster.ts'
import type { GroupSpec, GroupStrategy } from '../wire/groups.ts'
import { type FromNode, type LeaseSpec, PROTOCOL_VERSION, type ToNode } from '../wire/messages.ts'

const GROUP = '0a'.repeat(18)

class Nodes {
  readonly raylets = new Map<string, Raylet>()
  readonly heard = new Map<WorkerTag, FromNode[]>()
  readonly gcs = new Gcs({
    clusterId: 'c',
    actorGracefulShutdownMs: 100,
    health: { periodMs: 1e9, timeoutMs: 1e9, failureThreshold: 5 },
    reconnectGraceMs: 100,
    system: {},
  })
  readonly #queue: (() => void)[] = []
  readonly #timers = new Map<string, { readonly at: number; readonly run: () => void }>()
  #now = 0
  #steps = 0

  add(nodeId: string, CPU: number): void {
    const total = toResources({ CPU })
    const idle = { numWorkersSoftLimit: 4, maxStarting: 4, idleMs: 1e9, idleCheckMs: 1e9, prestart: 0 }
    const raylet = new Raylet({ nodeId, total, ...idle })
    this.raylets.set(nodeId, raylet)
    this.#toGcs(nodeId, {
      t: 'node.register',
      ...{ nodeId, protocol: PROTOCOL_VERSION, version: '', address: { host: nodeId, port: 1 }, pid: 1 },
      ...{ hostname: nodeId, sessionDir: '', isHead: nodeId === 'a', total, labels: {}, state: raylet.state() },
    })
    this.settle()
  }

  driver(nodeId: string): WorkerTag {
    return this.#join(nodeId, 'driver', '')
  }

  /** A core worker of that node says it. */
  say(nodeId: string, from: WorkerTag, message: ToNode): void {
    if (message.t.startsWith('pg.')) this.#toGcs(nodeId, { t: 'forward', from, message })
    else this.#raylet(nodeId, { kind: 'message', from, message })
  }

  kill(nodeId: string): void {
    this.raylets.delete(nodeId)
    this.#gcs({ kind: 'local', event: { t: 'nodeGone', nodeId, detail: 'cut' } })
  }

  /** All that is under way arrives, and all timers of the next `forMs` fire. */
  settle(forMs = 0): void {
    const until = this.#now + forMs
    for (;;) {
      for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
        if (++this.#steps > 50_000) throw new Error('something goes to and fro')
        next()
        for (const raylet of this.raylets.values()) raylet.check()
      }
      const [due] = [...this.#timers].sort(([, left], [, right]) => left.at - right.at)
      if (!due || due[1].at > until) break
      this.#timers.delete(due[0])
      this.#now = due[1].at
      due[1].run()
    }
    this.#now = until
  }

  #gcs(input: Parameters<Gcs['step']>[1]): void {
    for (const effect of this.gcs.step(this.#now, input)) {
      if (effect.kind === 'timer') {
        const { key, at } = effect
        this.#timers.set(`gcs ${key}`, { at, run: () => this.#gcs({ kind: 'timer', key }) })
      } else if (effect.kind === 'local' && effect.event.t === 'toNode') {
        const { nodeId, message } = structuredClone(effect.event)
        this.#queue.push(() => this.#raylet(nodeId, { kind: 'local', event: { t: 'fromGcs', message } }))
      }
    }
  }

  #toGcs(nodeId: string, message: NodeToGcs): void {
    const event = { t: 'fromNode', nodeId, message: structuredClone(message) } as const
    this.#queue.push(() => this.#gcs({ kind: 'local', event }))
  }

  #raylet(nodeId: string, input: Parameters<Raylet['step']>[1]): void {
    const raylet = this.raylets.get(nodeId)
    for (const effect of raylet?.step(this.#now, input) ?? []) {
      if (effect.kind === 'send') {
        const heard = this.heard.get(effect.to) ?? []
        this.heard.set(effect.to, [...heard, effect.message])
      } else if (effect.kind === 'timer') {
        const { key, at } = effect
        this.#timers.set(`${nodeId} ${key}`, { at, run: () => this.#raylet(nodeId, { kind: 'timer', key }) })
      } else if (effect.kind === 'local') this.#perform(nodeId, effect.event)
    }
  }

  #perform(nodeId: string, event: RayletEffect): void {
    if (event.t === 'toGcs') this.#toGcs(nodeId, event.message)
    else if (event.t === 'toPeer') {
      const message = structuredClone(event.message)
      const input = { kind: 'local', event: { t: 'fromPeer', nodeId, message } } as const
      this.#queue.push(() => this.#raylet(event.nodeId, input))
    } else if (event.t === 'spawnWorker') {
      this.#queue.push(() => void this.#join(nodeId, 'worker', event.startupToken))
    } else if (event.t === 'killProcess') {
      const gone = { t: 'gone', tag: event.tag, pid: 1, code: null, signal: 'SIGKILL' } as const
      this.#queue.push(() => this.#raylet(nodeId, { kind: 'local', event: gone }))
    }
  }

  #join(nodeId: string, kind: 'driver' | 'worker', startupToken: string): WorkerTag {
    const tag = this.raylets.get(nodeId)?.takeTag() ?? 0
    const address = { tag, workerId: `${tag}`, pid: 1, socket: '', nodeId }
    const job = kind === 'driver' ? { job: { jobId: '01', namespace: '' } } : {}
    this.#raylet(nodeId, { kind: 'local', event: { t: 'registered', kind, startupToken, address, ...job } })
    return tag
  }
}

function groupOf(creator: WorkerTag, CPUs: readonly number[], strategy: GroupStrategy): GroupSpec {
  return {
    ...{ groupId: GROUP, name: null, namespace: '', strategy, bundles: CPUs.map((CPU) => toResources({ CPU })) },
    ...{ softTargetNodeId: null, detached: false, jobId: '01', creator, creatorActorId: null },
  }
}

function leaseIn(bundleIndex: number, CPU = 1): LeaseSpec {
  const strategy = { kind: 'bundle', groupId: GROUP, bundleIndex, captures: false } as const
  return {
    ...{ resources: toResources({ CPU }), strategy, runtimeEnv: {}, jobId: '01', priority: 0 },
    ...{ onInfeasible: 'fail', name: 'f', retriable: true },
  }
}

function setUp(CPUs: readonly number[], strategy: GroupStrategy = 'STRICT_SPREAD') {
  const nodes = new Nodes()
  for (const nodeId of ['a', 'b', 'c']) nodes.add(nodeId, 1)
  const driver = nodes.driver('a')
  nodes.settle(500)
  nodes.say('a', driver, { t: 'pg.create', spec: groupOf(driver, CPUs, strategy) })
  const request = (leaseId: string, bundleIndex: number): void =>
    nodes.say('a', driver, { t: 'lease.request', leaseId, spec: leaseIn(bundleIndex) })
  /** The node that granted it, or the code of its refusal. */
  const outcome = (leaseId: string): string | undefined => {
    for (const message of nodes.heard.get(driver) ?? []) {
      if (message.t === 'lease.granted' && message.leaseId === leaseId) return message.worker.nodeId
      if (message.t === 'lease.refused' && message.leaseId === leaseId) return message.error.code
    }
    return undefined
  }
  const placed = (): readonly (string | null)[] =>
    nodes.gcs.groups.find(GROUP)?.bundles.map(({ nodeId }) => nodeId) ?? []
  return { nodes, driver, request, outcome, placed }
}

test('[PG-04][PG-07] leases go to the nodes of their bundles, also when asked before the group is there', () => {
  const { nodes, request, outcome, placed } = setUp([1, 1, 1])
  for (const index of [0, 1, 2]) request(`1.${index}`, index)
  nodes.settle()
  expect([0, 1, 2].map((index) => outcome(`1.${index}`))).toEqual(placed())
  expect([...placed()].sort()).toEqual(['a', 'b', 'c'])
})

test('[PG-07] bundle -1: each bundle takes one, the rest wait for the first that is free', () => {
  const { nodes, driver, request, outcome } = setUp([1, 1, 1])
  nodes.settle(500)
  for (const n of [0, 1, 2]) request(`1.${n}`, -1)
  nodes.settle()
  expect([0, 1, 2].map((n) => outcome(`1.${n}`)).sort()).toEqual(['a', 'b', 'c'])
  request('1.3', -1)
  nodes.settle(1000)
  expect(outcome('1.3')).toBeUndefined()
  for (const n of [0, 1, 2]) nodes.say('a', driver, { t: 'lease.return', leaseId: `1.${n}`, dispose: false })
  nodes.settle(1000)
  expect(outcome('1.3')).toBeDefined()
})

test('[PG-07] bundle -1 does not wait at a bundle that stays in use while another becomes free', () => {
  for (const CPUs of [
    [1, 1],
    [1, 1, 1],
  ]) {
    const { nodes, driver, request, outcome, placed } = setUp(CPUs)
    nodes.settle(500)
    for (const n of CPUs.keys()) request(`1.${n}`, n)
    nodes.settle(500)
    request('2.0', -1)
    nodes.settle(500)
    expect(outcome('2.0')).toBeUndefined()
    const last = CPUs.length - 1
    nodes.say('a', driver, { t: 'lease.return', leaseId: `1.${last}`, dispose: false })
    nodes.settle(1000)
    expect(outcome('2.0')).toBe(placed()[last])
  }
})

test('[PG-01] what does not fit at once is not reserved in part, and a removed group leaves nothing', () => {
  const { nodes, driver, placed } = setUp([1, 1, 1, 1], 'SPREAD')
  nodes.settle(500)
  for (const [, raylet] of nodes.raylets) expect(raylet.leases.free).toEqual(toResources({ CPU: 1 }))
  nodes.add('d', 1)
  nodes.settle(500)
  expect([...placed()].sort()).toEqual(['a', 'b', 'c', 'd'])
  nodes.say('a', driver, { t: 'pg.remove', groupId: GROUP })
  nodes.settle(500)
  for (const [, raylet] of nodes.raylets) expect(raylet.leases.free).toEqual(toResources({ CPU: 1 }))
})

test('[PG-11] when a node dies its bundle moves, and what was asked for there goes after it', () => {
  const { nodes, request, outcome, placed } = setUp([1, 1])
  nodes.settle(500)
  const index = placed().findIndex((nodeId) => nodeId !== 'a')
  const from = placed()[index] as string
  nodes.kill(from)
  request('1.1', index) // To the dead node, whose end is not known yet.
  nodes.settle(2000)
  expect(placed()[index]).not.toBe(from)
  expect(outcome('1.1')).toBe(placed()[index])
})

test('[PG-11] when no node is left for a lost bundle it waits, and goes to the next that joins', () => {
  const { nodes, request, outcome, placed } = setUp([1, 1, 1])
  nodes.settle(500)
  const index = placed().indexOf('c')
  nodes.kill('c')
  request('1.1', index)
  nodes.settle(3000)
  expect([nodes.gcs.groups.find(GROUP)?.state, outcome('1.1')]).toEqual(['RESCHEDULING', undefined])
  nodes.add('d', 1)
  nodes.settle(2000)
  expect([nodes.gcs.groups.find(GROUP)?.state, outcome('1.1')]).toEqual(['CREATED', 'd'])
})

test('[PG-08] a removed group: workers on all nodes end, what waits is refused, resources come back', () => {
  const { nodes, driver, request, outcome } = setUp([1, 1, 1])
  nodes.settle(500)
  for (const n of [0, 1, 2]) request(`1.${n}`, n)
  nodes.settle()
  for (const n of [0, 1, 2]) request(`2.${n}`, n) // Wait, here and elsewhere.
  nodes.settle()
  nodes.say('a', driver, { t: 'pg.remove', groupId: GROUP })
  nodes.settle(500)
  expect([0, 1, 2].map((n) => outcome(`2.${n}`))).toEqual(new Array(3).fill('TASK_PLACEMENT_GROUP_REMOVED'))
  for (const [, { leases }] of nodes.raylets) {
    expect([leases.leases.size, leases.waiting, leases.free]).toEqual([0, 0, toResources({ CPU: 1 })])
    expect(leases.free[bundleResourceName('CPU', GROUP)]).toBeUndefined()
  }
  request('3.0', 0)
  nodes.settle(500)
  expect(outcome('3.0')).toBe('TASK_PLACEMENT_GROUP_REMOVED')
})

test('[ARCH-22] a node that rejects although it has room, because others wait there, is not asked over and over', () => {
  const nodes = new Nodes()
  nodes.add('a', 1)
  nodes.add('b', 2)
  const [atA, atB] = [nodes.driver('a'), nodes.driver('b')]
  nodes.settle(500)
  const plain = (CPU: number): LeaseSpec => ({ ...leaseIn(0, CPU), strategy: { kind: 'DEFAULT' } })
  nodes.say('a', atA, { t: 'lease.request', leaseId: '1.1', spec: plain(1) })
  nodes.say('b', atB, { t: 'lease.request', leaseId: '2.1', spec: plain(1) })
  nodes.settle(500)
  nodes.say('b', atB, { t: 'lease.request', leaseId: '2.2', spec: plain(2) })
  nodes.settle(500)
  nodes.say('a', atA, { t: 'lease.request', leaseId: '1.2', spec: plain(1) })
  nodes.settle(500)
  nodes.say('b', atB, { t: 'lease.cancel', leaseId: '2.2' })
  nodes.settle(1000)
  const granted = (nodes.heard.get(atA) ?? []).flatMap((one) => (one.t === 'lease.granted' ? [one.worker.nodeId] : []))
  expect(granted).toEqual(['a', 'b'])
})
