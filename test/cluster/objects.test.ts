// Stored values between real nodes. Fails when bytes arrive changed, when what is here already comes again, when the two roads (shared memory,
// sockets) are mixed up, or when something that nobody waits for goes on.

import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import type { Cluster, ClusterNode } from 'ray-ts/testing'
import { expect, test } from 'vitest'
import { makeClosers, sleep, tempDir, until } from '../helpers.ts'
import { Hosts } from './netns.ts'
import { on, SOCKETS, startNodes } from './nodes.ts'

const MIB = 1024 * 1024
const cannot = Hosts.whyNot()
const closers = makeClosers()

/** Bytes that repeat nowhere. */
function noise(bytes: number): Uint8Array {
  const value = new Uint8Array(bytes)
  const block = crypto.randomBytes(MIB)
  for (let at = 0; at < bytes; at += MIB) {
    block.writeUInt32LE(at / MIB)
    value.set(block.subarray(0, bytes - at), at)
  }
  return value
}

const hashOf = (data: Uint8Array): string => crypto.createHash('sha1').update(data).digest('hex')

const look = ray.remote(async (data: Uint8Array) => {
  const { createHash } = await import('node:crypto')
  return { hash: createHash('sha1').update(data).digest('hex'), stats: await ray.util.nodeStats() }
})
const make = ray.remote((bytes: number, n: number) => new Uint8Array(bytes).fill(n))

test.each(['memory', 'sockets'])(
  '[ARCH-10] 1 GiB put on one node is read on another as it is; the second read there is local (%s)',
  async (road) => {
    const env = road === 'sockets' ? SOCKETS : {}
    await startNodes(closers, 1, { objectStoreMemory: 1500 * MIB, env })
    const value = noise(1024 * MIB)
    using ref = ray.put(value)
    const hash = hashOf(value)
    const first = await ray.get(look.options(on(1)).remote(ref))
    expect(first.hash).toBe(hash)
    const [pulledBytesEver, adoptedObjectsEver] = road === 'sockets' ? [1024 * MIB, 0] : [0, 1]
    expect(first.stats).toMatchObject({ adoptedObjectsEver, pulledObjects: 1 })
    expect(first.stats.pulledBytesEver).toBeGreaterThanOrEqual(pulledBytesEver)
    const second = await ray.get(look.options(on(1)).remote(ref))
    expect(second.hash).toBe(hash)
    for (const name of ['pulledBytesEver', 'adoptedObjectsEver', 'pulledObjects'])
      expect(second.stats[name]).toBe(first.stats[name])
  },
)

test('[ARCH-10][OBJ-03] a get whose time is over while its value comes ends then, and what came is given up', async () => {
  const cluster = await startNodes(closers, 1, { env: SOCKETS })
  const node = cluster.nodes[1] as ClusterNode
  const ref = make.options(on(1)).remote(50 * MIB, 3)
  await ray.wait([ref])
  node.kill('SIGSTOP')
  await expect(ray.get(ref, { timeoutS: 0.5 })).rejects.toThrow(ray.exceptions.GetTimeoutError)
  await until(async () => (await ray.util.nodeStats()).pulls === 0, 'the pull is given up')
  await expect(ray.get([ref, ref], { timeoutS: 0.2 })).rejects.toThrow(ray.exceptions.GetTimeoutError)
  await until(async () => (await ray.util.nodeStats()).pulls === 0, 'the pull is given up again')
  node.kill('SIGCONT')
  const value = await ray.get(ref, { timeoutS: 30 })
  expect([value.length, value[0], value.at(-1)]).toEqual([50 * MIB, 3, 3])
})

test.skipIf(cannot !== null)(
  `[ARCH-10][FT-06] a link that is cut while a value comes costs time and nothing else (${cannot ?? 'as root'})`,
  async () => {
    const hosts = Hosts.make(2)
    closers.push(() => hosts.close())
    await startNodes(closers, 1, { env: SOCKETS, objectStoreMemory: 1500 * MIB }, hosts)
    const ref = make.options(on(1)).remote(700 * MIB, 5)
    await ray.wait([ref])
    const got = ray.get(ref, { timeoutS: 60 })
    await until(async () => ((await ray.util.nodeStats()).pulledBytesEver ?? 0) > 0, 'it comes')
    hosts.cut(hosts.host(0), hosts.host(1))
    const { pulledBytesEver: before = 0 } = await ray.util.nodeStats()
    expect(before).toBeLessThan(700 * MIB)
    await sleep(500)
    hosts.heal()
    const value = await got
    expect([value.length, Buffer.alloc(700 * MIB, 5).equals(value)]).toEqual([700 * MIB, true])
  },
)

type Made = ray.ObjectRef<Uint8Array>

const makeNoted = ray.remote(
  async (file: string, bytes: number, n: number) => {
    const { appendFileSync } = await import('node:fs')
    appendFileSync(file, 'made\n')
    return new Uint8Array(bytes).fill(n)
  },
  { maxRetries: 3 },
)

/** What the node `n<index>` counts. */
const statsOf = (index: number): Promise<Record<string, number>> =>
  ray.get(
    ray
      .remote(() => ray.util.nodeStats())
      .options(on(index))
      .remote(),
  )

async function kill(cluster: Cluster, index: number): Promise<void> {
  const node = cluster.nodes[index] as ClusterNode
  node.kill('SIGKILL')
  await node.ended
}

test.each(['memory', 'sockets'])(
  '[ARCH-10][FT-03] a copy on another node takes the place of the one that died with its maker, and is freed in the end (%s)',
  async (road) => {
    const cluster = await startNodes(closers, 2, { env: road === 'sockets' ? SOCKETS : {} })
    const file = path.join(tempDir(), 'runs')
    const bytes = 20 * MIB
    const [near, far] = [1, 2].map((n) => makeNoted.options(on(1)).remote(file, bytes, n)) as [Made, Made]
    const once = makeNoted.options({ ...on(1), maxRetries: 0 }).remote(file, bytes, 3)
    expect((await ray.get(near))[0]).toBe(1) // A copy on the owner's node.
    for (const ref of [far, once]) await ray.get(look.options(on(2)).remote(ref)) // Copies on a third node.
    await kill(cluster, 1)
    for (const [n, ref] of [near, far, once].entries()) {
      const value = await ray.get(ref, { timeoutS: 30 })
      expect([value.length, value[0], value.at(-1)]).toEqual([bytes, n + 1, n + 1])
    }
    const seen = await ray.get(look.options(on(2)).remote(near))
    expect(seen.hash).toBe(hashOf(new Uint8Array(bytes).fill(1)))
    expect(fs.readFileSync(file, 'utf8')).toBe('made\n'.repeat(3))
    for (const ref of [near, far, once]) ref.free()
    const nothing = { objects: 0, pulledObjects: 0, pulledCopies: 0, survivorsKnown: 0, holdersKnown: 0 }
    await expect.poll(() => ray.util.nodeStats(), { timeout: 10_000 }).toMatchObject(nothing)
    await expect.poll(() => statsOf(2), { timeout: 10_000 }).toMatchObject(nothing)
  },
)

test('[ARCH-10][FT-06] kill -9 of the holder while a value comes: it comes from another node that has it', async () => {
  const cluster = await startNodes(closers, 2, { env: SOCKETS, objectStoreMemory: 1000 * MIB })
  const file = path.join(tempDir(), 'runs')
  const ref = makeNoted.options(on(1)).remote(file, 500 * MIB, 7)
  const { hash } = await ray.get(look.options(on(2)).remote(ref))
  const node = cluster.nodes[1] as ClusterNode
  const got = ray.get(ref, { timeoutS: 60 })
  await until(async () => ((await ray.util.nodeStats()).pulledBytesEver ?? 0) > 0, 'it comes')
  node.kill('SIGKILL')
  expect((await ray.util.nodeStats()).pulledBytesEver).toBeLessThan(500 * MIB)
  expect(hashOf(await got)).toBe(hash)
  expect(fs.readFileSync(file, 'utf8')).toBe('made\n')
})
