// What actors keep, by the whole GCS. Failure here looks like state that a stranger writes, that is lost with a GCS, or that stays when
// its actor is dead.

import { expect, test } from 'vitest'
import type { NodeToGcs } from '../wire/cluster.ts'
import { type ActorSpec, type ExitInfo, PROTOCOL_VERSION, type ToNode, type WorkerAddress } from '../wire/messages.ts'
import { Gcs } from './gcs.ts'
import type { GcsRecord } from './records.ts'

const CONFIG = {
  ...{ clusterId: 'c', actorGracefulShutdownMs: 100, reconnectGraceMs: 100, system: {}, isDurable: true },
  health: { periodMs: 1000, timeoutMs: 1000, failureThreshold: 3 },
}
const SPEC = {
  ...{ actorId: 'a1', className: 'A', definition: 'fn:a', name: null, namespace: '', detached: true, maxRestarts: 1 },
  ...{
    getIfExists: false,
    jobId: '01',
    owner: 1,
    handleId: 5,
    placementResources: {},
    args: new Uint8Array(0),
    argRefs: [],
  },
  lease: { resources: {}, strategy: { kind: 'DEFAULT' }, name: 'A', onInfeasible: 'fail' },
  options: { maxConcurrency: 1, concurrencyGroups: {}, methods: {} },
} as unknown as ActorSpec
const bytes = (...all: number[]): Uint8Array => new Uint8Array(all)
const exitOf = (tag: number): ExitInfo => {
  return { tag, pid: tag, code: null, signal: 'SIGKILL', reason: 'crashed', detail: 'it crashed', lastLines: [] }
}

/** One node, one actor in the worker 2. */
class World {
  gcs = new Gcs(CONFIG)
  readonly durable = new Map<string, GcsRecord>()
  delivered: unknown[] = []

  constructor() {
    this.register()
    this.ask(1, { t: 'actor.create', spec: SPEC })
    this.grant(0, 2)
    this.delivered = []
  }

  tell(message: NodeToGcs): void {
    const effects = this.gcs.step(0, { kind: 'local', event: { t: 'fromNode', nodeId: 'n', message } })
    for (const effect of effects) {
      if (effect.kind !== 'local') continue
      if (effect.event.t === 'toNode' && effect.event.message.t === 'deliver') {
        const { to, message: said } = effect.event.message
        if (said.t !== 'actor.state') this.delivered.push([to, said])
      } else if (effect.event.t === 'persist') {
        for (const { table, key, value } of effect.event.changes) {
          if (value) this.durable.set(`${table} ${key}`, { table, key, value })
          else this.durable.delete(`${table} ${key}`)
        }
      }
    }
  }

  ask(from: number, message: ToNode): void {
    this.tell({ t: 'forward', from, message })
  }

  keep(from: number, key: string, value: Uint8Array | null): void {
    this.ask(from, { t: 'actor.keep', requestId: 1, actorId: 'a1', key, value })
  }

  register(): void {
    const state = { processes: [], actors: [], bundles: [], tagBlocks: [] }
    this.tell({
      ...{ t: 'node.register', nodeId: 'n', protocol: PROTOCOL_VERSION, version: '', hostname: '', pid: 1 },
      ...{ isHead: true, address: { host: '', port: 1 }, sessionDir: '', total: {}, labels: {}, state },
    })
  }

  grant(placement: number, tag: number): void {
    const worker: WorkerAddress = { tag, workerId: '', pid: tag, socket: '', nodeId: 'n' }
    this.tell({ t: 'worker.joined', tag, kind: 'worker' })
    this.tell({ t: 'actorLease.granted', leaseId: `aa1.${placement}`, actorId: 'a1', worker })
  }

  states(): string[] {
    return [...this.durable.keys()].filter((name) => name.startsWith('state '))
  }
}

const kept = (to: number): unknown => [to, { t: 'actor.kept', requestId: 1, error: null }]

test('[FT-02] what a life kept comes with the start of the next, also after the GCS was another', () => {
  const world = new World()
  world.keep(2, 'a key', bytes(1))
  world.keep(2, 'b', bytes(2))
  world.keep(2, 'a key', bytes(3))
  world.keep(2, 'b', null)
  expect(world.delivered).toEqual([kept(2), kept(2), kept(2), kept(2)])
  expect(world.states()).toEqual(['state a1 a key'])
  world.gcs = new Gcs(CONFIG)
  world.gcs.restore([...world.durable.values()])
  world.register()
  world.delivered = []
  world.tell({ t: 'worker.gone', exit: exitOf(2), kind: 'worker' })
  world.grant(1, 3)
  const state = [['a key', bytes(3)]]
  expect(world.delivered).toEqual([[3, expect.objectContaining({ t: 'actor.start', incarnation: 1, state })]])
})

test('[FT-02] only the living incarnation changes it (S1), and it goes with the last (S2)', () => {
  const world = new World()
  world.keep(2, 'a', bytes(1))
  world.tell({ t: 'worker.gone', exit: exitOf(2), kind: 'worker' })
  world.grant(1, 3)
  world.delivered = []
  world.keep(2, 'a', bytes(2))
  world.keep(9, 'a', bytes(9))
  const refused = { t: 'actor.kept', error: { code: 'ACTOR_DIED' } }
  expect(world.delivered).toMatchObject([
    [2, refused],
    [9, refused],
  ])
  world.keep(3, 'b', bytes(3))
  expect(world.states()).toEqual(['state a1 a', 'state a1 b'])
  world.tell({ t: 'worker.gone', exit: exitOf(3), kind: 'worker' })
  expect(world.states()).toEqual([])
  world.keep(3, 'b', bytes(3))
  expect(world.states()).toEqual([])
})
