// `ray why` on real nodes. Fails when what waits is not named, when a node's reason is wrong, or when who holds what is short is not said.

import * as ray from 'ray-ts'
import { Cluster } from 'ray-ts/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../helpers.ts'
import { ray as cli } from './processes.ts'

let cluster: Cluster
let far: string

beforeAll(async () => {
  cluster = await Cluster.start({ head: { numCpus: 1 } })
  far = (await cluster.addNode({ numCpus: 1, numGpus: 1, labels: { zone: 'b' } })).nodeId.slice(0, 8)
  await cluster.waitForNodes()
  await cluster.connect({ logToDriver: false })
}, 60_000)
afterAll(() => cluster.shutdown())

async function why(...args: string[]): Promise<string> {
  const { code, out, err } = await cli(['why', ...args, '--address', cluster.address], cluster.env())
  expect([code, err]).toEqual([0, ''])
  return out
}

async function whyOf(name: string): Promise<string> {
  let text = ''
  await until(async () => {
    text = await why(name)
    return !text.startsWith('Nothing') && !text.includes('has room')
  }, `${name} waits`)
  return text
}

class Trainer {
  pid(): number {
    return process.pid
  }
}

test('[ARCH-22] names the resource that is short, on which node, and who holds it; then that nothing waits', async () => {
  expect(await why()).toBe('Nothing waits.\n')
  const trainer = ray.remote(Trainer).options({ numGpus: 1 }).remote()
  const pid = await ray.get(trainer.pid.remote())
  const learn = ray.remote(function learn() {
    return 1
  })
  const refs = [learn.options({ numGpus: 1 }).remote()]
  const text = await whyOf('learn')
  const head = cluster.head.nodeId.slice(0, 8)
  const job = ray.getRuntimeContext().getJobId()
  expect(text).toBe(`learn: 1 request for a worker waits for {CPU: 1, GPU: 1} (job ${job})
  node ${head} (127.0.0.1) has no GPU
  node ${far} (127.0.0.1) is short of GPU: 0 of 1 free
    Trainer (actor, pid ${pid}, job ${job}) holds 1 GPU
It begins when enough of that is given back, or when a node with room joins.
`)
  expect(await why()).toBe(text)
  expect(await why('other')).toMatch(/^Nothing of the name 'other' waits/)
  expect(await why('Trainer')).toContain(`It runs on node ${far} (127.0.0.1), pid ${pid}`)
  ray.kill(trainer)
  expect(await ray.get(refs)).toEqual([1])
  await until(async () => (await why()) === 'Nothing waits.\n', 'nothing waits')
})

test('[ARCH-22] what no node could ever hold, labels, actors and placement groups', async () => {
  const patient = ray.remote(function patient() {
    return 1
  })
  const never = patient.options({ resources: { quantum: 2 }, onInfeasible: 'wait' }).remote()
  const text = await whyOf('patient')
  expect(text).toContain(`node ${far} (127.0.0.1) has no quantum`)
  expect(text).toContain('No node of the cluster could ever hold it: it waits for one that joins.')

  class Big {}
  const big = ray
    .remote(Big)
    .options({ name: 'giant', resources: { quantum: 1 }, onInfeasible: 'wait' })
    .remote()
  expect(await whyOf('giant')).toMatch(/^giant: 1 actor waits for \{.*quantum: 1.*\}/)

  const group = ray.util.placementGroup([{ CPU: 1 }, { CPU: 1 }, { CPU: 1 }], { strategy: 'STRICT_SPREAD' })
  await until(async () => (await why()).includes('1 placement group (STRICT_SPREAD) waits for'), 'the group is named')

  ray.cancel(never)
  ray.kill(big)
  ray.util.removePlacementGroup(group)
  await until(async () => (await why()) === 'Nothing waits.\n', 'nothing waits')
})

test('[ARCH-22][TASK-14] tasks that wait for arguments or in get, and constructors: what makes those values, and where, whoever owns them', async () => {
  const gate = new ray.util.Queue<number>()
  const slow = ray.remote(async function slow(end: ray.util.Queue<number>) {
    await end.get()
    return process.pid
  })
  const gather = ray.remote(function gather(...all: number[]) {
    return all.length
  })
  const begun = slow.options({ numGpus: 1 }).remote(gate)
  await until(async () => (await why('slow')).includes('waits in get'), 'slow runs, and waits for the gate')
  const [, pid] = /^slow: 1 task of pid (\d+) /.exec(await why('slow')) ?? []
  const ends = [gather.remote(begun, begun), gather.remote(begun)]
  const outer = ray
    .remote(function outer(box: { ref: ray.ObjectRef<number> }) {
      return ray.get(gather.remote(box.ref))
    })
    .options({ numCpus: 0 })
    .remote({ ref: begun })
  const job = ray.getRuntimeContext().getJobId()
  const made = `slow makes it, which is with pid ${pid} on node ${far} (127.0.0.1)`
  await until(async () => (await why('gather')).split('\n\n').length === 2, 'both processes say what waits')
  const text = await why('gather')
  const id = begun.hex()
  expect(text).toContain(
    `gather: 2 tasks of pid ${process.pid} (job ${job}) wait for arguments\n  ObjectRef(${id}): ${made}\n`,
  )
  expect(text).toMatch(new RegExp(`gather: 1 task of pid (?!${process.pid})\\d+ \\(job ${job}\\) waits for arguments`))
  expect(text.split(made)).toHaveLength(3)
  const ownArguments = 'gather makes it, which waits for its own arguments'
  expect(await why('outer')).toMatch(
    new RegExp(
      `^outer: 1 task of pid \\d+ \\(job ${job}\\) waits in get for values\n  ObjectRef\\(.*\\): ${ownArguments}\n$`,
    ),
  )
  class Made {
    readonly by: number
    constructor(by: number) {
      this.by = by
    }
    where(): number {
      return this.by
    }
  }
  const actor = ray.remote(Made).options({ numCpus: 0 }).remote(begun)
  const where = actor.where.remote()
  expect(await why('Made')).toBe(
    `Made: 1 actor of pid ${process.pid} (job ${job}) waits for arguments of its constructor\n  ObjectRef(${id}): ${made}\n`,
  )
  await gate.put(1)
  expect(await ray.get([...ends, outer])).toEqual([2, 1, 1])
  expect(await ray.get(where)).toBe(Number(pid))
  await until(async () => (await why()) === 'Nothing waits.\n', 'nothing waits')
})
