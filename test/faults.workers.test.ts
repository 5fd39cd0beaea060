// Failure here looks like a caller that waits for ever, an innocent call that fails, a CPU or bytes that never come back, or a node
// that goes down with its worker.
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { isAlive, sleep, tempDir, until } from './helpers.ts'

const { exceptions } = ray
const CPUS = 2
let cluster: ray.Cluster
beforeAll(async () => {
  cluster = await ray.init({ numCpus: CPUS, logToDriver: false })
})
afterAll(() => ray.shutdown())

/** After each fault: the node serves on, all CPUs are free again, and no value is left in the store. */
afterEach(async () => {
  expect(await ray.get(ray.remote((x: number) => x + 1).remote(1), { timeoutS: 30 })).toBe(2)
  await until(async () => (await ray.availableResources()).CPU === CPUS, 'all CPUs are free', 20_000)
})

function caught(ref: ray.ObjectRef<unknown>, timeoutS = 30): Promise<unknown> {
  return ray.get(ref, { timeoutS }).catch((error: unknown) => error)
}

/** A file by which processes tell that they came somewhere, and who they are. */
function mark(): string {
  return path.join(tempDir(), 'mark')
}

async function pidIn(file: string): Promise<number> {
  await until(() => fs.existsSync(file) && fs.readFileSync(file, 'utf8').length > 0, `${file} is written`, 20_000)
  return Number(fs.readFileSync(file, 'utf8'))
}

describe('kill -9', () => {
  test('[TASK-09][FT-01] in a task: it runs again elsewhere, and its result comes', async () => {
    const file = mark()
    const task = ray.remote(async () => {
      const { existsSync, writeFileSync } = await import('node:fs')
      if (existsSync(file)) return 'second time'
      writeFileSync(file, String(process.pid))
      for (;;);
    })
    const ref = task.remote()
    process.kill(await pidIn(file), 'SIGKILL')
    expect(await ray.get(ref, { timeoutS: 30 })).toBe('second time')
  })

  test('[TASK-17] in an actor call: that call and later ones fail and say why', async () => {
    const file = mark()
    class Busy {
      async work(): Promise<void> {
        const { writeFileSync } = await import('node:fs')
        writeFileSync(file, String(process.pid))
        for (;;);
      }
    }
    const busy = ray.remote(Busy).remote()
    const calls = [busy.work.remote(), busy.work.remote()]
    process.kill(await pidIn(file), 'SIGKILL')
    for (const call of calls) {
      const error = await caught(call)
      expect(error).toBeInstanceOf(exceptions.ActorDiedError)
      expect(String(error)).toMatch(/SIGKILL/)
    }
  })

  test('[OBJ-05][TASK-17] in a put, while it writes: no bytes stay behind', async () => {
    const used = async () => (await ray.util.nodeStats()).shmBytes
    await until(async () => (await used()) === 0, 'the store is empty', 20_000)
    for (let round = 0; round < 5; round++) {
      const file = mark()
      const write = ray.remote(
        async () => {
          const { writeFileSync } = await import('node:fs')
          const data = Buffer.alloc(20_000_000, 1)
          for (let i = 0; ; i++) {
            const ref = ray.put(data)
            if (i === 3) writeFileSync(file, String(process.pid))
            ref[Symbol.dispose]()
          }
        },
        { maxRetries: 0 },
      )
      const ref = write.remote()
      const pid = await pidIn(file)
      await sleep(round * 3)
      process.kill(pid, 'SIGKILL')
      expect(await caught(ref)).toBeInstanceOf(exceptions.WorkerCrashedError)
    }
    await until(async () => (await used()) === 0, `the store is empty: ${await used()}`, 20_000)
    const shm = path.join(process.env.RAY_TS_SHM_DIR as string, `ray-ts-${path.basename(cluster.sessionDir)}`)
    expect(fs.readdirSync(shm).filter((name) => name !== 'control')).toEqual([])
  })

  test('[TASK-17] in a get that waits: the lent CPU comes back once, and what it waited for ends', async () => {
    const file = mark()
    const never = ray.remote(() => new Promise(() => {}))
    const waits = ray.remote(
      async () => {
        const { writeFileSync } = await import('node:fs')
        const ref = never.remote()
        setTimeout(() => writeFileSync(file, String(process.pid)), 50)
        await ray.get(ref)
      },
      { maxRetries: 0 },
    )
    const ref = waits.remote()
    process.kill(await pidIn(file), 'SIGKILL')
    expect(await caught(ref)).toBeInstanceOf(exceptions.WorkerCrashedError)
  })

  test('[TASK-17] in a get that reads a large value: the value stays, for others and for the second try', async () => {
    const file = mark()
    const data = ray.put(Buffer.alloc(30_000_000, 7))
    const read = ray.remote(async (value: Buffer) => {
      const { existsSync, writeFileSync } = await import('node:fs')
      if (existsSync(file)) return value[29_999_999]
      writeFileSync(file, String(process.pid))
      for (let i = 0; value[i] === 7; i = (i + 4096) % value.length);
    })
    const ref = read.remote(data)
    process.kill(await pidIn(file), 'SIGKILL')
    expect(await ray.get(ref, { timeoutS: 30 })).toBe(7)
    expect((await ray.get(data))[0]).toBe(7)
  })

  test('[ACT-07] of an actor again and again: it comes back each time, with its calls in order', async () => {
    class Echo {
      say(x: number): [number, number] {
        return [x, process.pid]
      }
    }
    const echo = ray.remote(Echo).options({ maxRestarts: -1, maxTaskRetries: -1 }).remote()
    let last = 0
    for (let round = 0; round < 4; round++) {
      const calls = Array.from({ length: 50 }, (_, i) => echo.say.remote(round * 50 + i))
      const results = await ray.get(calls, { timeoutS: 40 })
      expect(results.map(([x]) => x)).toEqual(Array.from({ length: 50 }, (_, i) => round * 50 + i))
      last = (results.at(-1) as [number, number])[1]
      process.kill(last, 'SIGKILL')
    }
    ray.kill(echo)
  })

  test('[FT-01] of workers under 500 tasks: every result is right', async () => {
    const work = ray.remote(
      async (i: number) => {
        await new Promise((resolve) => setTimeout(resolve, 5))
        return [i * i, process.pid]
      },
      { maxRetries: 20 },
    )
    const refs = Array.from({ length: 500 }, (_, i) => work.remote(i))
    for (let i = 0; i < 500; i += 50) {
      const [, pid] = (await ray.get(refs[i] as ray.ObjectRef<number[]>, { timeoutS: 40 })) as [number, number]
      if (isAlive(pid)) process.kill(pid, 'SIGKILL')
    }
    const squares = (await ray.get(refs, { timeoutS: 50 })).map(([square]) => square)
    expect(squares).toEqual(Array.from({ length: 500 }, (_, i) => i * i))
  })
})

describe('process.exit', () => {
  for (const code of [0, 3]) {
    test(`[TASK-17] with ${code} in a task is a crash that names the code`, async () => {
      const error = await caught(ray.remote((n: number) => process.exit(n), { maxRetries: 0 }).remote(code))
      expect(error).toBeInstanceOf(exceptions.WorkerCrashedError)
      expect(String(error)).toContain(`code ${code}`)
    })
  }

  test('[TASK-17] in an actor method, and in its constructor', async () => {
    class Quitter {
      constructor(at: string) {
        if (at === 'constructor') process.exit(4)
      }
      quit(): void {
        process.exit(5)
      }
    }
    const Remote = ray.remote(Quitter)
    const inMethod = await caught(Remote.remote('method').quit.remote())
    const inConstructor = await caught(Remote.remote('constructor').quit.remote())
    for (const error of [inMethod, inConstructor]) expect(error).toBeInstanceOf(exceptions.ActorDiedError)
    expect(String(inMethod)).toContain('code 5')
    expect(String(inConstructor)).toContain('code 4')
  })

  test('[TASK-17] an actor whose constructor always crashes does not restart for ever', async () => {
    const file = mark()
    class Hopeless {
      constructor() {
        process.getBuiltinModule('node:fs').appendFileSync(file, 'x')
        process.exit(1)
      }
      m(): void {}
    }
    const hopeless = ray.remote(Hopeless).options({ maxRestarts: 2 }).remote()
    expect(await caught(hopeless.m.remote())).toBeInstanceOf(exceptions.RayActorError)
    await until(() => fs.readFileSync(file, 'utf8') === 'xxx', 'three lives')
  })
})

describe('SIGSTOP', () => {
  async function stopped(file: string): Promise<number> {
    const pid = await pidIn(file)
    process.kill(pid, 'SIGSTOP')
    return pid
  }

  test('[TASK-17] of a worker: its call waits, and comes when it goes on', async () => {
    const file = mark()
    const task = ray.remote(async () => {
      const { writeFileSync } = await import('node:fs')
      writeFileSync(file, String(process.pid))
      await new Promise((resolve) => setTimeout(resolve, 100))
      return 'done'
    })
    const ref = task.remote()
    const pid = await stopped(file)
    await expect(ray.get(ref, { timeoutS: 0.5 })).rejects.toThrow(exceptions.GetTimeoutError)
    process.kill(pid, 'SIGCONT')
    expect(await ray.get(ref, { timeoutS: 20 })).toBe('done')
  })

  for (const force of [false, true]) {
    test(`[EXTRA-02] a stopped worker's task can be cancelled, force ${force}`, async () => {
      const file = mark()
      const task = ray.remote(async () => {
        const { writeFileSync } = await import('node:fs')
        writeFileSync(file, String(process.pid))
        await new Promise(() => {})
      })
      const ref = task.remote()
      const pid = await stopped(file)
      ray.cancel(ref, { force })
      expect(await caught(ref)).toBeInstanceOf(exceptions.TaskCancelledError)
      await until(() => !isAlive(pid), 'the stopped worker is ended')
    })
  }

  test('[EXTRA-03] a stopped actor can be killed', async () => {
    class Pid {
      pid(): number {
        return process.pid
      }
    }
    const actor = ray.remote(Pid).remote()
    const pid = await ray.get(actor.pid.remote())
    process.kill(pid, 'SIGSTOP')
    const call = actor.pid.remote()
    ray.kill(actor)
    expect(await caught(call)).toBeInstanceOf(exceptions.ActorDiedError)
    await until(() => !isAlive(pid), 'the stopped actor is ended')
  })
})
