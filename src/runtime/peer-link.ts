// The links of a raylet with the others: drives one `ResumableLink` (wire/resume.ts) a peer with sockets and timers.
//
// A link begins with the first message either way, outlives its connections, and ends when this raylet ends it: because the GCS has
// declared the other node dead.
//
//   L1. Per peer, messages come once, in order, whatever happens to connections; after `onEnded` none (R1).
//   L2. Effects of a step are performed before those of the next, also when performing one sends a message.
//   L3. An ended link stays ended: whoever dials it is refused, and messages to it go nowhere.
//   L4. The other end must say that it is who was dialled: an address may have passed to another node.

import type { NodeId } from '../ids/ids.ts'
import { decodeMessage, encodeMessage } from '../wire/codec.ts'
import type { WireError } from '../wire/messages.ts'
import {
  type ConnectionId,
  type LinkEffect,
  type LinkEnd,
  type LinkHello,
  type LinkInput,
  type LinkSettings,
  type LinkTimer,
  ResumableLink,
} from '../wire/resume.ts'
import { monotonicMs, msUntil } from './clock.ts'
import { randomHex } from './session.ts'
import { type Answer, dialTcp, type FramedSocket, type Greeting, refuse } from './tcp.ts'

export interface PeerAddress {
  readonly host: string
  readonly port: number
}

export interface PeerLinksOptions {
  readonly nodeId: NodeId
  /** Where others dial this raylet. */
  readonly address: PeerAddress
  readonly token: string | null
  readonly settings?: Partial<LinkSettings>
}

export interface PeerLinksEvents<Message> {
  /** Before the first message either way: what is sent in it goes first. */
  onBegin?(peer: NodeId): void
  onMessage(peer: NodeId, message: Message): void
  /** Not by `end` of this side. */
  onEnded(peer: NodeId, end: LinkEnd): void
  onConnected?(peer: NodeId): void
  onDisconnected?(peer: NodeId): void
  /** No longer full. */
  onDrained?(peer: NodeId): void
}

/** What travels in greeting and welcome. */
interface PeerDetail {
  readonly hello: LinkHello
  readonly address: PeerAddress
}

interface Peer {
  readonly nodeId: NodeId
  readonly link: ResumableLink
  address: PeerAddress | null
  readonly sockets: Map<ConnectionId, FramedSocket>
  /** Hellos for connections that are being dialled. */
  readonly greetings: Map<ConnectionId, PeerDetail>
  readonly timers: Map<LinkTimer, NodeJS.Timeout>
  readonly inputs: LinkInput[]
  isStepping: boolean
  accepted: number
}

const TIMEOUT_MS = 3000

export class PeerLinks<Message extends { readonly t: string }> {
  readonly #options: PeerLinksOptions
  readonly #events: PeerLinksEvents<Message>
  readonly #peers = new Map<NodeId, Peer>()
  readonly #life = randomHex(8)
  #last: Message | null = null
  #lastBody: Buffer = Buffer.alloc(0)
  #isClosed = false

  constructor(options: PeerLinksOptions, events: PeerLinksEvents<Message>) {
    this.#options = options
    this.#events = events
  }

  /** `address` when it is known better than before; a peer that dialled us has said its own. */
  send(to: NodeId, message: Message, address: PeerAddress | null = null): void {
    if (this.#isClosed) return
    const peer = this.#peer(to, address)
    // What goes to many nodes, ends of processes mostly, is encoded once.
    if (message !== this.#last) this.#lastBody = encodeMessage(message)
    this.#last = message
    this.#step(peer, { t: 'send', body: this.#lastBody })
  }

  /** Without a message of the caller's: `onBegin` says the first. */
  begin(to: NodeId, address: PeerAddress | null = null): void {
    if (!this.#isClosed) this.#peer(to, address)
  }

  /** It may have been known by its name only, with words that wait for it. */
  learnAddress(nodeId: NodeId, address: PeerAddress): void {
    const peer = this.#peers.get(nodeId)
    if (peer) peer.address = address
  }

  isOpen(peer: NodeId): boolean {
    const link = this.#peers.get(peer)?.link
    return link !== undefined && link.ended === null
  }

  /** R6: who can wait should, until `onDrained`. */
  isFull(peer: NodeId): boolean {
    return this.#peers.get(peer)?.link.isFull ?? false
  }

  /** What it has not acknowledged yet. */
  keptBytes(peer: NodeId): number {
    return this.#peers.get(peer)?.link.keptBytes ?? 0
  }

  /** Links with what they keep, for the node's figures. */
  *[Symbol.iterator](): Generator<{ nodeId: NodeId; isConnected: boolean; keptBytes: number }> {
    for (const { nodeId, link } of this.#peers.values())
      if (link.ended === null) yield { nodeId, isConnected: link.isConnected, keptBytes: link.keptBytes }
  }

  /** L3. Also for a peer that there was no link with so far. */
  end(nodeId: NodeId, detail: string): void {
    this.#step(this.#peer(nodeId, null, true), { t: 'end', detail })
  }

  /** All connections, without a word to the others: this process ends. */
  close(): void {
    this.#isClosed = true
    for (const peer of this.#peers.values()) {
      for (const timer of peer.timers.values()) clearTimeout(timer)
      for (const socket of peer.sockets.values()) socket.destroy()
    }
    this.#peers.clear()
  }

  /** Taker of the purpose 'peer' of the node's `TcpListener`. */
  readonly accept = (socket: FramedSocket, greeting: Greeting): void => {
    const { hello, address } = greeting.detail as PeerDetail
    if (this.#isClosed || hello.from === this.#options.nodeId) return socket.destroy()
    if (hello.to !== this.#options.nodeId) {
      refuse(socket, wrongNode(hello.to)) // L4
      return
    }
    const peer = this.#peer(hello.from, address)
    const connection = -++peer.accepted
    peer.sockets.set(connection, socket)
    socket.events = this.#eventsOf(peer, connection)
    this.#step(peer, { t: 'accepted', connection, hello })
  }

  #peer(nodeId: NodeId, address: PeerAddress | null, isQuiet = false): Peer {
    let peer = this.#peers.get(nodeId)
    if (!peer) {
      const settings = { own: this.#options.nodeId, peer: nodeId, life: this.#life, ...this.#options.settings }
      peer = {
        nodeId,
        link: new ResumableLink(settings),
        address,
        sockets: new Map(),
        greetings: new Map(),
        timers: new Map(),
        inputs: [],
        isStepping: false,
        accepted: 0,
      }
      this.#peers.set(nodeId, peer)
      if (!isQuiet) this.#events.onBegin?.(nodeId)
    }
    if (address) peer.address = address
    return peer
  }

  /** L2 */
  #step(peer: Peer, input: LinkInput): void {
    peer.inputs.push(input)
    if (peer.isStepping) return
    peer.isStepping = true
    try {
      for (let next = peer.inputs.shift(); next && !this.#isClosed; next = peer.inputs.shift()) {
        for (const effect of peer.link.step(monotonicMs(), next)) this.#perform(peer, effect)
      }
    } finally {
      peer.isStepping = false
    }
  }

  #perform(peer: Peer, effect: LinkEffect): void {
    switch (effect.t) {
      case 'dial':
        return this.#dial(peer, effect.connection)
      case 'hello':
        return this.#hello(peer, effect.connection, effect.hello)
      case 'write':
        peer.sockets.get(effect.connection)?.write(effect.head, effect.body)
        return
      case 'close':
        peer.sockets.get(effect.connection)?.end()
        peer.sockets.delete(effect.connection)
        return
      case 'refuse': {
        const socket = peer.sockets.get(effect.connection)
        peer.sockets.delete(effect.connection)
        if (socket) refuse(socket, { code: 'SYSTEM', params: { message: `the link has ended: ${effect.detail}` } })
        return
      }
      case 'deliver':
        return this.#deliver(peer, effect.body)
      case 'connected':
        return this.#events.onConnected?.(peer.nodeId)
      case 'disconnected':
        return this.#events.onDisconnected?.(peer.nodeId)
      case 'drained':
        return this.#events.onDrained?.(peer.nodeId)
      case 'ended':
        if (effect.end.by !== 'own') this.#events.onEnded(peer.nodeId, effect.end)
        return
      case 'timer': {
        const { key, at } = effect
        clearTimeout(peer.timers.get(key))
        const run = (): void => this.#step(peer, { t: 'timer', key })
        peer.timers.set(key, setTimeout(run, msUntil(at)))
        return
      }
      case 'cancelTimer':
        clearTimeout(peer.timers.get(effect.key))
        peer.timers.delete(effect.key)
    }
  }

  #deliver(peer: Peer, body: Uint8Array): void {
    let message: Message
    try {
      message = decodeMessage<Message>(body)
    } catch (error) {
      // It counts as dealt with and will not come again: a link that went on would have lost it.
      this.#step(peer, { t: 'end', detail: String(error) })
      this.#events.onEnded(peer.nodeId, { by: 'lost', detail: String(error), error: null })
      return
    }
    this.#events.onMessage(peer.nodeId, message)
  }

  #dial(peer: Peer, connection: ConnectionId): void {
    if (!peer.address) {
      // Who dialled us said where it is; who is only known by name is dialled when its address is there.
      this.#step(peer, { t: 'closed', connection })
      return
    }
    const { nodeId, token } = this.#options
    const { host, port } = peer.address
    const detail = (): unknown => peer.greetings.get(connection)
    const timeoutMs = this.#options.settings?.connectTimeoutMs ?? TIMEOUT_MS
    const socket = dialTcp(
      { host, port, token, nodeId, purpose: 'peer', detail, timeoutMs },
      {
        ...this.#eventsOf(peer, connection),
        onConnect: () => this.#step(peer, { t: 'opened', connection }),
        onAnswer: (answer) => this.#answered(peer, connection, answer),
      },
    )
    peer.sockets.set(connection, socket)
  }

  #answered(peer: Peer, connection: ConnectionId, answer: Answer): void {
    peer.greetings.delete(connection)
    if (answer.t === 'refused') {
      this.#step(peer, { t: 'refused', connection, error: answer.error })
      return
    }
    const { hello } = answer.detail as PeerDetail
    this.#step(peer, { t: 'welcomed', connection, hello })
  }

  #hello(peer: Peer, connection: ConnectionId, hello: LinkHello): void {
    const detail: PeerDetail = { hello, address: this.#options.address }
    if (connection > 0) peer.greetings.set(connection, detail)
    else peer.sockets.get(connection)?.send({ t: 'welcome', detail } as Answer)
  }

  #eventsOf(peer: Peer, connection: ConnectionId): FramedSocket['events'] {
    return {
      onFrame: (buffer, start, end) => this.#step(peer, { t: 'frame', connection, bytes: buffer.subarray(start, end) }),
      onClose: () => {
        peer.sockets.delete(connection)
        peer.greetings.delete(connection)
        this.#step(peer, { t: 'closed', connection })
      },
    }
  }
}

function wrongNode(nodeId: NodeId): WireError {
  return { code: 'SYSTEM', params: { message: `the node ${nodeId} is not at this address` } }
}
