// The control connection of a core worker to its node: messages out in one write per tick, messages in one by one.
//
//   N1. Requests with an answer are matched by number; when the connection breaks all of them fail at once.

import net from 'node:net'
import { InvariantError } from '../kernel/invariant.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import type { FromNode, ToNode } from '../wire/messages.ts'

export interface LinkEvents {
  onMessage(message: FromNode): void
  onClose(): void
}

type Answer = FromNode & { readonly requestId: number }

export class NodeLink {
  #socket: net.Socket | null = null
  readonly #events: LinkEvents
  #pending: Buffer[] = []
  #pendingBytes = 0
  #isScheduled = false
  #holds = 0
  #requestId = 0
  readonly #requests = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>()
  isClosed = false
  /** Of the cluster, once registered. */
  token: string | null = null

  /** Messages may be sent at once; they leave when the link is attached. */
  constructor(events: LinkEvents) {
    this.#events = events
  }

  get isConnected(): boolean {
    return this.#socket !== null && !this.isClosed
  }

  async connect(path: string): Promise<void> {
    const socket = net.connect(path)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    this.#attach(socket)
  }

  /** Goes on with the connection of another link, whose job is done. */
  adopt(other: NodeLink): void {
    const socket = other.#socket
    if (!socket) throw new Error('the other link is not connected')
    other.#socket = null
    other.isClosed = true
    this.token = other.token
    socket.removeAllListeners()
    this.#attach(socket)
  }

  #attach(socket: net.Socket): void {
    this.#socket = socket
    if (this.#holds > 0) socket.ref()
    else socket.unref()
    const reader = new FrameReader((buffer, start, end) => {
      this.#receive(decodeMessage<FromNode>(buffer.subarray(start, end)))
    }, CONTROL_FRAME_BYTES_MAX)
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk)
      } catch (error) {
        if (error instanceof InvariantError) throw error // Not what came is wrong, but what we made of it.
        socket.destroy(error as Error)
      }
    })
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.closed())
    this.flush()
  }

  send(message: ToNode): void {
    if (this.isClosed) return
    const body = encodeMessage(message)
    const head = Buffer.allocUnsafe(4)
    head.writeUInt32LE(body.length)
    this.#pending.push(head, body)
    this.#pendingBytes += body.length + 4
    if (this.#isScheduled) return
    this.#isScheduled = true
    process.nextTick(() => this.flush())
  }

  /** Before all that waits to leave. */
  sendFirst(message: ToNode): void {
    const body = encodeMessage(message)
    const head = Buffer.allocUnsafe(4)
    head.writeUInt32LE(body.length)
    this.#pending.unshift(head, body)
    this.#pendingBytes += body.length + 4
  }

  flush(): void {
    this.#isScheduled = false
    if (this.#pending.length === 0 || this.isClosed || !this.#socket) return
    this.#socket.write(Buffer.concat(this.#pending, this.#pendingBytes))
    this.#pending = []
    this.#pendingBytes = 0
  }

  /** Sends a message made with a fresh request number and waits for its answer. */
  request<T extends FromNode['t']>(make: (requestId: number) => ToNode): Promise<Extract<FromNode, { t: T }>> {
    const requestId = ++this.#requestId
    return new Promise((resolve, reject) => {
      if (this.isClosed) {
        this.ref()
        reject(new Error('the node is gone'))
        return
      }
      this.ref()
      this.#requests.set(requestId, { resolve: resolve as (answer: Answer) => void, reject })
      this.send(make(requestId))
    }).finally(() => this.unref()) as Promise<Extract<FromNode, { t: T }>>
  }

  /** Gives back one hold. */
  unref(): void {
    if (--this.#holds === 0) this.#socket?.unref()
  }

  /** Keeps the program running while something is waited for; counted. */
  ref(): void {
    if (++this.#holds === 1) this.#socket?.ref()
  }

  destroy(): void {
    this.#socket?.destroy()
    this.closed()
  }

  #receive(message: FromNode): void {
    if ('requestId' in message) {
      const request = this.#requests.get(message.requestId)
      this.#requests.delete(message.requestId)
      request?.resolve(message)
      return
    }
    if (message.t === 'registered') this.token = message.token
    this.#events.onMessage(message)
  }

  /** Nothing comes or goes any more (N1). */
  closed(): void {
    if (this.isClosed) return
    this.isClosed = true
    for (const request of this.#requests.values()) request.reject(new Error('the node is gone'))
    this.#requests.clear()
    this.#events.onClose()
  }
}
