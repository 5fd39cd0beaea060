// Failure here looks like an actor that outlives its reason to live, ends before it, or ends without saying why.
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isAlive, startProgram, tempDir, until } from './helpers.ts'

let cluster: ray.Cluster
beforeAll(async () => {
  cluster = await ray.init({ numCpus: 3, logToDriver: false })
})
afterAll(() => ray.shutdown())

interface Keeper {
  keep(value: string): number
  pid(): number
}

class Worker {
  private readonly base: number
  constructor(base = 0) {
    this.base = base
  }
  pid(): number {
    return process.pid
  }
  sum(x: number): number {
    return this.base + x
  }
  async nap(ms: number): Promise<string> {
    await new Promise((resolve) => setTimeout(resolve, ms))
    return 'rested'
  }
  say(text: string): void {
    for (const line of text.split('\n')) console.error(line)
  }
  die(code: number): void {
    process.exit(code)
  }
}
const Remote = ray.remote(Worker)
const failureOf = async (ref: ray.ObjectRef): Promise<Error> =>
  (await ray.get(ref as ray.ObjectRef<unknown>).catch((caught: unknown) => caught)) as Error

for (const how of ['shutdown', 'kill']) {
  test(`[ACT-06][ACT-05][ARCH-05] a detached actor outlives the driver that made it (${how}); another finds, calls and kills it`, async () => {
    const program = startProgram('actor-driver.mjs', [cluster.address, how === 'kill' ? 'wait' : 'end'])
    await until(() => /made \d+ \d+/.test(program.text()), `actors: ${program.text()}`, 30_000)
    const [, kept, gone] = /made (\d+) (\d+)/.exec(program.text()) as unknown as [string, number, number]
    if (how === 'kill') program.child.kill('SIGKILL')
    await program.ended
    await until(() => !isAlive(Number(gone)), 'its ordinary actor ends with it')
    await expect(ray.getActor('ordinary', { namespace: 'first' })).rejects.toThrow(
      ray.exceptions.ActorHandleNotFoundError,
    )
    await expect(ray.getActor('detached')).rejects.toThrow(/another namespace/)
    expect(await ray.util.listNamedActors(true)).toContainEqual({ name: 'detached', namespace: 'first' })
    const found = await ray.getActor<Keeper>('detached', { namespace: 'first' })
    expect(await ray.get(found.keep.remote('two'))).toBe(2)
    const fromTask = ray.remote(async () => {
      const handle = await ray.getActor<Keeper>('detached', { namespace: 'first' })
      return ray.get(handle.keep.remote('three'))
    })
    expect(await ray.get(fromTask.remote())).toBe(3)
    ray.kill(found)
    await until(() => !isAlive(Number(kept)), 'ray.kill ends it')
    await expect(ray.getActor('detached', { namespace: 'first' })).rejects.toThrow(/no actor is named/)
  })
}

test('[ACT-09] errors name class, id, pid, name, namespace, the end and the last lines', async () => {
  const named = Remote.options({ name: 'talker', namespace: 'stage' }).remote()
  const pid = await ray.get(named.pid.remote())
  await ray.get(named.say.remote(Array.from({ length: 30 }, (_, i) => `line ${i + 1}`).join('\n')))
  const error = await failureOf(named.die.remote(7))
  expect(error).toBeInstanceOf(ray.exceptions.ActorDiedError)
  expect(error.message).toMatch(/the actor Worker \([0-9a-f]{32}\) is dead: it exited with code 7/)
  expect(error.message).toMatch(
    new RegExp(`pid: ${pid}, name: 'talker', namespace: 'stage', end: exit code 7 \\(crashed\\)`),
  )
  expect(error.message).toMatch(/error output:\n {4}line 11\n[\s\S]* {4}line 30\n/)
  expect(error.message).not.toMatch(/line 10\n/)
  // The same for calls that come later, and for a crash with restarts.
  expect((await failureOf(named.sum.remote(1))).message).toMatch(/exited with code 7/)
  const again = Remote.options({ maxRestarts: 1 }).remote()
  const first = await ray.get(again.pid.remote())
  process.kill(first, 'SIGKILL')
  const unavailable = await failureOf(again.nap.remote(60_000))
  expect(unavailable).toBeInstanceOf(ray.exceptions.RayActorError)
  expect(unavailable.message).toMatch(new RegExp(`ended by SIGKILL\\n  pid: ${first}.*end: signal SIGKILL`))
  await until(async () => (await ray.get(again.pid.remote()).catch(() => first)) !== first, 'it comes back')
  ray.kill(again)
  expect((await failureOf(again.sum.remote(1))).message).toMatch(/killed by ray\.kill\n {2}pid: \d+/)
})

test('[ACT-09][TASK-17] a crashed worker says how it ended and what it printed last', async () => {
  const crash = ray.remote(
    () => {
      console.error('the last words')
      process.exit(9)
    },
    { maxRetries: 0 },
  )
  const error = await failureOf(crash.remote())
  expect(error).toBeInstanceOf(ray.exceptions.WorkerCrashedError)
  expect(error.message).toMatch(/it exited with code 9\n {2}the end of its error output:\n {4}the last words/)
})

test('[ACT-14] handles inside objects, in closures, and with a worker that then dies keep an actor alive as long as they are held', async () => {
  const inObject = Remote.remote()
  const pids = [await ray.get(inObject.pid.remote())]
  const box = ray.put({ handle: inObject })
  inObject[Symbol.dispose]()
  const useBox = ray.remote(async (held: { handle: ray.ActorHandle<Worker> }) => ray.get(held.handle.sum.remote(5)))
  expect(await ray.get(useBox.remote(box))).toBe(5)
  expect(isAlive(pids[0] as number)).toBe(true)
  box[Symbol.dispose]()
  await until(() => !isAlive(pids[0] as number), 'the actor whose handle was in the object ends')

  const passedOn = Remote.remote()
  const pid = await ray.get(passedOn.pid.remote())
  const holder = ray.remote(
    class Holder {
      private held: unknown
      hold(handles: unknown[]): number {
        this.held = handles
        return process.pid
      }
    },
  )
  const other = holder.remote()
  const holderPid = await ray.get(other.hold.remote([passedOn]))
  passedOn[Symbol.dispose]()
  await ray.get(Remote.remote().sum.remote(1)) // Time for messages to arrive: the holder alone keeps it.
  expect(isAlive(pid)).toBe(true)
  process.kill(holderPid, 'SIGKILL')
  await until(() => !isAlive(pid), 'the actor ends with the last process that held it')

  const captured = Remote.remote(100)
  const viaClosure = ray.remote(async () => ray.get(captured.sum.remote(11)))
  expect(await ray.get(viaClosure.remote())).toBe(111)
})

test('[ACT-14] out of scope is graceful: what was called runs to its end', async () => {
  const file = path.join(tempDir(), 'done')
  class Slow {
    async work(): Promise<void> {
      await new Promise((resolve) => setTimeout(resolve, 500))
      process.getBuiltinModule('node:fs').writeFileSync(file, 'done')
    }
  }
  const slow = ray.remote(Slow).remote()
  const ref = slow.work.remote()
  slow[Symbol.dispose]()
  await ray.get(ref)
  expect(fs.readFileSync(file, 'utf8')).toBe('done')
})

test('[EXTRA-03] __rayTerminate__ ends after the calls before it, exitActor in the midst of others, kill restarts if told to', async () => {
  const ending = Remote.options({ maxRestarts: 3 }).remote(1)
  const pid = await ray.get(ending.pid.remote())
  const before = ending.nap.remote(300)
  await ray.get(ending.__rayTerminate__.remote())
  expect(await ray.get(before)).toBe('rested')
  await until(() => !isAlive(pid), 'its process ends')
  expect((await failureOf(ending.sum.remote(1))).message).toMatch(/asked to end by __rayTerminate__/)

  class Crowd {
    async stay(): Promise<void> {
      await new Promise(() => {})
    }
    async leave(): Promise<void> {
      await new Promise((resolve) => setTimeout(resolve, 10))
      ray.exitActor()
    }
  }
  const crowd = ray.remote(Crowd).options({ maxRestarts: 3 }).remote()
  const staying = [crowd.stay.remote(), crowd.stay.remote()]
  expect((await failureOf(crowd.leave.remote())).message).toMatch(/exitActor/)
  for (const ref of staying) expect(await failureOf(ref)).toBeInstanceOf(ray.exceptions.ActorDiedError)

  const restarted = Remote.options({ maxRestarts: 1, maxTaskRetries: 5 }).remote()
  const first = await ray.get(restarted.pid.remote())
  ray.kill(restarted, { noRestart: false })
  expect(await ray.get(restarted.pid.remote())).not.toBe(first)
  ray.kill(restarted, { noRestart: false }) // No restart is left.
  expect(await failureOf(restarted.pid.remote())).toBeInstanceOf(ray.exceptions.ActorDiedError)
})

test('[ACT-07] three crashes with two restarts; constructor arguments by reference are there each time', async () => {
  const make = ray.remote(() => 1000)
  const base = make.remote()
  const actor = Remote.options({ maxRestarts: 2 }).remote(base)
  base[Symbol.dispose]() // The actor's own hold keeps the value for its next lives.
  for (const life of [0, 1, 2]) {
    await until(async () => (await ray.get(actor.sum.remote(life)).catch(() => 0)) === 1000 + life, `life ${life}`)
    await failureOf(actor.die.remote(1))
  }
  expect(await failureOf(actor.sum.remote(1))).toBeInstanceOf(ray.exceptions.ActorDiedError)
})

test('[ACT-08][EXTRA-11] ray.method: retries, listed exceptions, several returns; also by a handle found by name', async () => {
  class Busy extends Error {}
  class Flaky {
    private calls = 0
    listed(): number {
      if (++this.calls < 3) throw new Busy('come back later')
      return this.calls
    }
    unlisted(): never {
      this.calls++
      throw new RangeError('no use')
    }
    count(): number {
      return this.calls
    }
    pair(): number[] {
      return [1, 2]
    }
  }
  ray.method({ maxTaskRetries: 3, retryExceptions: [Busy], enableTaskEvents: false })(Flaky.prototype.listed)
  ray.method({ maxTaskRetries: 3, retryExceptions: [Busy] })(Flaky.prototype.unlisted)
  ray.method({ numReturns: 2 })(Flaky.prototype.pair)
  const flaky = ray.remote(Flaky).options({ name: 'flaky' }).remote()
  expect(await ray.get(flaky.listed.remote())).toBe(3)
  await expect(ray.get(flaky.unlisted.remote())).rejects.toThrow(RangeError)
  expect(await ray.get(flaky.count.remote())).toBe(4) // Not retried.
  const pair = flaky.pair.remote() as unknown as [ray.ObjectRef<number>, ray.ObjectRef<number>]
  expect(await ray.get(pair)).toEqual([1, 2])
  const again = ray.remote(Flaky).options({ name: 'other' }).remote()
  const found = await ray.getActor<Flaky>('other')
  expect(await ray.get(found.listed.remote())).toBe(3)
  expect(await ray.get(again.count.remote())).toBe(3)
})

test('[EXTRA-11] getIfExists from many at once makes one actor', async () => {
  const all = Array.from({ length: 5 }, () => Remote.options({ name: 'one', getIfExists: true }).remote())
  const pids = await ray.get(all.map((handle) => handle.pid.remote()))
  expect(new Set(pids).size).toBe(1)
  expect(() => Remote.options({ getIfExists: true }).remote()).toThrow(/getIfExists needs a name/)
})

test('[ACT-10] a hundred calls that sleep overlap; a limit of ten holds, and calls begin in order', async () => {
  class Sleeper {
    private open = 0
    private most = 0
    private readonly begun: number[] = []
    async sleep(i: number): Promise<void> {
      this.begun.push(i)
      this.most = Math.max(this.most, ++this.open)
      await new Promise((resolve) => setTimeout(resolve, 200))
      this.open--
    }
    seen(): { most: number; begun: number[] } {
      return { most: this.most, begun: this.begun }
    }
  }
  const order = Array.from({ length: 100 }, (_, i) => i)
  for (const [options, most] of [
    [{}, 100],
    [{ maxConcurrency: 10 }, 10],
  ] as const) {
    const sleeper = ray.remote(Sleeper).options(options).remote()
    await ray.get(order.map((i) => sleeper.sleep.remote(i)))
    expect(await ray.get(sleeper.seen.remote())).toEqual({ most, begun: order })
  }
})

test('[EXTRA-13] allowOutOfOrderExecution: a call whose argument is there overtakes one that waits', async () => {
  const folder = tempDir()
  const wait = ray.remote(async () => {
    const { existsSync } = process.getBuiltinModule('node:fs')
    while (!existsSync(`${folder}/go`)) await new Promise((resolve) => setTimeout(resolve, 10))
    return 1
  })
  const late = wait.remote()
  const ordered = Remote.remote()
  const outOfOrder = Remote.options({ allowOutOfOrderExecution: true }).remote()
  const slow = [ordered.sum.remote(late), outOfOrder.sum.remote(late)]
  const held = ordered.sum.remote(2)
  expect(await ray.get(outOfOrder.sum.remote(2))).toBe(2)
  const [ready] = await ray.wait([held, ...slow], { timeoutS: 0.2 })
  expect(ready).toEqual([])
  fs.writeFileSync(path.join(folder, 'go'), '')
  expect(await ray.get([...slow, held])).toEqual([1, 1, 2])
})

test('[ACT-12] maxPendingCalls counts for each process that calls', async () => {
  const actor = Remote.options({ maxPendingCalls: 2, maxConcurrency: 1 }).remote()
  const open = [actor.nap.remote(2000), actor.sum.remote(1)]
  expect(() => actor.sum.remote(2)).toThrow(/has 2 calls waiting, and maxPendingCalls is 2/)
  const other = ray.remote(async (handle: ray.ActorHandle<Worker>) => {
    const two = [handle.sum.remote(1), handle.sum.remote(2)]
    try {
      handle.sum.remote(3)
      return 'not refused'
    } catch (error) {
      await ray.get(two)
      return (error as Error).name
    }
  })
  expect(await ray.get(other.remote(actor))).toBe('PendingCallsLimitExceeded')
  await ray.get(open as ray.ObjectRef<unknown>[])
})

test('[ACT-14] the grace of an actor that does not end by itself is bounded', async () => {
  await ray.shutdown()
  const systemConfig = { actorGracefulShutdownTimeoutMs: 300 }
  await ray.init({ numCpus: 2, logToDriver: false, systemConfig })
  class Deaf {
    begin(): number {
      setTimeout(() => {
        for (;;);
      }, 20)
      return process.pid
    }
  }
  const deaf = ray.remote(Deaf).remote()
  const pid = await ray.get(deaf.begin.remote())
  await new Promise((resolve) => setTimeout(resolve, 200)) // Its call is over; it hears nothing any more.
  deaf[Symbol.dispose]()
  await until(() => !isAlive(pid), 'its process is ended')
})
