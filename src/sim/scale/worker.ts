// A worker that takes the time of its tasks and answers: one at a time, in order. No values, no user code.

import type { WorkerTag } from '../../ids/ids.ts'
import { invariant } from '../../kernel/invariant.ts'
import { ByteWriter } from '../../wire/byte-writer.ts'
import type { ActorSpec, FromNode } from '../../wire/messages.ts'
import { beginInline, beginReply, endInline, endReply, STATUS } from '../../wire/task-frames.ts'
import type { ScaleNode } from './node.ts'
import type { Owner } from './owner.ts'

export interface Run {
  readonly owner: Owner
  readonly sequence: number
  /** What its answer is made of. */
  readonly input: number
  readonly isCall: boolean
  readonly ms: number
}

const writer = new ByteWriter()

export class SimpleWorker {
  readonly tag: WorkerTag
  readonly node: ScaleNode
  readonly connected = new Set<Owner>()
  leaseId: string | null = null
  actor: ActorSpec | null = null
  readonly #queue: Run[] = []
  #isRunning = false

  constructor(node: ScaleNode, tag: WorkerTag) {
    this.node = node
    this.tag = tag
  }

  onMessage(message: FromNode): void {
    switch (message.t) {
      case 'worker.assigned':
        this.leaseId = message.leaseId
        return
      case 'actor.start': {
        const { spec, incarnation } = message
        this.node.cluster.judge.onActorStart(this, spec)
        this.actor = spec
        return this.node.fromClient(this.tag, { t: 'actor.started', actorId: spec.actorId, incarnation, error: null })
      }
      case 'actor.finish':
      case 'worker.exit':
        invariant(!this.#isRunning && this.#queue.length === 0, `worker ${this.tag} is told to end in its work`)
        if (this.actor) this.node.cluster.judge.onActorEnd(this, this.actor)
        this.node.fromClient(this.tag, { t: 'worker.exiting', detail: 'idle', isFailure: false })
        // After its last word.
        return this.node.cluster.later('near', () => this.node.gone(this.tag, null))
      default:
        return
    }
  }

  take(run: Run): void {
    this.#queue.push(run)
    if (!this.#isRunning) this.#next()
  }

  #next(): void {
    const run = this.#queue.shift()
    if (!run) return
    const { cluster } = this.node
    this.#isRunning = true
    cluster.judge.onBegin(this, run)
    cluster.world.after(run.ms, () => {
      this.#isRunning = false
      cluster.judge.onEnd(this, run)
      const micros = Math.round(run.ms * 1000)
      const start = beginReply(writer, run.sequence, STATUS.ok, micros)
      writer.u16(1)
      const at = beginInline(writer)
      writer.reserve(9)
      writer.u8(0)
      writer.f64(run.input * 2 + 1)
      endInline(writer, at)
      endReply(writer, start, [])
      cluster.meter.frame('tasks', run.isCall ? 'actor reply' : 'task reply', writer.take().length)
      cluster.later('far', () => run.owner.onReply(run.sequence, run.input * 2 + 1, micros))
      this.#next()
    })
  }
}
