// Links between real nodes that are cut for a while, or for good. Fails when a short cut costs anything but time, or when a node that is
// cut off for good goes on as if it were a member.

import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { Cluster, type ClusterNode, type ClusterOptions } from 'ray-ts/testing'
import { expect, test } from 'vitest'
import { makeClosers, sleep, tempDir, until } from '../helpers.ts'
import { isAlive, leftovers } from '../leftovers.ts'
import { Hosts } from './netns.ts'

const cannot = Hosts.whyNot()
const why = `(${cannot ?? 'as root'})`
const closers = makeClosers()

interface Setup {
  readonly hosts: Hosts
  readonly cluster: Cluster
  readonly head: ClusterNode
  readonly node: ClusterNode
}

async function start(systemConfig: ClusterOptions['systemConfig'] = {}): Promise<Setup> {
  const hosts = Hosts.make(2)
  closers.push(() => hosts.close())
  const nodes = [{ host: hosts.host(1), resources: { far: 4 }, numCpus: 4 }]
  const cluster = await Cluster.start({ head: { host: hosts.host(0) }, nodes, systemConfig })
  closers.push(() => cluster.shutdown())
  await cluster.waitForNodes(2)
  const [head, node] = cluster.nodes as [ClusterNode, ClusterNode]
  return { hosts, cluster, head, node }
}

const QUICK = { healthCheckPeriodMs: 100, healthCheckTimeoutMs: 200, healthCheckFailureThreshold: 3 }

test.skipIf(cannot !== null)(
  `[FT-06] a cut shorter than the health check costs time and nothing else ${why}`,
  async () => {
    const { hosts, cluster, head, node } = await start()
    await cluster.connect({ node: head, logToDriver: false })
    await until(async () => (await ray.clusterResources()).far === 4, 'the far node is seen')
    const file = path.join(tempDir(), 'runs')
    // Each says that it ran, and gives back a reference to what it owns: messages between the raylets too, not only between workers.
    const work = ray.remote(async (name: string, n: number) => {
      const { appendFileSync } = await import('node:fs')
      appendFileSync(name, `${n}\n`)
      await new Promise((resolve) => setTimeout(resolve, 30))
      return [ray.put(n * 2)]
    })
    const far = work.options({ resources: { far: 1 }, numCpus: 1 })
    const refs: ray.ObjectRef<ray.ObjectRef<number>[]>[] = []
    for (let n = 0; n < 40; n++) {
      refs.push(far.remote(file, n))
      if (n % 10 === 5) {
        const [from, to] = n % 20 === 5 ? [0, 1] : [1, 0]
        hosts.cutOneWay(hosts.host(from), hosts.host(to))
        await sleep(300)
        hosts.heal()
      }
    }
    const owned = await ray.get(refs)
    expect(await ray.get(owned.map(([ref]) => ref as ray.ObjectRef<number>))).toEqual(refs.map((_, n) => n * 2))
    const runs = fs.readFileSync(file, 'utf8').trim().split('\n').map(Number)
    expect(runs.sort((a, b) => a - b)).toEqual(refs.map((_, n) => n))
    expect(node.isAlive).toBe(true)
    await cluster.waitForNodes(2)
  },
)

test.skipIf(cannot !== null)(
  `[ARCH-03] a node that was cut off and declared dead ends when it hears of it ${why}`,
  async () => {
    const { hosts, cluster, node } = await start(QUICK)
    hosts.cut(hosts.host(0), hosts.host(1))
    await cluster.waitForNodes(1)
    hosts.heal()
    await node.ended
    expect(leftovers(node.sessionDir)).toEqual([])
  },
)

test.skipIf(cannot !== null)(`[ARCH-07] a node that never finds its GCS again ends by itself ${why}`, async () => {
  const { hosts, cluster, node } = await start({ ...QUICK, gcsRpcServerReconnectTimeoutS: 1 })
  hosts.link(hosts.host(1), 'down')
  await cluster.waitForNodes(1)
  await node.ended
  expect(isAlive(node.pid)).toBe(false)
  expect(leftovers(node.sessionDir)).toEqual([])
})
