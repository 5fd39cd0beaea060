// Failure would look like: a burst of actors that meet on one node, and start there one after the other.

import { expect, test } from 'vitest'
import type { NodeToGcs } from '../wire/cluster.ts'
import { type ActorSpec, PROTOCOL_VERSION } from '../wire/messages.ts'
import { Gcs } from './gcs.ts'

test('[ACT-01][ARCH-22] actors that ask for nothing go to all nodes in turn, also when only one of them is idle', () => {
  const health = { periodMs: 1e9, timeoutMs: 1e9, failureThreshold: 5 }
  const gcs = new Gcs({ clusterId: 'c', actorGracefulShutdownMs: 100, health, reconnectGraceMs: 100, system: {} })
  const asked: string[] = []
  const tell = (nodeId: string, message: NodeToGcs): void => {
    for (const effect of gcs.step(0, { kind: 'local', event: { t: 'fromNode', nodeId, message } })) {
      const event = effect.kind === 'local' ? effect.event : undefined
      if (event?.t === 'toNode' && event.message.t === 'actorLease.request') asked.push(event.nodeId)
    }
  }
  const nodes = ['n1', 'n2', 'n3']
  const state = { processes: [], actors: [], bundles: [], tagBlocks: [] }
  for (const nodeId of nodes) {
    tell(nodeId, {
      ...{ t: 'node.register', nodeId, protocol: PROTOCOL_VERSION, version: '', hostname: '', pid: 1, isHead: false },
      ...{ address: { host: 'h', port: 1 }, sessionDir: '', total: { CPU: 10_000 }, labels: {}, state },
    })
  }
  const busy = { available: { CPU: 0 }, waiting: 0, demand: [] }
  for (const nodeId of ['n1', 'n2']) tell(nodeId, { t: 'node.report', ...busy })
  const lease = { resources: {}, strategy: { kind: 'DEFAULT' }, name: 'A', onInfeasible: 'fail' }
  for (const actorId of ['a1', 'a2', 'a3', 'a4', 'a5', 'a6']) {
    const spec = {
      actorId,
      lease,
      placementResources: {},
      name: null,
      owner: 1,
      detached: true,
    } as unknown as ActorSpec
    tell('n1', { t: 'forward', from: 1, message: { t: 'actor.create', spec } })
  }
  expect(asked.sort()).toEqual(['n1', 'n1', 'n2', 'n2', 'n3', 'n3'])
})
