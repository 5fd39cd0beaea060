// Fails when what the cluster tests cut is not cut, or when a test leaves namespaces or links behind.

import { execFileSync, spawn } from 'node:child_process'
import path from 'node:path'
import { expect, test } from 'vitest'
import { isAlive, makeClosers, until } from '../helpers.ts'
import { type Host, Hosts } from './netns.ts'

const cannot = Hosts.whyNot()
const cannotDelay = Hosts.whyNoDelay()
const closers = makeClosers()

function make(count: number): Hosts {
  const hosts = Hosts.make(count)
  closers.push(() => hosts.close())
  return hosts
}

const SERVE = `require('net').createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(7000, process.argv[1], () => console.log('up'))`
const ASK = `
const began = performance.now()
const socket = require('net').connect({ host: process.argv[1], port: 7000 })
setTimeout(() => { console.log('nothing'); process.exit() }, process.argv[2])
socket.on('error', () => { console.log('refused'); process.exit() })
socket.on('data', () => { console.log(performance.now() - began); process.exit() })
socket.write('x')`

async function serve(host: Host): Promise<void> {
  const [command = '', ...rest] = [...host.prefix, process.execPath, '-e', SERVE, host.address]
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
  closers.push(() => child.kill('SIGKILL'))
  await new Promise((resolve) => child.stdout.once('data', resolve))
}

/** How long an answer from there takes, in ms; Infinity: none came. */
function ask(from: Host, to: Host, withinMs = 500): number {
  const [command = '', ...rest] = [...from.prefix, process.execPath, '-e', ASK, to.address, `${withinMs}`]
  const answer = execFileSync(command, rest, { encoding: 'utf8' }).trim()
  return answer === 'nothing' || answer === 'refused' ? Number.POSITIVE_INFINITY : Number(answer)
}

/** Those that a process made, not those of other tests that run beside it. */
function namespacesOf(pid: number | undefined): string[] {
  return execFileSync('ip', ['netns', 'list'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    .split('\n')
    .filter((line) => line.startsWith(`rayts${pid}-`))
}

function pidsIn(namespace: string): number[] {
  const pids = execFileSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' })
  return pids.split('\n').filter(Boolean).map(Number)
}

test('[EXTRA-50] hosts have addresses of their own and reach each other', async () => {
  const hosts = make(2)
  const [a, b] = [hosts.host(0), hosts.host(1)]
  await serve(b)
  expect(ask(a, b)).toBeLessThan(500)
  expect(new Set(hosts.hosts.map(({ address }) => address)).size).toBe(2)
})

test.skipIf(cannot !== null)(
  `[EXTRA-50] links are cut, both ways and one way, and heal (${cannot ?? 'as root'})`,
  async () => {
    const hosts = make(3)
    const [a, b, c] = [hosts.host(0), hosts.host(1), hosts.host(2)]
    await Promise.all([serve(a), serve(b)])
    hosts.cut(a, b)
    expect([ask(a, b), ask(b, a)]).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY])
    expect(ask(c, b)).toBeLessThan(500)
    hosts.heal()
    expect(ask(a, b)).toBeLessThan(500)
    hosts.cutOneWay(b, a)
    expect(ask(a, b)).toBe(Number.POSITIVE_INFINITY)
    hosts.heal()
    hosts.link(b, 'down')
    expect(ask(c, b)).toBe(Number.POSITIVE_INFINITY)
    hosts.link(b, 'up')
    await until(() => ask(c, b) < 500, 'the link is up again')
  },
)

test.skipIf(cannotDelay !== null)(
  `[EXTRA-50] a host is slow for a while, and can be cut off meanwhile (${cannotDelay ?? 'as root'})`,
  async () => {
    const hosts = make(2)
    const [a, b] = [hosts.host(0), hosts.host(1)]
    await serve(b)
    await hosts.delay(b, 100)
    // Two answers: of the connection, and of the data.
    const slow = async (ms: number): Promise<void> => {
      const tookMs = ask(a, b, 20_000)
      expect(tookMs).toBeGreaterThanOrEqual(2 * ms)
      expect(tookMs).toBeLessThan(Number.POSITIVE_INFINITY)
    }
    await slow(100)
    await hosts.delay(b, 200)
    await slow(200)
    hosts.cut(a, b)
    expect(ask(a, b, 700)).toBe(Number.POSITIVE_INFINITY)
    hosts.heal()
    hosts.link(b, 'down')
    expect(ask(a, b, 700)).toBe(Number.POSITIVE_INFINITY)
    hosts.link(b, 'up')
    await until(() => ask(a, b, 2000) < Number.POSITIVE_INFINITY, 'the link is up again')
    await slow(200)
    await hosts.delay(b, 0)
    await until(() => ask(a, b) < 200, 'it is slow no more')
  },
)

test.skipIf(cannot !== null)(`[EXTRA-50] nothing is left, also after kill -9 (${cannot ?? 'as root'})`, async () => {
  const file = path.resolve('test/cluster/netns.ts')
  const program = `
    const { Hosts } = await import(${JSON.stringify(file)})
    const { spawn } = await import('node:child_process')
    const hosts = Hosts.make(2)
    if (Hosts.whyNoDelay() === null) await hosts.delay(hosts.host(1), 100)
    const [command, ...rest] = [...hosts.host(1).prefix, 'sleep', '1000']
    console.log(spawn(command, rest, { stdio: 'ignore', detached: true }).pid)
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const pid = await new Promise<number>((resolve) =>
    child.stdout.once('data', (chunk) => resolve(Number(String(chunk)))),
  )
  expect(namespacesOf(child.pid).length).toBe(3)
  const pids = [pid, ...pidsIn(`rayts${child.pid}-1-hub`)]
  expect(pids.length).toBe(cannotDelay === null ? 2 : 1)
  child.kill('SIGKILL')
  await until(() => namespacesOf(child.pid).length === 0, 'the namespaces are gone')
  await until(() => !pids.some(isAlive), 'what ran in them is gone')
  const hosts = Hosts.make(2)
  expect(namespacesOf(process.pid).length).toBe(3)
  hosts.close()
  expect(namespacesOf(process.pid)).toEqual([])
})
