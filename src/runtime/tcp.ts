// TCP connections between the processes of a cluster: frames, and at the beginning of each connection who calls, what for, and whether
// the two may speak at all.
//
//     dialler ── greeting (protocol, token, purpose) ──► listener ── welcome | refused ──► … frames of the purpose, both ways
//
//   Y1. What is written within one tick leaves in one write, in order.
//   Y2. Before a right greeting a connection is nobody's: it may send one small frame, within a short while.
//   Y3. After `onClose`, or `destroy`, nothing more comes.
//   Y4. A wrong token and another protocol are refused with an error that says so; the token is looked at first.

import type net from 'node:net'
import type { NodeId } from '../ids/ids.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage, WireFormatError } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import { PROTOCOL_VERSION, type WireError } from '../wire/messages.ts'
import { isSameToken, requireToken } from './auth-token.ts'
import { connectTcp, createTcpServer, onceConnected, tlsRefusal } from './tls.ts'

/** 'bulk': chunks of objects; 'status', 'drain' to the GCS, 'work' to a raylet: questions that the welcome answers. */
export type Purpose = 'gcs' | 'peer' | 'bulk' | 'tasks' | 'status' | 'drain' | 'work'

/** What a dialler says first. */
export interface Greeting {
  readonly t: 'greeting'
  readonly purpose: Purpose
  readonly protocol: number
  readonly token: string
  /** Of the dialler. */
  readonly nodeId: NodeId
  /** What the purpose needs beside. */
  readonly detail: unknown
}

export type Answer =
  | { readonly t: 'welcome'; readonly detail: unknown }
  | { readonly t: 'refused'; readonly error: WireError }

export const GREETING_BYTES_MAX = 64 * 1024
export const GREETING_PATIENCE_MS = 5000
const END_PATIENCE_MS = 1000
/** The kernel asks idle connections whether they live: a machine that lost its power says nothing. */
const KEEP_ALIVE_MS = 5000
/** Larger batches are handed to the kernel as they are instead of being copied together. */
const JOIN_BYTES_MAX = 64 * 1024

export interface TcpEvents {
  onFrame(buffer: Buffer, start: number, end: number): void
  /** All that the kernel had, for now. */
  onFrames?(): void
  onClose(): void
}

/** A connection of frames: | length u32 | body |. */
export class FramedSocket {
  readonly #socket: net.Socket
  readonly #reader: FrameReader
  events: TcpEvents
  #pending: Uint8Array[] = []
  #isScheduled = false
  isClosed = false

  constructor(socket: net.Socket, events: TcpEvents, frameBytesMax: number = CONTROL_FRAME_BYTES_MAX) {
    this.#socket = socket
    this.events = events
    this.#reader = new FrameReader((buffer, start, end) => {
      if (!this.isClosed) this.events.onFrame(buffer, start, end) // Y3
    }, frameBytesMax)
    prepareSocket(socket)
    socket.on('data', (chunk: Buffer) => {
      if (this.isClosed) return
      try {
        this.#reader.push(chunk)
        if (!this.isClosed) this.events.onFrames?.()
      } catch (error) {
        if (!(error instanceof WireFormatError)) throw error
        console.error(`the connection with ${this.remoteAddress} brought no message, and is closed: ${error.message}`)
        this.#closed()
      }
    })
    socket.on('error', () => this.#closed())
    socket.on('close', () => this.#closed())
    socket.on('end', () => this.#closed())
  }

  get remoteAddress(): string {
    return `${this.#socket.remoteAddress}:${this.#socket.remotePort}`
  }

  /** Bytes that the kernel has not taken yet. */
  get waitingBytes(): number {
    return this.#socket.writableLength
  }

  set frameBytesMax(bytes: number) {
    this.#reader.bytesMax = bytes
  }

  send(message: { readonly t: string }): void {
    this.sendEncoded(encodeMessage(message))
  }

  sendEncoded(body: Uint8Array): void {
    this.write(headOf(body), body)
  }

  /** A frame with its length prefix, in one part or two. They must not change any more. */
  write(head: Uint8Array, body: Uint8Array | null = null): void {
    if (this.isClosed) return
    this.#pending.push(head)
    if (body) this.#pending.push(body)
    if (this.#isScheduled) return
    this.#isScheduled = true
    process.nextTick(() => this.flush())
  }

  /** As `write`, at once; `onTaken` when the kernel has the bytes, or never will: the body may change again. */
  writeBody(head: Uint8Array | null, body: Uint8Array, onTaken: () => void): void {
    if (this.isClosed) return void process.nextTick(onTaken)
    this.flush()
    this.#socket.cork()
    if (head) this.#socket.write(head)
    this.#socket.write(body, onTaken)
    this.#socket.uncork()
  }

  flush(): void {
    this.#isScheduled = false
    const pending = this.#pending
    if (pending.length === 0) return
    this.#pending = []
    const bytes = pending.reduce((sum, part) => sum + part.length, 0)
    if (bytes <= JOIN_BYTES_MAX) {
      this.#socket.write(Buffer.concat(pending, bytes))
      return
    }
    this.#socket.cork()
    for (const part of pending) this.#socket.write(part)
    this.#socket.uncork()
  }

  /** What was written leaves; nothing more comes, not even `onClose`. */
  end(): void {
    if (this.isClosed) return
    this.flush()
    this.isClosed = true
    this.#socket.end()
    // Destroyed with bytes unread it would be reset, and our last words with it: the other end closes first, mostly.
    setTimeout(() => this.#socket.destroy(), END_PATIENCE_MS).unref()
  }

  /** At once, and without `onClose`. */
  destroy(): void {
    this.isClosed = true
    this.#socket.destroy()
  }

  unref(): void {
    this.#socket.unref()
  }

  #closed(): void {
    this.#socket.destroy()
    if (this.isClosed) return
    this.isClosed = true
    this.events.onClose()
  }
}

export interface DialEvents extends TcpEvents {
  onAnswer(answer: Answer): void
  onConnect?(): void
}

export interface DialOptions {
  readonly host: string
  readonly port: number
  readonly token: string | null
  readonly nodeId: NodeId
  readonly purpose: Purpose
  /** Asked for when the connection is there. */
  readonly detail: () => unknown
  /** From now to the answer. */
  readonly timeoutMs: number
}

/** `onClose` when it fails; `onAnswer` says why where it would fail again. */
export function dialTcp(options: DialOptions, events: DialEvents): FramedSocket {
  const { host, port, token, nodeId, purpose, timeoutMs } = options
  const socket = connectTcp({ host, port })
  let refusal: WireError | null = null
  socket.once('error', (error) => {
    refusal = tlsRefusal(error)
  })
  const timer = setTimeout(() => socket.destroy(), timeoutMs)
  socket.once('close', () => clearTimeout(timer))
  const framed: FramedSocket = new FramedSocket(socket, {
    onFrame: (buffer, start, end) => {
      clearTimeout(timer)
      framed.events = events
      events.onAnswer(decodeMessage<Answer>(buffer.subarray(start, end)))
    },
    onClose: () => {
      if (refusal) events.onAnswer({ t: 'refused', error: refusal })
      else events.onClose()
    },
  })
  onceConnected(socket, () => {
    if (framed.isClosed) return
    events.onConnect?.()
    framed.write(greetingFrame({ purpose, token, nodeId, detail: options.detail() }))
  })
  return framed
}

export function greetingFrame(options: {
  readonly purpose: Purpose
  readonly token: string | null
  readonly nodeId: NodeId
  readonly detail: unknown
}): Buffer {
  const { purpose, token, nodeId, detail } = options
  const greeting: Greeting = {
    t: 'greeting',
    purpose,
    protocol: PROTOCOL_VERSION,
    token: token ?? '',
    nodeId,
    detail,
  }
  const body = encodeMessage(greeting)
  return Buffer.concat([headOf(body), body])
}

export function prepareSocket(socket: net.Socket): void {
  socket.setNoDelay(true)
  socket.setKeepAlive(true, KEEP_ALIVE_MS)
}

function headOf(body: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(4)
  head.writeUInt32LE(body.length)
  return head
}

const NOBODY: TcpEvents = { onFrame: () => {}, onClose: () => {} }

export type OnGreeted = (socket: FramedSocket, greeting: Greeting) => void

export interface ListenOptions {
  /** Where to listen; anything but loopback needs a token (A1). */
  readonly host: string
  /** 0: any. */
  readonly port: number
  readonly token: string | null
  /** Who takes a connection with a right greeting: sets its events, and answers. */
  readonly purposes: { readonly [P in Purpose]?: OnGreeted }
}

/** Takes the connections of other nodes and hands each to whom it is for. */
export class TcpListener {
  readonly #server: net.Server
  readonly #options: ListenOptions
  readonly #sockets = new Set<FramedSocket>()
  readonly #framed = new WeakMap<net.Socket, FramedSocket>()

  private constructor(options: ListenOptions) {
    this.#options = options
    this.#server = createTcpServer({
      onSocket: (socket) => this.#accept(socket),
      onRefused: (socket, error) => refuse(this.#framed.get(socket) ?? new FramedSocket(socket, NOBODY), error),
    })
  }

  /** @throws AUTH_TOKEN_MISSING; what `net.Server.listen` fails with. */
  static async listen(options: ListenOptions): Promise<TcpListener> {
    requireToken(options.host, options.token)
    const listener = new TcpListener(options)
    await new Promise<void>((resolve, reject) => {
      listener.#server.once('error', reject)
      listener.#server.listen({ host: options.host, port: options.port }, resolve)
    })
    return listener
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port
  }

  /** Connections too. */
  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #accept(socket: net.Socket): void {
    const timer = setTimeout(() => socket.destroy(), GREETING_PATIENCE_MS)
    const framed: FramedSocket = new FramedSocket(
      socket,
      {
        onFrame: (buffer, start, end) => {
          clearTimeout(timer)
          this.#greeted(framed, decodeMessage<Greeting>(buffer.subarray(start, end)))
        },
        onClose: () => {},
      },
      GREETING_BYTES_MAX, // Y2
    )
    this.#sockets.add(framed)
    this.#framed.set(socket, framed)
    socket.once('close', () => {
      clearTimeout(timer)
      this.#sockets.delete(framed)
    })
  }

  #greeted(framed: FramedSocket, greeting: Greeting): void {
    const error = refusal(this.#options.token, greeting)
    const taker = greeting.t === 'greeting' ? this.#options.purposes[greeting.purpose] : undefined
    if (error === null && taker) {
      framed.frameBytesMax = CONTROL_FRAME_BYTES_MAX
      taker(framed, greeting)
      return
    }
    refuse(framed, error ?? { code: 'SYSTEM', params: { message: 'this port does not take such connections' } })
  }
}

/** The whole answer to a question that a greeting put. */
export function tell(framed: FramedSocket, detail: unknown): void {
  framed.send({ t: 'welcome', detail } as Answer)
  framed.end()
}

export function refuse(framed: FramedSocket, error: WireError): void {
  framed.send({ t: 'refused', error } as Answer)
  framed.end()
}

/** null: the greeting is right. Y4 */
export function refusal(token: string | null, greeting: Greeting): WireError | null {
  if (token && !isSameToken(token, greeting.token)) return { code: 'AUTH_TOKEN_WRONG', params: {} }
  if (greeting.protocol === PROTOCOL_VERSION) return null
  return { code: 'PROTOCOL_MISMATCH', params: { own: Number(greeting.protocol), theirs: PROTOCOL_VERSION } }
}
