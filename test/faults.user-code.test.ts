// What user code may do to its worker outside of a call's own result. Failure here looks like a call that waits for ever, a worker
// that serves on in a broken state, or a process of the user's that nobody ends.
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { isAlive, tempDir, until } from './helpers.ts'

const { exceptions } = ray
beforeAll(() => ray.init({ numCpus: 1, logToDriver: false }))
afterAll(() => ray.shutdown())

afterEach(async () => {
  expect(await ray.get(ray.remote((x: number) => x + 1).remote(1), { timeoutS: 30 })).toBe(2)
})

function caught(ref: ray.ObjectRef<unknown>, timeoutS = 30): Promise<unknown> {
  return ray.get(ref, { timeoutS }).catch((error: unknown) => error)
}

async function pidIn(file: string): Promise<number> {
  await until(() => fs.existsSync(file) && fs.readFileSync(file, 'utf8').length > 0, `${file} is written`, 20_000)
  return Number(fs.readFileSync(file, 'utf8'))
}

describe('exceptions outside of any call', () => {
  const ways: Record<string, () => Promise<never>> = {
    'a timer': () => {
      setTimeout(() => {
        throw new RangeError('left behind')
      }, 20)
      return new Promise<never>(() => {})
    },
    'a rejected promise': () => {
      setTimeout(() => void Promise.reject(new RangeError('left behind')), 20)
      return new Promise<never>(() => {})
    },
    'an event handler': () => {
      const { EventEmitter } = process.getBuiltinModule('node:events')
      const emitter = new EventEmitter()
      setTimeout(() => emitter.emit('error', new RangeError('left behind')), 20)
      return new Promise<never>(() => {})
    },
  }
  for (const [name, way] of Object.entries(ways)) {
    test(`[TASK-17] ${name} that throws ends the call that waits for it, and is named`, async () => {
      const error = await caught(ray.remote(way, { maxRetries: 0 }).remote())
      expect(error).toBeInstanceOf(exceptions.WorkerCrashedError)
      expect(String(error)).toMatch(/RangeError: left behind/)
    })
  }

  test('[TASK-17] a timer that a finished task left behind ends the worker, not the next task, which runs again', async () => {
    const leave = ray.remote(() => {
      setTimeout(() => {
        throw new RangeError('left behind')
      }, 30)
    })
    await ray.get(leave.remote())
    const next = ray.remote(async () => {
      await new Promise((resolve) => setTimeout(resolve, 200))
      return 'fine'
    })
    expect(await ray.get(next.remote(), { timeoutS: 30 })).toBe('fine')
  })

  test('[TASK-17] a finalizer that throws ends the worker; later calls are served', async () => {
    const leave = ray.remote(async () => {
      const v8 = process.getBuiltinModule('node:v8')
      const vm = process.getBuiltinModule('node:vm')
      const registry = new FinalizationRegistry(() => {
        throw new RangeError('left behind')
      })
      ;(globalThis as { kept?: unknown }).kept = registry
      registry.register({}, 1)
      v8.setFlagsFromString('--expose-gc')
      vm.runInNewContext('gc')()
      return process.pid
    })
    const pid = await ray.get(leave.remote())
    await until(() => !isAlive(pid), 'the worker ends', 20_000)
  })

  test('[ACT-09] an actor dies of it, and says so', async () => {
    class Timer {
      arm(): number {
        setTimeout(() => {
          throw new RangeError('left behind')
        }, 10)
        return 1
      }
    }
    const timer = ray.remote(Timer).remote()
    await ray.get(timer.arm.remote())
    await until(async () => (await caught(timer.arm.remote())) instanceof exceptions.ActorDiedError, 'it dies')
    expect(String(await caught(timer.arm.remote()))).toMatch(/RangeError: left behind/)
  })

  test('[TASK-17] a handler of the user has precedence', async () => {
    const task = ray.remote(
      () =>
        new Promise<string>((resolve) => {
          process.once('uncaughtException', (error) => resolve(`handled ${error.message}`))
          setTimeout(() => {
            throw new Error('left behind')
          }, 10)
        }),
      { maxRetries: 0 },
    )
    expect(await ray.get(task.remote(), { timeoutS: 30 })).toBe('handled left behind')
  })
})

describe('odd values', () => {
  test('[TASK-17] anything may be thrown', async () => {
    const odd: Record<string, () => never> = {
      undefined: () => {
        throw undefined
      },
      null: () => {
        throw null
      },
      'a string': () => {
        throw 'text'
      },
      'a function': () => {
        throw () => 1
      },
      'a frozen error': () => {
        throw Object.freeze(new Error('frozen'))
      },
      'an error that contains itself': () => {
        const error = new Error('round') as Error & { self?: unknown }
        error.self = error
        throw error
      },
      'an error whose message throws': () => {
        throw Object.defineProperty(new Error(), 'message', {
          get() {
            throw new Error('no message')
          },
        })
      },
      'a proxy that throws': () => {
        throw new Proxy(
          {},
          {
            get() {
              throw new Error('no')
            },
            getPrototypeOf() {
              throw new Error('no')
            },
            ownKeys() {
              throw new Error('no')
            },
          },
        )
      },
      'an error that holds a socket': () => {
        throw Object.assign(new Error('with a socket'), {
          socket: new (process.getBuiltinModule('node:net').Socket)(),
        })
      },
    }
    for (const [name, thrower] of Object.entries(odd)) {
      const error = await caught(ray.remote(thrower, { maxRetries: 0 }).remote())
      expect(error, name).toBeInstanceOf(exceptions.RayTaskError)
    }
  })

  test('[PERF-09] results that cannot be serialized fail with a reason', async () => {
    const odd: Record<string, () => unknown> = {
      'a getter that throws': () => ({
        get x() {
          throw new Error('no')
        },
      }),
      'a weak map': () => new WeakMap(),
      'a running generator': () =>
        (function* () {
          yield 1
        })(),
      'a promise inside': () => ({ p: new Promise(() => {}) }),
    }
    for (const [name, make] of Object.entries(odd)) {
      const error = await caught(ray.remote(make, { maxRetries: 0 }).remote())
      expect(error, name).toBeInstanceOf(exceptions.RayError)
    }
  })
})

describe('the worker process', () => {
  test('[ARCH-09] closed standard output: what is printed is lost, work goes on', async () => {
    const close = ray.remote(async () => {
      process.stdout.destroy()
      process.stderr.destroy()
      await new Promise((resolve) => setTimeout(resolve, 20))
      console.log('to nobody')
      console.error('to nobody')
      await new Promise((resolve) => setTimeout(resolve, 20))
      return 'done'
    })
    expect(await ray.get(close.options({ maxRetries: 0 }).remote(), { timeoutS: 30 })).toBe('done')
  })

  test('[ARCH-09] closed connections: the worker is ended, its call fails or runs again', async () => {
    const close = ray.remote(
      () => {
        const handles = (process as unknown as { _getActiveHandles(): { destroy?(): void; remoteAddress?: unknown }[] })
          ._getActiveHandles()
          .filter((handle) => handle.constructor.name === 'Socket')
          .filter((handle) => handle !== process.stdout && handle !== process.stderr)
        handles.at(-1)?.destroy?.()
        return new Promise<never>(() => {})
      },
      { maxRetries: 0 },
    )
    expect(await caught(close.remote())).toBeInstanceOf(exceptions.WorkerCrashedError)
  })

  test('[ARCH-09] another folder, environment, title and an open port: later calls are served by the same or a new worker', async () => {
    const gone = tempDir()
    const change = ray.remote(async (dir: string) => {
      process.chdir(dir)
      process.getBuiltinModule('node:fs').rmdirSync(dir)
      for (const name of Object.keys(process.env)) delete process.env[name]
      process.title = 'changed'
      process.umask(0o777)
      const server = process.getBuiltinModule('node:net').createServer()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return (server.address() as { port: number }).port
    })
    expect(await ray.get(change.remote(gone))).toBeGreaterThan(0)
    const large = ray.remote(() => Buffer.alloc(1_000_000, 3))
    expect((await ray.get(large.remote()))[999_999]).toBe(3)
  })

  test('[ARCH-09] children of user code end with their worker, unless they are detached', async () => {
    const dir = tempDir()
    const start = ray.remote(
      (folder: string) => {
        const { spawn } = process.getBuiltinModule('node:child_process')
        const { writeFileSync } = process.getBuiltinModule('node:fs')
        // It inherits the worker's output: that must not keep the worker's end from being seen.
        const child = spawn('sleep', ['600'], { stdio: 'inherit' })
        const detached = spawn('sleep', ['600'], { stdio: 'inherit', detached: true })
        writeFileSync(`${folder}/detached`, String(detached.pid))
        writeFileSync(`${folder}/child`, String(child.pid))
        process.kill(process.pid, 'SIGKILL')
      },
      { maxRetries: 0 },
    )
    const ref = start.remote(dir)
    const child = await pidIn(path.join(dir, 'child'))
    const detached = await pidIn(path.join(dir, 'detached'))
    try {
      expect(await caught(ref)).toBeInstanceOf(exceptions.WorkerCrashedError)
      await until(() => !isAlive(child), 'the child ends', 5000)
      expect(isAlive(detached)).toBe(true)
    } finally {
      process.kill(detached, 'SIGKILL')
    }
  })
})
