// `ray.actorState` over several nodes, and over the end of the GCS. Failure here looks like a count that goes back.

import * as ray from 'ray-ts'
import { Cluster } from 'ray-ts/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'

let cluster: Cluster
beforeAll(async () => {
  cluster = await Cluster.start({
    head: { numCpus: 1 },
    nodes: [{ resources: { here: 1 } }, { resources: { here: 1 } }],
  })
  await cluster.connect({ logToDriver: false })
})
afterAll(() => cluster.shutdown())

class Counter {
  readonly state = ray.actorState<{ count: number }>()
  async increment(): Promise<number> {
    const count = (this.state.get('count') ?? 0) + 1
    await this.state.set('count', count)
    return count
  }
  where(): string {
    return ray.getRuntimeContext().getNodeId()
  }
}

test('[FT-02] its node is killed, and the GCS while it counts: the next life knows the last count, elsewhere', async () => {
  const counter = ray
    .remote(Counter)
    .options({ resources: { here: 1 }, maxRestarts: -1, maxTaskRetries: -1 })
    .remote()
  let count = 0
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 5; i++) expect(await ray.get(counter.increment.remote())).toBe(++count)
    const during = Array.from({ length: 5 }, () => counter.increment.remote())
    await cluster.restartGcs()
    for (const ref of during) expect(await ray.get(ref)).toBe(++count)
    const nodeId = await ray.get(counter.where.remote())
    const node = cluster.nodes.find((one) => one.nodeId === nodeId)
    if (!node) throw new Error('it is on no node of the cluster')
    await cluster.removeNode(node, { allowGraceful: false })
    expect(await ray.get(counter.increment.remote())).toBe(++count)
    expect(await ray.get(counter.where.remote())).not.toBe(nodeId)
    await cluster.addNode({ resources: { here: 1 } })
  }
})
