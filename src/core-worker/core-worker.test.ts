// Each test is an order of events that once lost, doubled or leaked something (found by the simulation).

import { expect, test } from 'vitest'
import { makeObjectId } from '../ids/ids.ts'
import type { ActorInfo, ExitInfo, WorkerAddress } from '../wire/messages.ts'
import { STREAMING } from '../wire/task-frames.ts'
import { CoreWorker } from './core-worker.ts'
import type { CoreOutput, Task } from './effects.ts'
import { plainTask } from './task-fixture.ts'

const ADDRESS: WorkerAddress = { tag: 7, workerId: '', pid: 70, socket: 's7', nodeId: '' }
const EXIT = {
  tag: 7,
  pid: 70,
  code: null,
  signal: 'SIGKILL',
  lastLines: [],
  reason: 'crashed',
  detail: '',
} as ExitInfo
const VALUE = { kind: 'primitive', value: 1 } as const

function taskOf(core: CoreWorker, more: Partial<Task> = {}): Task {
  const task = plainTask(core.sequences(1), more)
  core.createReturns(task)
  core.submit(0, task)
  return task
}

/** Grants the lease that the core has just asked for. */
function grant(core: CoreWorker): void {
  const request = core.drain().find((effect) => effect.t === 'toNode' && effect.message.t === 'lease.request')
  if (request?.t !== 'toNode' || request.message.t !== 'lease.request') throw new Error('no lease was asked for')
  core.onMessage(0, { t: 'lease.granted', leaseId: request.message.leaseId, worker: ADDRESS, gpuIds: [] })
  core.onConnected(7)
  core.drain()
}

const kinds = (effects: readonly CoreOutput[]): string[] =>
  effects.map((effect) => (effect.t === 'toNode' ? effect.message.t : effect.t))

test('[TASK-09] an answer that was written before the worker died counts, although the news of its death comes first (W4)', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  const task = taskOf(core)
  grant(core)
  core.onMessage(1, { t: 'worker.died', exit: EXIT })
  expect(kinds(core.drain())).toEqual([])
  core.completeOne(2, task, VALUE, 10)
  expect(kinds(core.drain())).toEqual(['ready'])
  core.onDisconnected(3, 7)
  expect([kinds(core.drain()), core.openTasks]).toEqual([[], 0])
})

test('[TASK-09] what was in flight when the connection closes is judged then: it fails, or is tried again', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  taskOf(core)
  grant(core)
  core.onMessage(1, { t: 'worker.died', exit: EXIT })
  core.onDisconnected(2, 7)
  const [fail] = core.drain()
  const ids = [makeObjectId(1, 1)]
  expect(fail).toEqual({ t: 'fail', ids, failure: { kind: 'workerCrashed', name: 'f', exit: EXIT } })
})

test('[ACT-02][TASK-15] a call whose argument fails does not hold up the calls behind it', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  const argument = makeObjectId(1, core.sequences(1))
  core.table.create(argument)
  const call = { schedulingClass: null, actorId: 'a', handleId: makeObjectId(1, 99) }
  core.table.create(call.handleId, 'a')
  core.table.hold(call.handleId)
  core.table.hold(call.handleId)
  const first = taskOf(core, { ...call, args: null, pendingArgs: [argument] })
  const second = taskOf(core, call)
  const info = { actorId: 'a', state: 'ALIVE', address: ADDRESS, incarnation: 0, options: {} } as unknown as ActorInfo
  core.onMessage(0, { t: 'actor.state', info })
  core.drain()
  core.failObject(1, argument, Buffer.from('why'))
  const effects = core.drain()
  expect(effects.filter((effect) => effect.t === 'push').map((effect) => effect.task)).toEqual([second])
  expect(effects.find((effect) => effect.t === 'fail')?.ids).toEqual([makeObjectId(1, first.sequence)])
})

test('[TASK-01] a stream that is given up before its task began leaves nothing open', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  const task = taskOf(core, { numReturns: STREAMING })
  core.abandonStream(task.sequence)
  expect(core.openTasks).toBe(0)
})

test('[TASK-09] a retried generator is told at once how much of it was taken before', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  const task = taskOf(core, { numReturns: STREAMING, extras: { backpressure: 1 } })
  grant(core)
  core.onItem(0, task, 0, VALUE)
  core.nextItem(task.sequence)
  core.drain()
  core.onItem(1, task, 0, VALUE) // Again: it began anew on another worker.
  expect(core.drain()).toEqual([{ t: 'itemAck', target: task.target, sequence: task.sequence, consumed: 1 }])
})

test('[ARCH-22] a lease that is granted again for a repeated request goes back', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  taskOf(core)
  grant(core)
  const again = { ...ADDRESS, tag: 8 }
  core.onMessage(1, { t: 'lease.granted', leaseId: '1.1', worker: again, gpuIds: [] })
  expect(kinds(core.drain())).toEqual(['lease.return'])
})

function requested(core: CoreWorker): string[] {
  const messages = core.drain().flatMap((one) => (one.t === 'toNode' ? [one.message] : []))
  return messages.flatMap((message) => (message.t === 'lease.request' ? [message.leaseId] : []))
}

const refuse = (core: CoreWorker, leaseId: string, code: string): void =>
  core.onMessage(1, { t: 'lease.refused', leaseId, error: { code, params: {} } })

test('[TASK-09] a worker that would not start is asked for again while another of the same kind runs what may wait for it', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  taskOf(core)
  taskOf(core)
  const [first = '', other = ''] = requested(core)
  core.onMessage(0, { t: 'lease.granted', leaseId: first, worker: ADDRESS, gpuIds: [] })
  core.onConnected(7)
  refuse(core, other, 'WORKER_START_FAILED')
  expect([requested(core).length, core.openTasks]).toEqual([1, 2])
})

test('[TASK-17] what no node can hold any more fails while a task of its kind still runs, which may wait for it', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  const running = taskOf(core)
  const waiting = taskOf(core)
  const [first = '', other = ''] = requested(core)
  core.onMessage(0, { t: 'lease.granted', leaseId: first, worker: ADDRESS, gpuIds: [] })
  core.onConnected(7)
  refuse(core, other, 'INFEASIBLE')
  const failed = core.drain().flatMap((effect) => (effect.t === 'fail' ? effect.ids : []))
  expect([failed, core.openTasks]).toEqual([[makeObjectId(1, waiting.sequence)], 1])
  core.completeOne(2, running, VALUE, 10)
  expect(core.openTasks).toBe(0)
})

test('[TASK-17] what was to replace an aged lease and is refused fails: once that lease is returned nothing would ask again', () => {
  const core = new CoreWorker(1, () => new Uint8Array(1))
  const first = taskOf(core)
  const [leaseId = ''] = requested(core)
  core.onMessage(0, { t: 'lease.granted', leaseId, worker: ADDRESS, gpuIds: [] })
  core.onConnected(7)
  core.completeOne(1999, first, VALUE, 10)
  const late = plainTask(core.sequences(1))
  core.createReturns(late)
  core.submit(2000, late)
  const [again = ''] = requested(core)
  refuse(core, again, 'INFEASIBLE')
  core.onTimer(2004, 'idleLeases')
  expect(kinds(core.drain())).toEqual(['fail', 'lease.return'])
  expect(core.openTasks).toBe(0)
})
