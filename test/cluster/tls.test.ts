// TLS between the processes of a cluster, by Ray's variables. Failure here looks like a stranger who is let in, words on the wire that
// anybody can read, or a node that is refused and does not hear why.

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import tls from 'node:tls'
import * as ray from 'ray-ts'
import { Cluster, type ClusterNode } from 'ray-ts/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { greetingFrame } from '../../src/runtime/tcp.ts'
import { decodeMessage } from '../../src/wire/codec.ts'
import { tempDir } from '../helpers.ts'
import { endAll, otherTempDir, ray as run, startHead } from './processes.ts'

const fixture = (name: string): string => path.resolve('test/fixtures/tls', name)
function tlsEnv(name: string, ca = 'ca'): Record<string, string> {
  return {
    RAY_USE_TLS: '1',
    RAY_TLS_SERVER_CERT: fixture(`${name}.crt`),
    RAY_TLS_SERVER_KEY: fixture(`${name}.key`),
    RAY_TLS_CA_CERT: fixture(`${ca}.crt`),
  }
}
const OWN = tlsEnv('node')
const PLAIN = { RAY_USE_TLS: '0' }
Object.assign(process.env, OWN) // Of this driver too, and of all that it starts; before ray looks.

describe('a cluster with TLS', () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await Cluster.start({ nodes: [{ resources: { far: 2 }, host: { address: '127.0.0.2' } }] })
    await cluster.connect({ logToDriver: false })
  })
  afterAll(() => cluster.shutdown())

  test('[SEC-01] tasks, actors and large values go from node to node', async () => {
    const [, far] = cluster.nodes as [ClusterNode, ClusterNode]
    const onFar = { resources: { far: 1 } }
    const where = ray.remote(() => ray.getRuntimeContext().getNodeId()).options(onFar)
    expect(await ray.get(where.remote())).toBe(far.nodeId)
    const bytes = await ray.get(
      ray
        .remote((n: number) => new Uint8Array(n).fill(7))
        .options(onFar)
        .remote(20_000_000),
    )
    expect([bytes.length, bytes.every((byte) => byte === 7)]).toEqual([20_000_000, true])
    const sum = ray.remote((all: Uint8Array) => all.reduce((total, byte) => total + byte, 0)).options(onFar)
    expect(await ray.get(sum.remote(ray.put(new Uint8Array(20_000_000).fill(1))))).toBe(20_000_000)
    class Echo {
      say(text: string): string {
        return text
      }
    }
    const echo = ray.remote(Echo).options(onFar).remote()
    expect(await ray.get(Array.from({ length: 100 }, (_, i) => echo.say.remote(`${i}`)))).toHaveLength(100)
  })

  /** What the GCS answers to who connects with this and greets it. */
  async function answerTo(connect: (port: number) => net.Socket): Promise<unknown> {
    const { RAY_AUTH_TOKEN = '' } = cluster.env()
    const socket = connect(Number(cluster.address.split(':')[1]))
    socket.write(greetingFrame({ purpose: 'status', token: RAY_AUTH_TOKEN, nodeId: '', detail: null }))
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.on('error', () => {})
    await new Promise((resolve) => socket.once('close', resolve))
    return decodeMessage(Buffer.concat(chunks).subarray(4))
  }

  test('[SEC-01] who speaks no TLS, or has no certificate of the same authority, is told so and no more, whatever token it has', async () => {
    const ca = fs.readFileSync(fixture('ca.crt'))
    const { key, cert } = { key: fs.readFileSync(fixture('other.key')), cert: fs.readFileSync(fixture('other.crt')) }
    const host = '127.0.0.1'
    const refused = (detail: RegExp): unknown => {
      return { t: 'refused', error: { code: 'TLS_REFUSED', params: { detail: expect.stringMatching(detail) } } }
    }
    expect(await answerTo((port) => net.connect({ host, port }))).toEqual(refused(/^this cluster speaks TLS only$/))
    expect(await answerTo((port) => tls.connect({ host, port, ca }))).toEqual(refused(/^your certificate is not acc/))
    expect(await answerTo((port) => tls.connect({ host, port, ca, cert, key }))).toEqual(
      refused(/^your certificate is not accepted: .*(ISSUER|VERIFY)/),
    )
  })

  test('[SEC-01] commands hear at once why they are refused', async () => {
    const status = (env: Record<string, string>) => {
      const { RAY_AUTH_TOKEN = '' } = cluster.env()
      return run(['status', `--address=${cluster.address}`], { RAY_AUTH_TOKEN, ...env })
    }
    expect((await status(OWN)).out).toMatch(/^Active:\n 1 node_/m)
    const wrong: [Record<string, string>, RegExp][] = [
      [PLAIN, /no secure connection: this cluster speaks TLS only\n +Everyone in a cluster needs RAY_USE_TLS=1/],
      [tlsEnv('other', 'other-ca'), /no secure connection: the other end's certificate is not accepted/],
      [tlsEnv('other'), /no secure connection: your certificate is not accepted/],
    ]
    for (const [env, message] of wrong) {
      const { code, err } = await status(env)
      expect([code, err]).toEqual([1, expect.stringMatching(message)])
    }
  })

  test('[SEC-01] a node without TLS, or of another authority, does not join, and says why', async () => {
    const { RAY_AUTH_TOKEN = '' } = cluster.env()
    for (const [env, message] of [
      [PLAIN, /this cluster speaks TLS only/],
      [tlsEnv('other', 'other-ca'), /certificate is not accepted/],
    ] as const) {
      const args = ['start', `--address=${cluster.address}`, '--num-cpus=1', `--temp-dir=${otherTempDir('n')}`]
      const { code, err } = await run(args, { RAY_AUTH_TOKEN, ...env })
      expect([code, err]).toEqual([1, expect.stringMatching(message)])
    }
    expect((await ray.nodes()).filter(({ Alive }) => Alive)).toHaveLength(2)
  })
})

describe('heads', () => {
  afterAll(() => endAll())

  test('[SEC-01] who speaks TLS to a cluster without hears so; a certificate must name the address that is dialled', async () => {
    const plain = await startHead(['--num-cpus=1'], PLAIN)
    const toPlain = await run(['status', `--address=${plain}`], OWN)
    expect([toPlain.code, toPlain.err]).toEqual([1, expect.stringMatching(/the other end does not speak TLS/)])
    await endAll()
    const elsewhere = await run(['start', '--head', '--port=0', '--num-cpus=1'], tlsEnv('elsewhere'))
    expect([elsewhere.code, elsewhere.err]).toEqual([1, expect.stringMatching(/does not match certificate's altnames/)])
  })

  test('[SEC-01] files that are missing, or are not what they should be, are named at once', async () => {
    const file = path.join(tempDir(), 'empty.pem')
    fs.writeFileSync(file, 'nothing')
    const wrong: [Record<string, string>, RegExp][] = [
      [{ RAY_TLS_CA_CERT: '' }, /RAY_USE_TLS is on, and RAY_TLS_CA_CERT is not right: it is not set/],
      [{ RAY_TLS_SERVER_KEY: '/nowhere' }, /RAY_TLS_SERVER_KEY is not right: \/nowhere cannot be read/],
      [{ RAY_TLS_SERVER_CERT: file }, /RAY_TLS_SERVER_CERT is not right: .*empty\.pem: /],
      [{ RAY_TLS_SERVER_KEY: fixture('other.key') }, /RAY_TLS_SERVER_KEY is not right: .*key values mismatch/],
    ]
    for (const [env, message] of wrong) {
      const { code, err } = await run(['start', '--head', '--port=0'], { ...OWN, ...env })
      expect([code, err]).toEqual([1, expect.stringMatching(message)])
    }
  })
})
