// The load of the soak test: lanes that run side by side until the time is over, each checking every result it gets.
//
//   L1. A lane is one round that is repeated. It draws from its own seeded numbers, so that a seed names a run (up to timing).
//   L2. Workers are killed meanwhile, now and then one that has just become an actor. A round may meet the errors that `allowed`
//       names for it, and no others; they are counted.

import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import * as ray from 'ray-ts'

export interface Context {
  readonly random: () => number
  readonly cluster: ray.Cluster
}

export interface Lane {
  readonly name: string
  /** Resolves to how many results were checked; throws when one is wrong. */
  readonly round: (context: Context) => Promise<number>
  readonly allowed?: readonly (new (...args: never[]) => Error)[]
}

const { exceptions } = ray
const RETRIES = { maxRetries: 20 }

function check(isRight: boolean, what: () => string): void {
  if (!isRight) throw new Error(`wrong result: ${what()}`)
}

function below(random: () => number, n: number): number {
  return Math.floor(random() * n)
}

// Tasks

const square = ray.remote((x: number) => x * x, RETRIES)
const later = ray.remote(async (x: number, ms: number) => {
  await new Promise((resolve) => setTimeout(resolve, ms))
  return -x
}, RETRIES)
const sum = ray.remote((...xs: number[]) => xs.reduce((a, b) => a + b, 0), RETRIES)
const fibonacci = ray.remote(async function fibonacci(n: number): Promise<number> {
  if (n < 2) return n
  const self = ray.remote(fibonacci, { maxRetries: 20 })
  const [a, b] = await ray.get([self.remote(n - 1), self.remote(n - 2)])
  return a + b
}, RETRIES)
const twice = ray.remote((x: number) => [x, 2 * x], { ...RETRIES, numReturns: 2 })
const bad = ray.remote((x: number) => {
  throw new RangeError(`bad ${x}`)
}, RETRIES)

async function tasks({ random }: Context): Promise<number> {
  const n = 100 + below(random, 900)
  const got = await ray.get(Array.from({ length: n }, (_, i) => square.remote(i)))
  for (let i = 0; i < n; i++) check(got[i] === i * i, () => `square of ${i}: ${got[i]}`)
  return n
}

async function asyncTasks({ random }: Context): Promise<number> {
  const n = 10 + below(random, 20)
  const refs = Array.from({ length: n }, (_, i) => later.remote(i, below(random, 20)))
  const open = new Set(refs)
  while (open.size > 0) {
    const [done] = await ray.wait([...open], { numReturns: Math.min(3, open.size) })
    for (const ref of done) open.delete(ref)
  }
  const total = await ray.get(sum.remote(...refs))
  check(total === (-n * (n - 1)) / 2, () => `sum of ${n}: ${total}`)
  return n
}

async function nested({ random }: Context): Promise<number> {
  const n = 4 + below(random, 3)
  const got = await ray.get(fibonacci.remote(n))
  check(got === [0, 1, 1, 2, 3, 5, 8][n], () => `fibonacci(${n}): ${got}`)
  return 1
}

async function severalReturns(): Promise<number> {
  const [a, b] = twice.remote(21) as unknown as [ray.ObjectRef<number>, ray.ObjectRef<number>]
  const got = await ray.get([a, b])
  check(got[0] === 21 && got[1] === 42, () => `two returns: ${got}`)
  return 1
}

async function errors({ random }: Context): Promise<number> {
  const x = below(random, 1000)
  const error = await ray.get(bad.remote(x)).catch((caught: unknown) => caught)
  check(error instanceof RangeError && error.message.includes(`bad ${x}`), () => `the error of bad(${x}): ${error}`)
  const dependent = await ray.get(square.remote(bad.remote(x))).catch((caught: unknown) => caught)
  check(dependent instanceof RangeError, () => `the error of a dependent task: ${dependent}`)
  return 2
}

// Generators

const count = ray.remote(
  function* count(n: number) {
    for (let i = 0; i < n; i++) yield i
  },
  { ...RETRIES, numReturns: 'streaming' },
)
const countSlowly = ray.remote(
  async function* countSlowly(n: number) {
    for (let i = 0; i < n; i++) {
      await new Promise((resolve) => setTimeout(resolve, 1))
      yield Buffer.alloc(1000, i)
    }
  },
  { ...RETRIES, numReturns: 'streaming', generatorBackpressureNumObjects: 4 },
)

async function generators({ random }: Context): Promise<number> {
  const n = 1 + below(random, 100)
  const stopAt = random() < 0.3 ? below(random, n) : n
  let seen = 0
  for await (const ref of count.remote(n)) {
    if (seen >= stopAt) break
    const got = await ray.get(ref)
    check(got === seen, () => `item ${seen}: ${String(got)}`)
    seen++
  }
  check(seen === stopAt, () => `${seen} items of ${stopAt}`)
  let slow = 0
  for await (const ref of countSlowly.remote(20)) {
    const got = (await ray.get(ref)) as Buffer
    check(got.length === 1000 && got[999] === slow, () => `slow item ${slow}`)
    slow++
  }
  check(slow === 20, () => `${slow} items of 20`)
  return seen + slow
}

// Actors

class Counter {
  private n = 0
  add(by: number): number {
    return (this.n += by)
  }
  async addLater(by: number): Promise<number> {
    await new Promise((resolve) => setTimeout(resolve, 2))
    return (this.n += by)
  }
  crash(): void {
    process.exit(1)
  }
  hold(data: Uint8Array): number {
    return data.byteLength
  }
}
const RemoteCounter = ray.remote(Counter)

async function actors({ random }: Context): Promise<number> {
  const counter = RemoteCounter.options({ maxConcurrency: 1 }).remote()
  const n = 20 + below(random, 100)
  const got = await ray.get(
    Array.from({ length: n }, (_, i) => (i % 10 === 0 ? counter.addLater.remote(1) : counter.add.remote(1))),
  )
  for (let i = 0; i < n; i++) check(got[i] === i + 1, () => `call ${i}: ${got[i]}`)
  const bytes = await ray.get(counter.hold.remote(ray.put(Buffer.alloc(150_000))))
  check(bytes === 150_000, () => `bytes: ${bytes}`)
  if (random() < 0.5) ray.kill(counter)
  else (counter as unknown as Disposable)[Symbol.dispose]()
  return n + 1
}

async function restarts({ random }: Context): Promise<number> {
  const counter = RemoteCounter.options({ maxRestarts: -1, maxTaskRetries: -1 }).remote()
  const lives = 1 + below(random, 2)
  for (let life = 0; life <= lives; life++) {
    const got = await ray.get([counter.add.remote(1), counter.add.remote(1), counter.add.remote(1)])
    check(`${got}` === '1,2,3', () => `life ${life}: ${got}`)
    if (life === lives) break
    const error = await ray
      .get(counter.crash.options({ maxTaskRetries: 0 }).remote())
      .catch((caught: unknown) => caught)
    check(error instanceof exceptions.RayActorError, () => `the error of a crash: ${error}`)
  }
  ray.kill(counter)
  return lives * 3
}

async function named({ random }: Context): Promise<number> {
  const name = `counter-${below(random, 3)}`
  const options = { name, getIfExists: true, maxRestarts: -1, maxTaskRetries: -1 } as const
  const counter = RemoteCounter.options(options).remote()
  await ray.get(counter.add.remote(1))
  const found = await ray.getActor<Counter>(name)
  const use = ray.remote(async (handle: ray.ActorHandle<Counter>) => ray.get(handle.add.remote(5)), RETRIES)
  const before = await ray.get(found.add.remote(0))
  const after = await ray.get(use.remote(found))
  check(after >= 5 && before >= 1, () => `named actor: ${before}, ${after}`)
  if (random() < 0.3) ray.kill(counter)
  return 3
}

// Objects

function patterned(bytes: number, seed: number): Buffer {
  const data = Buffer.alloc(bytes, seed & 255)
  data.writeUInt32LE(seed, 0)
  data.writeUInt32LE(bytes, bytes - 4)
  return data
}

function isPatterned(data: Uint8Array, bytes: number, seed: number): boolean {
  const buffer = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  if (buffer.length !== bytes || buffer.readUInt32LE(0) !== seed || buffer.readUInt32LE(bytes - 4) !== bytes)
    return false
  for (let at = 4; at < bytes - 4; at += 4099) if (buffer[at] !== (seed & 255)) return false
  return true
}

const makeLarge = ray.remote((bytes: number, seed: number) => {
  const data = Buffer.alloc(bytes, seed & 255)
  data.writeUInt32LE(seed, 0)
  data.writeUInt32LE(bytes, bytes - 4)
  return data
}, RETRIES)
const firstWord = ray.remote((data: Buffer) => data.readUInt32LE(0), RETRIES)

/** About 160 MB alive, in a store of 100: some of it is on disk at any time. */
const kept: { ref: ray.ObjectRef<Buffer>; bytes: number; seed: number }[] = []

async function largeObjects({ random }: Context): Promise<number> {
  const bytes = 1_000_000 + below(random, 7_000_000)
  const seed = below(random, 2 ** 31)
  const ref = random() < 0.5 ? ray.put(patterned(bytes, seed)) : makeLarge.remote(bytes, seed)
  kept.push({ ref: ref as ray.ObjectRef<Buffer>, bytes, seed })
  const old = kept[below(random, kept.length)] as (typeof kept)[number]
  check(isPatterned(await ray.get(old.ref), old.bytes, old.seed), () => `large object of ${old.bytes} bytes`)
  const other = kept[below(random, kept.length)] as (typeof kept)[number]
  const word = await ray.get(firstWord.remote(other.ref))
  check(word === other.seed, () => `first word ${word} of ${other.seed}`)
  while (kept.length > 40) {
    const [gone] = kept.splice(below(random, kept.length), 1) as [(typeof kept)[number]]
    if (random() < 0.3) gone.ref[Symbol.dispose]() // The others wait for the garbage collector.
  }
  return 2
}

/** At the end: nothing is kept any more. */
export function dropKept(): void {
  kept.length = 0
}

async function smallObjects({ random }: Context): Promise<number> {
  const values = Array.from({ length: 100 }, () => ({ n: below(random, 1e9), text: 'x'.repeat(below(random, 300)) }))
  const refs = values.map((value) => ray.put(value))
  const got = await ray.get(refs)
  for (let i = 0; i < 100; i++) {
    const same = got[i]?.n === values[i]?.n && got[i]?.text === values[i]?.text
    check(same, () => `small object ${i}`)
  }
  return 100
}

const open = ray.remote(async (box: { refs: ray.ObjectRef<number>[] }) => {
  const values = await ray.get(box.refs)
  return { total: values.reduce((a, b) => a + b, 0), again: ray.put(values.length), first: box.refs[0] }
}, RETRIES)

async function refsInRefs({ random }: Context): Promise<number> {
  const n = 1 + below(random, 20)
  const box = ray.put({ refs: Array.from({ length: n }, (_, i) => (i % 2 ? ray.put(i) : square.remote(i))) })
  const result = await ray.get(open.remote(box as never))
  let expected = 0
  for (let i = 0; i < n; i++) expected += i % 2 ? i : i * i
  check(result.total === expected, () => `total ${result.total} of ${expected}`)
  check((await ray.get(result.first as ray.ObjectRef<number>)) === 0, () => 'the first reference')
  const length = await ray.get(result.again) // Its owner is a worker, which may have been killed.
  check(length === n, () => `${length} of ${n} references`)
  return 3
}

// Cancel

const patient = ray.remote(async () => {
  const { signal } = ray.getRuntimeContext()
  await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
})
const spinning = ray.remote((ms: number) => {
  const end = performance.now() + ms
  while (performance.now() < end);
  return 'done'
})

async function cancels({ random }: Context): Promise<number> {
  const refs = [patient.remote(), spinning.remote(5000), ...Array.from({ length: 5 }, () => later.remote(1, 50))]
  await sleep(below(random, 100))
  for (const ref of refs) ray.cancel(ref as ray.ObjectRef, { force: random() < 0.2 })
  for (const [i, ref] of refs.entries()) {
    const got = await ray.get(ref as ray.ObjectRef).catch((caught: unknown) => caught)
    const isRight = got instanceof exceptions.TaskCancelledError || (i >= 2 && got === -1)
    check(isRight, () => `cancelled task ${i}: ${String(got)}`)
  }
  return refs.length
}

// Utilities

async function queues({ random }: Context): Promise<number> {
  const queue = new ray.util.Queue<number>({ maxsize: 10 })
  const n = 20 + below(random, 50)
  const produce = ray.remote(async (to: ray.util.Queue<number>, upTo: number) => {
    for (let i = 0; i < upTo; i++) await to.put(i)
  })
  const produced = produce.options({ maxRetries: 0 }).remote(queue, n)
  try {
    for (let i = 0; i < n; i++) {
      const got = await queue.get({ timeoutS: 60 }).catch(() => ray.get(produced).then(() => 'nothing'))
      check(got === i, () => `queue item ${i}: ${got}`)
    }
    await ray.get(produced)
  } finally {
    queue.shutdown()
  }
  return n
}

async function pools({ random }: Context): Promise<number> {
  const pool = new ray.util.Pool({ processes: 2 })
  const n = 10 + below(random, 50)
  try {
    const got = await pool.map(
      (x: number) => x + 1,
      Array.from({ length: n }, (_, i) => i),
    )
    check(got.length === n && got.every((one, i) => one === i + 1), () => `pool.map of ${n}`)
  } finally {
    pool.terminate()
  }
  return n
}

// Other programs

const GUEST = `
import * as ray from 'ray-ts'
await ray.init({ address: process.argv[1] })
const double = ray.remote((x) => 2 * x, { maxRetries: 20 })
const got = await ray.get([1, 2, 3].map((x) => double.remote(ray.put(x))))
console.log(JSON.stringify(got))
if (process.argv[2] === 'die') process.kill(process.pid, 'SIGKILL')
await ray.shutdown()
`

async function guests({ random, cluster }: Context): Promise<number> {
  await sleep(5000)
  const args = ['--input-type=module', '-e', GUEST, cluster.address, random() < 0.5 ? 'die' : 'end']
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk))
  await new Promise((resolve) => child.on('close', resolve))
  check(text.trim() === '[2,4,6]', () => `a guest program: ${text}`)
  return 3
}

// Chaos

const workerPid = ray.remote(async () => {
  await new Promise((resolve) => setTimeout(resolve, 5))
  return process.pid
}, RETRIES)

async function chaos({ random }: Context): Promise<number> {
  await sleep(1000 + below(random, 2000))
  const pid = await ray.get(workerPid.remote())
  try {
    if (random() < 0.7) process.kill(pid, 'SIGKILL')
    else {
      process.kill(pid, 'SIGSTOP')
      await sleep(300)
      process.kill(pid, 'SIGCONT')
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
  return 0
}

const { OwnerDiedError, ObjectLostError, WorkerCrashedError, RayActorError } = exceptions

export const LANES: readonly Lane[] = [
  { name: 'tasks', round: tasks },
  { name: 'async tasks', round: asyncTasks },
  // A parent that is killed takes what it owns with it.
  { name: 'nested tasks', round: nested, allowed: [OwnerDiedError] },
  { name: 'several returns', round: severalReturns },
  { name: 'errors', round: errors },
  { name: 'generators', round: generators },
  { name: 'actors', round: actors, allowed: [RayActorError] },
  { name: 'restarts', round: restarts },
  { name: 'named actors', round: named, allowed: [RayActorError, exceptions.ActorHandleNotFoundError] },
  { name: 'large objects', round: largeObjects },
  { name: 'small objects', round: smallObjects },
  { name: 'references in references', round: refsInRefs, allowed: [OwnerDiedError, ObjectLostError] },
  { name: 'cancels', round: cancels },
  { name: 'queues', round: queues, allowed: [WorkerCrashedError, RayActorError] },
  { name: 'pools', round: pools, allowed: [RayActorError] },
  { name: 'guest programs', round: guests },
  { name: 'chaos', round: chaos },
]
