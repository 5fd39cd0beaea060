// Types of actors and of ray.util. Nothing here runs: `npm run check` compiles it, and each `@ts-expect-error` must be one.

import * as ray from 'ray-ts'
import { is, type Same } from './assert.ts'

abstract class Base {
  name(): string {
    return 'base'
  }
  protected hidden(): void {}
}

class Store extends Base implements Disposable {
  size = 0
  private secret = 1
  static shared(): number {
    return 1
  }

  constructor(capacity: number, label?: string) {
    super()
    this.size = capacity + (label?.length ?? 0) + this.secret
  }
  get(key: string): number | undefined
  get(key: string, fallback: number): number
  get(key: string, fallback?: number): number | undefined {
    return key === '' ? fallback : this.peek()
  }
  async load(url: string, times = 1): Promise<Uint8Array> {
    return new Uint8Array(url.length * times)
  }
  *items(): Generator<[string, number]> {
    yield ['a', 1]
  }
  async *lines(): AsyncGenerator<string> {
    yield 'a'
  }
  split(): [number, string] {
    return [1, 'a']
  }
  add(refs: { ref: ray.ObjectRef<number> }): this {
    void refs
    return this
  }
  [Symbol.dispose](): void {}
  private peek(): number {
    return this.secret
  }
}

const RemoteStore = ray.remote(Store)
const store = RemoteStore.remote(10)

// Constructor arguments.
RemoteStore.remote(ray.put(10), 'label')
// @ts-expect-error a number
RemoteStore.remote('10')
// @ts-expect-error it needs one
RemoteStore.remote()
// @ts-expect-error two at most
RemoteStore.remote(1, 'a', 2)
// @ts-expect-error [ACT-01] a remote class is not made with new
new RemoteStore(10)
// @ts-expect-error an abstract class cannot be made
ray.remote(Base)

// Methods flow, overloads, defaults and inherited ones included.
is<Same<ReturnType<typeof store.name.remote>, ray.ObjectRef<string>>>()
const maybe = store.get.remote('a')
is<Same<typeof maybe, ray.ObjectRef<number | undefined>>>()
const sure = store.get.remote(ray.put('a'), 1)
is<Same<typeof sure, ray.ObjectRef<number>>>()
is<Same<ReturnType<typeof store.load.remote>, ray.ObjectRef<Uint8Array>>>()
store.load.remote('u')
store.load.remote('u', 2)
is<Same<ReturnType<typeof store.items.remote>, ray.ObjectRefGenerator<[string, number]>>>()
is<Same<ReturnType<typeof store.lines.remote>, ray.ObjectRefGenerator<string>>>()
store.add.remote({ ref: sure })
const [left, right] = store.split.options({ numReturns: 2 }).remote()
is<Same<typeof left, ray.ObjectRef<number>>>()
is<Same<typeof right, ray.ObjectRef<string>>>()
// @ts-expect-error a string key
store.get.remote(1)
// @ts-expect-error no such method
store.missing.remote()

// [ACT-16] A handle has only methods, and they have only .remote and .options.
is<Same<keyof typeof store.name, 'remote' | 'options'>>()
is<
  Same<keyof typeof store & string, 'name' | 'get' | 'load' | 'items' | 'lines' | 'split' | 'add' | '__rayTerminate__'>
>()
// @ts-expect-error [ACT-16] called directly
store.name()
// @ts-expect-error a field
store.size
// @ts-expect-error private
store.secret
// @ts-expect-error private
store.peek
// @ts-expect-error protected
store.hidden
// @ts-expect-error static
store.shared
// @ts-expect-error a handle is no instance
const instance: Store = store
// @ts-expect-error and an instance no handle
const handle: ray.ActorHandle<Store> = new Store(1)
void [instance, handle]

// Handles travel as arguments.
const use = ray.remote(async (given: ray.ActorHandle<Store>) => ray.get(given.name.remote()))
use.remote(store)
class Other {
  name(): string {
    return 'other'
  }
}
// @ts-expect-error a handle of another class, though it has the method
use.remote(ray.remote(Other).remote())

// Options of actors and of methods.
RemoteStore.options({ name: 'store', lifetime: 'detached', maxRestarts: -1, maxTaskRetries: 3 }).remote(1)
ray.remote(Store, { maxConcurrency: 4, concurrencyGroups: { io: 2 } }).remote(1)
store.load.options({ concurrencyGroup: 'io', maxTaskRetries: 2 }).remote('u')
// @ts-expect-error tasks have maxRetries
RemoteStore.options({ maxRetries: 3 })
// @ts-expect-error an actor lives once
RemoteStore.options({ maxCalls: 3 })
// @ts-expect-error
RemoteStore.options({ lifetime: 'forever' })
// @ts-expect-error methods share their actor's resources
store.load.options({ numCpus: 2 })
ray.method({ concurrencyGroup: 'io' })(Store.prototype.load)
// @ts-expect-error
ray.method({ concurrencyGroups: 'io' })

async function finds(): Promise<void> {
  const found = await ray.getActor<Store>('store', { namespace: 'app' })
  is<Same<typeof found, ray.ActorHandle<Store>>>()
  using held = RemoteStore.remote(1)
  ray.kill(held, { noRestart: false })
  // @ts-expect-error to stop a task is ray.cancel
  ray.kill(sure)
  // @ts-expect-error
  ray.kill({})
}

// --- ray.util ---------------------------------------------------------------------------------------------------------------

async function pools(): Promise<void> {
  const pool = new ray.util.ActorPool([store])
  for await (const value of pool.map((actor, key: string) => actor.get.remote(key, 0), ['a'])) {
    is<Same<typeof value, number>>()
  }
  // @ts-expect-error the items are strings
  pool.map((actor, key: number) => actor.get.remote(`${key}`, 0), ['a'])
  // @ts-expect-error work returns a reference
  pool.submit((actor, key: string) => actor.get(key), 'a')

  const processes = new ray.util.Pool({ processes: 2 })
  const squares = await processes.map((x: number) => x * x, [1, 2])
  is<Same<typeof squares, number[]>>()
  const texts = await processes.starmap(async (a: number, b: string) => `${a}${b}`, [[1, 'a']])
  is<Same<typeof texts, string[]>>()
  // @ts-expect-error
  await processes.map((x: number) => x, ['a'])

  const queue = new ray.util.Queue<{ id: number }>({ maxsize: 4 })
  await queue.put({ id: 1 })
  const item = await queue.get({ timeoutS: 1 })
  is<Same<typeof item, { id: number }>>()
  // @ts-expect-error
  await queue.put({ name: 'a' })
  // @ts-expect-error
  new ray.util.Queue({ maxSize: 4 })

  const double = ray.remote((x: number) => x * 2)
  for await (const value of ray.util.mapUnordered((x: number) => double.remote(x), [1, 2])) {
    is<Same<typeof value, number>>()
  }
  for await (const value of ray.util.asCompleted([double.remote(1)])) is<Same<typeof value, number>>()
}

export const compiled = [finds, pools]
