// The GCS as a process, killed at any moment. Failure here looks like an answer that was forgotten, an id that is given twice, or a
// node that waits for ever. The test is a node as the GCS sees one: the real port, with words of its own.
import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { type GcsPort, RemoteGcs } from '../src/runtime/gcs-port.ts'
import { GCS_CONFIG_VARIABLE, type GcsProcessConfig } from '../src/runtime/node-config.ts'
import { resolveSystemConfig } from '../src/runtime/system-config.ts'
import type { GcsToNode, NodeState } from '../src/wire/cluster.ts'
import { type ActorSpec, type FromNode, PROTOCOL_VERSION, type ToNode } from '../src/wire/messages.ts'
import { sleep, tempDir, until } from './helpers.ts'

const children = new Set<ChildProcess>()
const ports = new Set<GcsPort>()
afterEach(async () => {
  for (const port of ports) port.close()
  ports.clear()
  await Promise.all([...children].map((child) => end(child, 'SIGKILL')))
})

interface GcsChild {
  readonly child: ChildProcess
  readonly port: number
}

async function startGcs(config: Partial<GcsProcessConfig> = {}): Promise<GcsChild> {
  const sessionDir = tempDir()
  const storage = { kind: 'lmdb', dir: path.join(sessionDir, 'gcs') } as const
  const system = resolveSystemConfig({}, {})
  const all = { clusterId: 'c1', host: '127.0.0.1', port: 0, token: null, system, sessionDir, storage, ...config }
  const env = { ...process.env, [GCS_CONFIG_VARIABLE]: JSON.stringify(all) }
  const child = spawn(process.execPath, ['dist/gcs.js'], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  children.add(child)
  child.on('close', () => children.delete(child))
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
  }
  await until(() => text.includes('\n') || child.exitCode !== null, 'the GCS is ready', 30_000)
  const ready = /^ready (\d+)$/m.exec(text)
  if (!ready) throw new Error(text)
  return { child, port: Number(ready[1]) }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  child.kill(signal)
  return ended
}

/** A node: registers whenever it is connected, and keeps what it hears. */
class Node {
  readonly heard: GcsToNode[] = []
  readonly answers = new Map<number, FromNode>()
  registrations = 0
  gone = ''
  readonly port: GcsPort
  readonly #state: NodeState

  constructor(nodeId: string, port: number, state: NodeState) {
    this.#state = state
    const cluster = { gcs: { host: '127.0.0.1', port }, host: '127.0.0.1', port: 0, isHead: true, token: null }
    this.port = new RemoteGcs(nodeId, { ...cluster, gcsReconnectTimeoutS: 30 }, resolveSystemConfig({}, {}), {
      onConnected: () =>
        this.port.send({
          ...{
            t: 'node.register',
            nodeId,
            protocol: PROTOCOL_VERSION,
            version: '',
            hostname: 'h',
            pid: 1,
            isHead: true,
          },
          ...{ address: { host: '127.0.0.1', port: 1 }, sessionDir: '', total: {}, labels: {}, state: this.#state },
        }),
      onMessage: (message) => this.#hear(message),
      onGone: (detail) => {
        this.gone = detail
      },
    })
    ports.add(this.port)
  }

  ask(message: ToNode): void {
    this.port.send({ t: 'forward', from: 1, message })
  }

  async answer(requestId: number): Promise<FromNode> {
    await until(() => this.answers.has(requestId), `an answer to ${requestId}`, 30_000)
    return this.answers.get(requestId) as FromNode
  }

  #hear(message: GcsToNode): void {
    if (message.t === 'ping') return this.port.send({ t: 'pong', count: message.count })
    if (message.t === 'node.registered') this.registrations++
    if (message.t === 'deliver' && 'requestId' in message.message) {
      this.answers.set(message.message.requestId, message.message)
    }
    this.heard.push(message)
  }
}

const ALONE: NodeState = {
  processes: Array.from({ length: 250 }, (_, i) => ({ tag: 1 + i, kind: 'driver', jobId: null })),
  ...{ actors: [], bundles: [], tagBlocks: [{ first: 1, count: 255 }] },
}

function detached(i: number): ActorSpec {
  const lease = { resources: { CPU: 10_000 }, strategy: { kind: 'DEFAULT' }, name: 'A', onInfeasible: 'wait' }
  return {
    ...{ actorId: `a${i}`, className: 'A', definition: 'fn:a', name: `n${i}`, namespace: 'ns', detached: true },
    ...{
      getIfExists: false,
      maxRestarts: 1,
      jobId: '01000000',
      owner: 1,
      handleId: i,
      placementResources: lease.resources,
    },
    ...{ lease, options: {}, args: new Uint8Array(10), argRefs: [] },
  } as unknown as ActorSpec
}

test('[ARCH-07][FT-05] killed 15 times while it works: every key, actor and job is there, no id was given twice', async () => {
  const sessionDir = tempDir()
  const storage = { kind: 'lmdb', dir: path.join(sessionDir, 'gcs') } as const
  let gcs = await startGcs({ sessionDir, storage })
  const { port } = gcs
  const node = new Node('n1', port, ALONE)
  let i = 0
  for (let life = 0; life < 15; life++) {
    await until(() => node.registrations > life, `the node is back after ${life} deaths`)
    const killAt = performance.now() + Math.random() * 60
    while (performance.now() < killAt) {
      i++
      node.ask({ t: 'kv.put', key: `k${i}`, value: Buffer.from(`v${i}`), overwrite: true })
      node.ask({ t: 'actor.create', spec: detached(i) })
      node.port.send({ t: 'job.begin', tag: 1 + (i % 250), namespace: 'ns', name: '', pid: 1 })
      await sleep(1)
    }
    node.ask({ t: 'kv.get', requestId: life, key: `k${i}`, wait: true })
    await end(gcs.child, 'SIGKILL')
    gcs = await startGcs({ sessionDir, storage, port })
  }
  node.ask({ t: 'kv.keys', requestId: 1000, prefix: 'k' })
  node.ask({ t: 'actor.list', requestId: 1001, allNamespaces: true, namespace: '' })
  node.ask({ t: 'actor.find', requestId: 1002, name: `n${i}`, namespace: 'ns' })
  const names = Array.from({ length: i }, (_, k) => k + 1)
  expect(await node.answer(1000)).toMatchObject({ keys: expect.arrayContaining(names.map((k) => `k${k}`)) })
  const { actors } = (await node.answer(1001)) as FromNode & { t: 'actor.listed' }
  expect(actors.map(({ actorId }) => actorId)).toEqual(names.map((k) => `a${k}`))
  expect(await node.answer(1002)).toMatchObject({ info: { actorId: `a${i}`, state: 'PENDING_CREATION' } })
  for (let life = 0; life < 15; life++) expect(await node.answer(life)).toMatchObject({ t: 'kv.value' })
  const made = node.heard.flatMap((message) => (message.t === 'job.made' ? [message] : []))
  const jobOf = new Map(made.map(({ tag, jobId }) => [tag, jobId]))
  expect(jobOf.size).toBe(Math.min(i, 250))
  expect(new Set(jobOf.values()).size).toBe(jobOf.size)
  for (const { tag, jobId } of made) expect(jobId).toBe(jobOf.get(tag))
  expect(new Set(node.heard.flatMap((one) => (one.t === 'node.registered' ? [one.clusterId] : [])))).toEqual(
    new Set(['c1']),
  )
  expect(node.registrations).toBeGreaterThanOrEqual(10)
  expect(await end(gcs.child, 'SIGTERM')).toBe(0)
}, 120_000)

test('[ARCH-07] a waiting question is answered by a put after a restart', async () => {
  const sessionDir = tempDir()
  const storage = { kind: 'lmdb', dir: path.join(sessionDir, 'gcs') } as const
  const first = await startGcs({ sessionDir, storage })
  const node = new Node('n1', first.port, ALONE)
  node.ask({ t: 'kv.get', requestId: 1, key: 'later', wait: true })
  node.ask({ t: 'kv.keys', requestId: 2, prefix: '' })
  await node.answer(2)
  await end(first.child, 'SIGKILL')
  await startGcs({ sessionDir, storage, port: first.port })
  node.ask({ t: 'kv.put', key: 'later', value: Buffer.from('now'), overwrite: true })
  expect(await node.answer(1)).toMatchObject({ t: 'kv.value', value: Buffer.from('now') })
})

test('[ARCH-07] without storage it starts anew; a second one on the same folder is refused', async () => {
  const sessionDir = tempDir()
  const storage = { kind: 'lmdb', dir: path.join(sessionDir, 'gcs') } as const
  await startGcs({ sessionDir, storage })
  await expect(startGcs({ sessionDir, storage })).rejects.toThrow('belongs to another GCS')
  await startGcs({ storage: null })
})
