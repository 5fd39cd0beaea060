// `ray drain-node` on real nodes. Fails when a node that is being drained gets new work, when its running work is cut short before the
// deadline, or when it does not end.

import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import * as ray from 'ray-ts'
import { Cluster, type ClusterNode } from 'ray-ts/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { askDrain } from '../../src/runtime/ask.ts'
import type { DrainAnswer } from '../../src/wire/cluster.ts'
import { tempDir, until } from '../helpers.ts'
import { ray as cli } from './processes.ts'

let cluster: Cluster

beforeAll(async () => {
  cluster = await Cluster.start({ head: { numCpus: 1 } })
  await cluster.waitForNodes()
  await cluster.connect({ logToDriver: false })
}, 60_000)
afterAll(() => cluster.shutdown())

function drain({ nodeId }: ClusterNode, reason: 'IDLE_TERMINATION' | 'PREEMPTION', ...more: string[]) {
  const why = ['--reason', `DRAIN_NODE_REASON_${reason}`, '--reason-message', 'the machine goes']
  const address = ['--address', cluster.address]
  return cli(['drain-node', '--node-id', nodeId, ...why, ...address, ...more], cluster.env())
}

async function stateOf({ nodeId }: ClusterNode): Promise<string> {
  const node = (await ray.nodes()).find(({ NodeID }) => NodeID === nodeId)
  if (!node) return 'unknown'
  return node.Alive ? (node.Draining ? 'draining' : 'alive') : `dead: ${String(node.DeathReasonMessage)}`
}

const becomes = (node: ClusterNode, state: RegExp) =>
  until(async () => state.test(await stateOf(node)), `${node.nodeId} is ${state}`, 30_000)

const on = ({ nodeId }: ClusterNode) => ({
  schedulingStrategy: new ray.NodeAffinitySchedulingStrategy({ nodeId, soft: false }),
})
const whereAmI = ray.remote(() => ray.getRuntimeContext().getNodeId())
/** Runs until the file is there. */
const holds = ray.remote(async (file: string) => {
  fs.writeFileSync(`${file}.began`, '')
  while (!fs.existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 20))
  return ray.getRuntimeContext().getNodeId()
})

test('[EXTRA-35] [EXTRA-49] a node that is drained takes nothing new, finishes what runs, and ends', async () => {
  const node = await cluster.addNode({ numCpus: 2, resources: { here: 2 } })
  await becomes(node, /^alive$/)
  const file = path.join(tempDir(), 'go')
  const running = holds.options({ resources: { here: 1 } }).remote(file)
  await until(() => fs.existsSync(`${file}.began`), 'it runs')
  const status = async () => (await cli(['status', '--address', cluster.address], cluster.env())).out
  const refused = (why: string) => ({ code: 1, err: expect.stringContaining(why) })
  expect(await drain(node, 'IDLE_TERMINATION')).toMatchObject(
    refused('it is no longer idle: tasks or actors run there'),
  )
  expect(await drain(cluster.head, 'PREEMPTION')).toMatchObject(refused('it is the head'))
  expect(await drain(node, 'PREEMPTION')).toMatchObject({ code: 0, err: '' })
  await becomes(node, /^draining$/)
  expect(await status()).toContain(`1 node_${node.nodeId} (draining: PREEMPTION, the machine goes)`)
  await expect(ray.get(whereAmI.options(on(node)).remote())).rejects.toThrow(/is being drained/)
  const parallel = await ray.get([1, 2, 3].map(() => whereAmI.remote()))
  expect(new Set(parallel)).toEqual(new Set([cluster.head.nodeId]))
  fs.writeFileSync(file, '')
  expect(await ray.get(running)).toBe(node.nodeId)
  await becomes(node, /^dead: it was drained \(PREEMPTION: the machine goes\)$/)
  await cluster.removeNode(node)
})

test('[EXTRA-35] a node that is idle is drained as idle, and ends; one with a stored value is not', async () => {
  const node = await cluster.addNode({ numCpus: 1, resources: { here: 1 } })
  await becomes(node, /^alive$/)
  const big = ray
    .remote(() => new Uint8Array(1_000_000).fill(7))
    .options({ resources: { here: 1 } })
    .remote()
  await ray.wait([big], { fetchLocal: false })
  // The lease of the task that made it may be kept for a moment.
  const refused = /no longer idle: (values are stored|tasks or actors run) there/
  expect(await drain(node, 'IDLE_TERMINATION')).toMatchObject({ code: 1, err: expect.stringMatching(refused) })
  expect(await stateOf(node)).toBe('alive')
  big.free()
  await until(async () => (await drain(node, 'IDLE_TERMINATION')).code === 0, 'it is idle', 30_000)
  await becomes(node, /^dead: it was drained \(IDLE_TERMINATION: the machine goes\)$/)
  await cluster.removeNode(node)
})

/** In this process, so that it is known when the question is on its way. */
function asks({ nodeId }: ClusterNode): Promise<DrainAnswer> {
  const [host = '', port] = cluster.address.split(':')
  const at = { host, port: Number(port), token: cluster.env().RAY_AUTH_TOKEN ?? null }
  return askDrain(at, { nodeId, reason: 'IDLE_TERMINATION', message: 'too many', deadlineMs: null })
}

test('[EXTRA-35] [ARCH-07] a node that stands still and a GCS that dies leave nobody without an answer', async () => {
  const node = await cluster.addNode({ numCpus: 1 })
  await becomes(node, /^alive$/)
  cluster.kill(node, 'SIGSTOP')
  expect((await asks(node)).refusal).toMatch(/it has not said within 4 s/)
  expect(await stateOf(node)).toBe('alive')
  cluster.kill('gcs')
  cluster.kill(node, 'SIGCONT')
  // It has said yes by now, to a GCS that is no more.
  await cluster.restartGcs()
  await becomes(node, /^dead: it was drained \(IDLE_TERMINATION: too many\)$/)

  cluster.kill('gcs', 'SIGSTOP')
  const unheard = asks(node)
  const [host, port] = cluster.address.split(':')
  const later = net.connect(Number(port), host)
  await once(later, 'connect')
  later.destroy()
  cluster.kill('gcs')
  expect((await unheard).refusal).toMatch(/the GCS has ended/)
  await cluster.restartGcs()
  await cluster.removeNode(node)
})

class Place {
  where(): string {
    return ray.getRuntimeContext().getNodeId()
  }
}

test('[EXTRA-35] at its deadline a node ends: actors restart elsewhere at no cost, values are made again', async () => {
  const node = await cluster.addNode({ numCpus: 2, resources: { here: 2 } })
  const other = await cluster.addNode({ numCpus: 2, resources: { here: 2 } })
  await becomes(node, /^alive$/)
  await becomes(other, /^alive$/)
  const soft = { schedulingStrategy: new ray.NodeAffinitySchedulingStrategy({ nodeId: node.nodeId, soft: true }) }
  const Actor = ray.remote(Place).options({ ...soft, resources: { here: 1 }, maxRestarts: 1, maxTaskRetries: -1 })
  const actor = Actor.remote()
  expect(await ray.get(actor.where.remote())).toBe(node.nodeId)
  const big = ray
    .remote(() => new Uint8Array(1_000_000).fill(7))
    .options({ ...soft, resources: { here: 0.1 } })
    .remote()
  await ray.wait([big], { fetchLocal: false })
  expect(await drain(node, 'PREEMPTION', '--deadline-remaining-seconds', '1')).toMatchObject({ code: 0 })
  await becomes(node, /^dead: it was drained, and its time was over$/)
  expect(await ray.get(actor.where.remote())).toBe(other.nodeId)
  expect((await ray.get(big))[5]).toBe(7)
  await cluster.removeNode(node)
  // Its one restart is still there.
  await expect(ray.get(actor.where.remote())).resolves.toBe(other.nodeId)
  ray.kill(actor, { noRestart: false })
  await until(
    () =>
      ray.get(actor.where.remote()).then(
        (where) => where === other.nodeId,
        () => false,
      ),
    'it is back',
  )
})
