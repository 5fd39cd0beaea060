// Connections between the processes of a cluster, over real sockets: 127.0.0.1, 127.0.0.2 and on as hosts, and between them proxies
// that cut and stall. Fails when a message is lost or doubled, a stranger gets in, or a refusal does not say why.

import crypto from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import * as ray from 'ray-ts'
import { expect, test } from 'vitest'
import { errorFromWire } from '../src/errors/index.ts'
import { isLoopback, isSameToken, makeAuthToken, readAuthToken } from '../src/runtime/auth-token.ts'
import { GcsLink } from '../src/runtime/gcs-link.ts'
import { GcsServer } from '../src/runtime/gcs-server.ts'
import { type PeerAddress, PeerLinks } from '../src/runtime/peer-link.ts'
import { type PeerEvents, TaskPeer } from '../src/runtime/task-peer.ts'
import { TcpListener } from '../src/runtime/tcp.ts'
import { encodeMessage } from '../src/wire/codec.ts'
import { PROTOCOL_VERSION, type WireError } from '../src/wire/messages.ts'
import type { LinkEnd, LinkSettings } from '../src/wire/resume.ts'
import { makeClosers, sleep, tempDir, until } from './helpers.ts'

const TOKEN = makeAuthToken()
const closers = makeClosers()

interface Numbered {
  readonly t: 'numbered'
  readonly n: number
  readonly bytes: Uint8Array
}

/** Stands before a port: everything that goes there can be cut, or held. */
class Gate {
  readonly #pairs = new Set<readonly [net.Socket, net.Socket]>()
  readonly #server: net.Server
  target: PeerAddress = { host: '', port: 0 }
  isStalled = false
  accepted = 0

  constructor() {
    this.#server = net.createServer((inner) => {
      this.accepted++
      const outer = net.connect(this.target)
      const pair = [inner, outer] as const
      this.#pairs.add(pair)
      const forward = (from: net.Socket, to: net.Socket): void => {
        from.on('data', (chunk) => !this.isStalled && to.write(chunk))
        from.on('error', () => {})
        from.on('close', () => {
          to.destroy()
          this.#pairs.delete(pair)
        })
        from.on('end', () => to.end())
      }
      forward(inner, outer)
      forward(outer, inner)
    })
  }

  async listen(host: string): Promise<PeerAddress> {
    await new Promise<void>((resolve) => this.#server.listen({ host, port: 0 }, resolve))
    closers.push(() => {
      this.#server.close()
      this.cut()
    })
    return { host, port: (this.#server.address() as net.AddressInfo).port }
  }

  cut(): void {
    for (const pair of [...this.#pairs]) for (const socket of pair) socket.destroy()
  }
}

interface Node {
  readonly links: PeerLinks<Numbered>
  readonly got: number[]
  readonly ends: LinkEnd[]
  readonly proxy: Gate
  readonly address: PeerAddress
  readonly listener: TcpListener
}

async function startNode(
  nodeId: string,
  host: string,
  settings: Partial<LinkSettings> = {},
  token: string = TOKEN,
): Promise<Node> {
  const proxy = new Gate()
  const address = await proxy.listen(host)
  const got: number[] = []
  const ends: LinkEnd[] = []
  const links: PeerLinks<Numbered> = new PeerLinks<Numbered>(
    { nodeId, address, token, settings },
    {
      onMessage: (_, message) => got.push(message.n),
      onEnded: (_, end) => ends.push(end),
    },
  )
  const listener = await TcpListener.listen({ host, port: 0, token, purposes: { peer: links.accept } })
  proxy.target = { host, port: listener.port }
  closers.push(
    () => listener.close(),
    () => links.close(),
  )
  return { links, got, ends, proxy, address, listener }
}

const numbered = (n: number, size: number): Numbered => ({ t: 'numbered', n, bytes: new Uint8Array(size) })
const counted = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1)

test('[ARCH-21] messages between nodes arrive once and in order, cut at random moments', async () => {
  const a = await startNode('a', '127.0.0.1')
  const b = await startNode('b', '127.0.0.2')
  const COUNT = 3000
  for (let n = 1; n <= COUNT; n++) {
    const size = n % 500 === 0 ? 400_000 : n % 50
    a.links.send('b', numbered(n, size), b.address)
    b.links.send('a', numbered(n, size), a.address)
    if (n % 20 === 0) await sleep(1)
    if (crypto.randomInt(60) === 0) a.proxy.cut()
    if (crypto.randomInt(60) === 0) b.proxy.cut()
  }
  await until(() => a.got.length >= COUNT && b.got.length >= COUNT, 'everything has arrived', 30_000)
  expect(a.got).toEqual(counted(COUNT))
  expect(b.got).toEqual(counted(COUNT))
  const isSettled = (node: Node): boolean => [...node.links].every(({ keptBytes }) => keptBytes === 0)
  await until(() => isSettled(a) && isSettled(b), 'everything is acknowledged')
  expect(a.proxy.accepted + b.proxy.accepted).toBeGreaterThan(5)
})

test('[ARCH-21] a connection on which nothing goes any more, though it is open, is replaced', async () => {
  const settings = { pulseMs: 50, silenceMs: 300, connectTimeoutMs: 500 }
  const a = await startNode('a', '127.0.0.1', settings)
  const b = await startNode('b', '127.0.0.2', settings)
  a.links.send('b', numbered(1, 0), b.address)
  await until(() => b.got.length === 1, 'the first has arrived')
  a.proxy.isStalled = true
  b.proxy.isStalled = true
  a.links.send('b', numbered(2, 0))
  b.links.send('a', numbered(1, 0))
  await until(() => [...a.links, ...b.links].every(({ isConnected }) => !isConnected), 'both have given it up')
  a.proxy.isStalled = false
  b.proxy.isStalled = false
  await until(() => b.got.length === 2 && a.got.length === 1, 'the others have arrived')
  expect([a.got, b.got]).toEqual([[1], [1, 2]])
})

test('[ARCH-21] an ended link stays ended; the other end hears of it', async () => {
  const a = await startNode('a', '127.0.0.1')
  const b = await startNode('b', '127.0.0.2')
  a.links.send('b', numbered(1, 0), b.address)
  await until(() => b.got.length === 1, 'the first has arrived')
  a.links.end('b', 'it was declared dead')
  a.links.send('b', numbered(2, 0))
  b.links.send('a', numbered(1, 0))
  await until(() => b.ends.length === 1, 'b has heard of it')
  expect(b.ends[0]).toMatchObject({ by: 'peer', detail: 'it was declared dead' })
  expect([a.ends, a.got, b.got]).toEqual([[], [], [1]])

  const c = await startNode('c', '127.0.0.3')
  a.links.end('c', 'it was declared dead')
  c.links.send('a', numbered(1, 0), a.address)
  await until(() => c.ends.length === 1, 'c has heard of it')
  expect(c.ends[0]).toMatchObject({ by: 'refused', error: { params: { message: /it was declared dead/ } } })
  expect(a.got).toEqual([])
})

test('[ARCH-21] an address that has passed to another node is no link to it', async () => {
  const a = await startNode('a', '127.0.0.1')
  const b = await startNode('b', '127.0.0.2')
  a.links.send('other', numbered(1, 0), b.address)
  await until(() => a.ends.length === 1, 'a was refused')
  expect(a.ends[0]?.error?.params.message).toBe('the node other is not at this address')
  expect(b.got).toEqual([])
})

test('[ARCH-21] a wrong token is refused with an AuthenticationError', async () => {
  const a = await startNode('a', '127.0.0.1', {}, 'not the token')
  const b = await startNode('b', '127.0.0.2')
  a.links.send('b', numbered(1, 0), b.address)
  await until(() => a.ends.length === 1, 'a was refused')
  const error = errorFromWire(a.ends[0]?.error as WireError)
  expect(error).toBeInstanceOf(ray.exceptions.AuthenticationError)
  expect(error).toMatchObject({ code: 'AUTH_TOKEN_WRONG' })
  expect(JSON.stringify(a.ends)).not.toContain(TOKEN)
  expect(b.got).toEqual([])
})

test('[ARCH-21] beyond loopback nothing listens without a token', async () => {
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.invalid']) {
    const listening = TcpListener.listen({ host, port: 0, token: null, purposes: {} })
    await expect(listening).rejects.toMatchObject({ code: 'AUTH_TOKEN_MISSING' })
  }
  for (const host of ['127.0.0.1', '127.8.0.9', 'localhost', '::1']) expect(isLoopback(host)).toBe(true)
  for (const host of ['127.0.0.1.example', '10.127.0.0', '0.0.0.0', '']) expect(isLoopback(host)).toBe(false)
})

test('[ARCH-21] the token comes from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, in this order', () => {
  const home = tempDir()
  const named = path.join(home, 'named')
  expect(readAuthToken({ HOME: home })).toBe(null)
  fs.mkdirSync(path.join(home, '.ray'))
  fs.writeFileSync(path.join(home, '.ray', 'auth_token'), 'from home\n')
  expect(readAuthToken({ HOME: home })).toBe('from home')
  expect(() => readAuthToken({ HOME: home, RAY_AUTH_TOKEN_PATH: named })).toThrow(/holds no token/)
  fs.writeFileSync(named, ' from file ')
  expect(readAuthToken({ HOME: home, RAY_AUTH_TOKEN_PATH: named })).toBe('from file')
  expect(readAuthToken({ HOME: home, RAY_AUTH_TOKEN_PATH: named, RAY_AUTH_TOKEN: 'said' })).toBe('said')
  expect(readAuthToken({ HOME: home, RAY_AUTH_TOKEN: ' ' })).toBe('from home')
  expect([isSameToken('x', 'x'), isSameToken('x', 'y'), isSameToken('x', ''), isSameToken('x', undefined)]).toEqual([
    true,
    false,
    false,
    false,
  ])
})

/** Says one thing, and collects what comes until the other end closes. */
function talk(port: number, bytes: Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port }, () => socket.write(bytes))
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
  })
}

function framed(message: { t: string }): Buffer {
  const body = encodeMessage(message)
  const head = Buffer.alloc(4)
  head.writeUInt32LE(body.length)
  return Buffer.concat([head, body])
}

test('[ARCH-21] another version, another purpose and strangers get a clear answer or none, and nothing else', async () => {
  const { listener } = await startNode('a', '127.0.0.1')
  const greeting = {
    t: 'greeting',
    purpose: 'peer',
    protocol: PROTOCOL_VERSION,
    token: TOKEN,
    nodeId: 'b',
    detail: null,
  }
  expect(await talk(listener.port, framed({ ...greeting, protocol: 999 } as { t: string }))).toMatch(
    /refused.*PROTOCOL_MISMATCH/s,
  )
  expect(await talk(listener.port, framed({ ...greeting, purpose: 'gcs' } as { t: string }))).toMatch(
    /refused.*does not take such/s,
  )
  // The token first: who has none learns nothing.
  expect(await talk(listener.port, framed({ ...greeting, protocol: 999, token: '' } as { t: string }))).toMatch(
    /refused.*AUTH_TOKEN_WRONG/s,
  )
  expect(await talk(listener.port, Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))).toBe('')
  expect(await talk(listener.port, Buffer.from([4, 0, 0, 0, 1, 2, 3, 4]))).toBe('')
})

type ToGcs = { readonly t: 'register' | 'pong'; readonly count: number }
type FromGcs = { readonly t: 'ping'; readonly count: number }

test('[ARCH-21] a raylet registers anew on each connection to the GCS, and its last connection counts', async () => {
  const proxy = new Gate()
  const address = await proxy.listen('127.0.0.1')
  const log: string[] = []
  const server: GcsServer<ToGcs, FromGcs> = await GcsServer.listen<ToGcs, FromGcs>(
    { host: '127.0.0.1', port: 0, token: TOKEN },
    {
      onMessages: (nodeId, messages) => {
        for (const { t, count } of messages) {
          log.push(`${nodeId} ${t} ${count}`)
          server.send(nodeId, { t: 'ping', count })
        }
      },
      onClose: (nodeId) => log.push(`${nodeId} closed`),
    },
  )
  closers.push(() => server.close())
  proxy.target = { host: '127.0.0.1', port: server.port }
  const pings: number[] = []
  let registered = 0
  const link: GcsLink<FromGcs, ToGcs> = new GcsLink<FromGcs, ToGcs>(
    { ...address, token: TOKEN, nodeId: 'a', reconnectMs: 30_000 },
    {
      onConnected: () => link.send({ t: 'register', count: ++registered }),
      onMessage: ({ count }) => pings.push(count),
      onRefused: (error) => log.push(error.code),
      onGone: () => log.push('gone'),
    },
  )
  closers.push(() => link.close())
  for (const round of [1, 2, 3]) {
    await until(() => pings.length === round, `it is connected for the ${round}. time`)
    proxy.cut()
    await until(() => log.filter((line) => line === 'a closed').length === round, 'the GCS has noticed')
  }
  expect(log.filter((line) => !line.endsWith('closed'))).toEqual(['a register 1', 'a register 2', 'a register 3'])
})

test('[ARCH-21] a raylet gives a GCS up that does not come back in time, and one that does not want it at once', async () => {
  const outcomes: string[] = []
  const events = (name: string) => ({
    onConnected: () => outcomes.push(`${name} connected`),
    onMessage: () => {},
    onRefused: (error: WireError) => outcomes.push(`${name} ${error.code}`),
    onGone: () => outcomes.push(`${name} gone`),
  })
  const server = await GcsServer.listen({ host: '127.0.0.1', port: 0, token: TOKEN }, { onMessages() {}, onClose() {} })
  const { port } = server
  const options = { host: '127.0.0.1', port, nodeId: 'a', reconnectMs: 300 }
  const stranger = new GcsLink({ ...options, token: 'no' }, events('stranger'))
  await until(() => outcomes.length === 1, 'the stranger is refused')
  const link = new GcsLink({ ...options, token: TOKEN, silenceMs: 60_000 }, events('link'))
  await until(() => outcomes.length === 2, 'the other is connected')
  server.close()
  await until(() => outcomes.length === 3, 'it has given the GCS up')
  expect(outcomes).toEqual(['stranger AUTH_TOKEN_WRONG', 'link connected', 'link gone'])
  stranger.close()
  link.close()
})

test('[ARCH-21] tasks go by the Unix socket on one node and by TCP between nodes, where a greeting comes first', async () => {
  const folder = tempDir()
  const log: string[] = []
  const hear = (name: string): PeerEvents => ({
    onFrame: (_, buffer, start) => log.push(`${name} frame ${buffer[start]} of ${buffer.readUInt32LE(start + 1)}`),
    onClose: () => log.push(`${name} closed`),
  })
  const socket = path.join(folder, 'worker')
  const near = net.createServer((socket) => new TaskPeer(socket, -1, hear('near')))
  const far = net.createServer((socket) => TaskPeer.accept(socket, TOKEN, hear('far')))
  await new Promise<void>((resolve) => near.listen(socket, resolve))
  await new Promise<void>((resolve) => far.listen({ host: '127.0.0.1', port: 0 }, resolve))
  const { port } = far.address() as net.AddressInfo
  const address = { tag: 7, workerId: 'w', pid: 1, socket, tcp: { host: '127.0.0.1', port }, nodeId: 'a' }
  const owners = [
    TaskPeer.connect(address, { tag: 1, nodeId: 'a', token: TOKEN }, hear('owner 1')),
    TaskPeer.connect(address, { tag: 2, nodeId: 'b', token: TOKEN }, hear('owner 2')),
    TaskPeer.connect(address, { tag: 3, nodeId: 'b', token: 'not the token' }, hear('owner 3')),
    TaskPeer.connect(
      { ...address, tcp: { host: '127.0.0.1', port: 1 } },
      { tag: 4, nodeId: 'b', token: TOKEN },
      hear('owner 4'),
    ),
  ]
  closers.push(
    () => near.close(),
    () => far.close(),
    ...owners.map((owner) => () => owner.close()),
  )
  await until(() => log.length >= 5, 'all are answered')
  expect(log.sort()).toEqual([
    'far closed',
    'far frame 1 of 2',
    'near frame 1 of 1',
    'owner 3 closed',
    'owner 4 closed',
  ])
})
