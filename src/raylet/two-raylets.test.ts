// Two raylets and the link between them, whose messages arrive when the test says so: what the simulated cluster (docs/simulation.md) meets
// too seldom. Each test is played again with the mechanism broken. Failure looks like a lease that nobody has, or a dead borrower that counts.

import { expect, test } from 'vitest'
import { toResources } from '../scheduling/resources.ts'
import type { NodeView, RayletToRaylet } from '../wire/cluster.ts'
import type { FromNode, LeaseSpec, ToNode } from '../wire/messages.ts'
import { Raylet } from './raylet.ts'
import type { RayletInput } from './shell.ts'

type Name = 'a' | 'b'
const OTHER = { a: 'b', b: 'a' } as const
const TAGS = { a: { first: 1, count: 255 }, b: { first: 256, count: 256 } }
const CPUS = { a: 0, b: 1 }
const DRIVER = { a: 1, b: 256 }
const WORKER = 257

const SPEC: LeaseSpec = {
  ...{ name: 'f', resources: toResources({ CPU: 1 }), strategy: { kind: 'DEFAULT' }, priority: 0, retriable: true },
  ...{ runtimeEnv: {}, jobId: '01', onInfeasible: 'wait' },
}

class Pair {
  readonly raylets: Readonly<Record<Name, Raylet>>
  /** On their way to it. */
  readonly coming: Readonly<Record<Name, RayletToRaylet[]>> = { a: [], b: [] }
  /** What processes were told. */
  readonly told: { readonly to: number; readonly message: FromNode }[] = []

  constructor(breakIt: (raylet: Raylet) => void = () => {}) {
    const usual = { numWorkersSoftLimit: 8, maxStarting: 8, idleMs: 1e6, idleCheckMs: 1e6, prestart: 1 }
    const make = (nodeId: Name): Raylet => new Raylet({ nodeId, total: toResources({ CPU: CPUS[nodeId] }), ...usual })
    this.raylets = { a: make('a'), b: make('b') }
    for (const name of ['a', 'b'] as const) {
      breakIt(this.raylets[name])
      const nodes = [viewOf(OTHER[name])]
      const tags = TAGS[name]
      this.local(name, { t: 'fromGcs', message: { t: 'node.registered', clusterId: 'c', tags, nodes, system: {} } })
      this.#take(name, this.raylets[name].step(0, { kind: 'start' }))
      this.#join(name, 'driver')
    }
    this.#join('b', 'worker')
  }

  #join(name: Name, kind: 'driver' | 'worker'): void {
    const tag = this.raylets[name].takeTag() ?? 0
    expect(tag).toBe(kind === 'driver' ? DRIVER[name] : WORKER)
    const address = { tag, workerId: '', pid: tag, socket: '', nodeId: name }
    this.local(name, { t: 'registered', kind, startupToken: kind === 'driver' ? '' : 'w1', address })
  }

  say(name: Name, message: ToNode): void {
    this.#take(name, this.raylets[name].step(1, { kind: 'message', from: DRIVER[name], message }))
  }

  local(name: Name, event: RayletInput): void {
    this.#take(name, this.raylets[name].step(1, { kind: 'local', event }))
  }

  /** So many messages arrive there; all, unless it is said. */
  arrive(name: Name, count = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < count; i++) {
      const message = this.coming[name].shift()
      if (!message) return
      this.local(name, { t: 'fromPeer', nodeId: OTHER[name], message })
    }
  }

  #take(name: Name, effects: ReturnType<Raylet['step']>): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.told.push(effect)
      else if (effect.kind === 'local' && effect.event.t === 'broadcast')
        this.told.push({ to: DRIVER[name], message: effect.event.message })
      else if (effect.kind === 'local' && effect.event.t === 'toPeer')
        this.coming[OTHER[name]].push(effect.event.message)
    }
    this.raylets[name].check()
  }
}

function viewOf(nodeId: Name): NodeView {
  const total = toResources({ CPU: CPUS[nodeId] })
  return {
    ...{ nodeId, state: 'ALIVE', address: { host: '', port: 1 }, hostname: '', pid: 1, sessionDir: '', isHead: false },
    ...{ total, available: total, bundled: {}, labels: {}, tagBlocks: [TAGS[nodeId]], waiting: 0 },
    ...{ deathReason: null, version: 1 },
  }
}

/** How many leases of the other node its owner has left there, which wants none. */
function leasesLeft(breakIt?: (raylet: Raylet) => void): number {
  const pair = new Pair(breakIt)
  const request = { t: 'lease.request', leaseId: '1.1', spec: SPEC } as const
  pair.say('a', request)
  pair.arrive('b')
  expect(pair.coming.a).toMatchObject([{ t: 'lease.granted' }])
  pair.say('a', { t: 'lease.cancel', leaseId: '1.1' })
  pair.say('b', { t: 'lease.request', leaseId: '256.1', spec: SPEC })
  pair.arrive('b')
  pair.say('a', request) // The request that came late, or twice (K3).
  pair.arrive('a')
  expect(pair.told.at(-1)).toMatchObject({ to: 1, message: { t: 'lease.granted', leaseId: '1.1' } })
  pair.say('a', { t: 'lease.return', leaseId: '1.1', dispose: false }) // Its owner does not know it any more.
  pair.arrive('b')
  pair.say('b', { t: 'lease.return', leaseId: '256.1', dispose: false })
  expect(pair.coming.a).toMatchObject([{ t: 'lease.granted', leaseId: '1.1' }])
  pair.arrive('a')
  pair.arrive('b')
  return pair.raylets.b.leases.leases.size
}

test('[ARCH-22] a request that comes again after it was withdrawn is granted for nobody: the lease is given back (F2)', () => {
  expect(leasesLeft()).toBe(0)
  const keepIt = ({ spill }: Raylet): void => {
    const granted = spill.granted.bind(spill)
    spill.granted = (nodeId, leaseId, worker, gpuIds) => {
      if (spill.knows(leaseId)) granted(nodeId, leaseId, worker, gpuIds)
    }
  }
  expect(leasesLeft(keepIt)).toBe(1)
})

/** Of which ends the owner of node a hears, when it is told of a borrower of node b before the nodes have met. */
function endsHeard(hasHello: boolean): number[] {
  const pair = new Pair()
  pair.local('b', { t: 'gone', tag: WORKER, pid: WORKER, code: 1, signal: null })
  expect(pair.coming.a).toEqual([]) // They have not met.
  for (const borrower of [WORKER, DRIVER.b]) {
    const body = { t: 'ref.add', id: 1, borrower, via: DRIVER.a } as const
    pair.say('a', { t: 'ref.route', to: DRIVER.a, body })
    expect(pair.told.at(-1)).toMatchObject({ to: DRIVER.a, message: { t: 'ref.routed', from: DRIVER.a, body } })
  }
  const hello = pair.raylets.b.hello('c', 1, 'a')
  if (hasHello) pair.local('a', { t: 'fromPeer', nodeId: 'b', message: hello })
  return pair.told.flatMap(({ to, message }) =>
    message.t === 'worker.died' && to === DRIVER.a ? [message.exit.tag] : [],
  )
}

test('[ARCH-21] an owner hears of a borrower that had ended before the nodes met, by the hello of its node (N6)', () => {
  expect(endsHeard(true)).toEqual([WORKER])
  expect(endsHeard(false)).toEqual([])
})
