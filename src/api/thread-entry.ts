// Entry of a thread of a threaded actor: an instance of the class of its own, and a connection of its own to the node, so that
// user code here may use everything of ray. Calls come from the main thread of the process, one at a time.
//
//   E1. What this thread owns and borrows is counted under a tag of its own, and goes with it.

import threads from 'node:worker_threads'
import { makeError } from '../errors/index.ts'
import { makeObjectId, type ObjectId } from '../ids/ids.ts'
import type { FromThread, ThreadData, ToThread } from '../runtime/actor-threads.ts'
import { microsSince, monotonicMs } from '../runtime/clock.ts'
import { decodeFunction } from '../runtime/closures/index.ts'
import { CoreRuntime } from '../runtime/core-runtime.ts'
import { Job } from '../runtime/job.ts'
import { type AnyFunction, type JobPeer, JobRunner, type Outcome } from '../runtime/job-runner.ts'
import { NodeLink } from '../runtime/node-link.ts'
import { collectLater } from '../runtime/shm/collect.ts'
import { SegmentStore } from '../runtime/shm/segment-store.ts'
import { setSerialTask } from '../runtime/task-context.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import { type FromNode, PROTOCOL_VERSION } from '../wire/messages.ts'
import { STATUS } from '../wire/task-frames.ts'
import { assignment, setStrategy } from './context.ts'
import './util/index.ts' // Its actor classes are known by name.
import { closureHost, makeValueHost } from './host.ts'
import { setRuntime } from './state.ts'

const data = threads.workerData as ThreadData
const { spec, incarnation, identity } = data
assignment.resources = data.resources
setStrategy(data.strategy)
assignment.gpus = data.gpus
assignment.incarnation = data.incarnation
assignment.shared = data.shared
assignment.exitActor = () => {
  send({ t: 'exitActor' })
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) // The process ends.
}

/** Answers are written here as they will travel, and go to the owner through the main thread. */
class AnswerPeer implements JobPeer {
  readonly tag: number
  readonly out = new ByteWriter()

  constructor(tag: number) {
    this.tag = tag
  }

  schedule(): void {} // The reply: sent when the call is over.

  flush(): void {
    runtime?.flushNode()
    this.send(false, [])
  }

  send(isDone: boolean, kept: readonly ObjectId[]): void {
    if (this.out.pending > 0 || isDone) send({ t: 'frames', bytes: Uint8Array.from(this.out.take()), isDone, kept })
  }
}

const link = new NodeLink({
  onMessage: (message) => {
    if (message.t === 'registered') start(message)
    else runtime?.onMessage(message)
  },
  onClose: () => {}, // The main thread hears of it too, and ends the process.
})
let runtime: CoreRuntime | null = null
let running: Job | null = null

link.send({
  t: 'register',
  kind: 'thread',
  startupToken: '',
  workerId: identity.workerId,
  pid: process.pid,
  socket: '',
  namespace: identity.namespace,
  jobName: '',
  protocol: PROTOCOL_VERSION,
})
link.ref()
link.connect(data.nodeSocket).catch((error: unknown) => {
  throw error
})

function start(message: FromNode & { t: 'registered' }): void {
  const made: CoreRuntime = new CoreRuntime({
    identity: { ...identity, tag: message.tag, answersAs: identity.tag },
    link,
    store: new SegmentStore(data.store, message.tag),
    host: makeValueHost(() => made),
  })
  runtime = made
  setRuntime(made, data.nodeSocket)
  made.onBlocked = () => send({ t: 'blocked' })
  made.onUnblocked = () => send({ t: 'unblocked' })
  construct(made).catch((error: unknown) => {
    send({ t: 'failed', error: made.encodeTaskError(error, `${spec.className}.constructor`) })
  })
}

async function construct(made: CoreRuntime): Promise<void> {
  const runner = new JobRunner(made, () => {}, keptBy(made))
  const context = { taskId: spec.handleId, name: `${spec.className}.constructor`, actorId: spec.actorId }
  setSerialTask({ ...context, attempt: incarnation, controller: new AbortController() })
  const { value } = await link.request<'kv.value'>((requestId) => ({
    t: 'kv.get',
    requestId,
    key: spec.definition,
    wait: true,
  }))
  if (!value) throw makeError('SYSTEM', { message: `the definition ${spec.definition} is unknown` })
  const type = (await decodeFunction(value, closureHost(made))) as new (...args: unknown[]) => Record<string, unknown>
  const instance = new type(...(await runner.arguments(Buffer.from(spec.args), 0)))
  setSerialTask(null)
  threads.parentPort?.on('message', (message: ToThread) => onMessage(made, runner, instance, message))
  made.perform()
  send({ t: 'ready' })
}

function onMessage(made: CoreRuntime, runner: JobRunner, self: Record<string, unknown>, message: ToThread): void {
  if (message.t === 'call') return call(made, runner, self, message)
  if (!running) return
  if (message.t === 'consumed') {
    running.consumed = message.count
    running.onConsumed?.()
    return
  }
  if (message.cancelsChildren) {
    for (const child of made.core.childrenOf(running.taskId))
      made.cancel(makeObjectId(made.core.tag, child.sequence), false, true)
  }
  running.cancel(makeError('TASK_CANCELLED', { name: running.name }))
}

function call(
  made: CoreRuntime,
  runner: JobRunner,
  self: Record<string, unknown>,
  message: ToThread & { t: 'call' },
): void {
  const peer = new AnswerPeer(message.owner)
  const job = new Job(peer, message.definition, Buffer.from(message.frame.buffer), 0)
  job.actorId = spec.actorId
  running = job
  setSerialTask(job)
  const began = monotonicMs()
  const finish = (outcome: Outcome): void => {
    const kept = job.refs.filter((id) => isHeld(made, id))
    runner.answer(job, outcome, microsSince(began))
    running = null
    setSerialTask(null)
    made.flushNode()
    peer.send(true, kept)
    if (kept.length === 0) return
    settle(kept)
    collectLater()
  }
  const method = self[job.key]
  if (typeof method !== 'function') {
    const methods = Object.keys(spec.options.methods).join(', ')
    const value = makeError('ACTOR_METHOD_MISSING', { className: spec.className, method: job.key, methods })
    finish({ status: STATUS.error, value })
    return
  }
  const outcome = runner.call(job, method as AnyFunction, self, finish)
  if (outcome) finish(outcome)
}

/** The answer to a question comes after all that was sent before it: then the owners count our holds themselves. */
function settle(refs: readonly ObjectId[]): void {
  link
    .request<'cluster.resourcesAre'>((requestId) => ({ t: 'cluster.resources', requestId }))
    .then(
      () => send({ t: 'settled', refs }),
      () => {}, // The node is gone, and all its counts.
    )
}

/** References that decoded arguments made are counted by their handles here; nothing else is to be given back. */
function keptBy(made: CoreRuntime): (job: Job) => readonly ObjectId[] {
  return (job) => job.refs.filter((id) => isHeld(made, id))
}

function isHeld(made: CoreRuntime, id: ObjectId): boolean {
  return (made.core.table.borrowed.get(id)?.holds ?? 0) > 0
}

function send(message: FromThread): void {
  threads.parentPort?.postMessage(message)
}
