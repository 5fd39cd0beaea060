// A driver of a large simulated cluster: the production core worker, and the work that it gives.

import { CoreWorker } from '../../core-worker/core-worker.ts'
import type { CoreOutput, RemoteFunctionEntry, SchedulingClass, Target, Task } from '../../core-worker/effects.ts'
import { makeTask } from '../../core-worker/make-task.ts'
import { makeObjectId, type NodeId, type ObjectId, sequenceOf, type WorkerTag } from '../../ids/ids.ts'
import { invariant } from '../../kernel/invariant.ts'
import { ByteWriter } from '../../wire/byte-writer.ts'
import type { GroupSpec } from '../../wire/groups.ts'
import type { ActorSpec, FromNode, LeaseSpec, Resources, SchedulingStrategy } from '../../wire/messages.ts'
import { writePush } from '../../wire/task-frames.ts'
import type { ScaleNode } from './node.ts'

/** A count and one value of eight bytes. */
const ARGS = Buffer.alloc(16)
const ACTOR_OPTIONS = {
  ...{ maxConcurrency: 1, concurrencyGroups: {}, allowOutOfOrder: false, maxTaskRetries: 0, maxPendingCalls: -1 },
  ...{ isAsync: false, threads: 0, methods: {} },
}

const writer = new ByteWriter()

export interface Wanted {
  readonly resources: Resources
  readonly strategy: SchedulingStrategy
}

export class Owner {
  readonly node: ScaleNode
  readonly tag: WorkerTag
  readonly core: CoreWorker
  /** By sequence: what it needs, and where it has to run. */
  readonly wanted = new Map<number, Wanted>()
  readonly #classes = new Map<string, SchedulingClass>()
  readonly #fn: RemoteFunctionEntry = { key: 'fn:scale', name: 'f', averageMicros: -1 }
  readonly #method: RemoteFunctionEntry = { key: 'ping', name: 'A.ping', averageMicros: -1 }
  readonly #groups = new Map<number, () => void>()
  #actors = 0

  constructor(node: ScaleNode, tag: WorkerTag) {
    this.node = node
    this.tag = tag
    this.core = new CoreWorker(tag, () => new Uint8Array(0))
  }

  // Work

  submit(wanted: Wanted): void {
    this.#make(wanted, this.#fn, null, 0)
  }

  /** An actor, and one call to it. */
  createActor(resources: Resources): void {
    const { core, tag } = this
    const actorId = `${tag.toString(16).padStart(12, '0')}${(++this.#actors).toString(16).padStart(20, '0')}`
    const handleId = makeObjectId(tag, core.sequences(1))
    const strategy: SchedulingStrategy = { kind: 'DEFAULT' }
    const spec: ActorSpec = {
      ...{
        actorId,
        className: 'A',
        definition: 'fn:A',
        name: null,
        namespace: '',
        detached: false,
        getIfExists: false,
      },
      ...{ maxRestarts: 0, jobId: '01000000', owner: tag, handleId, placementResources: resources },
      ...{ lease: leaseSpec('A', { resources, strategy }), options: ACTOR_OPTIONS, args: ARGS, argRefs: [] },
    }
    core.table.create(handleId, actorId)
    this.node.cluster.judge.onActorWanted(this, spec)
    this.#turn('create actor', () => core.createActor(spec, []))
    core.table.hold(handleId)
    this.#make({ resources: {}, strategy }, this.#method, actorId, handleId)
  }

  /** All handles of its actors go. */
  dropActors(): void {
    for (const spec of this.node.cluster.judge.actorsOf(this)) {
      this.#turn('drop actor', () => this.core.release(spec.handleId))
    }
  }

  createGroup(spec: GroupSpec, onReady: () => void): void {
    const requestId = this.#groups.size + 1
    this.#groups.set(requestId, onReady)
    this.node.fromClient(this.tag, { t: 'pg.create', spec })
    this.node.fromClient(this.tag, { t: 'pg.wait', requestId, groupId: spec.groupId, timeoutMs: null })
  }

  removeGroup(groupId: string): void {
    this.node.fromClient(this.tag, { t: 'pg.remove', groupId })
  }

  #make(wanted: Wanted, fn: RemoteFunctionEntry, actorId: string | null, handleId: ObjectId): void {
    const { core, node } = this
    const { world } = node.cluster
    const plan = {
      ...{ fn, numReturns: 1, retries: 0, retryOn: null, extras: null, actorId, handleId },
      schedulingClass: actorId === null ? this.#classOf(wanted) : null,
    }
    const task = makeTask(core, plan, { blob: ARGS, parts: null, pinned: [], nested: [] }, 0)
    this.wanted.set(task.sequence, wanted)
    node.cluster.judge.onSubmit()
    this.#turn('submit', () => {
      core.createReturns(task)
      core.submit(world.now, task)
    })
  }

  #classOf(wanted: Wanted): SchedulingClass {
    const key = JSON.stringify(wanted)
    let known = this.#classes.get(key)
    if (!known) this.#classes.set(key, (known = { key, spec: leaseSpec('f', wanted) }))
    return known
  }

  // What comes

  onMessage(message: FromNode): void {
    if (message.t === 'pg.ready') {
      invariant(message.isReady, `a group is not ready: ${message.error?.code}`)
      this.#groups.get(message.requestId)?.()
      return
    }
    this.#turn(message.t, () => this.core.onMessage(this.node.cluster.world.now, message))
  }

  onReply(sequence: number, value: number, micros: number): void {
    const { core } = this
    const task = core.task(sequence)
    invariant(task !== undefined, `task ${sequence} of owner ${this.tag} is answered twice`)
    this.#turn('reply', () => core.completeOne(this.node.cluster.world.now, task, { kind: 'primitive', value }, micros))
  }

  onDisconnected(tag: WorkerTag): void {
    this.#turn('disconnected', () => this.core.onDisconnected(this.node.cluster.world.now, tag))
  }

  // Effects

  #turn(what: string, act: () => void): void {
    const { meter } = this.node.cluster
    const name = `owner ${this.tag}`
    let effects = meter.step('owner', name, what, () => {
      act()
      return this.core.drain()
    })
    while (effects.length > 0) {
      for (const effect of effects) this.#perform(effect)
      effects = meter.step('owner', name, 'effects', () => this.core.drain())
    }
  }

  #perform(effect: CoreOutput): void {
    const { node, core } = this
    const { cluster } = node
    switch (effect.t) {
      case 'ready': {
        const state = core.table.look(effect.id, core.effects)
        const sequence = sequenceOf(effect.id)
        invariant(state.kind === 'primitive' && state.value === sequence * 2 + 1, `task ${sequence}: a wrong value`)
        this.wanted.delete(sequence)
        cluster.judge.onResult()
        return core.release(effect.id)
      }
      case 'push':
        return this.#push(effect.target, effect.task)
      case 'toNode':
        return node.fromClient(this.tag, effect.message)
      case 'timer':
        return cluster.world.at(effect.at, () => {
          this.#turn('timer', () => core.onTimer(cluster.world.now, effect.key))
        })
      case 'connect': {
        const worker = cluster.workers.get(effect.address.tag)
        invariant(worker !== undefined, `owner ${this.tag} connects to ${effect.address.tag}, which is gone`)
        worker.connected.add(this)
        return core.onConnected(effect.address.tag)
      }
      case 'disconnect':
        cluster.workers.get(effect.tag)?.connected.delete(this)
        return core.onDisconnected(cluster.world.now, effect.tag)
      case 'fail':
        throw new Error(`tasks of owner ${this.tag} failed: ${JSON.stringify(effect.failure)}`)
      default:
        return
    }
  }

  #push(target: Target, task: Task): void {
    const { cluster } = this.node
    const isCall = task.actorId !== null
    writePush(writer, task.sequence, 0, 1, task.args ?? ARGS, [], null)
    cluster.meter.frame('tasks', isCall ? 'actor push' : 'task push', writer.take().length)
    const ms = isCall ? 1 : cluster.taskMs()
    const run = { owner: this, sequence: task.sequence, input: task.sequence, isCall, ms }
    const { tag } = target.address
    cluster.later('far', () => {
      const worker = cluster.workers.get(tag)
      invariant(worker !== undefined, `task ${task.sequence} is pushed to ${tag}, which is gone`)
      worker.take(run)
    })
  }
}

export function leaseSpec(name: string, { resources, strategy }: Wanted): LeaseSpec {
  const rest = { runtimeEnv: {}, jobId: '01000000', priority: 0, onInfeasible: 'fail', retriable: true } as const
  return { ...rest, resources, strategy, name }
}

export function groupSpec(creator: WorkerTag, index: number, rest: Pick<GroupSpec, 'bundles' | 'strategy'>): GroupSpec {
  const groupId: NodeId = index.toString(16).padStart(36, '0')
  return {
    ...{ groupId, name: null, namespace: '', softTargetNodeId: null, detached: false, jobId: '01000000' },
    ...{ creator, creatorActorId: null, ...rest },
  }
}
