// Clusters of real nodes for tests that send work to a node of their choice.

import * as ray from 'ray-ts'
import { Cluster, type NodeOptions } from 'ray-ts/testing'
import { until } from '../helpers.ts'
import type { Hosts } from './netns.ts'

/** Nodes that share no memory, as on several machines. */
export const SOCKETS = { RAY_TS_SHARED_HOST: '0' }

/** A head, where this program is, and nodes with the resources `n1`, `n2`, …; it ends with the `closers`. */
export async function startNodes(
  closers: (() => unknown)[],
  count: number,
  options: NodeOptions = {},
  hosts?: Hosts,
): Promise<Cluster> {
  const of = (index: number): NodeOptions => (hosts ? { ...options, host: hosts.host(index) } : options)
  const nodes = Array.from({ length: count }, (_, i) => ({ ...of(i + 1), resources: { [`n${i + 1}`]: 10 } }))
  const cluster = await Cluster.start({ head: of(0), nodes })
  closers.push(() => cluster.shutdown())
  await cluster.waitForNodes(count + 1)
  await cluster.connect({ logToDriver: false })
  await until(async () => (await ray.clusterResources())[`n${count}`] === 10, 'the nodes are seen')
  return cluster
}

/** Options of what is to run on the node with the resource `n<index>`. */
export const on = (index: number) => ({ resources: { [`n${index}`]: 1 }, numCpus: 0 })
