// Which node tasks and actors run on, with real processes. Fails when work piles up on one node while others are idle, or runs where it
// must not.

import fs from 'node:fs'
import * as ray from 'ray-ts'
import { Cluster, type ClusterNode } from 'ray-ts/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tempDir, until } from '../helpers.ts'

let cluster: Cluster

beforeAll(async () => {
  cluster = await Cluster.start({
    head: { numCpus: 2, labels: { region: 'eu', zone: 'a' } },
    nodes: [
      { numCpus: 2, labels: { region: 'us', zone: 'a' } },
      { numCpus: 2, labels: { region: 'us', disk: 'ssd' } },
    ],
  })
  await cluster.waitForNodes()
  await cluster.connect({ logToDriver: false })
  await seen(3)
}, 60_000)
afterAll(() => cluster.shutdown())

async function seen(count: number): Promise<void> {
  await until(async () => (await ray.nodes()).filter(({ Alive }) => Alive).length === count, `${count} nodes are seen`)
}

/** All that ran before has given back what it had. */
async function idle(): Promise<void> {
  const { CPU: all } = await ray.clusterResources()
  await until(async () => (await ray.availableResources()).CPU === all, 'everything is free')
}

const whereAmI = ray.remote(() => ray.getRuntimeContext().getNodeId())
/** Goes on until `count` of them run at the same time: where, and in which process. */
const together = ray.remote(async (folder: string, count: number) => {
  fs.writeFileSync(`${folder}/${process.pid}`, '')
  while (fs.readdirSync(folder).length < count) await new Promise((resolve) => setTimeout(resolve, 20))
  return { nodeId: ray.getRuntimeContext().getNodeId(), pid: process.pid }
})
class Place {
  where(): string {
    return ray.getRuntimeContext().getNodeId()
  }
}

function countOf(names: readonly string[]): number[] {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts.values()].sort()
}

test('[ARCH-22] [ARCH-23] tasks fill all nodes, as many at a time as there are CPUs', async () => {
  await idle()
  const folder = tempDir()
  const runs = await ray.get(Array.from({ length: 6 }, () => together.remote(folder, 6)))
  expect(new Set(runs.map(({ pid }) => pid)).size).toBe(6)
  expect(countOf(runs.map(({ nodeId }) => nodeId))).toEqual([2, 2, 2])
})

test('[ARCH-23] one task after the other stays on the node that asks', async () => {
  await idle()
  for (let i = 0; i < 10; i++) expect(await ray.get(whereAmI.remote())).toBe(cluster.head.nodeId)
})

test('[ARCH-24] SPREAD: as many tasks, and actors, on each node', async () => {
  await idle()
  const schedulingStrategy = 'SPREAD'
  const folder = tempDir()
  const runs = await ray.get(
    Array.from({ length: 6 }, () => together.options({ schedulingStrategy, numCpus: 0.5 }).remote(folder, 6)),
  )
  expect(countOf(runs.map(({ nodeId }) => nodeId))).toEqual([2, 2, 2])
  await idle()
  const Spread = ray.remote(Place).options({ schedulingStrategy, numCpus: 1 })
  const actors = Array.from({ length: 6 }, () => Spread.remote())
  expect(countOf(await ray.get(actors.map((actor) => actor.where.remote())))).toEqual([2, 2, 2])
  for (const actor of actors) ray.kill(actor)
})

test('[ARCH-23] what needs no GPU runs elsewhere while there is room', async () => {
  const gpu = await cluster.addNode({ numCpus: 4, numGpus: 1 })
  await seen(4)
  await idle()
  const folder = tempDir()
  // One less than there is room for: an owner asks for a worker more than it has tasks, now and then.
  const runs = await ray.get(Array.from({ length: 5 }, () => together.remote(folder, 5)))
  expect(runs.map(({ nodeId }) => nodeId)).not.toContain(gpu.nodeId)
  expect(await ray.get(whereAmI.options({ numGpus: 1 }).remote())).toBe(gpu.nodeId)
  await cluster.removeNode(gpu)
  await seen(3)
})

test('[ARCH-25] node affinity: hard work of a node that is gone fails at once, soft work runs elsewhere', async () => {
  const node = await cluster.addNode({ numCpus: 1 })
  await seen(4)
  const on = ({ nodeId }: ClusterNode, soft: boolean) => ({
    schedulingStrategy: new ray.NodeAffinitySchedulingStrategy({ nodeId, soft }),
  })
  const Actor = ray.remote(Place)
  for (const soft of [false, true]) {
    expect(await ray.get(whereAmI.options(on(node, soft)).remote())).toBe(node.nodeId)
    expect(await ray.get(Actor.options(on(node, soft)).remote().where.remote())).toBe(node.nodeId)
  }
  cluster.kill(node)
  await cluster.removeNode(node)
  await seen(3)
  await expect(ray.get(whereAmI.options(on(node, false)).remote())).rejects.toThrow(
    ray.exceptions.TaskUnschedulableError,
  )
  const gone = Actor.options(on(node, false)).remote()
  await expect(ray.get(gone.where.remote())).rejects.toThrow(ray.exceptions.ActorUnschedulableError)
  const others = cluster.nodes.map(({ nodeId }) => nodeId)
  expect(others).toContain(await ray.get(whereAmI.options(on(node, true)).remote()))
  expect(others).toContain(await ray.get(Actor.options(on(node, true)).remote().where.remote()))
})

test('[ARCH-23] [PERF-06] a task runs where most bytes of its arguments lie', async () => {
  await idle()
  const big = ray.remote((length: number) => new Uint8Array(length))
  const on = ({ nodeId }: ClusterNode) => ({
    schedulingStrategy: new ray.NodeAffinitySchedulingStrategy({ nodeId, soft: false }),
  })
  const [, b, c] = cluster.nodes as [ClusterNode, ClusterNode, ClusterNode]
  const small = big.options(on(b)).remote(1_000_000)
  const large = big.options(on(c)).remote(8_000_000)
  await ray.wait([small, large], { numReturns: 2, fetchLocal: false })
  await idle()
  const where = ray.remote((..._: Uint8Array[]) => ray.getRuntimeContext().getNodeId())
  expect(await ray.get(where.remote(small))).toBe(b.nodeId)
  for (let i = 0; i < 3; i++) expect(await ray.get(where.remote(small, large))).toBe(c.nodeId)
  const here = ray.put(new Uint8Array(1_000_000))
  expect(await ray.get(where.remote(here))).toBe(cluster.head.nodeId)
  // At once: each goes to its own place, whatever is granted first.
  expect(await ray.get([large, small, here].map((ref) => where.remote(ref)))).toEqual([
    c.nodeId,
    b.nodeId,
    cluster.head.nodeId,
  ])
})

test('[EXTRA-28] label selectors and their fallbacks, of tasks and actors', async () => {
  await idle()
  const [head, b, c] = cluster.nodes.map(({ nodeId }) => nodeId) as [string, string, string]
  const where = (options: Parameters<typeof whereAmI.options>[0]) => ray.get(whereAmI.options(options).remote())
  expect(await where({ labelSelector: { region: 'eu' } })).toBe(head)
  expect(await where({ labelSelector: { region: '!eu', zone: 'in(a,b)' } })).toBe(b)
  expect(await where({ labelSelector: { zone: '!a' } })).toBe(c)
  expect(await where({ labelSelector: { 'ray.io/node-id': b } })).toBe(b)
  const fallbackStrategy = [{ labelSelector: { region: 'mars' } }, { labelSelector: { disk: 'ssd' } }]
  expect(await where({ labelSelector: { region: 'moon' }, fallbackStrategy })).toBe(c)
  expect(await where({ labelSelector: { disk: 'ssd' }, schedulingStrategy: 'SPREAD' })).toBe(c)
  const inEurope = ray
    .remote(Place)
    .options({ labelSelector: { disk: 'ssd' } })
    .remote()
  expect(await ray.get(inEurope.where.remote())).toBe(c)
  await expect(where({ labelSelector: { region: 'moon' } })).rejects.toThrow(/no node has the labels.*region=moon/)
  const lost = ray
    .remote(Place)
    .options({ labelSelector: { region: 'moon' } })
    .remote()
  await expect(ray.get(lost.where.remote())).rejects.toThrow(ray.exceptions.ActorUnschedulableError)
})

test('[ARCH-26] [EXTRA-28] NodeLabelSchedulingStrategy: hard conditions must hold, soft ones should; what nobody has may be waited for', async () => {
  await idle()
  const [head, b, c] = cluster.nodes.map(({ nodeId }) => nodeId) as [string, string, string]
  const where = (...[options]: ConstructorParameters<typeof ray.NodeLabelSchedulingStrategy>) =>
    ray.get(whereAmI.options({ schedulingStrategy: new ray.NodeLabelSchedulingStrategy(options) }).remote())
  expect(await where({ hard: { region: ray.In('eu', 'asia') } })).toBe(head)
  expect(await where({ hard: { region: ray.NotIn('eu'), disk: ray.DoesNotExist() } })).toBe(b)
  expect(await where({ hard: { disk: ray.Exists() } })).toBe(c)
  expect(await where({ hard: { region: ray.In('us') }, soft: { disk: ray.Exists() } })).toBe(c)
  expect(await where({ soft: { region: ray.In('moon') } })).toMatch(/^[0-9a-f]{56}$/)
  const schedulingStrategy = new ray.NodeLabelSchedulingStrategy({ hard: { region: ray.In('moon') } })
  const waits = whereAmI.options({ schedulingStrategy, onInfeasible: 'wait' }).remote()
  const moon = await cluster.addNode({ numCpus: 1, labels: { region: 'moon' } })
  expect(await ray.get(waits)).toBe(moon.nodeId)
  await cluster.removeNode(moon)
  await seen(3)
})
