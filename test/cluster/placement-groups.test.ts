// Placement groups over several nodes, with real processes. Failure here looks like a group that is ready with a bundle missing, bundles
// on the wrong nodes, or a group that stays lost although there is room.

import * as ray from 'ray-ts'
import { Cluster, type ClusterNode, type NodeOptions } from 'ray-ts/testing'
import { afterEach, expect, test } from 'vitest'
import { sleep, until } from '../helpers.ts'
import { ray as run } from './processes.ts'

const { placementGroup, placementGroupTable, removePlacementGroup } = ray.util

let cluster: Cluster | null = null
afterEach(async () => {
  await cluster?.shutdown()
  cluster = null
})

async function start(numCpus: number, nodes: NodeOptions[] = [], systemConfig = {}): Promise<Cluster> {
  cluster = await Cluster.start({ head: { numCpus }, nodes, systemConfig })
  await cluster.connect({ logToDriver: false })
  return cluster
}

const within = (
  group: ray.PlacementGroup,
  bundleIndex: number,
): { schedulingStrategy: ray.PlacementGroupSchedulingStrategy } => ({
  schedulingStrategy: new ray.PlacementGroupSchedulingStrategy({ placementGroup: group, bundleIndex }),
})
const whereAmI = ray.remote(() => ray.getRuntimeContext().getNodeId())

/** Where tasks in each bundle run. */
async function runsOn(group: ray.PlacementGroup): Promise<string[]> {
  return ray.get(
    group.bundleSpecs.map((_, index) => whereAmI.options({ numCpus: 0, ...within(group, index) }).remote()),
    { timeoutS: 15 },
  )
}

async function liesOn(group: ray.PlacementGroup): Promise<unknown[]> {
  return Object.values((await placementGroupTable(group)).bundles_to_node_id)
}

const stateOf = async (group: ray.PlacementGroup): Promise<string> => (await placementGroupTable(group)).state
const ids = (nodes: readonly ClusterNode[]): string[] => nodes.map(({ nodeId }) => nodeId)

test('[ARCH-06] a group that needs two nodes is pending with one, and reserves nothing; the second joins: ready', async () => {
  const { nodes } = await start(2)
  const group = placementGroup([{ CPU: 2 }, { CPU: 2 }])
  expect(await group.wait({ timeoutS: 0.5 })).toBe(false)
  expect(await stateOf(group)).toBe('PENDING')
  expect((await ray.availableResources()).CPU).toBe(2)
  const ready = group.ready()
  const second = await cluster?.addNode({ numCpus: 2 })
  expect((await ray.get(ready)).id).toBe(group.id)
  expect(new Set(await runsOn(group))).toEqual(new Set([...ids(nodes), second?.nodeId]))
})

test('[PG-02][CL-06] STRICT_PACK: more than any node has is pending, and table and ray status say why; what fits is on one node', async () => {
  const { address, nodes } = await start(2, [{ numCpus: 3 }])
  const large = placementGroup([{ CPU: 2 }, { CPU: 2 }], { strategy: 'STRICT_PACK' })
  expect(await large.wait({ timeoutS: 0.5 })).toBe(false)
  const why = 'its bundles together ask for {CPU: 4} on one node, but the largest node has {CPU: 3}'
  expect(await placementGroupTable(large)).toMatchObject({ state: 'PENDING', reason: why })
  const { RAY_AUTH_TOKEN } = cluster?.env() ?? {}
  const status = await run(['status', `--address=${address}`], { RAY_AUTH_TOKEN })
  expect(status.out).toContain(`\n {'CPU': 2.0} * 2 (STRICT_PACK): 1+ pending placement groups\n   ${why}`)
  const small = placementGroup([{ CPU: 2 }, { CPU: 1 }], { strategy: 'STRICT_PACK' })
  expect(await small.wait()).toBe(true)
  expect(await runsOn(small)).toEqual([nodes[1]?.nodeId, nodes[1]?.nodeId])
})

test('[PG-03] PACK: as few nodes as hold the bundles', async () => {
  await start(2, [{ numCpus: 4 }, { numCpus: 2 }])
  const one = placementGroup([{ CPU: 1 }, { CPU: 1 }, { CPU: 2 }], { strategy: 'PACK' })
  await one.wait()
  expect(new Set(await runsOn(one)).size).toBe(1)
  removePlacementGroup(one)
  const two = placementGroup([{ CPU: 2 }, { CPU: 2 }, { CPU: 2 }], { strategy: 'PACK' })
  expect(await two.wait()).toBe(true)
  expect(new Set(await runsOn(two)).size).toBe(2)
})

test('[PG-04] STRICT_SPREAD: three bundles and two nodes: pending; the third joins: ready, one on each', async () => {
  await start(4, [{ numCpus: 4 }])
  const group = placementGroup([{ CPU: 1 }, { CPU: 1 }, { CPU: 1 }], { strategy: 'STRICT_SPREAD' })
  expect(await group.wait({ timeoutS: 0.5 })).toBe(false)
  const { state, reason } = await placementGroupTable(group)
  expect([state, reason]).toEqual(['PENDING', expect.stringMatching(/3 .*nodes?/)])
  await cluster?.addNode({ numCpus: 1 })
  expect(await group.wait()).toBe(true)
  expect(new Set(await runsOn(group))).toEqual(new Set(ids(cluster?.nodes ?? [])))
})

test('[PG-05] SPREAD: three bundles and two nodes: ready, both in use', async () => {
  const { nodes } = await start(4, [{ numCpus: 4 }])
  const group = placementGroup([{ CPU: 1 }, { CPU: 1 }, { CPU: 1 }], { strategy: 'SPREAD' })
  expect(await group.wait()).toBe(true)
  expect(new Set(await runsOn(group))).toEqual(new Set(ids(nodes)))
})

test('[PG-11] a node is killed: its bundles move, the others stay; actors come back if their maxRestarts allows', async () => {
  const { nodes } = await start(1, [{ numCpus: 1 }, { numCpus: 1 }])
  const [, lost, third] = nodes as [ClusterNode, ClusterNode, ClusterNode]
  const group = placementGroup([{ CPU: 1 }, { CPU: 1 }, { CPU: 1 }], { strategy: 'STRICT_SPREAD' })
  await group.wait()
  const before = await liesOn(group)
  expect(new Set(before)).toEqual(new Set(ids(nodes)))
  const index = before.indexOf(lost.nodeId)
  class Sitter {
    where(): string {
      return ray.getRuntimeContext().getNodeId()
    }
  }
  const inLost = { numCpus: 0.5, ...within(group, index) }
  const Remote = ray.remote(Sitter)
  const returns = Remote.options({ ...inLost, maxRestarts: 1 }).remote()
  const ends = Remote.options({ ...inLost, maxRestarts: 0 }).remote()
  const stays = Remote.options({ numCpus: 0.5, ...within(group, before.indexOf(third.nodeId)) }).remote()
  expect(await ray.get([returns.where.remote(), ends.where.remote()])).toEqual([lost.nodeId, lost.nodeId])
  expect(await ray.get(stays.where.remote())).toBe(third.nodeId)
  cluster?.kill(lost)
  await until(async () => (await stateOf(group)) === 'RESCHEDULING', 'its bundle is lost')
  await expect(ray.get(ends.where.remote())).rejects.toThrow(ray.exceptions.ActorDiedError)
  const fourth = await cluster?.addNode({ numCpus: 1 })
  await until(async () => (await stateOf(group)) === 'CREATED', 'it lies elsewhere')
  const after = await liesOn(group)
  expect(after).toEqual(before.map((nodeId) => (nodeId === lost.nodeId ? fourth?.nodeId : nodeId)))
  await until(async () => {
    const where = await ray.get(returns.where.remote()).catch(() => '')
    return where === fourth?.nodeId
  }, 'the actor is back, in its bundle')
  expect(await ray.get(stays.where.remote())).toBe(third.nodeId)
  expect(await runsOn(group)).toEqual(after)
})

test('[PG-12] the names of bundles, with the amounts of all nodes', async () => {
  await start(2, [{ numCpus: 2 }])
  const group = placementGroup([{ CPU: 1 }, { CPU: 2 }], { strategy: 'STRICT_SPREAD' })
  await group.wait()
  const wanted = {
    [`CPU_group_0_${group.id}`]: 1,
    [`CPU_group_1_${group.id}`]: 2,
    [`CPU_group_${group.id}`]: 3,
    [`bundle_group_0_${group.id}`]: 1000,
    [`bundle_group_1_${group.id}`]: 1000,
    [`bundle_group_${group.id}`]: 2000,
  }
  const grouped = async (): Promise<Record<string, number>> => {
    const all = Object.entries(await ray.clusterResources({ raw: true }))
    return Object.fromEntries(all.filter(([name]) => name.includes('_group_')))
  }
  // What other nodes have is heard of with their next report.
  await until(async () => Object.keys(await grouped()).length === 6, 'all names are seen')
  expect(await grouped()).toEqual(wanted)
  expect((await ray.clusterResources()).CPU).toBe(4)
})

test('[ARCH-07][PG-01] the GCS is killed while many groups are being made: each is made, and whole', async () => {
  await start(4, [{ numCpus: 4 }, { numCpus: 4 }])
  const groups: ray.PlacementGroup[] = []
  // Together they take all that there is: a bundle that nobody knows of would leave one without room.
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 10; i++)
      groups.push(placementGroup([{ CPU: 0.1 }, { CPU: 0.1 }, { CPU: 0.1 }], { strategy: 'STRICT_SPREAD' }))
    await sleep(round * 7) // Somewhere in the middle of it.
    await cluster?.restartGcs()
  }
  for (const group of groups) expect(await group.wait()).toBe(true)
  const nodeIds = new Set(ids(cluster?.nodes ?? []))
  for (const group of groups) expect(new Set(await liesOn(group))).toEqual(nodeIds)
  expect(new Set(await runsOn(groups[0] as ray.PlacementGroup))).toEqual(nodeIds)
  for (const group of groups) removePlacementGroup(group)
  await until(async () => (await ray.availableResources()).CPU === 12, 'all CPUs are free again')
})
