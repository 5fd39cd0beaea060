// Failure here looks like a program that starts a second cluster unasked, joins the wrong one, or reads yesterday's references.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterEach, describe, expect, test } from 'vitest'
import { leftovers, startProgram, tempDir, until } from './helpers.ts'

const saved = { ...process.env }
afterEach(async () => {
  await ray.shutdown()
  for (const name of Object.keys(process.env)) if (!(name in saved)) delete process.env[name]
  Object.assign(process.env, saved)
})
const noop = ray.remote(() => 1)
const errorOf = (call: Promise<unknown>): Promise<unknown> => call.then(String, (error: unknown) => error)

describe('once, and in which order', () => {
  test('[EXTRA-04] a second init is refused, also while the first is under way, unless told to ignore it', async () => {
    const first = ray.init({ numCpus: 1 })
    await expect(ray.init()).rejects.toThrow(/called twice[\s\S]*ray\.shutdown\(\)[\s\S]*ignoreReinitError: true/)
    const [one, two] = await Promise.all([first, ray.init({ ignoreReinitError: true })])
    expect(two.address).toBe(one.address)
    expect((await ray.init({ ignoreReinitError: true })).nodeId).toBe(one.nodeId)
    expect(ray.isInitialized()).toBe(true)
    await ray.shutdown()
    await ray.shutdown()
    expect(ray.isInitialized()).toBe(false)
    expect(leftovers(one.sessionDir)).toEqual([])
  })

  test('[EXTRA-04] the first use starts a node; what is no reference does not', async () => {
    expect(ray.isInitialized()).toBe(false)
    await expect(ray.get(5 as never)).rejects.toThrow(/takes ObjectRefs/)
    await expect(ray.wait(['x'] as never)).rejects.toThrow(/takes ObjectRefs/)
    expect(ray.isInitialized()).toBe(false)
    expect(await ray.get(ray.put('value'))).toBe('value')
    expect(ray.isInitialized()).toBe(true)
    expect(await ray.get(noop.remote())).toBe(1)
  })

  test('[EXTRA-04] references and handles of a session that is over are refused, remote functions work on', async () => {
    await ray.init({ numCpus: 1 })
    const ref = noop.remote()
    class Box {
      value(): number {
        return 1
      }
    }
    const box = ray.remote(Box).remote()
    expect(await ray.get([ref, box.value.remote()])).toEqual([1, 1])
    await ray.shutdown()
    await expect(ray.get(ref)).rejects.toThrow(/another ray session/)
    await expect(ref.get()).rejects.toThrow(/another ray session/)
    expect(() => box.value.remote()).toThrow(/another ray session/)
    expect(ray.isInitialized()).toBe(false)
    await ray.init({ numCpus: 1 })
    const one = ray.remote((x: unknown) => x)
    for (const foreign of [ref, { ref }, box, [box]]) expect(() => one.remote(foreign)).toThrow(/another ray session/)
    expect(() => ray.put({ ref })).toThrow(/another ray session/)
    expect(() => ray.kill(box)).toThrow(/another ray session/)
    expect(() => ray.cancel(ref)).toThrow(/another ray session/)
    expect(await ray.get(noop.remote())).toBe(1)
  })

  test('[EXTRA-04] in a task ray is there already: init is refused, shutdown does nothing', async () => {
    await ray.init({ numCpus: 1 })
    const inside = ray.remote(async () => {
      const again = await ray.init({ numCpus: 4 }).then(
        () => 'started',
        (error: Error) => error.message,
      )
      const own = await ray.init({ ignoreReinitError: true })
      await own.shutdown()
      await ray.shutdown()
      return [again, ray.isInitialized(), own.nodeId === ray.getRuntimeContext().getNodeId()]
    })
    const [again, isInitialized, isSame] = await ray.get(inside.remote())
    expect(again).toMatch(/called twice/)
    expect([isInitialized, isSame]).toEqual([true, true])
  })

  test('[EXTRA-04] a get under way at shutdown ends with an error', async () => {
    await ray.init({ numCpus: 1 })
    const never = ray.remote(() => new Promise(() => {}))
    const outcome = errorOf(ray.get(never.remote()))
    await ray.shutdown()
    expect(String(await outcome)).toMatch(/shutdown/)
  })
})

describe('which cluster', () => {
  test('[CL-01] explicit address, RAY_ADDRESS, the one that runs here, then a fresh one', async () => {
    const other = startProgram('host.mjs', ['cluster'])
    await until(() => /address (.+)/.test(other.text()), 'the other program is ready', 20_000)
    const address = /address (.+)/.exec(other.text())?.[1] as string
    try {
      const joined = await ray.init({ address })
      expect(await ray.get(noop.remote())).toBe(1)
      await ray.shutdown()

      process.env.RAY_ADDRESS = address
      expect((await ray.init()).nodeId).toBe(joined.nodeId)
      await ray.shutdown()
      expect(() => ray.put(1)).toThrow(/await ray\.init\(\) first/)
      const own = await ray.init({ address: 'local', numCpus: 1 })
      expect(own.nodeId).not.toBe(joined.nodeId)
      await ray.shutdown()
      delete process.env.RAY_ADDRESS

      process.env.RAY_TMPDIR = tempDir()
      fs.writeFileSync(path.join(process.env.RAY_TMPDIR, 'ray_current_cluster'), address)
      expect((await ray.init()).nodeId).toBe(joined.nodeId)
      await ray.shutdown()
      expect((await ray.init({ address: 'auto' })).nodeId).toBe(joined.nodeId)
      await ray.shutdown()
    } finally {
      other.child.kill('SIGKILL')
      await other.ended
    }
    await until(() => !fs.existsSync(address), 'the node has ended with its program')
    // It names one that is gone: a fresh one, or an error for 'auto'.
    const { RayConnectionError } = ray.exceptions
    await expect(ray.init({ address: 'auto' })).rejects.toThrow(RayConnectionError)
    await expect(ray.init({ address })).rejects.toThrow(RayConnectionError)
    await expect(ray.init({ address: '127.0.0.1:1' })).rejects.toThrow(/no GCS answers at 127\.0\.0\.1:1/)
    await expect(ray.init({ address: 'ray://head:10001' })).rejects.toThrow(RayConnectionError)
    expect((await ray.init({ numCpus: 1 })).address).not.toBe(address)
  })

  test('[ARCH-16] what a node was started with cannot be asked of one that runs', async () => {
    const other = startProgram('host.mjs', ['cluster'])
    await until(() => /address (.+)/.test(other.text()), 'the other program is ready', 20_000)
    const address = /address (.+)/.exec(other.text())?.[1] as string
    try {
      for (const [option, value] of Object.entries({ numCpus: 1, systemConfig: {}, labels: {}, resources: { a: 1 } })) {
        await expect(ray.init({ address, [option]: value })).rejects.toThrow(
          `option '${option}' of ray.init cannot be given`,
        )
      }
      await expect(ray.init({ address, namespace: 'mine', logToDriver: false })).resolves.toBeDefined()
    } finally {
      other.child.kill('SIGKILL')
      await other.ended
    }
  })

  test('[EXTRA-31][ARCH-05] two programs, one node: own jobs, workers and logs; names by namespace; detached actors outlive', async () => {
    const cluster = await ray.init({ numCpus: 2, namespace: 'here' })
    class Owner {
      job(): string {
        return ray.getRuntimeContext().getJobId()
      }
    }
    const mine = ray.remote(Owner).options({ name: 'service', numCpus: 0 }).remote()
    expect(await ray.get(mine.job.remote())).toBe('01000000')
    const other = startProgram('host.mjs', ['guest', cluster.address])
    expect(await other.ended).toBe(0)
    const report = JSON.parse(/report (.+)/.exec(other.text())?.[1] ?? '{}') as Record<string, unknown>
    expect(report).toMatchObject({
      job: '02000000',
      taskJob: '02000000',
      taskNamespace: 'there',
      inOwnNamespace: 'no actor is named',
      inOurs: '01000000',
      // A task of that program looks in that program's namespace.
      fromTask: '02000000',
    })
    expect(report.pid).not.toBe(process.pid)
    expect(other.text()).toMatch(/\(speak pid=\d+\) of the guest/)
    // Its detached actor is still there, the other one is gone with it.
    const kept = await ray.getActor<Owner>('kept', { namespace: 'there' })
    expect(await ray.get(kept.job.remote())).toBe('02000000')
    await until(async () => {
      const gone = await errorOf(ray.getActor('service', { namespace: 'there' }))
      return String(gone).includes('no actor is named')
    }, 'the other program’s actor ended with it')
    // What that program left in its workers is not seen here.
    const look = ray.remote(() => (globalThis as { guest?: string }).guest ?? 'nothing')
    expect(await ray.get([look.remote(), look.remote(), look.remote(), look.remote()])).toEqual(
      Array(4).fill('nothing'),
    )
  })
})

describe('options', () => {
  test('[ARCH-13] numCpus limits how much runs at once; fractions add up', async () => {
    await ray.init({ numCpus: 2 })
    const file = path.join(tempDir(), 'log')
    const peak = ray.remote(async () => {
      const { appendFileSync, readFileSync } = await import('node:fs')
      appendFileSync(file, '+')
      await new Promise((resolve) => setTimeout(resolve, 100))
      const text = readFileSync(file, 'utf8')
      appendFileSync(file, '-')
      return text.split('+').length - text.split('-').length
    })
    const peaks = await ray.get(Array.from({ length: 6 }, () => peak.remote()))
    expect(Math.max(...peaks)).toBeLessThanOrEqual(2)
  })

  test('[ARCH-14][RES-01][RES-03][RES-02] memory, store and own resources are what clusterResources says, and follow use', async () => {
    await ray.init({
      numCpus: 4,
      numGpus: 1,
      memory: 8 * 1024 ** 3,
      objectStoreMemory: 100 * 1024 ** 2,
      resources: { license: 2.5, shelf: 0 },
    })
    const total = await ray.clusterResources()
    expect(total).toEqual({
      CPU: 4,
      GPU: 1,
      memory: 8 * 1024 ** 3,
      object_store_memory: 100 * 1024 ** 2,
      license: 2.5,
      'node:127.0.0.1': 1,
      'node:__internal_head__': 1,
    })
    expect(await ray.availableResources()).toEqual(total)
    class Holder {
      ping(): number {
        return 1
      }
    }
    const held = { numCpus: 3, numGpus: 1, memory: 1024 ** 3, resources: { license: 0.5 } }
    const holder = ray.remote(Holder).options(held).remote()
    await ray.get(holder.ping.remote())
    const free = await ray.availableResources()
    expect(free).toMatchObject({ CPU: 1, memory: 7 * 1024 ** 3, license: 2 })
    expect('GPU' in free).toBe(false)
    const stored = ray.put(Buffer.alloc(1_000_000))
    expect((await ray.availableResources()).object_store_memory).toBeLessThanOrEqual(100 * 1024 ** 2 - 1_000_000)
    expect((await ray.get(stored)).length).toBe(1_000_000)
    ray.kill(holder)
  })

  test('[ARCH-04] the view of resources follows an actor’s life', async () => {
    await ray.init({ numCpus: 4 })
    class Holder {
      ping(): number {
        return 1
      }
    }
    const holder = ray.remote(Holder).options({ numCpus: 3 }).remote()
    await until(async () => (await ray.availableResources()).CPU === 1, 'three of four CPUs are held')
    ray.kill(holder)
    await until(async () => (await ray.availableResources()).CPU === 4, 'all are free again')
  })

  test('[RES-04][RES-05] ray.nodes has Ray’s keys, and the labels', async () => {
    const cluster = await ray.init({ numCpus: 1, labels: { region: 'eu', 'team/tier': 'gold' } })
    const [node, ...others] = await ray.nodes()
    expect(others).toEqual([])
    expect(Object.keys(node as object).sort()).toEqual(
      [
        'Alive',
        'DeathReason',
        'DeathReasonMessage',
        'Draining',
        'Labels',
        'MetricsExportPort',
        'NodeID',
        'NodeManagerAddress',
        'NodeManagerHostname',
        'NodeManagerPort',
        'NodeName',
        'ObjectManagerPort',
        'ObjectStoreSocketName',
        'RayletSocketName',
        'Resources',
        'RuntimeEnvAgentPort',
        'alive',
      ].sort(),
    )
    expect(node).toMatchObject({
      NodeID: cluster.nodeId,
      Alive: true,
      RayletSocketName: cluster.address,
      Resources: await ray.clusterResources(),
      Labels: { region: 'eu', 'team/tier': 'gold', 'ray.io/node-id': cluster.nodeId },
    })
  })

  test('[ARCH-16] systemConfig: unknown keys name the closest at once, the environment wins', async () => {
    const cases: [object, RegExp][] = [
      [{ idleWorkerKillingTimeTresholdMs: 1 }, /Did you mean idleWorkerKillingTimeThresholdMs/],
      [{ num_workers_soft_limit: 1 }, /Write numWorkersSoftLimit/],
      [{ numWorkersSoftLimit: 'two' }, /must be a number of at least -1, but is two/],
    ]
    for (const [systemConfig, message] of cases) {
      await expect(ray.init({ systemConfig } as never)).rejects.toThrow(message)
      expect(ray.isInitialized()).toBe(false)
    }
    process.env.RAY_worker_register_timeout_seconds = 'soon'
    await expect(ray.init()).rejects.toThrow(/RAY_worker_register_timeout_seconds must be a number/)
    delete process.env.RAY_worker_register_timeout_seconds
    process.env.RAY_actor_excess_queueing_warn_threshold = '3'
    await ray.init({ numCpus: 1, systemConfig: { actorExcessQueueingWarnThreshold: 1000 } })
    class Slow {
      nap(): Promise<void> {
        return new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve))
    const slow = ray.remote(Slow).remote()
    const naps = Array.from({ length: 6 }, () => slow.nap.remote())
    expect((await warned).message).toMatch(/3 calls wait/)
    await ray.get(naps)
  })

  test('[CL-02] dashboard options are accepted, and a warning says that there is none yet', async () => {
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve))
    await ray.init({ numCpus: 1, dashboardHost: '0.0.0.0', dashboardPort: 8265 })
    expect((await warned).message).toMatch(/there is no dashboard in this version/)
  })
})

describe('the runtime context', () => {
  test('[ARCH-27] ids, resources and names: of the driver, a task, an actor', async () => {
    const cluster = await ray.init({ numCpus: 2, namespace: 'ctx' })
    const read = ray.remote(function read() {
      const context = ray.getRuntimeContext()
      return {
        job: context.getJobId(),
        node: context.getNodeId(),
        worker: context.getWorkerId(),
        task: context.getTaskId(),
        name: context.getTaskName(),
        actor: context.getActorId(),
        assigned: context.getAssignedResources(),
        accelerators: context.getAcceleratorIds(),
        namespace: context.namespace,
        address: context.gcsAddress,
        again: context.wasCurrentActorReconstructed,
      }
    })
    const driver = ray.getRuntimeContext()
    expect(driver.getNodeId()).toMatch(/^[0-9a-f]{56}$/)
    expect([driver.getTaskId(), driver.getActorId(), driver.getAssignedResources()]).toEqual([null, null, {}])
    const inTask = await ray.get(read.options({ numCpus: 0.5, name: 'reader' }).remote())
    expect(inTask).toMatchObject({
      job: driver.getJobId(),
      node: cluster.nodeId,
      name: 'reader',
      actor: null,
      assigned: { CPU: 0.5 },
      accelerators: { GPU: [] },
      namespace: 'ctx',
      address: cluster.address,
      again: false,
    })
    expect(inTask.job).toMatch(/^[0-9a-f]{8}$/)
    expect(inTask.worker).toMatch(/^[0-9a-f]{56}$/)
    expect(inTask.worker).not.toBe(driver.getWorkerId())
    expect(inTask.task).toMatch(/^[0-9a-f]{48}$/)
    class Phoenix {
      who(): [string | null, boolean, number] {
        const context = ray.getRuntimeContext()
        return [context.getActorId(), context.wasCurrentActorReconstructed, process.pid]
      }
    }
    const phoenix = ray.remote(Phoenix).options({ maxRestarts: 1, maxTaskRetries: 2 }).remote()
    const [actorId, wasReconstructed, pid] = await ray.get(phoenix.who.remote())
    expect(actorId).toMatch(/^[0-9a-f]{32}$/)
    expect(wasReconstructed).toBe(false)
    process.kill(pid, 'SIGKILL')
    await until(async () => (await ray.get(phoenix.who.remote()))[2] !== pid, 'it came back')
    expect((await ray.get(phoenix.who.remote())).slice(0, 2)).toEqual([actorId, true])
  })

  test('[PERF-07] get_node_id.remote() of the guide gets an answer', async () => {
    await ray.init({ numCpus: 1 })
    const { getNodeId } = ray.getRuntimeContext() as unknown as { getNodeId: { remote(): string } }
    expect(() => getNodeId.remote()).toThrow(
      /getNodeId is no remote function[\s\S]*getRuntimeContext\(\)\.getNodeId\(\)/,
    )
  })
})

describe('the package', () => {
  test('[ARCH-01] import loads this package only: no library of it, no third party', () => {
    const program = `
      import { Session } from 'node:inspector'
      const session = new Session()
      session.connect()
      const urls = []
      session.on('Debugger.scriptParsed', ({ params }) => urls.push(params.url))
      session.post('Debugger.enable')
      const ray = await import('ray-ts')
      console.log(JSON.stringify({ urls: urls.filter((url) => url.startsWith('file:') && !url.includes('[eval')), names: Object.keys(ray) }))`
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
    const { urls, names } = JSON.parse(stdout) as { urls: string[]; names: string[] }
    expect(names).toEqual(expect.arrayContaining(['init', 'remote', 'get', 'put', 'wait', 'kill', 'cancel', 'util']))
    expect(urls.length).toBeGreaterThan(0)
    for (const url of urls) expect(url).toMatch(/\/dist\/[^/]+\.c?js$/)
  })

  test('[EXTRA-04] await using: the node ends with the block', async () => {
    let sessionDir = ''
    {
      await using cluster = await ray.init({ numCpus: 1 })
      sessionDir = cluster.sessionDir
      expect(await ray.get(noop.remote())).toBe(1)
    }
    expect(ray.isInitialized()).toBe(false)
    expect(leftovers(sessionDir)).toEqual([])
  })
})
