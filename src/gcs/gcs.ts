// The cluster's machine: actors, keys and values, tags and jobs. Composes this room. Never on the path of a task.
//
// Invariants:
//   G1. A worker tag is given once.
//   G2. What is asked is answered, if only with nothing.

import { formatJobId, type JobId, NODE_TAG, type WorkerTag } from '../ids/ids.ts'
import type { Effect, Input, Ms } from '../kernel/machine.ts'
import type { GcsToRaylet, RayletToGcs } from '../wire/gcs-raylet.ts'
import type { FromNode, ToNode } from '../wire/messages.ts'
import { ActorManager } from './actor-manager.ts'
import { Kv } from './kv.ts'

export type GcsInput = { readonly t: 'fromRaylet'; readonly message: RayletToGcs }
export type GcsEffect = { readonly t: 'toRaylet'; readonly message: GcsToRaylet }

type Fx = Effect<FromNode, GcsEffect>[]

export class Gcs {
  readonly actors: ActorManager
  readonly #kv = new Kv()
  #tags: WorkerTag = NODE_TAG
  #jobs = 0

  constructor(config: { readonly actorGracefulShutdownMs: Ms }) {
    this.actors = new ActorManager(config.actorGracefulShutdownMs)
  }

  /** A fresh tag for a process that registers (G1). */
  nextTag(): WorkerTag {
    this.actors.joined(++this.#tags)
    return this.#tags
  }

  nextJob(): JobId {
    return formatJobId(++this.#jobs)
  }

  step(now: Ms, input: Input<ToNode, GcsInput>): Fx {
    const fx: Fx = []
    if (input.kind === 'message') this.#onMessage(input.from, input.message, fx)
    else if (input.kind === 'local') this.actors.onRaylet(input.event.message)
    else if (input.kind === 'timer') this.actors.killNow(input.key)
    for (const effect of this.actors.drain()) {
      if (effect.t === 'send') fx.push({ kind: 'send', to: effect.to, message: effect.message })
      else if (effect.t === 'toRaylet') fx.push({ kind: 'local', event: effect })
      else fx.push({ kind: 'timer', key: effect.actorId, at: now + effect.afterMs })
    }
    return fx
  }

  #onMessage(from: WorkerTag, message: ToNode, fx: Fx): void {
    const reply = (to: WorkerTag, answer: FromNode): void => void fx.push({ kind: 'send', to, message: answer })
    switch (message.t) {
      case 'kv.put':
        for (const answer of this.#kv.put(message.key, message.value, message.overwrite)) {
          reply(answer.to, { t: 'kv.value', requestId: answer.requestId, value: answer.value })
        }
        return
      case 'kv.get': {
        const answer = this.#kv.get(from, message.requestId, message.key, message.wait)
        if (answer) reply(from, { t: 'kv.value', requestId: answer.requestId, value: answer.value })
        return
      }
      case 'kv.delete':
        return this.#kv.delete(message.key)
      case 'kv.keys':
        return reply(from, { t: 'kv.keyList', requestId: message.requestId, keys: this.#kv.keys(message.prefix) })
      case 'actor.create':
        return this.actors.create(from, message.spec)
      case 'actor.failed':
        return this.actors.createFailed(from, message.spec, message.error)
      case 'actor.subscribe':
        return this.actors.subscribe(from, message.actorId, message.owner)
      case 'actor.unsubscribe':
        return this.actors.unsubscribe(from, message.actorId)
      case 'actor.find': {
        const info = this.actors.find(message.name, message.namespace)
        return reply(from, { t: 'actor.found', requestId: message.requestId, info })
      }
      case 'actor.list': {
        const actors = this.actors.list(message.allNamespaces ? null : message.namespace)
        return reply(from, { t: 'actor.listed', requestId: message.requestId, actors })
      }
      case 'actor.kill':
        return this.actors.kill(message.actorId, message.noRestart, message.detail)
      case 'actor.outOfScope':
        return this.actors.outOfScope(message.actorId)
      case 'actor.started':
        return this.actors.started(from, message.actorId, message.incarnation, message.error)
      case 'actor.exited':
        return this.actors.exited(from, message.actorId, message.detail)
      default:
        return
    }
  }
}
