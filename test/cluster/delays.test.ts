// Real nodes far from each other: every packet takes its time, and that time changes. Fails when distance costs anything but time: a wrong
// or missing answer, work that runs twice, a group that is not whole, a living node that is declared dead.

import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import type { Cluster, ClusterNode } from 'ray-ts/testing'
import { expect, test } from 'vitest'
import { makeClosers, tempDir, until } from '../helpers.ts'
import { Hosts } from './netns.ts'
import { on, SOCKETS, startNodes } from './nodes.ts'

const MIB = 1024 * 1024
const { placementGroup, placementGroupTable, removePlacementGroup } = ray.util
const cannot = Hosts.whyNoDelay()
const why = `(${cannot ?? 'as root'})`
const closers = makeClosers()

interface Setup {
  readonly hosts: Hosts
  readonly cluster: Cluster
  /** What all hosts send takes so long from now on. */
  readonly delayAll: (ms: number) => Promise<unknown>
}

/** As `startNodes`; all `ms` from each other from the beginning. */
async function start(count: number, ms: number): Promise<Setup> {
  const hosts = Hosts.make(count + 1)
  closers.push(() => hosts.close())
  const delayAll = (ms: number) => Promise.all(hosts.hosts.map((host) => hosts.delay(host, ms)))
  await delayAll(ms)
  const cluster = await startNodes(closers, count, { numCpus: 4, env: SOCKETS }, hosts)
  return { hosts, cluster, delayAll }
}

/** Nobody was declared dead, for however short a time: a node that was ends. */
async function expectAllAlive(cluster: Cluster): Promise<void> {
  expect(cluster.nodes.map(({ isAlive }) => isAlive)).toEqual(cluster.nodes.map(() => true))
  expect((await ray.nodes()).map(({ Alive }) => Alive)).toEqual(cluster.nodes.map(() => true))
}

const hashOf = (data: Uint8Array): string => crypto.createHash('sha1').update(data).digest('hex')
const hashThere = ray.remote(async (data: Uint8Array) => {
  const { createHash } = await import('node:crypto')
  return createHash('sha1').update(data).digest('hex')
})
const make = ray.remote((bytes: number, n: number) => new Uint8Array(bytes).fill(n))
const whereAmI = ray.remote(() => ray.getRuntimeContext().getNodeId())
class Counter {
  n = 0
  add(): number {
    return ++this.n
  }
}

/** Where the bundles lie, and that tasks run in them. */
async function expectWhole(group: ray.PlacementGroup, nodes: readonly ClusterNode[]): Promise<void> {
  const ids = Object.values((await placementGroupTable(group)).bundles_to_node_id)
  expect(new Set(ids)).toEqual(new Set(nodes.map(({ nodeId }) => nodeId)))
  const within = (bundleIndex: number) => ({
    schedulingStrategy: new ray.PlacementGroupSchedulingStrategy({ placementGroup: group, bundleIndex }),
  })
  const tasks = ids.map((_, index) => whereAmI.options({ numCpus: 0.1, ...within(index) }).remote())
  expect(await ray.get(tasks)).toEqual(ids)
}

test.skipIf(cannot !== null)(
  `[ARCH-06][ARCH-10][ARCH-22] nodes that are 60 ms apart: tasks, an actor, values both ways, a group over all ${why}`,
  async () => {
    const { cluster } = await start(1, 60)
    await ray.get(whereAmI.options(on(1)).remote())
    const began = performance.now()
    await ray.get(whereAmI.options(on(1)).remote())
    expect(performance.now() - began).toBeGreaterThanOrEqual(60) // This program is on no host: only the answer is slow.
    const file = path.join(tempDir(), 'runs')
    const work = ray.remote(async (name: string, n: number) => {
      const { appendFileSync } = await import('node:fs')
      appendFileSync(name, `${n}\n`)
      return [ray.put(n * 2)]
    })
    const refs = Array.from({ length: 40 }, (_, n) => work.options(on(1)).remote(file, n))
    const Far = ray.remote(Counter).options(on(1))
    const counter = Far.remote()
    const counts = Array.from({ length: 30 }, () => counter.add.remote())
    const value = new Uint8Array(crypto.randomBytes(4 * MIB))
    const group = placementGroup([{ CPU: 1 }, { CPU: 1 }], { strategy: 'STRICT_SPREAD' })

    const owned = await ray.get(refs)
    expect(await ray.get(owned.map(([ref]) => ref as ray.ObjectRef<number>))).toEqual(refs.map((_, n) => n * 2))
    expect(await ray.get(counts)).toEqual(counts.map((_, n) => n + 1))
    expect(await ray.get(hashThere.options(on(1)).remote(ray.put(value)))).toBe(hashOf(value))
    const made = await ray.get(make.options(on(1)).remote(4 * MIB, 7))
    expect(Buffer.alloc(4 * MIB, 7).equals(made)).toBe(true)
    expect(await group.wait()).toBe(true)
    await expectWhole(group, cluster.nodes)
    const runs = fs.readFileSync(file, 'utf8').trim().split('\n').map(Number)
    expect(runs.sort((a, b) => a - b)).toEqual(refs.map((_, n) => n))
    await expectAllAlive(cluster)
  },
)

test.skipIf(cannot !== null)(
  `[ARCH-10][PG-01][FT-06] delays that come, change and go while a value comes and groups are made cost time and nothing else ${why}`,
  async () => {
    const { hosts, cluster, delayAll } = await start(2, 20)
    const ref = make.options(on(1)).remote(50 * MIB, 5)
    await ray.wait([ref])
    const value = ray.get(ref)
    await until(async () => ((await ray.util.nodeStats()).pulledBytesEver ?? 0) > 0, 'it comes')
    await hosts.delay(hosts.host(1), 300)
    expect((await ray.util.nodeStats()).pulledBytesEver).toBeLessThan(50 * MIB)
    const Far = ray.remote(Counter).options(on(2))
    const counter = Far.remote()
    const counts: ray.ObjectRef<number>[] = []
    const groups: ray.PlacementGroup[] = []
    // Slower than any real network, then no delay at all, then as in the beginning.
    for (const ms of [150, 10, 500, 0, 20]) {
      for (let i = 0; i < 4; i++)
        groups.push(placementGroup([{ CPU: 0.2 }, { CPU: 0.2 }, { CPU: 0.2 }], { strategy: 'STRICT_SPREAD' }))
      counts.push(counter.add.remote())
      await (groups[0] as ray.PlacementGroup).wait({ timeoutS: 0.1 })
      await delayAll(ms)
    }
    expect(Buffer.alloc(50 * MIB, 5).equals(await value)).toBe(true)
    expect(await ray.get(counts)).toEqual(counts.map((_, n) => n + 1))
    for (const group of groups) expect(await group.wait()).toBe(true)
    await Promise.all(groups.map((group) => expectWhole(group, cluster.nodes)))
    for (const group of groups) removePlacementGroup(group)
    await until(async () => (await ray.availableResources()).CPU === 12, 'all CPUs are free again')
    await expectAllAlive(cluster)
  },
)
