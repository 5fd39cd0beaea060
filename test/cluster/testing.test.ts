// `ray-ts/testing`: fails when a test cluster does not start, when work does not run on the node that it is for, or when something of
// it is left behind, whoever was killed.

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { Cluster, type ClusterNode } from 'ray-ts/testing'
import { expect, test } from 'vitest'
import { makeClosers, until } from '../helpers.ts'
import { isAlive, leftovers, processesNaming } from '../leftovers.ts'
import { Hosts } from './netns.ts'

const cannot = Hosts.whyNot()
const closers = makeClosers()

async function start(...args: Parameters<typeof Cluster.start>): Promise<Cluster> {
  const cluster = await Cluster.start(...args)
  closers.push(() => cluster.shutdown())
  return cluster
}

const whereAmI = ray.remote(() => ray.getRuntimeContext().getNodeId())

/** Where a task runs that is to run on that node. */
function runOn({ nodeId }: ClusterNode): Promise<string> {
  const schedulingStrategy = new ray.NodeAffinitySchedulingStrategy({ nodeId, soft: false })
  return ray.get(whereAmI.options({ schedulingStrategy }).remote())
}

/** What this driver sees: its raylet hears of changes a little later than the GCS. */
async function seen(count: number): Promise<void> {
  await until(async () => (await ray.nodes()).filter(({ Alive }) => Alive).length === count, `${count} nodes are seen`)
}

test('[EXTRA-50] [ARCH-02] a head and two nodes: each has its own resources, and runs what is for it', async () => {
  const cluster = await start({ head: { numCpus: 1 }, nodes: [{ numCpus: 2 }, { resources: { special: 2 } }] })
  await cluster.waitForNodes()
  await cluster.connect({ logToDriver: false })
  await seen(3)
  const { nodes } = cluster
  expect(new Set((await ray.nodes()).map(({ NodeID }) => NodeID))).toEqual(new Set(nodes.map(({ nodeId }) => nodeId)))
  expect(await ray.clusterResources()).toMatchObject({ CPU: 4, special: 2 })
  for (const node of nodes) expect(await runOn(node)).toBe(node.nodeId)
  const special = await ray.get(whereAmI.options({ resources: { special: 1 } }).remote())
  expect(special).toBe(nodes[2]?.nodeId)
})

test('[EXTRA-50] nodes come and go; of a removed one nothing is left', async () => {
  const cluster = await start({ nodes: 1 })
  await cluster.connect({ logToDriver: false })
  for (const allowGraceful of [true, false]) {
    const node = await cluster.addNode({ numCpus: 1 })
    await cluster.waitForNodes(3)
    await seen(3)
    expect(await runOn(node)).toBe(node.nodeId)
    await cluster.removeNode(node, { allowGraceful })
    await cluster.waitForNodes(2)
    expect(node.isAlive).toBe(false)
    await until(() => leftovers(node.sessionDir).length === 0, `nothing is left of it (graceful: ${allowGraceful})`)
  }
})

test('[EXTRA-50] [ARCH-22] what a node has that has just joined can be asked for at once', async () => {
  const cluster = await start()
  await cluster.connect({ logToDriver: false })
  for (const name of ['one', 'two', 'three']) {
    const node = await cluster.addNode({ resources: { [name]: 1 } })
    expect(await ray.get(whereAmI.options({ resources: { [name]: 1 } }).remote())).toBe(node.nodeId)
    const other = await cluster.addNode()
    expect(await runOn(other)).toBe(other.nodeId)
  }
  await expect(ray.get(whereAmI.options({ resources: { four: 1 } }).remote())).rejects.toThrow(
    ray.exceptions.TaskUnschedulableError,
  )
})

test('[EXTRA-50] [ARCH-03] a node that is killed is dead at once, one that is stopped after the configured time', async () => {
  const systemConfig = { healthCheckPeriodMs: 100, healthCheckTimeoutMs: 200, healthCheckFailureThreshold: 3 }
  const cluster = await start({ nodes: 2, systemConfig })
  await cluster.waitForNodes(3)
  const [, killed, stopped] = cluster.nodes as [ClusterNode, ClusterNode, ClusterNode]
  cluster.kill(killed)
  await killed.ended
  await cluster.waitForNodes(2)
  cluster.kill(stopped, 'SIGSTOP')
  await cluster.waitForNodes(1)
  expect(stopped.isAlive).toBe(true) // Its process: nobody has told it yet.
})

test('[EXTRA-50] the GCS is killed and comes back at its address; the nodes are those that they were', async () => {
  const cluster = await start({ nodes: 1 })
  await cluster.waitForNodes(2)
  await cluster.connect({ logToDriver: false })
  await seen(2)
  const { address, gcsPid, nodes } = cluster
  const node = nodes[1] as ClusterNode
  expect(await runOn(node)).toBe(node.nodeId)
  cluster.kill('gcs')
  await until(() => !isAlive(gcsPid), 'it is gone')
  await cluster.restartGcs()
  expect([cluster.address, cluster.gcsPid === gcsPid]).toEqual([address, false])
  await cluster.waitForNodes(2)
  expect(await runOn(node)).toBe(node.nodeId)
})

test('[EXTRA-50] a raylet writes what it holds and knows of others when it is asked to', async () => {
  const cluster = await start({ nodes: 1 })
  const [head, other] = cluster.nodes as [ClusterNode, ClusterNode]
  const file = path.join(head.sessionDir, 'logs', 'debug_state.txt')
  const state = (): { nodeId?: string; nodes?: { nodeId: string }[] } => {
    cluster.kill(head, 'SIGUSR2')
    try {
      return JSON.parse(fs.readFileSync(file, 'utf8')) as ReturnType<typeof state>
    } catch {
      return {} // Not yet, or half written.
    }
  }
  let seen = state()
  const knows = (): boolean => {
    seen = state()
    return seen.nodes?.some(({ nodeId }) => nodeId === other.nodeId) === true
  }
  await until(knows, 'it knows the other')
  expect(seen).toMatchObject({ nodeId: head.nodeId, leases: [], queue: [], elsewhere: [] })
})

test('[EXTRA-50] a program that is killed leaves nothing of its test cluster', async () => {
  const program = `
    import { Cluster } from 'ray-ts/testing'
    const cluster = await Cluster.start({ nodes: 1 })
    console.log(JSON.stringify(cluster.nodes.map(({ sessionDir }) => sessionDir)))
    setInterval(() => {}, 1000)`
  const file = path.join(path.resolve('test/programs'), `.cluster-${process.pid}.mjs`)
  fs.writeFileSync(file, program)
  closers.push(() => fs.rmSync(file))
  const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] })
  const said = await new Promise<string>((resolve) => child.stdout.once('data', (chunk) => resolve(String(chunk))))
  const sessions = JSON.parse(said) as string[]
  const root = path.dirname(sessions[0] ?? '')
  expect(sessions.flatMap(leftovers).length).toBeGreaterThan(0)
  child.kill('SIGKILL')
  await until(() => sessions.flatMap(leftovers).length === 0, 'nothing of its sessions is left')
  await until(() => !fs.existsSync(root) && processesNaming(root).length === 0, 'nor is anything else')
})

test.skipIf(cannot !== null)(
  `[EXTRA-50] nodes in namespaces run each other's tasks until they are cut off (${cannot ?? 'as root'})`,
  async () => {
    const hosts = Hosts.make(2)
    closers.push(() => hosts.close())
    const systemConfig = { healthCheckPeriodMs: 100, healthCheckTimeoutMs: 200, healthCheckFailureThreshold: 3 }
    const cluster = await start({ head: { host: hosts.host(0) }, nodes: [{ host: hosts.host(1) }], systemConfig })
    await cluster.waitForNodes(2)
    await cluster.connect({ logToDriver: false })
    await seen(2)
    const [head, node] = cluster.nodes as [ClusterNode, ClusterNode]
    expect([head.address, node.address]).toEqual(hosts.hosts.map(({ address }) => address))
    expect([await runOn(head), await runOn(node)]).toEqual([head.nodeId, node.nodeId])
    hosts.cut(hosts.host(0), hosts.host(1))
    await cluster.waitForNodes(1)
    await seen(1)
    expect(await runOn(head)).toBe(head.nodeId)
  },
)
