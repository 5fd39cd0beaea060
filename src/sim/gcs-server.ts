// The GCS: in the process of a node that is alone, else in one of its own, as `runtime/gcs-port.ts`, `gcs-link.ts` and `gcs-server.ts`
// drive it.
//
//   G1. A node has one connection: a newer one takes the place of the older, which is not reported closed.

import { Gcs } from '../gcs/gcs.ts'
import type { GcsChange, GcsRecord } from '../gcs/records.ts'
import type { NodeId } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import { GcsStream } from '../raylet/gcs-stream.ts'
import type { DrainReason, GcsToNode, NodeToGcs } from '../wire/cluster.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import type { ToNode } from '../wire/messages.ts'
import type { Cluster } from './cluster.ts'
import { describe } from './link.ts'
import { connect, type Socket } from './network.ts'
import type { SimNode } from './node.ts'
import { SimProcess } from './processes.ts'

export interface GcsPort {
  start(): void
  send(message: NodeToGcs): void
  close(): void
}

export interface GcsPortEvents {
  onConnected(): void
  onMessage(message: GcsToNode): void
  onGone(detail: string): void
}

const GRACEFUL_MS: Ms = 400
const RECONNECT_GRACE_MS: Ms = 500
/** Longer than the redials of a node that finds no GCS are apart. */
const RESTORE_GRACE_MS: Ms = 2500
const REDIAL_MIN_MS: Ms = 20
const REDIAL_MAX_MS: Ms = 1000
/** Longer than anything that a seed cuts. */
const RECONNECT_MS: Ms = 30_000

export function makeGcs(isAlone: boolean): Gcs {
  return new Gcs({
    clusterId: 'sim',
    actorGracefulShutdownMs: GRACEFUL_MS,
    health: isAlone
      ? { periodMs: 3000, timeoutMs: 10_000, failureThreshold: 5 }
      : { periodMs: 200, timeoutMs: 400, failureThreshold: 3 },
    reconnectGraceMs: RECONNECT_GRACE_MS,
    restoreGraceMs: RESTORE_GRACE_MS,
    system: {},
    isDurable: !isAlone,
  })
}

/** A call away. */
export class LocalPort implements GcsPort {
  readonly #cluster: Cluster
  readonly #node: SimNode
  readonly #events: GcsPortEvents

  constructor(cluster: Cluster, node: SimNode, events: GcsPortEvents) {
    this.#cluster = cluster
    this.#node = node
    this.#events = events
  }

  start(): void {
    this.#events.onConnected()
  }

  send(message: NodeToGcs): void {
    const event = { t: 'fromNode', nodeId: this.#node.nodeId, message } as const
    this.#perform(this.#cluster.gcs.step(this.#cluster.world.now, { kind: 'local', event }))
  }

  close(): void {}

  #perform(effects: ReturnType<Gcs['step']>): void {
    const { world, gcs } = this.#cluster
    for (const effect of effects) {
      if (effect.kind === 'timer') {
        this.#node.setTimer(`gcs:${effect.key}`, effect.at, () => {
          this.#perform(gcs.step(world.now, { kind: 'timer', key: effect.key }))
        })
      } else if (effect.kind === 'local' && effect.event.t === 'toNode') this.#events.onMessage(effect.event.message)
    }
  }
}

/** Over a connection that is dialled again when it breaks. */
export class RemotePort implements GcsPort {
  readonly #cluster: Cluster
  readonly #node: SimNode
  readonly #events: GcsPortEvents
  #socket: Socket | null = null
  #isRegistered = false
  #isClosed = false
  readonly #stream = new GcsStream()
  #redialMs = REDIAL_MIN_MS
  #goneAt: Ms = RECONNECT_MS

  constructor(cluster: Cluster, node: SimNode, events: GcsPortEvents) {
    this.#cluster = cluster
    this.#node = node
    this.#events = events
  }

  start(): void {
    const { os, nodeId } = this.#node
    const socket = this.#cluster.gcsProcess.dial(this.#node)
    this.#socket = socket
    os.sockets.add(socket)
    const reader = new FrameReader((buffer, start, end) => {
      const message = decodeMessage<GcsToNode>(buffer.subarray(start, end))
      this.#cluster.world.log(`${os.name} < gcs ${describe(message)}`)
      if (!this.#stream.hear(message)) return
      if (message.t === 'node.registered') this.#registered()
      this.#events.onMessage(message)
    }, CONTROL_FRAME_BYTES_MAX)
    socket.listen({
      onData: (chunk) => {
        if (this.#socket === socket) reader.push(chunk)
      },
      onClose: () => this.#lost(socket),
    })
    socket.write(frame({ t: 'greeting', nodeId }))
    this.#events.onConnected()
  }

  send(message: NodeToGcs): void {
    if (this.#stream.say(message)) this.#socket?.write(frame(message))
  }

  close(): void {
    this.#isClosed = true
    this.#socket?.close()
  }

  #registered(): void {
    this.#redialMs = REDIAL_MIN_MS
    if (this.#isRegistered) return
    this.#isRegistered = true
    for (const message of this.#stream.resume()) this.#socket?.write(frame(message))
  }

  #lost(socket: Socket): void {
    if (this.#isClosed || this.#socket !== socket) return
    const { world } = this.#cluster
    if (this.#isRegistered) this.#goneAt = world.now + RECONNECT_MS
    this.#isRegistered = false
    this.#stream.cut()
    this.#socket = null
    if (world.now >= this.#goneAt) {
      this.#isClosed = true
      return this.#events.onGone('no GCS answered')
    }
    this.#node.os.after(this.#redialMs, () => {
      if (!this.#isClosed) this.start()
    })
    this.#redialMs = Math.min(this.#redialMs * 2, REDIAL_MAX_MS)
  }
}

export class GcsProcess {
  os: SimProcess
  readonly #cluster: Cluster
  readonly #records = new Map<string, GcsRecord>()
  readonly #sockets = new Map<NodeId, Socket>()
  readonly #timers = new Map<string, number>()
  /** Who waits for an answer to `drain`, by what it is about. */
  readonly #asking = new Map<string, SimNode>()
  #drains = 0

  constructor(cluster: Cluster) {
    this.#cluster = cluster
    this.os = new SimProcess(cluster.world, 2, 'gcs')
  }

  start(): void {
    this.os.enter(() => this.#perform(this.#cluster.gcs.step(this.#cluster.world.now, { kind: 'start' })))
  }

  /** It is killed, and started again after a while, with what it had made durable. */
  crash(afterMs: Ms): void {
    const { world } = this.#cluster
    if (!this.os.isAlive) return
    world.log('the GCS crashes')
    this.os.die({ code: null, signal: 'SIGKILL' }, false)
    this.#sockets.clear()
    this.#asking.clear()
    world.after(afterMs, () => {
      this.os = new SimProcess(world, 2, 'gcs')
      const gcs = makeGcs(false)
      gcs.restore([...this.#records.values()])
      this.#cluster.bugs.gcs?.(gcs)
      this.#cluster.gcs = gcs
      this.start()
    })
  }

  /** From a node. */
  dial(node: SimNode): Socket {
    const { world, latency } = this.#cluster
    const [own, theirs] = connect(world, latency, node.os, this.os, this.#cluster.roadToGcs(node))
    if (!this.os.isAlive) {
      theirs.close()
      return own
    }
    this.os.sockets.add(theirs)
    let nodeId: NodeId | null = null
    let heard = 0
    const reader = new FrameReader((buffer, start, end) => {
      const message = decodeMessage<NodeToGcs | Greeting>(buffer.subarray(start, end))
      if (message.t === 'greeting') {
        nodeId = message.nodeId
        this.#sockets.get(nodeId)?.close() // G1
        this.#sockets.set(nodeId, theirs)
      } else if (nodeId !== null && this.#sockets.get(nodeId) === theirs) {
        this.#receive(nodeId, message)
        // As `durable-gcs.ts` does, when what came of it is durable: here at once.
        if (message.t !== 'node.register') theirs.write(frame({ t: 'acked', count: ++heard }))
      }
    }, CONTROL_FRAME_BYTES_MAX)
    theirs.listen({
      onData: (chunk) => reader.push(chunk),
      onClose: () => {
        if (nodeId === null || this.#sockets.get(nodeId) !== theirs) return
        this.#sockets.delete(nodeId)
        const event = { t: 'nodeGone', nodeId, detail: 'its connection closed' } as const
        this.#perform(this.#cluster.gcs.step(world.now, { kind: 'local', event }))
      },
    })
    return own
  }

  /** As if somebody asked who is gone since. */
  tell(message: ToNode): void {
    const { world, gcs, nodes } = this.#cluster
    const nodeId = nodes[0]?.nodeId ?? ''
    const event = { t: 'fromNode', nodeId, message: { t: 'forward', from: 0, message } } as const
    this.os.enter(() => this.#perform(gcs.step(world.now, { kind: 'local', event })))
  }

  /** As `ray drain-node` asks. `drain-node` hears of a GCS that ends meanwhile. */
  drain(node: SimNode, reason: DrainReason, deadlineMs: Ms | null): void {
    const { world, gcs } = this.#cluster
    if (!this.os.isAlive) return
    const requestId = `d${++this.#drains}`
    this.#asking.set(requestId, node)
    const drain = { reason, message: '', deadlineMs }
    const event = { t: 'drain', requestId, nodeId: node.nodeId, drain } as const
    this.os.enter(() => this.#perform(gcs.step(world.now, { kind: 'local', event })))
  }

  /** Those that wait for what becomes of their `drain`. */
  get asking(): number {
    return this.#asking.size
  }

  #drainAnswered(requestId: string, refusal: string | null): void {
    const node = this.#asking.get(requestId)
    if (!this.#asking.delete(requestId) || !node) return
    this.#cluster.world.log(`node${node.index} ${refusal === null ? 'is drained' : `is not drained: ${refusal}`}`)
    this.#cluster.judge.onDrainAnswered(node, refusal)
  }

  /** Breaks the connection of a node. */
  reset(node: SimNode, withinMs: Ms): void {
    this.#sockets.get(node.nodeId)?.reset(withinMs)
  }

  #receive(nodeId: NodeId, message: NodeToGcs): void {
    const { world, gcs } = this.#cluster
    world.log(`gcs < ${nodeId.slice(0, 2)} ${describe(message)}`)
    this.#perform(gcs.step(world.now, { kind: 'local', event: { t: 'fromNode', nodeId, message } }))
  }

  #perform(effects: ReturnType<Gcs['step']>): void {
    const { judge } = this.#cluster
    judge.onGcsStep()
    for (const effect of effects) {
      if (effect.kind === 'timer') this.#setTimer(effect.key, effect.at)
      else if (effect.kind !== 'local') continue
      else if (effect.event.t === 'persist') this.#keep(effect.event.changes)
      else if (effect.event.t === 'toNode') this.#sockets.get(effect.event.nodeId)?.write(frame(effect.event.message))
      else if (effect.event.t === 'drainAnswered') this.#drainAnswered(effect.event.requestId, effect.event.refusal)
      else if (effect.event.t === 'disconnect') {
        this.#sockets.get(effect.event.nodeId)?.close()
        this.#sockets.delete(effect.event.nodeId)
      }
    }
  }

  #keep(changes: readonly GcsChange[]): void {
    for (const { table, key, value } of changes) {
      const name = `${table} ${key}`
      if (value) this.#records.set(name, { table, key, value })
      else this.#records.delete(name)
    }
  }

  #setTimer(key: string, at: Ms): void {
    const { world, gcs } = this.#cluster
    const life = (this.#timers.get(key) ?? 0) + 1
    this.#timers.set(key, life)
    this.os.at(at, () => {
      if (this.#timers.get(key) === life) this.#perform(gcs.step(world.now, { kind: 'timer', key }))
    })
  }
}

interface Greeting {
  readonly t: 'greeting'
  readonly nodeId: NodeId
}

function frame(message: NodeToGcs | GcsToNode | Greeting): Buffer {
  const body = encodeMessage(message)
  const head = Buffer.alloc(4)
  head.writeUInt32LE(body.length)
  return Buffer.concat([head, body])
}
