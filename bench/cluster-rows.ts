// Rows of a cluster of four nodes with one CPU each, on this machine: one JSON line a row. The method is that of peers/ray/cluster.py.

import * as ray from 'ray-ts'
import { Cluster } from 'ray-ts/testing'

const isQuick = process.argv.includes('--quick')
const filter = process.argv.includes('--filter') ? (process.argv[process.argv.indexOf('--filter') + 1] ?? '') : ''
const ROUNDS = isQuick ? 1 : 3
const GIB = 1024 ** 3

function print(name: string, unit: string, values: readonly number[]): void {
  const median = [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]
  console.log(JSON.stringify({ name, unit, median }))
}

async function seconds(run: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await run()
  return (performance.now() - began) / 1000
}

async function row(name: string, unit: 's' | '/s', count: number, run: () => Promise<unknown>): Promise<void> {
  if (!name.includes(filter)) return
  const values: number[] = []
  for (let i = 0; i < ROUNDS; i++) {
    const took = await seconds(run)
    values.push(unit === 's' ? took : count / took)
  }
  print(name, unit, values)
}

/** As Ray's own microbenchmarks measure a rate: one second to warm up, then four times two seconds. */
async function rate(name: string, count: number, run: () => Promise<unknown>): Promise<void> {
  if (!name.includes(filter)) return
  const perSecond = async (limit: number): Promise<number> => {
    const began = performance.now()
    let done = 0
    for (; performance.now() - began < limit * 1000; done += count) await run()
    return (done / (performance.now() - began)) * 1000
  }
  await perSecond(1)
  const values: number[] = []
  for (let i = 0; i < (isQuick ? 1 : 4); i++) values.push(await perSecond(2))
  print(name, '/s', values)
}

const nodeOptions = { numCpus: 1, objectStoreMemory: 1.5 * GIB, resources: { custom: 1 } }
const began = performance.now()
let cluster = await Cluster.start({ head: nodeOptions })
await cluster.connect({ logToDriver: false })
print('head started', 's', [(performance.now() - began) / 1000])
const joining = performance.now()
await Promise.all([1, 2, 3].map((i) => cluster.addNode({ ...nodeOptions, resources: { custom: 1, [`node${i}`]: 1 } })))
await cluster.waitForNodes(4)
print('3 nodes alive', 's', [(performance.now() - joining) / 1000])

const noop = ray.remote(() => 1)
await ray.get(Array.from({ length: 100 }, () => noop.remote()))

await rate('placement group create/removal', 100, async () => {
  const groups = Array.from({ length: 100 }, () => ray.util.placementGroup([{ custom: 0.001 }, { custom: 0.001 }]))
  await Promise.all(groups.map((group) => group.wait({ timeoutS: 30 })))
  for (const group of groups) ray.util.removePlacementGroup(group)
})
await row('many tasks', '/s', 10_000, () => ray.get(Array.from({ length: 10_000 }, () => noop.remote())))

class Actor {
  ping(): number {
    return 1
  }
}
const Remote = ray.remote(Actor).options({ numCpus: 0 })
await row('many actors', 's', 60, async () => {
  const actors = Array.from({ length: 60 }, () => Remote.remote())
  await ray.get(actors.map((actor) => actor.ping.remote()))
  for (const actor of actors) ray.kill(actor)
})

const lengthOf = ray.remote((data: Uint8Array) => data.length)
const broadcast = async (): Promise<void> => {
  using ref = ray.put(new Uint8Array(GIB))
  await ray.get([1, 2, 3].map((i) => lengthOf.options({ numCpus: 0, resources: { [`node${i}`]: 0.1 } }).remote(ref)))
}
await row('1 GiB broadcast', 's', 1, broadcast)

const countArguments = ray.remote((...all: number[]) => all.length)
const refs = Array.from({ length: 10_000 }, (_, i) => ray.put(i))
await row('10,000 object arguments', 's', 1, () => ray.get(countArguments.remote(...refs)))
const manyReturns = ray.remote(() => Array.from({ length: 3000 }, (_, i) => i), { numReturns: 3000 })
await row('3,000 returns', 's', 1, () => ray.get(manyReturns.remote() as unknown as ray.ObjectRef<number>[]))
await row('get 10,000 objects', 's', 1, () => ray.get(refs))
await ray.shutdown()
await cluster.shutdown()

// The same between nodes that share no memory, as on several machines: all bytes go through sockets.
const BY_SOCKETS = '1 GiB broadcast by sockets'
if (BY_SOCKETS.includes(filter)) {
  const env = { RAY_TS_SHARED_HOST: '0' }
  const nodes = [1, 2, 3].map((i) => ({ ...nodeOptions, resources: { [`node${i}`]: 1 }, env }))
  cluster = await Cluster.start({ head: { ...nodeOptions, env }, nodes })
  await cluster.waitForNodes(4)
  await cluster.connect({ logToDriver: false })
  await row(BY_SOCKETS, 's', 1, broadcast)
  await ray.shutdown()
  await cluster.shutdown()
}
