// `ray start`, `status`, `stop`, `health-check`, with real processes. Failure here looks like a command that says it did what it did
// not, a node that nobody finds, or processes, sockets and shared memory that stay behind.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterEach, describe, expect, test } from 'vitest'
import { until } from '../helpers.ts'
import { isAlive, leftoversBelow, processesNaming } from '../leftovers.ts'
import { begin, endAll, otherTempDir, ray as run, startHead } from './processes.ts'

const root = process.env.RAY_TMPDIR as string

afterEach(async () => {
  await ray.shutdown()
  await endAll()
})

const activeNodes = (text: string): number => text.match(/^ 1 node_[0-9a-f]{56}$/gm)?.length ?? 0
const pidIn = (file: string): number => Number(fs.readFileSync(file, 'utf8').split(' ')[0])
const sessions = (): string[] => fs.readdirSync(root).filter((name) => name.startsWith('session_'))

describe('a head', () => {
  test('[CL-04][ARCH-02] starts, says what to do next, is found by programs, and goes without a trace', async () => {
    const { code, out, err } = await run(['start', '--head', '--port=0', '--num-cpus=2', '--resources={"license": 3}'])
    expect([code, err]).toEqual([0, ''])
    expect(out).toMatch(/^Local node IP: 127\.0\.0\.1\n\n-{20}\nRay runtime started\.\n-{20}\n/)
    const address = /ray start --address='(127\.0\.0\.1:\d+)'/.exec(out)?.[1] as string
    expect(fs.readFileSync(path.join(root, 'ray_current_cluster'), 'utf8')).toBe(address)

    const cluster = await ray.init()
    expect(cluster.address).toBe(address)
    expect(await ray.get(ray.remote(() => process.env.RAY_TMPDIR).remote())).toBe(root)
    expect((await ray.clusterResources()).license).toBe(3)
    await ray.shutdown()

    const status = await run(['status'])
    expect([status.code, activeNodes(status.out)]).toEqual([0, 1])
    expect(status.out).toMatch(/^ 0\.0\/2\.0 CPU$/m)
    expect((await run(['status', '-v'])).out).toMatch(/^ Usage:\n {2}0\.0\/2\.0 CPU$/m)
    expect(await run(['stop'])).toEqual({ code: 0, out: 'Stopped all 2 Ray processes.\n', err: '' })
    expect(leftoversBelow(root)).toEqual([])
    expect(fs.readdirSync(root)).toEqual([])
  })

  test('[CL-04] one on a port that is taken says whose it is, and leaves nothing of itself', async () => {
    const address = await startHead()
    const port = address.split(':')[1] as string
    const before = sessions()
    const second = await run(['start', '--head', `--port=${port}`])
    expect(second.code).toBe(1)
    expect(second.err).toContain(`Ray is trying to start at ${address}, but is already running at ${address}`)
    expect(second.err).toContain('Please specify a different port using the `--port` flag of `ray start`')
    expect(sessions()).toEqual(before)
    expect((await run(['health-check'])).code).toBe(0)
  })

  test('[CL-04] a node that cannot start says why, and leaves no process and no file', async () => {
    for (const [address, why] of [
      ['192.0.2.77', /nothing can listen at/],
      ['0.0.0.0', /no other machine can reach/],
    ] as const) {
      const { code, err } = await run(['start', '--head', '--port=0', `--node-ip-address=${address}`])
      expect([code, err]).toEqual([1, expect.stringMatching(why)])
    }
    const absent = await run(['start', '--address=127.0.0.1:1'])
    expect([absent.code, absent.err]).toEqual([1, expect.stringMatching(/no GCS answers at 127\.0\.0\.1:1/)])
    expect([fs.readdirSync(root), processesNaming(root)]).toEqual([[], []])
  })

  test('[CL-04] a command that is interrupted leaves nothing', async () => {
    const { child, said, ended } = begin(['start', '--head', '--port=0', '--num-cpus=1'])
    await until(() => /Local node IP/.test(said()) && sessions().length > 0, 'it starts', 20_000)
    child.kill('SIGINT')
    const { code } = await ended
    // Code 0: it was ready before the signal came. None: it had no handler any more, having done its work.
    if (code === 1) expect([leftoversBelow(root), sessions()]).toEqual([[], []])
    else expect([0, null]).toContain(code)
  })

  test('[CL-04] --block stays until a signal, and takes the node with it', async () => {
    const { child, said, ended } = begin(['start', '--head', '--port=0', '--num-cpus=1', '--block'])
    await until(() => /This command will now block forever/.test(said()), 'it blocks', 20_000)
    expect((await run(['health-check'])).code).toBe(0)
    child.kill('SIGINT')
    expect((await ended).code).toBe(130)
    expect([leftoversBelow(root), fs.readdirSync(root)]).toEqual([[], []])
  })

  test('[CL-04] --block ends when a process of the node dies, says which, and kills the rest', async () => {
    const { said, ended } = begin(['start', '--head', '--port=0', '--num-cpus=1', '--block'])
    await until(() => /This command will now block forever/.test(said()), 'it blocks', 20_000)
    const [session] = sessions()
    process.kill(pidIn(path.join(root, session as string, 'gcs_server.pid')), 'SIGKILL')
    const { code, err } = await ended
    expect([code, err]).toEqual([
      1,
      expect.stringMatching(/exited unexpectedly:\n {2}gcs_server \(pid \d+\) ended with SIGKILL/),
    ])
    expect(leftoversBelow(root)).toEqual([])
  })

  test('[CL-07] --block ends by itself, and well, when ray stop ended its node', async () => {
    const { said, ended } = begin(['start', '--head', '--port=0', '--num-cpus=1', '--block'])
    await until(() => /This command will now block forever/.test(said()), 'it blocks', 20_000)
    expect((await run(['stop'])).code).toBe(0)
    expect((await ended).code).toBe(0)
  })
})

describe('what waits', () => {
  test('[CL-06] tasks and actors that no node has room for are demands', async () => {
    await startHead(['--num-cpus=1'])
    await ray.init()
    class Holder {
      here(): number {
        return 1
      }
    }
    const hold = (options: object) => ray.remote(Holder).options(options).remote()
    const holder = hold({ numCpus: 1 })
    await ray.get(holder.here.remote())
    const waiting = [
      ray
        .remote(() => 1)
        .options({ onInfeasible: 'wait', numCpus: 8 })
        .remote(),
      hold({ onInfeasible: 'wait', resources: { license: 2 } }),
    ]
    await until(async () => {
      const { out } = await run(['status'])
      return (
        /^ \{'CPU': 8\.0\}: 1\+ pending tasks\/actors$/m.test(out) &&
        /'license': 2\.0/.test(out) &&
        /^ 1\.0\/1\.0 CPU$/m.test(out)
      )
    }, 'both are shown, and the CPU as used')
    expect(waiting).toHaveLength(2)
  })
})

describe('a head whose GCS died', () => {
  test('[CL-04][ARCH-07] ray start --head at its port brings the GCS back, with what it knew, to the node that went on', async () => {
    const address = await startHead()
    const port = address.split(':')[1] as string
    class Counter {
      #n = 0
      next(): number {
        return ++this.#n
      }
    }
    await ray.init({ address, namespace: 'here' })
    const counter = ray.remote(Counter).options({ name: 'counter', lifetime: 'detached' }).remote()
    expect(await ray.get(counter.next.remote())).toBe(1)
    process.kill(pidIn(path.join(root, sessions()[0] as string, 'gcs_server.pid')), 'SIGKILL')
    await until(async () => (await run(['health-check'])).code === 1, 'the GCS is gone')
    expect(await ray.get(counter.next.remote())).toBe(2)

    const back = await run(['start', '--head', `--port=${port}`])
    expect([back.code, back.out]).toEqual([0, expect.stringContaining('the GCS is back')])
    expect(sessions()).toHaveLength(1)
    const found = await ray.getActor<Counter>('counter')
    expect(await ray.get(found.next.remote())).toBe(3)
    await ray.shutdown()
    expect((await run(['stop'])).out).toBe('Stopped all 2 Ray processes.\n')
  })
})

describe('several nodes', () => {
  test('[CL-05][ARCH-02][CL-06] two more join by address; all three are active, work, and stop', async () => {
    const address = await startHead(['--num-cpus=1', '--resources={"head": 1}'])
    for (const name of ['a', 'b']) {
      const joined = await run([
        ...['start', `--address=${address}`, '--num-cpus=1', `--resources={"${name}": 1}`],
        ...[`--labels=rack=${name}`, `--temp-dir=${otherTempDir(name)}`],
      ])
      expect(joined).toEqual({ code: 0, out: expect.stringContaining('Ray runtime started.'), err: '' })
    }
    const { out } = await run(['status', '--address', address])
    expect(activeNodes(out)).toBe(3)
    expect(out).toMatch(/^ 0\.0\/3\.0 CPU$/m)

    await ray.init({ address })
    await until(async () => (await ray.nodes()).length === 3, 'the head has heard of all')
    const nodes = await ray.nodes()
    expect(nodes.filter(({ Alive }) => Alive)).toHaveLength(3)
    expect(nodes.map(({ Labels }) => (Labels as Record<string, string>).rack).sort()).toEqual(['a', 'b', undefined])
    const where = ray.remote(() => ray.getRuntimeContext().getNodeId())
    const places = ['head', 'a', 'b'].map((name) => where.options({ resources: { [name]: 1 } }).remote())
    expect(new Set(await ray.get(places))).toEqual(new Set(nodes.map(({ NodeID }) => NodeID)))
    await ray.shutdown()

    expect((await run(['stop'])).out).toBe('Stopped all 4 Ray processes.\n')
    expect(leftoversBelow(root)).toEqual([])
    for (const name of ['a', 'b']) expect(fs.readdirSync(path.join(root, name))).toEqual([])
  })

  test('[CL-06] a node that was killed is a recent failure, and no longer active', async () => {
    const address = await startHead()
    await run(['start', `--address=${address}`, '--num-cpus=1', `--temp-dir=${otherTempDir('a')}`])
    const [session] = fs.readdirSync(path.join(root, 'a')).filter((name) => name.startsWith('session_'))
    process.kill(pidIn(path.join(root, 'a', session as string, 'node.pid')), 'SIGKILL')
    await until(async () => activeNodes((await run(['status'])).out) === 1, 'one node is left', 20_000)
    expect((await run(['status'])).out).toMatch(
      /^Recent failures:\n node_[0-9a-f]{56}: NodeTerminated \(ip: 127\.0\.0\.1\)$/m,
    )
    expect((await run(['stop'])).out).toBe('Stopped all 2 Ray processes.\n')
    expect(leftoversBelow(path.join(root, 'a'))).toEqual([])
  })
})

describe('stop', () => {
  test('[CL-07] ends what does not end by itself, after the grace period or at once, with its workers', async () => {
    for (const args of [['--grace-period=0.2'], ['--force']]) {
      await startHead()
      const dir = path.join(root, sessions()[0] as string)
      const pids = [pidIn(path.join(dir, 'node.pid')), pidIn(path.join(dir, 'gcs_server.pid'))]
      for (const pid of pids) process.kill(pid, 'SIGSTOP')
      const { code, err } = await run(['stop', ...args])
      expect(code).toBe(0)
      if (args[0] !== '--force')
        expect(err).toMatch(/Stopped only 0 out of 2 Ray processes within the grace period 0\.2 seconds/)
      expect(pids.filter(isAlive)).toEqual([])
      expect(leftoversBelow(root)).toEqual([])
    }
  })

  test('[CL-07] only processes that were noted are ended: neither programs with nodes of their own, nor who has an old id', async () => {
    const own = await ray.init({ address: 'local', numCpus: 1 })
    await startHead()
    const dir = path.join(
      root,
      sessions().find((name) => fs.existsSync(path.join(root, name, 'cluster.json'))) as string,
    )
    // As if the GCS had died and its id were ours now: the times of birth differ.
    const gcs = pidIn(path.join(dir, 'gcs_server.pid'))
    fs.writeFileSync(path.join(dir, 'gcs_server.pid'), `${process.pid} 1`)
    expect((await run(['stop'])).out).toBe('Stopped all 1 Ray processes.\n')
    process.kill(gcs, 'SIGKILL')
    expect(await ray.get(ray.remote(() => 7).remote())).toBe(7)
    expect(own.address).toContain(root)
  })
})

describe('without a cluster', () => {
  test('[CL-06][CL-07] the commands say so, and what to do', async () => {
    for (const command of ['status', 'health-check']) {
      const { code, out, err } = await run([command])
      expect([code, out]).toEqual([1, ''])
      expect(err).toMatch(/Could not find any running Ray instance\n.*--address.*RAY_ADDRESS/)
    }
    expect(await run(['stop'])).toEqual({ code: 0, out: 'Did not find any active Ray processes.\n', err: '' })
    const nobody = await run(['health-check', '--address=127.0.0.1:1'])
    expect([nobody.code, nobody.err]).toEqual([1, expect.stringMatching(/no GCS answers at 127\.0\.0\.1:1/)])
  })

  test('[CL-01] a program that is told to join says that there is no node of that cluster here', async () => {
    const address = await startHead()
    await ray.init({ address: address.replace('127.0.0.1', 'localhost') })
    await ray.shutdown()
    // Of the head only its GCS is left.
    const dir = path.join(root, sessions()[0] as string)
    process.kill(pidIn(path.join(dir, 'node.pid')), 'SIGKILL')
    await until(() => !isAlive(pidIn(path.join(dir, 'node.pid'))), 'the raylet is gone')
    await expect(ray.init({ address })).rejects.toThrow(
      /no node of the cluster at .* runs on this machine[\s\S]*ray start --address/,
    )
    await expect(ray.init({ address: 'auto' })).rejects.toThrow(/none runs on this machine/)
  })
})

const outside = Object.values(os.networkInterfaces())
  .flatMap((all) => all ?? [])
  .find(({ internal, family }) => !internal && family === 'IPv4')?.address as string

// Where this machine has no address but loopback's there is nobody to keep out.
describe.skipIf(!outside)('beyond this machine', () => {
  test('[CL-04][K8S-01] under KubeRay the head takes the address of its pod', async () => {
    const flags = ['--block', '--dashboard-host=0.0.0.0', '--metrics-export-port=8080', '--num-cpus=1', '--port=0']
    const { child, said, ended } = begin(['start', '--head', ...flags], {
      ...{ KUBERAY_GEN_RAY_START_CMD: 'ray start --head', RAY_AUTH_MODE: 'token', RAY_AUTH_TOKEN: 'of the secret' },
    })
    await until(() => /This command will now block forever/.test(said()), 'it blocks', 20_000)
    expect(said()).toContain(`ray start --address='${outside}:`)
    expect(said()).not.toContain('of the secret')
    child.kill('SIGTERM')
    expect((await ended).code).toBe(0)
    expect(leftoversBelow(root)).toEqual([])
  })

  test('[CL-04][CL-05] a head that others reach makes a token, and takes only who has it', async () => {
    const { out } = await run(['start', '--head', '--port=0', '--num-cpus=1', `--node-ip-address=${outside}`])
    const token = /export RAY_AUTH_TOKEN='([0-9a-f]{64})'/.exec(out)?.[1] as string
    const address = /--address='(.+)'/.exec(out)?.[1] as string
    expect(address.startsWith(outside)).toBe(true)
    expect((await run(['health-check', `--address=${address}`], { RAY_TMPDIR: otherTempDir('c') })).err).toMatch(
      /the token is not its own/,
    )
    expect((await run(['health-check', `--address=${address}`], { RAY_AUTH_TOKEN: 'wrong' })).code).toBe(1)
    expect((await run(['health-check', `--address=${address}`], { RAY_AUTH_TOKEN: token })).code).toBe(0)
    // On this machine the session folder has it.
    expect((await run(['status'])).code).toBe(0)
    // The other nodes and programs of this machine's user need not be told.
    const joined = await run([
      ...['start', `--address=${address}`, '--num-cpus=1', '--resources={"far": 1}'],
      `--temp-dir=${otherTempDir('a')}`,
    ])
    expect([joined.code, joined.out]).toEqual([0, expect.stringContaining(`Local node IP: ${outside}`)])
    const { nodeId } = await ray.init({ address })
    const where = ray.remote(() => ray.getRuntimeContext().getNodeId())
    await until(async () => (await ray.nodes()).length === 2, 'the head has heard of it')
    expect(await ray.get(where.options({ resources: { far: 1 } }).remote())).not.toBe(nodeId)
  })
})
