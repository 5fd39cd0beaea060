// The links of a raylet with the others, as `runtime/peer-link.ts` and `runtime/peers.ts` drive the production `ResumableLink`.
//
// On a new connection the dialler says hello, the other answers with its own hello or refuses; then come frames of the link.

import type { NodeId } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import type { RayletToRaylet } from '../wire/cluster.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import type { WireError } from '../wire/messages.ts'
import {
  type ConnectionId,
  LINK_OVERHEAD_BYTES,
  type LinkEffect,
  type LinkHello,
  type LinkInput,
  ResumableLink,
} from '../wire/resume.ts'
import { describe } from './link.ts'
import { connect, type Socket } from './network.ts'
import type { SimNode } from './node.ts'

export interface PeersEvents {
  hello(peer: NodeId): RayletToRaylet
  onMessage(peer: NodeId, message: RayletToRaylet): void
  onLost(peer: NodeId, detail: string): void
}

/** What opens a connection. */
type Opening =
  | { readonly t: 'hello'; readonly hello: LinkHello }
  | { readonly t: 'welcome'; readonly hello: LinkHello }
  | { readonly t: 'refused'; readonly error: WireError }

interface Peer {
  readonly nodeId: NodeId
  readonly link: ResumableLink
  readonly sockets: Map<ConnectionId, Socket>
  readonly inputs: LinkInput[]
  isStepping: boolean
  accepted: number
}

const FRAME_BYTES_MAX = CONTROL_FRAME_BYTES_MAX + LINK_OVERHEAD_BYTES

export class PeerLinks {
  readonly #node: SimNode
  readonly #events: PeersEvents
  readonly #peers = new Map<NodeId, Peer>()

  constructor(node: SimNode, events: PeersEvents) {
    this.#node = node
    this.#events = events
  }

  send(to: NodeId, message: RayletToRaylet): void {
    this.#step(this.#peer(to), { t: 'send', body: encodeMessage(message) })
  }

  meet(nodeId: NodeId): void {
    this.#peer(nodeId)
  }

  /** As when a message came that is none (`runtime/peer-link.ts`). */
  spoil(nodeId: NodeId): void {
    const peer = this.#peers.get(nodeId)
    if (!peer || peer.link.ended) return
    const detail = 'a message was spoilt'
    this.#node.cluster.spoil(this.#node.nodeId, nodeId)
    this.#step(peer, { t: 'end', detail })
    this.#events.onLost(nodeId, detail)
  }

  end(nodeId: NodeId): void {
    this.#step(this.#peer(nodeId, true), { t: 'end', detail: 'the node was declared dead' })
  }

  /** Links that have not ended. */
  *open(): Generator<{ nodeId: NodeId; isConnected: boolean; keptBytes: number }> {
    for (const { nodeId, link } of this.#peers.values())
      if (link.ended === null) yield { nodeId, isConnected: link.isConnected, keptBytes: link.keptBytes }
  }

  #peer(nodeId: NodeId, isQuiet = false): Peer {
    const known = this.#peers.get(nodeId)
    if (known) return known
    const link = new ResumableLink({
      ...{ own: this.#node.nodeId, peer: nodeId, life: this.#node.os.name },
      ...{ connectTimeoutMs: 500, pulseMs: 200, silenceMs: 1000 },
    })
    this.#node.cluster.bugs.link?.(link)
    const peer: Peer = { nodeId, link, sockets: new Map(), inputs: [], isStepping: false, accepted: 0 }
    this.#peers.set(nodeId, peer)
    if (!isQuiet) this.send(nodeId, this.#events.hello(nodeId))
    return peer
  }

  #step(peer: Peer, input: LinkInput): void {
    peer.inputs.push(input)
    if (peer.isStepping) return
    peer.isStepping = true
    try {
      for (let next = peer.inputs.shift(); next && this.#node.os.isAlive; next = peer.inputs.shift()) {
        const effects = peer.link.step(this.#now, next)
        peer.link.check()
        for (const effect of effects) this.#perform(peer, effect)
      }
    } finally {
      peer.isStepping = false
    }
  }

  get #now(): Ms {
    return this.#node.cluster.world.now
  }

  #perform(peer: Peer, effect: LinkEffect): void {
    switch (effect.t) {
      case 'dial':
        return this.#dial(peer, effect.connection)
      case 'hello': {
        const { connection, hello } = effect
        peer.sockets.get(connection)?.write(opening({ t: connection > 0 ? 'hello' : 'welcome', hello }))
        return
      }
      case 'write':
        peer.sockets.get(effect.connection)?.write(Buffer.concat([effect.head, ...(effect.body ? [effect.body] : [])]))
        return
      case 'close':
        peer.sockets.get(effect.connection)?.close()
        peer.sockets.delete(effect.connection)
        return
      case 'refuse': {
        const error = { code: 'SYSTEM', params: { message: effect.detail } }
        peer.sockets.get(effect.connection)?.write(opening({ t: 'refused', error }))
        peer.sockets.get(effect.connection)?.close()
        peer.sockets.delete(effect.connection)
        return
      }
      case 'deliver': {
        const message = decodeMessage<RayletToRaylet>(effect.body)
        this.#node.cluster.world.log(`${this.#node.os.name} < peer ${peer.nodeId.slice(0, 2)} ${describe(message)}`)
        return this.#events.onMessage(peer.nodeId, message)
      }
      case 'ended':
        this.#node.cluster.judge.onLinkEnded(this.#node, peer.nodeId, effect.end)
        if (effect.end.by !== 'own') this.#events.onLost(peer.nodeId, effect.end.detail)
        return
      case 'timer': {
        const { key, at } = effect
        return this.#node.setTimer(`link:${peer.nodeId}:${key}`, at, () => this.#step(peer, { t: 'timer', key }))
      }
      case 'cancelTimer':
        return this.#node.setTimer(`link:${peer.nodeId}:${effect.key}`, 0, () => {})
      default:
        return
    }
  }

  #dial(peer: Peer, connection: ConnectionId): void {
    const { cluster, os, nodeId } = this.#node
    const other = cluster.nodeById(peer.nodeId)
    const road = cluster.road(this.#node, other)
    const [own, theirs] = connect(cluster.world, cluster.latency, os, other.os, road)
    os.sockets.add(own)
    peer.sockets.set(connection, own)
    this.#listen(peer, connection, own)
    if (!other.os.isAlive) theirs.close()
    else {
      other.os.sockets.add(theirs)
      other.peers?.accept(nodeId, theirs)
    }
    os.at(Math.max(this.#now, road.out.heldUntil, road.back.heldUntil), () => {
      if (!own.isClosed) this.#step(peer, { t: 'opened', connection })
    })
  }

  accept(from: NodeId, socket: Socket): void {
    let peer: Peer | null = null
    let connection: ConnectionId = 0
    const reader = new FrameReader((buffer, start, end) => {
      if (peer) return this.#step(peer, { t: 'frame', connection, bytes: buffer.subarray(start, end) })
      const first = decodeMessage<Opening>(buffer.subarray(start, end))
      if (first.t !== 'hello') return
      peer = this.#peer(from)
      connection = -++peer.accepted
      peer.sockets.set(connection, socket)
      this.#step(peer, { t: 'accepted', connection, hello: first.hello })
    }, FRAME_BYTES_MAX)
    socket.listen({
      onData: (chunk) => reader.push(chunk),
      onClose: () => {
        peer?.sockets.delete(connection)
        if (peer) this.#step(peer, { t: 'closed', connection })
      },
    })
  }

  #listen(peer: Peer, connection: ConnectionId, socket: Socket): void {
    let isFirst = true
    const reader = new FrameReader((buffer, start, end) => {
      const bytes = buffer.subarray(start, end)
      if (isFirst) {
        isFirst = false
        const first = decodeMessage<Opening>(bytes)
        if (first.t === 'welcome') this.#step(peer, { t: 'welcomed', connection, hello: first.hello })
        else if (first.t === 'refused') this.#step(peer, { t: 'refused', connection, error: first.error })
      } else this.#step(peer, { t: 'frame', connection, bytes })
    }, FRAME_BYTES_MAX)
    socket.listen({
      onData: (chunk) => reader.push(chunk),
      onClose: () => {
        peer.sockets.delete(connection)
        this.#step(peer, { t: 'closed', connection })
      },
    })
  }
}

function opening(message: Opening): Buffer {
  const body = encodeMessage(message)
  const head = Buffer.alloc(4)
  head.writeUInt32LE(body.length)
  return Buffer.concat([head, body])
}
