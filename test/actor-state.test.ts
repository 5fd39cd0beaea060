// `ray.actorState`. Failure here looks like a life that does not know what an earlier one kept, a value that is kept for ever, or one
// that was said to be kept and is not.

import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'

beforeAll(() => ray.init({ numCpus: 2 }))
afterAll(() => ray.shutdown())

interface Kept {
  readonly n: number
  readonly text: string
  readonly when: Date
  readonly bytes: Uint8Array
  readonly any: unknown
}

class Keeper {
  readonly state = ray.actorState<Kept>()
  readonly found = this.state.get('n')

  async increment(): Promise<number> {
    const n = (this.state.get('n') ?? 0) + 1
    await this.state.set('n', n)
    return n
  }
  atStart(): number | undefined {
    return this.found
  }
  set(key: keyof Kept, value: unknown): Promise<void> {
    return this.state.set(key, value as never)
  }
  get(key: keyof Kept): unknown {
    return this.state.get(key)
  }
  delete(key: keyof Kept): Promise<void> {
    return this.state.delete(key)
  }
  keys(): string[] {
    return this.state.keys()
  }
  pid(): number {
    return process.pid
  }
}

const Remote = ray.remote(Keeper).options({ maxRestarts: -1, maxTaskRetries: -1 })
const kill = async (keeper: ray.ActorHandle<Keeper>): Promise<void> => {
  process.kill(await ray.get(keeper.pid.remote()), 'SIGKILL')
}

test('[FT-02] killed again and again, it goes on counting; its constructor finds the last count', async () => {
  const keeper = Remote.remote()
  for (let n = 1; n <= 8; n++) {
    expect(await ray.get(keeper.increment.remote())).toBe(n)
    await kill(keeper)
    expect(await ray.get(keeper.atStart.remote())).toBe(n)
  }
})

test('[FT-02] interleaved calls lose no change: what was set is read at once', async () => {
  const keeper = Remote.remote()
  const counts = await ray.get(Array.from({ length: 100 }, () => keeper.increment.remote()))
  expect(counts.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1))
  await kill(keeper)
  expect(await ray.get(keeper.atStart.remote())).toBe(100)
})

test('[FT-02] values of all kinds, copied; keys are listed and removed', async () => {
  const keeper = Remote.remote()
  const when = new Date(2026, 1, 2)
  const any = new Map<unknown, unknown>([['list', [1, null, undefined, 2n]]])
  const sets: [keyof Kept, unknown][] = [
    ['text', 'x'],
    ['when', when],
    ['bytes', new Uint8Array([1, 2, 3])],
    ['any', any],
    ['n', 5],
  ]
  await ray.get(sets.map(([key, value]) => keeper.set.remote(key, value)))
  await ray.get(keeper.delete.remote('text'))
  await kill(keeper)
  expect(await ray.get(keeper.keys.remote())).toEqual(['when', 'bytes', 'any', 'n'])
  for (const [key, value] of sets.slice(1)) expect(await ray.get(keeper.get.remote(key))).toEqual(value)
  expect(await ray.get(keeper.get.remote('text'))).toBeUndefined()
})

test('[FT-02] what is too large or cannot be kept is refused, and changes nothing', async () => {
  const keeper = Remote.remote()
  await ray.get(keeper.set.remote('bytes', new Uint8Array(700_000)))
  const refused: [keyof Kept, unknown, RegExp][] = [
    ['any', new Uint8Array(400_000), /with 'any' the actor's state would have 1\d{6} bytes, and it may have 1048576/],
    ['any', [ray.put(1)], /holds a reference/],
    ['x'.repeat(257) as keyof Kept, 1, /1 to 256 characters/],
  ]
  for (const [key, value, message] of refused) {
    const call = ray.get(keeper.set.remote(key, value))
    await expect(call).rejects.toThrow(message)
    await expect(call).rejects.toThrow(ray.exceptions.InvalidArgumentError)
  }
  await ray.get(keeper.set.remote('bytes', new Uint8Array(1_000_000))) // It takes the place of the other.
  await kill(keeper)
  expect(await ray.get(keeper.keys.remote())).toEqual(['bytes'])
})

test('[FT-02] it is gone with an actor that is dead for good: another of the same name begins anew', async () => {
  const named = Remote.options({ name: 'keeper' })
  const first = named.remote()
  await ray.get(first.increment.remote())
  ray.kill(first)
  await expect(ray.get(first.increment.remote())).rejects.toThrow(ray.exceptions.ActorDiedError)
  expect(await ray.get(named.remote().atStart.remote())).toBeUndefined()
})

test('[FT-02] outside an actor, and in a threaded one, it is refused with what to do', async () => {
  expect(() => ray.actorState()).toThrow(/outside an actor/)
  await expect(ray.get(ray.remote(() => ray.actorState().keys()).remote())).rejects.toThrow(/outside an actor/)
  class Threaded {
    keys(): string[] {
      return ray.actorState().keys()
    }
  }
  const threaded = ray.remote(Threaded).options({ threaded: true, maxConcurrency: 2 }).remote()
  await expect(ray.get(threaded.keys.remote())).rejects.toThrow(/in a threaded actor/)
})
