// Values between the stores of several node processes, over real sockets and files. Fails when bytes arrive changed, a copy or a file stays
// after its value was freed, a dead holder stops the others, or a stranger is served.

import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { isSameFolder, offerFolder } from '../src/runtime/shm/shared-folder.ts'
import type { SharedFolder } from '../src/wire/cluster.ts'
import { tempDir } from './helpers.ts'
import type { Command, NodeSetup, Report } from './programs/transfer-node.ts'

const MIB = 1024 * 1024
const folder = path.resolve('.cache', `transfer-node-${process.pid}`)
const program = path.join(folder, 'node.mjs')
const closers: (() => void)[] = []

beforeAll(() => {
  const flags = ['--bundle', '--packages=external', '--platform=node', '--format=esm', '--log-level=warning']
  execFileSync('node_modules/.bin/esbuild', ['test/programs/transfer-node.ts', ...flags, `--outfile=${program}`])
  fs.symlinkSync(path.resolve('packages/native/prebuilds'), path.join(folder, 'prebuilds')) // Where the addon is looked for.
})
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

class Node {
  readonly index: number
  readonly child: ChildProcess
  readonly #waiting: { is: (report: Report) => boolean; resolve: (report: Report) => void }[] = []
  onPeer: (to: number, message: Command & { t: 'peer' }) => void = () => {}

  constructor(setup: NodeSetup, env: NodeJS.ProcessEnv) {
    this.index = setup.index
    this.child = fork(program, [JSON.stringify(setup)], { env: { ...process.env, ...env } })
    this.child.on('message', (report: Report) => {
      if (report.t === 'toPeer') return this.onPeer(report.to, { t: 'peer', from: this.index, message: report.message })
      const at = this.#waiting.findIndex(({ is }) => is(report))
      if (at >= 0) this.#waiting.splice(at, 1)[0]?.resolve(report)
    })
  }

  send(command: Command): void {
    if (this.child.connected) this.child.send(command, () => {}) // It may have been killed.
  }

  next<T extends Report['t']>(t: T, storageId?: number): Promise<Report & { t: T }> {
    return new Promise((resolve) => {
      const is = (report: Report): boolean =>
        report.t === t && (storageId === undefined || (report as { storageId?: number }).storageId === storageId)
      this.#waiting.push({ is, resolve: resolve as (report: Report) => void })
    })
  }

  put(sequence: number, bytes: number): Promise<Report & { t: 'put' }> {
    const put = this.next('put')
    this.send({ t: 'put', sequence, bytes })
    return put
  }

  want(storageId: number, bytes: number, isHashed = true): Promise<Report & { t: 'got' }> {
    const got = this.next('got', storageId)
    this.send({ t: 'want', storageId, bytes, isHashed })
    return got
  }

  stats(): Promise<Report & { t: 'stats' }> {
    const stats = this.next('stats')
    this.send({ t: 'stats' })
    return stats
  }
}

/** 'memory': nodes of one machine take each other's segments. */
type Road = 'sockets' | 'memory'
const ROADS: readonly Road[] = ['sockets', 'memory']

interface StartOptions {
  readonly capacityBytes?: number
  readonly tokens?: readonly string[]
  readonly road?: Road
  readonly backend?: 'plain' | 'native'
}

async function start(count: number, options: StartOptions = {}): Promise<Node[]> {
  const { capacityBytes = 256 * MIB, tokens, road = 'sockets', backend = 'plain' } = options
  const env = { RAY_TS_SHM: backend, RAY_TS_SHARED_HOST: road === 'memory' ? '1' : '0' }
  const dir = tempDir()
  const shm = fs.mkdtempSync(path.join(process.env.RAY_TS_SHM_DIR ?? '/dev/shm', 'transfer-'))
  const token = crypto.randomBytes(8).toString('hex')
  const nodes = Array.from({ length: count }, (_, index) => {
    const shmDir = path.join(shm, String(index))
    return new Node({ index, dir, shmDir, capacityBytes, token: tokens?.[index] ?? token }, env)
  })
  closers.push(() => {
    for (const node of nodes) node.child.kill('SIGKILL')
    for (const made of [dir, shm]) fs.rmSync(made, { recursive: true, force: true })
  })
  const ready = await Promise.all(nodes.map((node) => node.next('ready')))
  for (const node of nodes) {
    node.onPeer = (to, message) => nodes[to]?.send(message)
    node.send({ t: 'ports', ports: ready.map(({ port }) => port) })
  }
  return nodes
}

async function expectEmpty(nodes: readonly Node[]): Promise<void> {
  for (const node of nodes) {
    await expect.poll(async () => (await node.stats()).files, { timeout: 10_000 }).toEqual([])
    const { stats } = await node.stats()
    expect(stats).toMatchObject({
      objects: 0,
      pulledObjects: 0,
      pulls: 0,
      pulledCopies: 0,
      bytesInFlight: 0,
      shmBytes: 0,
    })
  }
}

test.each(ROADS)(
  '[ARCH-10] a value goes from one node to another as it is; the second get there is local; freed, it is nowhere (%s)',
  async (road) => {
    const [home, other] = (await start(2, { road })) as [Node, Node]
    const sizes = [1, 4096, 5 * MIB, 5 * MIB + 1, 43 * MIB + 17]
    const ids: number[] = []
    for (const [i, bytes] of sizes.entries()) {
      const { storageId, hash } = await home.put(i + 1, bytes)
      ids.push(storageId)
      expect(await other.want(storageId, bytes)).toMatchObject({ where: 'shm', hash })
      home.child.kill('SIGSTOP') // Nobody there could serve it.
      expect(await other.want(storageId, bytes)).toMatchObject({ where: 'shm', hash })
      home.child.kill('SIGCONT')
    }
    const all = sizes.reduce((sum, size) => sum + size)
    const { stats } = await other.stats()
    expect(stats).toMatchObject({ pulledObjects: sizes.length, shmBytes: all + sizes.length * 4096 })
    const [pulledBytesEver, adoptedObjectsEver] = road === 'memory' ? [0, sizes.length] : [all, 0]
    expect(stats).toMatchObject({ pulledBytesEver, adoptedObjectsEver })
    home.send({ t: 'free', storageIds: ids })
    await expectEmpty([home, other])
    expect(await other.want(ids[0] as number, 1)).toMatchObject({ where: null })
  },
)

test.each(ROADS)(
  '[ARCH-10][ARCH-19] what lies on disk is pulled from there; what has no room in shared memory comes to disk (%s)',
  async (road) => {
    const [home, other] = (await start(2, { capacityBytes: 16 * MIB, road })) as [Node, Node]
    const values = []
    for (let i = 1; i <= 4; i++) values.push(await home.put(i, 7 * MIB))
    await expect.poll(async () => (await home.stats()).stats.spilledObjects, { timeout: 10_000 }).toBeGreaterThan(1)
    const large = await home.put(5, 30 * MIB)
    for (const { storageId, hash } of values) expect(await other.want(storageId, 7 * MIB)).toMatchObject({ hash })
    expect(await other.want(large.storageId, 30 * MIB)).toMatchObject({ where: 'disk', hash: large.hash })
    home.send({ t: 'free', storageIds: [...values, large].map(({ storageId }) => storageId) })
    await expectEmpty([home, other])
  },
)

test.each(ROADS)(
  '[ARCH-10][ARCH-21] pulled copies give way to new ones, and come again when they are needed (%s)',
  async (road) => {
    const [home, other] = (await start(2, { capacityBytes: 36 * MIB, road })) as [Node, Node]
    const values = []
    for (let i = 1; i <= 3; i++) values.push(await home.put(i, 10 * MIB))
    for (let round = 0; round < 3; round++) {
      for (const { storageId, hash } of values) expect(await other.want(storageId, 10 * MIB)).toMatchObject({ hash })
      await expect.poll(async () => (await other.stats()).stats.pulledObjects, { timeout: 10_000 }).toBeLessThan(3)
    }
    home.send({ t: 'free', storageIds: values.map(({ storageId }) => storageId) })
    await expectEmpty([home, other])
  },
)

test('[ARCH-10] a broadcast goes on when a receiver dies in the middle', async () => {
  const nodes = await start(4)
  const [home, victim, ...others] = nodes as [Node, Node, Node, Node]
  const { storageId, hash } = await home.put(1, 120 * MIB)
  const wants = others.map((node) => node.want(storageId, 120 * MIB))
  void victim.want(storageId, 120 * MIB)
  await expect.poll(async () => (await others[0]?.stats())?.stats.pulls).toBe(1)
  victim.child.kill('SIGKILL')
  for (const node of nodes) node.send({ t: 'died', index: 1 })
  for (const want of wants) expect(await want).toMatchObject({ where: 'shm', hash })
  home.send({ t: 'free', storageIds: [storageId] })
  await expectEmpty([home, ...others])
})

test('[ARCH-10] what was on a node that died is lost, also when it was half here', async () => {
  const [home, other] = (await start(2)) as [Node, Node]
  const { storageId } = await home.put(1, 120 * MIB)
  const want = other.want(storageId, 120 * MIB)
  await expect.poll(async () => (await other.stats()).stats.pulls).toBe(1)
  home.child.kill('SIGKILL')
  other.send({ t: 'died', index: 0 })
  await want // Whole, or lost.
  await expectEmpty([other])
})

test('[ARCH-10] a segment that another node of the machine has taken is not written anew while that node has it', async () => {
  const [home, other] = (await start(2, { road: 'memory', backend: 'native' })) as [Node, Node]
  const { storageId, hash } = await home.put(1, 20 * MIB)
  expect(await other.want(storageId, 20 * MIB, false)).toMatchObject({ where: 'shm' }) // No reader holds it.
  home.onPeer = () => {} // The word that it is freed is on its way for a long time.
  home.send({ t: 'recycle', storageIds: [storageId] })
  const next = await home.put(2, 20 * MIB)
  expect(next.hash).not.toBe(hash)
  expect(await other.want(storageId, 20 * MIB)).toMatchObject({ where: 'shm', hash })
  other.send({ t: 'freed', storageIds: [storageId] })
  home.send({ t: 'free', storageIds: [next.storageId] })
  await expectEmpty([home, other])
})

test('[ARCH-10][FT-06] the death of one node leaves the other its name of a segment that both had', async () => {
  const [home, first, second] = (await start(3, { road: 'memory', backend: 'native' })) as [Node, Node, Node]
  const { storageId, hash } = await home.put(1, 20 * MIB)
  for (const node of [first, second]) expect(await node.want(storageId, 20 * MIB)).toMatchObject({ hash })
  first.child.kill('SIGKILL')
  for (const node of [home, second]) node.send({ t: 'died', index: 1 })
  expect(await second.want(storageId, 20 * MIB)).toMatchObject({ where: 'shm', hash })
  home.send({ t: 'free', storageIds: [storageId] })
  await expectEmpty([home, second])
})

test('[ARCH-10] a folder of the same path that is another one is not taken from: another boot, another file system', async () => {
  const dir = tempDir()
  const offered = offerFolder(dir) as SharedFolder
  expect(isSameFolder(offered)).toBe(true)
  expect(isSameFolder({ ...offered, bootId: crypto.randomUUID() })).toBe(false)
  expect(isSameFolder({ ...offered, path: tempDir() })).toBe(false)
  expect(isSameFolder({ ...offered, proof: 'proof-00' })).toBe(false)
  process.env.RAY_TS_SHARED_HOST = '0'
  closers.push(() => delete process.env.RAY_TS_SHARED_HOST)
  expect([offerFolder(dir), isSameFolder(offered)]).toEqual([null, false])
})

test('[SEC-03] who has another token is served nothing', async () => {
  const [home, stranger] = (await start(2, { tokens: ['a'.repeat(16), 'b'.repeat(16)] })) as [Node, Node]
  const { storageId } = await home.put(1, 100)
  const want = stranger.want(storageId, 100)
  await expect.poll(async () => (await stranger.stats()).stats.pulls).toBe(1)
  stranger.send({ t: 'died', index: 0 })
  expect(await want).toMatchObject({ where: null, hash: null })
})
