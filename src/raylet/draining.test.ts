// A raylet that is asked whether it is idle. Fails when it says so although somebody would miss it, or takes anything new after that.

import { beforeEach, expect, test } from 'vitest'
import { toResources } from '../scheduling/resources.ts'
import type { BundleStep, GcsToNode, NodeDrain } from '../wire/cluster.ts'
import type { LeaseSpec, ToNode } from '../wire/messages.ts'
import { Raylet } from './raylet.ts'
import type { RayletInput } from './shell.ts'

const DRIVER = 1
const WORKER = 2
const CPU = toResources({ CPU: 1 })
const IDLE: NodeDrain = { reason: 'IDLE_TERMINATION', message: 'too many', deadlineMs: null }
const SPEC: LeaseSpec = {
  ...{ resources: CPU, strategy: { kind: 'DEFAULT' }, runtimeEnv: {}, jobId: '01', priority: 0 },
  ...{ onInfeasible: 'fail', name: 'f', retriable: true },
}
const PREPARE: BundleStep = {
  ...{ t: 'prepare', bundles: { groupId: 'g', indices: [0] }, attempt: 1, resources: [CPU], isWhole: false },
}

let raylet: Raylet

/** What was said to the GCS and to processes of this node, and done. */
function step(input: Parameters<Raylet['step']>[1]): { readonly t: string }[] {
  const words = raylet.step(1, input).flatMap((effect) => {
    if (effect.kind === 'send') return effect.message
    if (effect.kind !== 'local') return []
    return effect.event.t === 'toGcs' ? effect.event.message : effect.event
  })
  raylet.check()
  return words.filter(({ t }) => t !== 'node.report' && t !== 'broadcast' && t !== 'spawnWorker')
}

const local = (event: RayletInput): { readonly t: string }[] => step({ kind: 'local', event })
const gcs = (message: GcsToNode): { readonly t: string }[] => local({ t: 'fromGcs', message })
const asked = (from: number, message: ToNode): { readonly t: string }[] => step({ kind: 'message', from, message })
const join = (kind: 'driver' | 'worker', tag: number): { readonly t: string }[] =>
  local({
    ...{ t: 'registered', kind, startupToken: kind === 'worker' ? 'w1' : '' },
    address: { tag, workerId: '', pid: tag, socket: '', nodeId: 'me' },
  })
const ends = (tag: number): { readonly t: string }[] => local({ t: 'gone', tag, pid: tag, code: 0, signal: null })
const ask = (holdsValues = false): { readonly t: string }[] =>
  local({ t: 'drainIfIdle', question: 'q', drain: IDLE, holdsValues })
const refused = (why: string): unknown[] => [
  { t: 'node.drainAnswered', question: 'q', drain: IDLE, refusal: `it is no longer idle: ${why}` },
]
const ACCEPTED = [
  { t: 'node.drainAnswered', question: 'q', drain: IDLE, refusal: null },
  { t: 'leaveIfEmpty', detail: 'it was drained (IDLE_TERMINATION: too many)' },
]

beforeEach(() => {
  raylet = new Raylet({
    ...{ nodeId: 'me', total: toResources({ CPU: 2 }), numWorkersSoftLimit: 8, maxStarting: 8 },
    ...{ idleMs: 1000, idleCheckMs: 1000, prestart: 1 },
  })
  step({ kind: 'start' })
})

test('[EXTRA-35] a node that is idle accepts to be drained, says so before it leaves, and takes nothing new from then on', () => {
  join('worker', WORKER)
  expect(ask()).toEqual(ACCEPTED)
  const lease = { t: 'actorLease.request', leaseId: 'l', actorId: 'a', spec: SPEC, mayWait: true } as const
  expect(gcs(lease)).toMatchObject([{ t: 'actorLease.rejected', leaseId: 'l' }])
  expect(gcs({ t: 'bundles.do', steps: [PREPARE, { ...PREPARE, isWhole: true }] })).toMatchObject([
    { t: 'bundles.done', answers: [{ isReserved: false }, { t: 'prepared', isReserved: false }] },
  ])
  expect(step({ kind: 'timer', key: 'leave' })).toEqual(ACCEPTED.slice(1))
  // Asked again, it is the same, also with a program that has come in between.
  join('driver', DRIVER)
  expect(ask()).toEqual(ACCEPTED.slice(0, 1))
})

test('[EXTRA-35] a node refuses while something runs, waits or is stored there, down to what holds no resources', () => {
  join('driver', DRIVER)
  expect(ask()).toEqual(refused('a program runs there'))
  expect(asked(DRIVER, { t: 'lease.request', leaseId: 'l', spec: { ...SPEC, resources: {} } })).toEqual([])
  expect(ask()).toEqual(refused('requests wait there'))
  expect(join('worker', WORKER)).toContainEqual(expect.objectContaining({ t: 'lease.granted', leaseId: 'l' }))
  expect(ask()).toEqual(refused('tasks or actors run there'))
  asked(DRIVER, { t: 'lease.return', leaseId: 'l', dispose: false })
  ends(DRIVER)
  gcs({ t: 'bundles.do', steps: [PREPARE] })
  expect(ask()).toEqual(refused('it holds bundles of placement groups'))
  gcs({ t: 'bundles.do', steps: [{ t: 'return', bundles: PREPARE.bundles, detail: '' }] })
  expect(ask(true)).toEqual(refused('values are stored there'))
  // Of a worker that goes on after its task.
  asked(WORKER, { t: 'lease.request', leaseId: 'far', spec: { ...SPEC, resources: { far: 1 }, onInfeasible: 'wait' } })
  expect(ask()).toEqual(refused('its workers use other nodes, or wait for one'))
  ends(WORKER)
  expect([raylet.draining.isOn, ask()]).toEqual([false, ACCEPTED])
})

test('[EXTRA-35] a node whose machine goes and that works says to whoever takes it for idle that it is not', () => {
  join('driver', DRIVER)
  gcs({ t: 'node.drain', drain: { ...IDLE, reason: 'PREEMPTION' } })
  expect(ask()).toEqual(refused('a program runs there'))
})
