// What the parts of a raylet want done, in order; they share one.

import type { NodeId, WorkerTag } from '../ids/ids.ts'
import type { Effect, Ms } from '../kernel/machine.ts'
import type { NodeToGcs, RayletToRaylet } from '../wire/cluster.ts'
import type { FromNode } from '../wire/messages.ts'
import type { RayletEffect } from './shell.ts'

export class Outbox {
  #effects: Effect<FromNode, RayletEffect>[] = []

  take(): Effect<FromNode, RayletEffect>[] {
    const effects = this.#effects
    this.#effects = []
    return effects
  }

  /** To a core worker of this node. */
  send(to: WorkerTag, message: FromNode): void {
    this.#effects.push({ kind: 'send', to, message })
  }

  broadcast(message: FromNode): void {
    this.local({ t: 'broadcast', message })
  }

  toGcs(message: NodeToGcs): void {
    this.local({ t: 'toGcs', message })
  }

  toPeer(nodeId: NodeId, message: RayletToRaylet): void {
    this.local({ t: 'toPeer', nodeId, message })
  }

  local(event: RayletEffect): void {
    this.#effects.push({ kind: 'local', event })
  }

  timer(key: string, at: Ms): void {
    this.#effects.push({ kind: 'timer', key, at })
  }
}
