// Fails when two nodes go on although what they had told each other is lost: then a lease, a reference or an answer is missing for ever.

import * as ray from 'ray-ts'
import { Cluster, type ClusterNode } from 'ray-ts/testing'
import { afterEach, expect, test } from 'vitest'
import { askStatus } from '../../src/runtime/ask.ts'
import { dialTcp } from '../../src/runtime/tcp.ts'
import { until } from '../helpers.ts'

let cluster: Cluster | null = null
afterEach(async () => {
  await cluster?.shutdown()
  cluster = null
})

const whereAmI = ray.remote(() => ray.getRuntimeContext().getNodeId(), { maxRetries: 5 })

test('[ARCH-03] of two nodes whose link is lost one ends: the GCS declares it dead, and work goes on', async () => {
  cluster = await Cluster.start({ head: { numCpus: 1 }, nodes: [{ numCpus: 1 }] })
  await cluster.connect({ logToDriver: false })
  const [head, other] = cluster.nodes as [ClusterNode, ClusterNode]
  const there = new ray.NodeAffinitySchedulingStrategy({ nodeId: other.nodeId, soft: true })
  const where = whereAmI.options({ schedulingStrategy: there })
  await until(async () => (await ray.get(where.remote())) === other.nodeId, 'it runs on the other node')

  const [host = '', port] = cluster.address.split(':')
  const token = cluster.env().RAY_AUTH_TOKEN ?? null
  const { nodes } = await askStatus({ host, port: Number(port), token })
  const address = nodes.find(({ nodeId }) => nodeId === head.nodeId)?.address
  // Somebody who says that he is the other node, in another life.
  const hello = { from: other.nodeId, to: head.nodeId, life: 'another', known: '', next: 1, attempt: 1 }
  const answer = await new Promise((resolve) => {
    const socket = dialTcp(
      {
        ...{ host: address?.host ?? '', port: address?.port ?? 0, token, nodeId: other.nodeId, purpose: 'peer' },
        ...{ detail: () => ({ hello, address: { host, port: 1 } }), timeoutMs: 5000 },
      },
      { onAnswer: resolve, onFrame: () => {}, onClose: () => resolve(null) },
    )
    socket.unref()
  })
  expect(answer).toMatchObject({ t: 'refused' })

  await other.ended
  await cluster.waitForNodes(1)
  const status = await askStatus({ host, port: Number(port), token })
  const dead = status.nodes.find(({ nodeId }) => nodeId === other.nodeId)
  expect(dead?.deathReason).toMatch(/its link with node .* was lost/)
  expect(await ray.get(where.remote())).toBe(head.nodeId)
}, 60_000)
