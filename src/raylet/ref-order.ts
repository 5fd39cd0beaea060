// Keeps cause before effect where words about references take different roads.
//
// A process finds a reference in a value, asks its owner (on node A) for a hold, and then lets the value go, whose owner (on node B) holds
// the reference only for the value's sake. B's word that it lets go must not reach A before the new hold. So what ends a hold waits here
// until A has what the same process had said before:
//
//     ref.add ──► A   ref.flush ──► A ──ref.flushed──► ref.remove ──► B
//
// Invariants:
//   E1. A `ref.remove` for another node leaves after every earlier `ref.add` of the same process has come to the node of its owner.
//   E2. It leaves in the end: each flush is answered, or its node is dead; what a process had said goes before the word of its end.

import type { NodeId, WorkerTag } from '../ids/ids.ts'
import type { RefMessage } from '../wire/messages.ts'
import type { Outbox } from './outbox.ts'

interface Flush {
  readonly nodeId: NodeId
  /** Whose words it follows. */
  readonly tags: ReadonlySet<WorkerTag>
}

interface Held {
  readonly to: WorkerTag
  readonly body: RefMessage
  /** It waits for flushes up to this one. */
  readonly flushId: number
}

export class RefOrder {
  readonly #out: Outbox
  readonly #send: (from: WorkerTag, to: WorkerTag, body: RefMessage) => void
  /** Whose adds have gone to a node since it was last asked for a flush. */
  readonly #adders = new Map<NodeId, Set<WorkerTag>>()
  readonly #flushes = new Map<number, Flush>()
  readonly #held = new Map<WorkerTag, Held[]>()
  #lastFlush = 0

  constructor(out: Outbox, send: (from: WorkerTag, to: WorkerTag, body: RefMessage) => void) {
    this.#out = out
    this.#send = send
  }

  get held(): number {
    return this.#held.size
  }

  added(from: WorkerTag, nodeId: NodeId): void {
    const adders = this.#adders.get(nodeId)
    if (adders) adders.add(from)
    else this.#adders.set(nodeId, new Set([from]))
  }

  /** True: it leaves later, by itself (E1). `nodeId`: where it goes; what goes there too is in order anyway. */
  holds(from: WorkerTag, to: WorkerTag, body: RefMessage, nodeId: NodeId): boolean {
    for (const [other, adders] of this.#adders) if (other !== nodeId && adders.has(from)) this.#flush(other, adders)
    const held: Held = { to, body, flushId: this.#lastFlush }
    if (!this.#waits(from, held, nodeId)) return false
    const before = this.#held.get(from)
    if (before) before.push(held)
    else this.#held.set(from, [held])
    return true
  }

  flushed(flushId: number): void {
    const flush = this.#flushes.get(flushId)
    this.#flushes.delete(flushId)
    for (const tag of flush?.tags ?? []) this.#release(tag)
  }

  /** Nobody there cares any more. */
  nodeDied(nodeId: NodeId): void {
    this.#adders.delete(nodeId)
    for (const [flushId, flush] of [...this.#flushes]) if (flush.nodeId === nodeId) this.flushed(flushId)
  }

  /** E2 */
  gone(tag: WorkerTag): void {
    for (const adders of this.#adders.values()) adders.delete(tag)
    const held = this.#held.get(tag) ?? []
    this.#held.delete(tag)
    for (const { to, body } of held) this.#send(tag, to, body)
  }

  #flush(nodeId: NodeId, tags: ReadonlySet<WorkerTag>): void {
    this.#adders.delete(nodeId)
    const flushId = ++this.#lastFlush
    this.#flushes.set(flushId, { nodeId, tags })
    this.#out.toPeer(nodeId, { t: 'ref.flush', flushId })
  }

  #waits(from: WorkerTag, held: Held, nodeId?: NodeId): boolean {
    for (const [flushId, flush] of this.#flushes) {
      if (flushId <= held.flushId && flush.nodeId !== nodeId && flush.tags.has(from)) return true
    }
    return false
  }

  #release(tag: WorkerTag): void {
    const held = this.#held.get(tag)
    if (!held) return
    const waiting = held.filter((one) => this.#waits(tag, one))
    if (waiting.length > 0) this.#held.set(tag, waiting)
    else this.#held.delete(tag)
    for (const one of held) if (!waiting.includes(one)) this.#send(tag, one.to, one.body)
  }
}
