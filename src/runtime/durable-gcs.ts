// Drives the GCS's machine for a whole cluster, and keeps its word: what it says is durable before anybody hears it.
//
//     message ──► step ──► persist ──► storage ──► what the step said, in order ──► acknowledgement
//                      └─ nothing to keep, and nothing waits: said at once
//
// Invariants:
//   U1. What a step said leaves after its own batch and those of all steps before it are durable.
//   U2. A message is acknowledged after what came of it was said. Whoever hears no acknowledgement says it again.
//   U3. Pings do not wait: a slow disk is no dead GCS.
//   U4. A storage that gave up ends the GCS: it knows what is not durable.

import { Gcs, type GcsConfig, type GcsEffect, type GcsInput } from '../gcs/gcs.ts'
import type { NodeId } from '../ids/ids.ts'
import type { Input } from '../kernel/machine.ts'
import type { DrainAnswer, DrainRequest, GcsToNode, NodeToGcs } from '../wire/cluster.ts'
import { monotonicMs, msUntil } from './clock.ts'
import type { GcsStorage } from './gcs-storage.ts'
import { randomHex } from './session.ts'

export interface GcsOutlet {
  send(nodeId: NodeId, message: GcsToNode): void
  /** After what was sent to it. */
  disconnect(nodeId: NodeId): void
  /** U4 */
  failed(error: unknown): void
}

interface Held {
  readonly words: readonly GcsEffect[]
  /** Whose messages they were, and which one of its connection was the last. */
  readonly from: Heard | null
  isDurable: boolean
}

interface Heard {
  readonly connection: Connection
  readonly count: number
}

interface Connection {
  readonly nodeId: NodeId
  heard: number
}

export class DurableGcs {
  readonly gcs: Gcs
  readonly #storage: GcsStorage | null
  readonly #outlet: GcsOutlet
  readonly #timers = new Map<string, NodeJS.Timeout>()
  readonly #connections = new Map<NodeId, Connection>()
  readonly #unacked = new Map<Connection, number>()
  /** Who waits for what becomes of a `DrainRequest`. */
  readonly #asking = new Map<string, (answer: DrainAnswer) => void>()
  #held: Held[] = []
  #isAckPlanned = false
  #isClosed = false

  private constructor(config: GcsConfig, storage: GcsStorage | null, outlet: GcsOutlet) {
    this.gcs = new Gcs({ ...config, isDurable: storage !== null })
    this.#storage = storage
    this.#outlet = outlet
  }

  /** @throws GCS_STORAGE_… Ready for nodes when it resolves. `storage`: `null` keeps nothing. */
  static async start(config: GcsConfig, storage: GcsStorage | null, outlet: GcsOutlet): Promise<DurableGcs> {
    const durable = new DurableGcs(config, storage, outlet)
    if (storage) {
      await storage.open()
      durable.gcs.restore(await storage.load())
    }
    durable.#step({ kind: 'start' }, null)
    return durable
  }

  onOpen(nodeId: NodeId): void {
    this.#connections.set(nodeId, { nodeId, heard: 0 })
  }

  onMessages(nodeId: NodeId, messages: readonly NodeToGcs[]): void {
    const connection = this.#connections.get(nodeId)
    const counted = messages.filter(({ t }) => t !== 'node.register').length
    const from = connection && counted > 0 ? { connection, count: (connection.heard += counted) } : null
    this.#step({ kind: 'local', event: { t: 'manyFromNode', nodeId, messages } }, from)
  }

  onClose(nodeId: NodeId): void {
    this.#connections.delete(nodeId)
    this.#step({ kind: 'local', event: { t: 'nodeGone', nodeId, detail: 'its connection was closed' } }, null)
  }

  /** When the node has answered, or has not in time, and what came of it is durable. */
  drain({ nodeId, reason, message, deadlineMs }: DrainRequest): Promise<DrainAnswer> {
    const requestId = randomHex(16)
    return new Promise((resolve) => {
      this.#asking.set(requestId, resolve)
      const drain = { reason, message, deadlineMs }
      this.#step({ kind: 'local', event: { t: 'drain', requestId, nodeId, drain } }, null)
    })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const timer of this.#timers.values()) clearTimeout(timer)
    await this.#storage?.close()
  }

  #step(input: Input<never, GcsInput>, from: Heard | null): void {
    if (this.#isClosed) return
    const words: GcsEffect[] = []
    let write: Promise<void> | null = null
    for (const effect of this.gcs.step(monotonicMs(), input)) {
      if (effect.kind === 'timer') this.#setTimer(effect.key, effect.at)
      else if (effect.kind !== 'local') continue
      else if (effect.event.t === 'persist') write = this.#storage?.write(effect.event.changes) ?? null
      else if (isPing(effect.event))
        this.#say(effect.event) // U3
      else words.push(effect.event)
    }
    const held: Held = { words, from, isDurable: write === null }
    this.#held.push(held)
    if (write === null) return this.#release()
    write.then(
      () => {
        held.isDurable = true
        this.#release()
      },
      (error: unknown) => {
        if (this.#isClosed) return
        this.#isClosed = true
        this.#outlet.failed(error)
      },
    )
  }

  /** U1 */
  #release(): void {
    let released = 0
    for (const { words, from, isDurable } of this.#held) {
      if (!isDurable) break
      released++
      for (const word of words) this.#say(word)
      if (from) this.#unacked.set(from.connection, from.count)
    }
    this.#held.splice(0, released)
    this.#planAcks()
  }

  #say(word: GcsEffect): void {
    if (word.t === 'toNode') this.#outlet.send(word.nodeId, word.message)
    else if (word.t === 'drainAnswered') {
      this.#asking.get(word.requestId)?.({ refusal: word.refusal })
      this.#asking.delete(word.requestId)
    } else if (word.t === 'disconnect') {
      this.#connections.delete(word.nodeId)
      this.#outlet.disconnect(word.nodeId)
    }
  }

  /** One for all that was heard in this turn. */
  #planAcks(): void {
    if (this.#isAckPlanned || this.#unacked.size === 0) return
    this.#isAckPlanned = true
    setImmediate(() => {
      this.#isAckPlanned = false
      for (const [connection, count] of this.#unacked) {
        // A newer connection counts anew.
        if (this.#connections.get(connection.nodeId) !== connection) continue
        if (!this.#isClosed) this.#outlet.send(connection.nodeId, { t: 'acked', count })
      }
      this.#unacked.clear()
    })
  }

  #setTimer(key: string, at: number): void {
    clearTimeout(this.#timers.get(key))
    const timer = setTimeout(() => {
      this.#timers.delete(key)
      this.#step({ kind: 'timer', key }, null)
    }, msUntil(at))
    this.#timers.set(key, timer)
  }
}

function isPing(event: GcsEffect): boolean {
  return event.t === 'toNode' && event.message.t === 'ping'
}
