// Every class of ray.exceptions, forced for real. Failure here looks like an error that no program can ever meet, or one that
// loses its class on the way.
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ERROR_CLASSES } from '../src/errors/index.ts'
import { tempDir } from './helpers.ts'

let cluster: ray.Cluster
beforeAll(async () => {
  cluster = await ray.init({ numCpus: 2, logToDriver: false })
})
afterAll(() => ray.shutdown())

class Worker {
  kept: unknown = null
  pid(): number {
    return process.pid
  }
  make(): { ref: ray.ObjectRef<string> } {
    const ref = ray.put('owned by the actor')
    this.kept = ref
    return { ref }
  }
  async nap(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 60_000))
  }
}
const Remote = ray.remote(Worker)
const never = ray.remote(() => new Promise<void>((resolve) => setTimeout(resolve, 60_000)))

/** What a program does to meet each class; rows that need a node of their own stand below. */
const FORCED: Readonly<Record<string, () => unknown>> = {
  ActorAlreadyExistsError: async () => {
    const first = Remote.options({ name: 'taken' }).remote()
    await ray.get(first.pid.remote())
    await ray.get(Remote.options({ name: 'taken' }).remote().pid.remote())
  },
  ActorDiedError: async () => {
    const actor = Remote.remote()
    process.kill(await ray.get(actor.pid.remote()), 'SIGKILL')
    await ray.get(actor.nap.remote())
  },
  ActorHandleNotFoundError: () => ray.getActor('nobody'),
  ActorUnavailableError: async () => {
    class Fragile {
      async crash(): Promise<void> {
        await new Promise((resolve) => setTimeout(resolve, 10))
        process.exit(1)
      }
    }
    await ray.get(ray.remote(Fragile).options({ maxRestarts: 1 }).remote().crash.remote())
  },
  ActorUnschedulableError: () => ray.get(Remote.options({ numCpus: 64 }).remote().pid.remote()),
  GetTimeoutError: () => ray.get(never.remote(), { timeoutS: 0.05 }),
  InvalidArgumentError: () => ray.remote(() => 1, { numCpus: -1 }),
  ObjectFreedError: () => {
    const ref = ray.put([1, 2, 3])
    ref.free()
    return ray.get(ref)
  },
  ObjectLostError: async () => {
    const made = ray.remote(() => new Uint8Array(300_000), { maxRetries: 0 }).remote()
    await ray.wait([made])
    const shm = path.join(process.env.RAY_TS_SHM_DIR ?? '/dev/shm', `ray-ts-${path.basename(cluster.sessionDir)}`)
    for (const name of fs.readdirSync(shm)) if (/^\d+-\d+$/.test(name)) fs.rmSync(path.join(shm, name))
    await ray.get(made)
  },
  OwnerDiedError: async () => {
    const actor = Remote.remote()
    const { ref } = await ray.get(actor.make.remote())
    const pid = await ray.get(actor.pid.remote())
    process.kill(pid, 'SIGKILL')
    await ray.get(actor.pid.remote()).catch(() => {}) // Its death is known.
    await ray.get(ref)
  },
  PendingCallsLimitExceeded: () => {
    const actor = Remote.options({ maxPendingCalls: 1 }).remote()
    actor.nap.remote()
    actor.nap.remote()
  },
  QueueEmpty: () => new ray.util.Queue().getNowait(),
  QueueFull: async () => {
    const queue = new ray.util.Queue({ maxsize: 1 })
    await queue.putNowait(1)
    await queue.putNowait(2)
  },
  RayTaskError: () =>
    ray.get(
      ray
        .remote(() => {
          throw new Error('mine')
        })
        .remote(),
    ),
  RuntimeEnvSetupError: () =>
    ray.get(ray.remote(() => 1, { runtimeEnv: { workingDir: '/there/is/no/such/folder' } }).remote()),
  TaskCancelledError: () => {
    const ref = never.remote()
    ray.cancel(ref)
    return ray.get(ref)
  },
  TaskUnschedulableError: () => ray.get(never.options({ resources: { unobtainium: 1 } }).remote()),
  UnserializableException: () => ray.put({ deep: { weak: new WeakMap() } }),
  WorkerCrashedError: () => ray.get(ray.remote(() => process.exit(1), { maxRetries: 0 }).remote()),
  OutOfMemoryError: () =>
    ray.get(
      ray
        .remote(
          () => {
            const kept: unknown[] = []
            for (;;) kept.push(new Array(100_000).fill(kept.length))
          },
          { maxRetries: 0, memory: 110_000_000, enforceMemory: true },
        )
        .remote(),
    ),
}
/** Where the others are forced. */
const ELSEWHERE = {
  ActorPlacementGroupRemoved: 'placement-groups.test.ts',
  AuthenticationError: 'links.test.ts',
  LocalRayletDiedError: 'faults.test.ts',
  NotInitializedError: 'below',
  ObjectStoreFullError: 'disk.test.ts',
  OutOfDiskError: 'disk.test.ts',
  RayConnectionError: 'init.test.ts',
  RaySystemError: 'below',
  TaskPlacementGroupRemoved: 'placement-groups.test.ts',
}

describe('while a node runs', () => {
  for (const [className, force] of Object.entries(FORCED)) {
    test(`[TASK-17][EXTRA-09] ${className}`, async () => {
      const error = await failureOf(force)
      const type = (ray.exceptions as unknown as Record<string, abstract new () => Error>)[className]
      expect(error).toBeInstanceOf(type)
      expect(error).toBeInstanceOf(ray.RayError)
      expect(error.message.length).toBeGreaterThan(10)
      // It keeps its class when a task meets it and does not catch it.
      expect(await ray.deserialize(ray.serialize(error))).toBeInstanceOf(type)
    })
  }
})

test('[TASK-17] each class is forced somewhere', () => {
  const forced = [...Object.keys(FORCED), ...Object.keys(ELSEWHERE)].sort()
  expect(forced).toEqual(Object.keys(ERROR_CLASSES).sort())
  for (const [className, file] of Object.entries(ELSEWHERE))
    if (file !== 'below')
      expect(fs.readFileSync(path.join('test', file), 'utf8')).toMatch(new RegExp(`${className}\\b`))
})

describe('without a node', () => {
  test('[TASK-17][EXTRA-09] NotInitializedError: a program that does not want to start a node by accident', async () => {
    await ray.shutdown()
    process.env.RAY_ENABLE_AUTO_CONNECT = '0'
    try {
      const error = await failureOf(() => ray.put(1))
      expect(error).toBeInstanceOf(ray.exceptions.NotInitializedError)
      expect(error.message).toMatch(/ray\.init/)
      expect(ray.isInitialized()).toBe(false)
    } finally {
      delete process.env.RAY_ENABLE_AUTO_CONNECT
    }
  })

  test('[TASK-17][EXTRA-09] RaySystemError: a node that cannot start says why', async () => {
    await ray.shutdown()
    const before = process.env.NODE_OPTIONS
    process.env.NODE_OPTIONS = `--require ${tempDir()}/missing.cjs`
    try {
      const error = await failureOf(() => ray.init())
      expect(error).toBeInstanceOf(ray.exceptions.RaySystemError)
      expect(error.message).toMatch(/the node process did not start: exit code 1[\s\S]*missing\.cjs/)
    } finally {
      if (before === undefined) delete process.env.NODE_OPTIONS
      else process.env.NODE_OPTIONS = before
    }
  })
})

async function failureOf(force: () => unknown): Promise<Error> {
  try {
    await force()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}
