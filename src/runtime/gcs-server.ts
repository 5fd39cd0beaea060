// The GCS's side of its connections with raylets.
//
//   S1. A node has one connection: a newer one takes the place of the older, which is not reported closed.
//   S2. A message is handed over only after `onOpen` of its node, and none after `onClose` until the next `onOpen`.

import type { NodeId } from '../ids/ids.ts'
import type { DrainAnswer, DrainRequest } from '../wire/cluster.ts'
import { decodeMessage, encodeMessage } from '../wire/codec.ts'
import { type Answer, type FramedSocket, type Greeting, TcpListener, tell } from './tcp.ts'

export interface GcsServerOptions {
  readonly host: string
  readonly port: number
  readonly token: string | null
}

export interface GcsServerEvents<In> {
  onOpen?(nodeId: NodeId): void
  /** What came together. */
  onMessages(nodeId: NodeId, messages: readonly In[]): void
  /** Closed by the other end, or broken: not by `disconnect`. */
  onClose(nodeId: NodeId): void
  /** What whoever asks for the status of the cluster is told. */
  status?(): unknown
  /** Answers a `DrainRequest`. */
  drain?(request: DrainRequest): Promise<DrainAnswer>
}

type Message = { readonly t: string }

/** `In`: NodeToGcs; `Out`: GcsToNode. */
export class GcsServer<In extends Message, Out extends Message> {
  readonly #events: GcsServerEvents<In>
  readonly #sockets = new Map<NodeId, FramedSocket>()
  /** What goes to all nodes is encoded once. */
  #last: Message | null = null
  #lastBytes: Uint8Array = new Uint8Array(0)
  #listener: TcpListener | null = null

  private constructor(events: GcsServerEvents<In>) {
    this.#events = events
  }

  /** @throws AUTH_TOKEN_MISSING; what `net.Server.listen` fails with. */
  static async listen<In extends Message, Out extends Message>(
    options: GcsServerOptions,
    events: GcsServerEvents<In>,
  ): Promise<GcsServer<In, Out>> {
    const server = new GcsServer<In, Out>(events)
    const purposes = {
      gcs: (socket: FramedSocket, greeting: Greeting) => server.#accept(socket, greeting),
      ...(events.status ? { status: (socket: FramedSocket) => tell(socket, events.status?.()) } : {}),
      ...(events.drain ? { drain: (socket: FramedSocket, greeting: Greeting) => server.#drain(socket, greeting) } : {}),
    }
    server.#listener = await TcpListener.listen({ ...options, purposes })
    return server
  }

  get port(): number {
    return this.#listener?.port ?? 0
  }

  send(to: NodeId, message: Out): void {
    const socket = this.#sockets.get(to)
    if (!socket) return
    if (message !== this.#last) {
      this.#last = message
      this.#lastBytes = encodeMessage(message)
    }
    socket.sendEncoded(this.#lastBytes)
  }

  isConnected(nodeId: NodeId): boolean {
    return this.#sockets.has(nodeId)
  }

  /** What was sent to it leaves. */
  disconnect(nodeId: NodeId): void {
    this.#sockets.get(nodeId)?.end()
    this.#sockets.delete(nodeId)
  }

  close(): void {
    for (const nodeId of [...this.#sockets.keys()]) this.disconnect(nodeId)
    this.#listener?.close()
  }

  #drain(socket: FramedSocket, { detail }: Greeting): void {
    socket.events = { onFrame: () => {}, onClose: () => {} } // It has asked, and waits.
    void this.#events.drain?.(detail as DrainRequest).then((answer) => tell(socket, answer))
  }

  #accept(socket: FramedSocket, { nodeId }: Greeting): void {
    this.#sockets.get(nodeId)?.destroy() // S1
    this.#sockets.set(nodeId, socket)
    let messages: In[] = []
    socket.events = {
      onFrame: (buffer, start, end) => void messages.push(decodeMessage<In>(buffer.subarray(start, end))),
      onFrames: () => {
        const all = messages
        messages = []
        if (all.length > 0) this.#events.onMessages(nodeId, all)
      },
      onClose: () => {
        if (this.#sockets.get(nodeId) !== socket) return
        this.#sockets.delete(nodeId)
        this.#events.onClose(nodeId)
      },
    }
    socket.send({ t: 'welcome', detail: null } as Answer)
    this.#events.onOpen?.(nodeId)
  }
}
