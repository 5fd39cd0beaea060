// Runs the calls of the one actor that this worker has become.
//
// Invariants:
//   X3. Calls start in the order of arrival within their concurrency group, at most `limit` at once.
//   X5. `finish` lets what has arrived run to its end, then ends the process.

import { makeError } from '../errors/index.ts'
import type { ActorSpec, ActorStateEntry } from '../wire/messages.ts'
import { STATUS } from '../wire/task-frames.ts'
import { ActorThreads, type ThreadHost } from './actor-threads.ts'
import { microsSince, monotonicMs } from './clock.ts'
import type { CoreRuntime } from './core-runtime.ts'
import type { Job } from './job.ts'
import { type AnyFunction, CANCELLED, type FunctionSource, type JobRunner, type Outcome } from './job-runner.ts'
import { runConcurrently, setSerialTask, type TaskContext } from './task-context.ts'
import { Later } from './waiting.ts'

/** Ray's name for the method of every actor that ends it. */
export const TERMINATE = '__rayTerminate__'

type ActorType = (new (...args: unknown[]) => object) & { readonly shared?: unknown }

interface Group {
  readonly limit: number
  running: number
  readonly queue: Job[]
}

interface ActorState {
  readonly spec: ActorSpec
  readonly instance: Record<string, unknown>
  /** Instead of the instance: calls run in threads. */
  readonly threads: ActorThreads | null
  readonly groups: Map<string, Group>
  readonly isConcurrent: boolean
  readonly incarnation: number
  /** The class's own `toString`, else its name. */
  readonly label: string
  /** Why it ends when nothing runs any more. */
  finishing: string | null
}

export class ActorExecutor {
  readonly #runtime: CoreRuntime
  readonly #functions: FunctionSource
  readonly #runner: JobRunner
  readonly #exit: (detail: string) => void
  /** How threads are started; set by the worker's entry. */
  threadHost: ThreadHost | null = null
  #actor: ActorState | null = null
  #isBecoming = false

  constructor(parts: {
    runtime: CoreRuntime
    functions: FunctionSource
    runner: JobRunner
    exit: (detail: string) => void
  }) {
    this.#runtime = parts.runtime
    this.#functions = parts.functions
    this.#runner = parts.runner
    this.#exit = parts.exit
  }

  /** It is one, or its constructor runs. */
  get isActor(): boolean {
    return this.#actor !== null || this.#isBecoming
  }

  get spec(): ActorSpec | null {
    return this.#actor?.spec ?? null
  }

  /** What its lines are marked with. */
  get label(): string {
    return this.#actor?.label ?? ''
  }

  /** `state`: what its earlier lives kept. */
  async become(spec: ActorSpec, incarnation: number, state: readonly ActorStateEntry[]): Promise<void> {
    this.#isBecoming = true
    const { link } = this.#runtime
    let made: AbortController | null = null
    const context: TaskContext = {
      taskId: spec.handleId,
      name: `${spec.className}.constructor`,
      actorId: spec.actorId,
      attempt: incarnation,
      get controller() {
        made ??= new AbortController()
        return made
      },
    }
    try {
      setSerialTask(context)
      const type = (await this.#functions.load(spec.definition)) as unknown as ActorType
      const args = await this.#runner.arguments(Buffer.from(spec.args), 0)
      for (const [, bytes] of state) await this.#import(bytes)
      const { options } = spec
      const threads = options.threads > 0 ? await this.#startThreads(spec, incarnation, type, args) : null
      const instance = threads ? {} : (new type(...args) as Record<string, unknown>)
      const groups = new Map<string, Group>()
      groups.set('', { limit: options.maxConcurrency, running: 0, queue: [] })
      for (const [name, limit] of Object.entries(options.concurrencyGroups))
        groups.set(name, { limit, running: 0, queue: [] })
      const isConcurrent = options.maxConcurrency > 1 || groups.size > 1
      const label = threads ? spec.className : labelOf(spec, instance)
      this.#actor = { spec, instance, threads, groups, isConcurrent, incarnation, label, finishing: null }
      setSerialTask(isConcurrent ? { ...context, name: spec.className } : null)
      link.send({ t: 'actor.started', actorId: spec.actorId, incarnation, error: null })
    } catch (error) {
      const bytes =
        error instanceof Uint8Array ? error : this.#runtime.encodeTaskError(error, `${spec.className}.constructor`)
      link.send({ t: 'actor.started', actorId: spec.actorId, incarnation, error: bytes })
    }
  }

  /** Code in it, so that it can be read without waiting. */
  async #import(bytes: Uint8Array): Promise<void> {
    const value = this.#runtime.decodeValue(bytes)
    if (value instanceof Later) await value.promise
  }

  /** The class's `static shared(…)` is called here, once; every thread gets what it returned. */
  async #startThreads(
    spec: ActorSpec,
    incarnation: number,
    type: ActorType,
    args: readonly unknown[],
  ): Promise<ActorThreads> {
    const host = this.threadHost
    if (!host) throw makeError('SYSTEM', { message: 'this worker cannot start threads' })
    const shared = typeof type.shared === 'function' ? await type.shared(...args) : undefined
    const { identity } = this.#runtime
    const { entry, nodeSocket, store } = host
    const data = { spec, incarnation, shared, identity, nodeSocket, store, ...host.assignment() }
    const exit = (detail: string, byUser: boolean): void => {
      if (byUser) this.#runtime.link.send({ t: 'actor.exited', actorId: spec.actorId, incarnation, detail })
      this.#runner.flushAll()
      this.#exit(detail)
    }
    const threads = new ActorThreads({ runtime: this.#runtime, runner: this.#runner, data, entry, exit })
    await threads.start(spec.options.threads)
    return threads
  }

  finish(): void {
    if (!this.#actor) return
    this.#actor.finishing ??= 'all handles to it went out of scope'
    this.#endIfFinished()
  }

  #endIfFinished(): void {
    const actor = this.#actor
    if (!actor?.finishing) return
    for (const group of actor.groups.values()) if (group.running > 0 || group.queue.length > 0) return
    this.#runner.flushAll()
    this.#exit(actor.finishing)
  }

  enqueue(job: Job): void {
    const actor = this.#actor
    if (!actor) {
      this.#runner.replyError(job, makeError('SYSTEM', { message: 'a call reached a worker that is no actor' }), 0)
      return
    }
    if (job.key === TERMINATE) return this.#terminate(actor, job)
    const name = job.extras.group ?? actor.spec.options.methods[job.key]?.concurrencyGroup ?? ''
    const group = actor.groups.get(name)
    if (!group) {
      const known = [...actor.groups.keys()].filter(Boolean).join(', ') || 'none'
      const message = `the actor class ${actor.spec.className} has no concurrency group '${name}'`
      this.#runner.replyError(job, makeError('INVALID_ARGUMENT', { message, hint: `Its groups are: ${known}.` }), 0)
      return
    }
    if (group.running >= group.limit) {
      this.#runner.track(job)
      group.queue.push(job)
      job.onCancelled = () => {
        const at = group.queue.indexOf(job)
        if (at < 0) return
        group.queue.splice(at, 1)
        this.#runner.replyStatus(job, STATUS.cancelled)
      }
    } else this.#runCall(actor, group, job)
  }

  /** What came before it runs to its end, then the actor is gone for good. */
  #terminate(actor: ActorState, job: Job): void {
    const detail = `it was asked to end by ${TERMINATE}`
    const { actorId } = actor.spec
    this.#runtime.link.send({ t: 'actor.exited', actorId, incarnation: actor.incarnation, detail })
    this.#runner.answer(job, { status: STATUS.ok, value: undefined }, 0)
    actor.finishing ??= detail
    this.#endIfFinished()
  }

  #runCall(actor: ActorState, group: Group, job: Job): void {
    group.running++
    job.onCancelled = null
    if (actor.threads) {
      job.actorId = actor.spec.actorId
      actor.threads.run(job, () => this.#callDone(actor, group))
      return
    }
    const began = monotonicMs()
    const outcome = this.#startCall(actor, job, (settled) => {
      this.#runner.answer(job, settled, microsSince(began))
      this.#callDone(actor, group)
      this.#runtime.perform()
    })
    if (!outcome) return
    this.#runner.answer(job, outcome, microsSince(began))
    this.#callDone(actor, group)
  }

  #startCall(actor: ActorState, job: Job, later: (outcome: Outcome) => void): Outcome | null {
    if (job.isCancelled) return CANCELLED
    const { spec, instance } = actor
    const method = instance[job.key]
    if (typeof method !== 'function') {
      const methods = Object.keys(spec.options.methods).join(', ')
      const params = { className: spec.className, method: job.key, methods }
      return { status: STATUS.error, value: makeError('ACTOR_METHOD_MISSING', params) }
    }
    job.actorId = spec.actorId
    if (actor.isConcurrent)
      return runConcurrently(job, () => this.#runner.call(job, method as AnyFunction, instance, later))
    setSerialTask(job)
    return this.#runner.call(job, method as AnyFunction, instance, later)
  }

  #callDone(actor: ActorState, group: Group): void {
    group.running--
    while (group.running < group.limit) {
      const next = group.queue.shift()
      if (!next) break
      this.#runCall(actor, group, next)
    }
    if (actor.finishing) this.#endIfFinished()
  }
}

function labelOf(spec: ActorSpec, instance: Record<string, unknown>): string {
  if (instance.toString === Object.prototype.toString) return spec.className
  try {
    return String(instance)
  } catch {
    return spec.className
  }
}
