// `ray drain-node` at the GCS. Fails when a node is drained as idle that has not said so, when one that has said so counts as usable,
// or when somebody who asked has no answer, or two.

import { beforeEach, expect, test } from 'vitest'
import type { NodeId } from '../ids/ids.ts'
import type { GcsToNode, NodeDrain, NodeToGcs } from '../wire/cluster.ts'
import { PROTOCOL_VERSION } from '../wire/messages.ts'
import { Gcs } from './gcs.ts'

const IDLE: NodeDrain = { reason: 'IDLE_TERMINATION', message: 'too many', deadlineMs: null }
const GOES: NodeDrain = { reason: 'PREEMPTION', message: 'it goes', deadlineMs: 1000 }
const CONFIG = {
  clusterId: 'c1',
  actorGracefulShutdownMs: 30_000,
  health: { periodMs: 1000, timeoutMs: 1000, failureThreshold: 3 },
  reconnectGraceMs: 500,
  system: {},
}

let gcs: Gcs
/** By request: what they were told. */
let answers: [requestId: string, refusal: string | null][]
let said: { nodeId: NodeId; message: GcsToNode }[]

function step(input: Parameters<Gcs['step']>[1]): void {
  for (const effect of gcs.step(0, input)) {
    if (effect.kind !== 'local') continue
    const { event } = effect
    if (event.t === 'drainAnswered') answers.push([event.requestId, event.refusal])
    else if (event.t === 'toNode') said.push(event)
  }
}

function tell(nodeId: NodeId, message: NodeToGcs): void {
  step({ kind: 'local', event: { t: 'fromNode', nodeId, message } })
}

function register(nodeId: NodeId, isHead = false): void {
  tell(nodeId, {
    ...{ t: 'node.register', nodeId, protocol: PROTOCOL_VERSION, version: '1', hostname: 'h', pid: 7, isHead },
    ...{ address: { host: '127.0.0.1', port: 1 }, sessionDir: '/s', total: { CPU: 40_000 }, labels: {} },
    state: { processes: [], actors: [], bundles: [], tagBlocks: [] },
  })
}

function resumed(nodeId: NodeId): void {
  register(nodeId)
  tell(nodeId, { t: 'node.resumed' })
}

const drain = (requestId: string, nodeId: NodeId, how: NodeDrain): void =>
  step({ kind: 'local', event: { t: 'drain', requestId, nodeId, drain: how } })

const answer = (question: string, refusal: string | null, nodeId = 'a'): void =>
  tell(nodeId, { t: 'node.drainAnswered', question, drain: IDLE, refusal })

/** Of the questions and orders since the last call. */
function told(): string[] {
  const words = said.flatMap(({ nodeId, message }) => {
    if (message.t === 'node.drainIfIdle') return `${nodeId} ${message.t} ${message.question}`
    return message.t === 'node.drain' ? `${nodeId} ${message.t} ${message.drain.reason}` : []
  })
  said = []
  return words
}

const stateOf = (nodeId: NodeId): string | undefined => gcs.nodes.get(nodeId)?.state

beforeEach(() => {
  gcs = new Gcs(CONFIG)
  answers = []
  said = []
  step({ kind: 'start' })
  register('head', true)
  for (const nodeId of ['a', 'b']) resumed(nodeId)
})

test('[EXTRA-35] a node is drained as idle when it says so, whatever the GCS knows of it', () => {
  tell('a', { t: 'node.report', available: { CPU: 10_000 }, waiting: 0, demand: [] })
  drain('q1', 'a', IDLE)
  expect([told(), answers, stateOf('a')]).toEqual([['a node.drainIfIdle q1'], [], 'ALIVE'])
  answer('q1', null)
  expect([told(), answers, stateOf('a')]).toEqual([[], [['q1', null]], 'DRAINING'])
  drain('q2', 'b', IDLE)
  answer('q2', 'it is no longer idle: tasks or actors run there', 'b')
  expect([told(), answers[1], stateOf('b')]).toEqual([
    ['b node.drainIfIdle q2'],
    ['q2', 'it is no longer idle: tasks or actors run there'],
    'ALIVE',
  ])
})

test('[EXTRA-35] nobody asks a node that is gone, the head, or one whose machine goes', () => {
  drain('q1', 'nobody', IDLE)
  drain('q2', 'head', IDLE)
  drain('q3', 'head', GOES)
  expect(answers).toEqual([
    ['q1', 'it is not in the cluster'],
    ['q2', 'it is the head, without which the cluster ends'],
    ['q3', 'it is the head, without which the cluster ends'],
  ])
  tell('a', { t: 'node.report', available: {}, waiting: 3, demand: [] })
  drain('q4', 'a', GOES)
  expect([told(), answers[3], stateOf('a')]).toEqual([['a node.drain PREEMPTION'], ['q4', null], 'DRAINING'])
})

test('[EXTRA-35] a question that was lost with its connection is put again, once, after all that the node had said', () => {
  drain('q1', 'a', IDLE)
  drain('q2', 'a', IDLE)
  expect(told()).toEqual(['a node.drainIfIdle q1', 'a node.drainIfIdle q2'])
  step({ kind: 'local', event: { t: 'nodeGone', nodeId: 'a', detail: '' } })
  drain('q3', 'a', IDLE)
  register('a')
  answer('q1', 'it is no longer idle: a program runs there')
  expect(told()).toEqual([])
  tell('a', { t: 'node.resumed' })
  expect(told()).toEqual(['a node.drainIfIdle q2', 'a node.drainIfIdle q3'])
  tell('a', { t: 'node.resumed' })
  expect(told()).toEqual([])
  expect(answers).toEqual([['q1', 'it is no longer idle: a program runs there']])
})

test('[EXTRA-35] who asked hears of a node that dies, or says nothing in time; and only once', () => {
  drain('q1', 'a', IDLE)
  drain('q2', 'b', IDLE)
  tell('a', { t: 'node.leaving', detail: 'it was stopped' })
  expect(answers).toEqual([['q1', 'it died: it was stopped']])
  for (const requestId of ['q1', 'q2', 'q2']) step({ kind: 'timer', key: `drainAnswer ${requestId}` })
  expect(answers.slice(1)).toMatchObject([['q2', expect.stringContaining('it has not said within 4 s')]])
  // It does after all, and takes nothing new from then on.
  answer('q2', null, 'b')
  expect([answers.length, stateOf('b')]).toEqual([2, 'DRAINING'])
})

test('[EXTRA-35] [ARCH-07] a node that accepted counts as drained also for a GCS that nobody has asked; it may leave with its answer', () => {
  answer('of-an-earlier-gcs', null)
  expect([answers, stateOf('a')]).toEqual([[], 'DRAINING'])
  drain('q1', 'b', IDLE)
  const event = { t: 'manyFromNode', nodeId: 'b' } as const
  const yes = { t: 'node.drainAnswered', question: 'q1', drain: IDLE, refusal: null } as const
  step({ kind: 'local', event: { ...event, messages: [yes, { t: 'node.leaving', detail: 'it was drained' }] } })
  expect([answers, stateOf('b')]).toEqual([[['q1', null]], 'DEAD'])
})

test('[EXTRA-35] a node whose machine goes keeps its deadline, also when it was idle', () => {
  drain('q1', 'a', IDLE)
  drain('q2', 'a', GOES)
  answer('q1', null)
  expect(gcs.nodes.get('a')?.drain).toEqual(GOES)
  expect(answers).toEqual([
    ['q2', null],
    ['q1', null],
  ])
})
