// Hosts on one machine: network namespaces with addresses of their own, joined by a bridge, so that what lies between them can be cut.
//
//     this process ── 10.213.n.1 ──┐
//     host 0 ─ 10.213.n.2 ─ veth ──┤ bridge (in a namespace of its own)
//     host 1 ─ 10.213.n.3 ─ veth ──┘
//
// A host that is slow has delay.py between its veth and the bridge.
//
// Where namespaces cannot be made (not root, no iproute2), hosts are the loopback addresses 127.0.n.2, 127.0.n.3, …, and nothing can be
// cut: `cannot` says why, for the tests to skip with.
//
//   H1. Everything made here is gone after `close`, or after this process has ended, however it ended: a watchdog reads a pipe from it.
//   H2. Packets that are cut are dropped without a word, as by a cable that is out.

import { type ChildProcess, type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import type { Readable, Writable } from 'node:stream'

export interface Host {
  readonly name: string
  readonly address: string
  /** Goes before a command that is to run there. */
  readonly prefix: readonly string[]
}

/** A process of delay.py. */
type Cable = ChildProcessByStdio<Writable, Readable, null>

interface Rule {
  readonly at: string
  readonly from: string
}

const PREFIX = 'rayts'
const DELAY_PROGRAM = path.join(import.meta.dirname, 'delay.py')
/** Names are not used again: the kernel is not done with a namespace when its name is gone. */
let made = 0

export class Hosts {
  readonly hosts: readonly Host[]
  /** null: links can be cut; else why not. */
  readonly cannot: string | null
  readonly #mark: string
  #watchdog: ChildProcess | null = null
  #rules: Rule[] = []
  readonly #slow = new Map<Host, Cable>()

  private constructor(hosts: readonly Host[], mark: string, cannot: string | null) {
    this.hosts = hosts
    this.#mark = mark
    this.cannot = cannot
  }

  static make(count: number): Hosts {
    const cannot = whyNot()
    const number = process.pid % 250
    if (cannot !== null) {
      const loopback = Array.from({ length: count }, (_, i) => {
        return { name: `host ${i}`, address: `127.0.${number + 1}.${i + 2}`, prefix: [] }
      })
      return new Hosts(loopback, '', cannot)
    }
    const mark = `${PREFIX}${process.pid}-${++made}`
    const net = freeNet(number)
    const names = Array.from({ length: count }, (_, i) => `${mark}-${i}`)
    const hosts = names.map((name, i) => {
      const prefix = ['nsenter', `--net=/run/netns/${name}`, '--']
      return { name, address: `${net}.${i + 2}`, prefix }
    })
    const built = new Hosts(hosts, mark, null)
    built.#watch([`${mark}-hub`, ...names])
    try {
      built.#build(net)
    } catch (error) {
      built.close()
      throw error
    }
    return built
  }

  /** One can be cut: for `test.skipIf`. */
  static whyNot(): string | null {
    return whyNot()
  }

  host(index: number): Host {
    const host = this.hosts[index]
    if (!host) throw new Error(`there are ${this.hosts.length} hosts, and none is ${index}`)
    return host
  }

  #build(net: string): void {
    const hub = `${this.#mark}-hub`
    ip('netns', 'add', hub)
    ip('-n', hub, 'link', 'add', 'bridge', 'type', 'bridge')
    ip('-n', hub, 'link', 'set', 'bridge', 'up')
    // This process: a leg of the bridge that is in no namespace.
    const own = `rv${process.pid}-${made}`
    ip('link', 'add', own, 'type', 'veth', 'peer', 'name', 'own', 'netns', hub)
    ip('address', 'add', `${net}.1/24`, 'dev', own)
    ip('link', 'set', own, 'up')
    ip('-n', hub, 'link', 'set', 'own', 'master', 'bridge', 'up')
    this.hosts.forEach(({ name, address }, i) => {
      ip('netns', 'add', name)
      ip('-n', name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', `leg${i}`, 'netns', hub)
      ip('-n', name, 'address', 'add', `${address}/24`, 'dev', 'eth0')
      ip('-n', name, 'link', 'set', 'lo', 'up')
      ip('-n', name, 'link', 'set', 'eth0', 'up')
      ip('-n', hub, 'link', 'set', `leg${i}`, 'master', 'bridge', 'up')
    })
  }

  /** Nothing passes between two hosts. */
  cut(a: Host, b: Host): void {
    this.cutOneWay(a, b)
    this.cutOneWay(b, a)
  }

  /** What `from` sends to `to` does not arrive. */
  cutOneWay(from: Host, to: Host): void {
    this.#drop('-I', { at: to.name, from: from.address })
    this.#rules.push({ at: to.name, from: from.address })
  }

  /** Everything that was cut is whole again; links that are down stay down. */
  heal(): void {
    for (const rule of this.#rules.splice(0)) this.#drop('-D', rule)
  }

  #drop(how: '-I' | '-D', { at, from }: Rule): void {
    run('nsenter', `--net=/run/netns/${at}`, '--', 'iptables', '-w', how, 'INPUT', '-s', from, '-j', 'DROP')
  }

  /** Pulls the cable of a host out, or puts it in again. */
  link(host: Host, state: 'up' | 'down'): void {
    ip('-n', `${this.#mark}-hub`, 'link', 'set', `leg${this.hosts.indexOf(host)}`, state)
  }

  /**
   * Everything that a host sends takes so much longer from now on; 0: no longer. Throws where `whyNoDelay` says why. One call at a time
   * for a host.
   */
  async delay(host: Host, ms: number): Promise<void> {
    const cable = this.#slow.get(host)
    if (ms > 0) await say(cable ?? (await this.#slowDown(host)), `${ms}\n`)
    else if (cable) await this.#speedUp(host, cable)
  }

  async #slowDown(host: Host): Promise<Cable> {
    const [hub, i] = [`${this.#mark}-hub`, this.hosts.indexOf(host)]
    ip('-n', hub, 'link', 'add', `in${i}`, 'type', 'veth', 'peer', 'name', `out${i}`)
    ip('-n', hub, 'link', 'set', `out${i}`, 'up')
    const command = [`--net=/run/netns/${hub}`, '--', 'python3', DELAY_PROGRAM, `leg${i}`, `out${i}`]
    const cable = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#slow.set(host, cable)
    // Only when it has started: what is sent between this and its first delay is lost.
    await say(cable, '')
    ipBatch(hub, [`link set leg${i} nomaster`, `link set in${i} master bridge up`])
    return cable
  }

  async #speedUp(host: Host, cable: Cable): Promise<void> {
    const [hub, i] = [`${this.#mark}-hub`, this.hosts.indexOf(host)]
    this.#slow.delete(host)
    await say(cable, '0\n')
    ipBatch(hub, [`link set in${i} nomaster`, `link set leg${i} master bridge`])
    cable.stdin.end()
    await once(cable, 'exit')
    ip('-n', hub, 'link', 'del', `in${i}`)
  }

  /** Null, or why `delay` throws. */
  static whyNoDelay(): string | null {
    knownOfDelays ??= { why: whyNot() ?? probeDelays() }
    return knownOfDelays.why
  }

  /** H1. Whatever runs in the hosts is killed. */
  close(): void {
    if (!this.#watchdog) return
    this.#watchdog.stdin?.destroy()
    this.#watchdog = null
    this.#slow.clear()
    removeNamespaces([...this.hosts.map(({ name }) => name), `${this.#mark}-hub`])
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** H1. In a session of its own: it outlives the group of a test that is killed. */
  #watch(names: readonly string[]): void {
    const script = `cat > /dev/null; ${names.map(removal).join('; ')}`
    this.#watchdog = spawn('sh', ['-c', script], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    this.#watchdog.unref()
    ;(this.#watchdog.stdin as unknown as { unref?: () => void }).unref?.()
  }
}

/** Resolves with its answer; fails when it ends instead. */
async function say(cable: Cable, line: string): Promise<void> {
  const answer = new Promise<void>((resolve, reject) => {
    cable.stdout.once('data', () => resolve())
    cable.once('exit', (code) => reject(new Error(`delay.py has ended: ${code}`)))
  })
  cable.stdin.write(line)
  await answer
}

function removal(name: string): string {
  return `[ -e /run/netns/${name} ] && { ip netns pids ${name} | xargs -r kill -9; ip netns del ${name}; }`
}

function removeNamespaces(names: readonly string[]): void {
  run('sh', '-c', `${names.map(removal).join('; ')}; true`)
}

/** Three numbers of a network that nothing here uses. */
function freeNet(first: number): string {
  for (let i = 0; i < 250; i++) {
    const net = `10.213.${(first + i) % 250}`
    if (ip('-4', 'route', 'show', `${net}.0/24`).trim() === '') return net
  }
  throw new Error('all networks 10.213.0.0/24 to 10.213.249.0/24 are in use')
}

let known: { readonly why: string | null } | null = null
let knownOfDelays: { readonly why: string | null } | null = null

function whyNot(): string | null {
  known ??= { why: probe() }
  return known.why
}

function probeDelays(): string | null {
  try {
    run('python3', '-c', 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).setsockopt(263, 15, 1)')
    return null
  } catch (error) {
    return `no delays without python3 and packet sockets: ${(error as Error).message.trim().split('\n').at(-1)}`
  }
}

function probe(): string | null {
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  for (const tool of ['ip', 'nsenter', 'iptables']) {
    const isThere = (process.env.PATH ?? '').split(':').some((folder) => fs.existsSync(`${folder}/${tool}`))
    if (!isThere) return `'${tool}' is not installed`
  }
  const name = `${PREFIX}${process.pid}-probe`
  try {
    ip('netns', 'add', name)
    ip('-n', name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
    run('nsenter', `--net=/run/netns/${name}`, '--', 'iptables', '-w', '-I', 'INPUT', '-s', '10.213.0.1', '-j', 'DROP')
    return null
  } catch (error) {
    return `network namespaces do not work here: ${(error as Error).message.trim().split('\n').at(-1)}`
  } finally {
    removeNamespaces([name])
  }
}

/** In one process, with as little time between them as can be. */
function ipBatch(namespace: string, lines: readonly string[]): void {
  execFileSync('ip', ['-n', namespace, '-batch', '-'], { input: lines.join('\n'), stdio: ['pipe', 'pipe', 'pipe'] })
}

function ip(...args: string[]): string {
  return run('ip', ...args)
}

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
