// Ray's own microbenchmark rows, by Ray's names and Ray's method, on ray-ts.
//
// Method (Ray's `timeit`): call for at least `warmUpS` while counting; then `rounds` rounds of at least `roundS` seconds, each calling in
// steps of a tenth of the warm-up count; a row's figure is the median of rounds, and the spread their standard deviation.

import * as ray from 'ray-ts'

export interface MicrobenchmarkOptions {
  /** Only rows whose name contains this. */
  readonly filter?: string
  readonly quick?: boolean
  /** Called with each finished row. */
  readonly onRow?: (row: MicrobenchmarkRow) => void
}

export interface MicrobenchmarkRow {
  readonly name: string
  readonly unit: string
  readonly median: number
  readonly deviation: number
}

/** How much shorter long calls are when it must be quick; bench/peers/ray/bench.py divides by the same number. */
const SHRINK = 10

type Call = () => Promise<unknown> | unknown

const noop = ray.remote(function smallValue() {
  return 'ok'
})
const putSmall = ray.remote(function doPutSmall() {
  for (let i = 0; i < 100; i++) ray.put(0)
})
const putLarge = ray.remote(function doPut() {
  const data = new BigInt64Array(10 * 1024 * 1024)
  for (let i = 0; i < 10; i++) ray.put(data)[Symbol.dispose]()
})

class Actor {
  smallValue(): string {
    return 'ok'
  }
  smallValueArg(_: unknown): string {
    return 'ok'
  }
  async submitBatch(n: number): Promise<void> {
    await ray.get(Array.from({ length: n }, () => noop.remote()))
  }
}

class AsyncActor {
  async smallValue(): Promise<string> {
    return 'ok'
  }
  async smallValueWithArg(_: unknown): Promise<string> {
    return 'ok'
  }
}

class Client {
  private readonly servers: ray.ActorHandle<Actor>[]
  constructor(servers: ray.ActorHandle<Actor>[]) {
    this.servers = servers
  }
  async smallValueBatch(n: number): Promise<void> {
    await ray.get(this.servers.flatMap((server) => Array.from({ length: n }, () => server.smallValue.remote())))
  }
  async smallValueBatchArg(n: number): Promise<void> {
    const ref = ray.put(0)
    await ray.get(this.servers.flatMap((server) => Array.from({ length: n }, () => server.smallValueArg.remote(ref))))
  }
}

const RemoteActor = ray.remote(Actor)
const RemoteAsyncActor = ray.remote(AsyncActor)
const RemoteClient = ray.remote(Client)
const work = ray.remote(async function work(actors: ray.ActorHandle<Actor>[], n: number) {
  await ray.get(
    Array.from({ length: n }, (_, i) => (actors[i % actors.length] as ray.ActorHandle<Actor>).smallValue.remote()),
  )
})

interface Row {
  readonly name: string
  readonly unit: string
  readonly multiplier: number
  /** Makes what the row needs; the call to be timed. */
  prepare(cpus: number, shrink: number): Promise<Call> | Call
  /** Its calls are long: shorter ones, by `SHRINK`, when it must be quick. */
  readonly isLong: boolean
}

const times = (n: number, call: (i: number) => unknown): unknown[] => Array.from({ length: n }, (_, i) => call(i))
const row = (name: string, multiplier: number, prepare: Row['prepare'], unit = '/s'): Row => ({
  name,
  unit,
  multiplier,
  prepare,
  isLong: prepare.length > 1,
})
const half = (cpus: number): number => Math.max(1, Math.floor(cpus / 2))

const ROWS: readonly Row[] = [
  row('single client get calls (Plasma Store)', 1, () => {
    const ref = ray.put(0)
    return () => ray.get(ref)
  }),
  row('single client put calls (Plasma Store)', 1, () => () => ray.put(0)),
  row('multi client put calls (Plasma Store)', 1000, () => () => ray.get(times(10, () => putSmall.remote()) as never)),
  row(
    'single client put gigabytes',
    0.8,
    () => {
      const data = new BigInt64Array(100 * 1024 * 1024)
      return () => ray.put(data)[Symbol.dispose]()
    },
    'GB/s',
  ),
  row('single client tasks and get batch', 1, () => () => ray.get(times(1000, () => noop.remote()) as never)),
  row(
    'multi client put gigabytes',
    10 * 8 * 0.1,
    () => () => ray.get(times(10, () => putLarge.remote()) as never),
    'GB/s',
  ),
  row('single client get object containing 10k refs', 1, () => {
    const ref = ray.put(times(10_000, () => ray.put(1)))
    return () => ray.get(ref)
  }),
  row('single client wait 1k refs', 1, () => async () => {
    let open = times(1000, () => noop.remote()) as ray.ObjectRef<string>[]
    while (open.length > 0) [, open] = await ray.wait(open)
  }),
  row('single client tasks sync', 1, () => () => ray.get(noop.remote())),
  row('single client tasks async', 1000, () => () => ray.get(times(1000, () => noop.remote()) as never)),
  row('multi client tasks async', 40_000, async (_, shrink) => {
    const actors = times(4, () => RemoteActor.remote()) as ray.ActorHandle<Actor>[]
    return () => ray.get(actors.map((actor) => actor.submitBatch.remote(10_000 / shrink)))
  }),
  row('1:1 actor calls sync', 1, () => {
    const actor = RemoteActor.remote()
    return () => ray.get(actor.smallValue.remote())
  }),
  row('1:1 actor calls async', 1000, () => {
    const actor = RemoteActor.remote()
    return () => ray.get(times(1000, () => actor.smallValue.remote()) as never)
  }),
  row('1:1 actor calls concurrent', 1000, () => {
    const actor = RemoteActor.options({ maxConcurrency: 16 }).remote()
    return () => ray.get(times(1000, () => actor.smallValue.remote()) as never)
  }),
  row('1:n actor calls async', 5000, (cpus, shrink) => {
    const servers = times(half(cpus), () => RemoteActor.remote()) as ray.ActorHandle<Actor>[]
    const client = RemoteClient.remote(servers)
    return () => ray.get(client.smallValueBatch.remote(5000 / shrink))
  }),
  row('n:n actor calls async', 20_000, (cpus, shrink) => {
    const actors = times(half(cpus), () => RemoteActor.remote()) as ray.ActorHandle<Actor>[]
    return () => ray.get(times(4, () => work.remote(actors, 5000 / shrink)) as never)
  }),
  row('n:n actor calls with arg async', 1000, (cpus) => {
    const servers = times(half(cpus), () => RemoteActor.remote()) as ray.ActorHandle<Actor>[]
    const clients = servers.map((server) => RemoteClient.remote([server]))
    return () => ray.get(clients.map((client) => client.smallValueBatchArg.remote(1000)))
  }),
  row('1:1 async-actor calls sync', 1, () => {
    const actor = RemoteAsyncActor.remote()
    return () => ray.get(actor.smallValue.remote())
  }),
  row('1:1 async-actor calls async', 1000, () => {
    const actor = RemoteAsyncActor.remote()
    return () => ray.get(times(1000, () => actor.smallValue.remote()) as never)
  }),
  row('1:1 async-actor calls with args async', 1000, () => {
    const actor = RemoteAsyncActor.remote()
    return () => ray.get(times(1000, (i) => actor.smallValueWithArg.remote(i)) as never)
  }),
  row('1:n async-actor calls async', 5000, (cpus, shrink) => {
    const servers = times(half(cpus), () => RemoteAsyncActor.remote()) as unknown as ray.ActorHandle<Actor>[]
    const client = RemoteClient.remote(servers)
    return () => ray.get(client.smallValueBatch.remote(5000 / shrink))
  }),
  row('n:n async-actor calls async', 20_000, (cpus, shrink) => {
    const actors = times(half(cpus), () => RemoteAsyncActor.remote()) as unknown as ray.ActorHandle<Actor>[]
    return () => ray.get(times(4, () => work.remote(actors, 5000 / shrink)) as never)
  }),
]

/** Runs the rows on the connected cluster, one after the other. */
export async function runMicrobenchmark(options: MicrobenchmarkOptions = {}): Promise<MicrobenchmarkRow[]> {
  const cpus = (await ray.clusterResources()).CPU ?? 1
  const rows: MicrobenchmarkRow[] = []
  for (const one of ROWS) {
    if (options.filter !== undefined && !one.name.includes(options.filter)) continue
    const shrink = options.quick && one.isLong ? SHRINK : 1
    const call = await one.prepare(cpus, shrink)
    const rates = await timeRow(call, one.multiplier / shrink, options.quick ?? false)
    const finished = { name: one.name, unit: one.unit, median: median(rates), deviation: deviation(rates) }
    rows.push(finished)
    options.onRow?.(finished)
  }
  return rows
}

async function timeRow(call: Call, multiplier: number, quick: boolean): Promise<number[]> {
  const [warmUpMs, rounds, roundMs] = quick ? [300, 3, 500] : [1000, 4, 2000]
  let count = 0
  for (const began = performance.now(); performance.now() - began < warmUpMs; count++) await call()
  const step = Math.floor(count / 10) + 1
  const rates: number[] = []
  for (let i = 0; i < rounds; i++) {
    const began = performance.now()
    let calls = 0
    while (performance.now() - began < roundMs) {
      for (let k = 0; k < step; k++) await call()
      calls += step
    }
    rates.push((multiplier * calls * 1000) / (performance.now() - began))
  }
  return rates
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

function deviation(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)
}
