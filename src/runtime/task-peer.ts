// A connection between an owner and a worker, over which tasks go one way and results the other.
//
// Frames written within one tick leave in one write. Function hashes and method names, with what all calls of them carry, are sent
// once per connection and then named by an index.
//
//   P1. Frames are written in the order of the calls; `flush` only chooses the moment.
//   P2. After `onClose` nothing more comes from a peer.
//   P3. Owners on the worker's node come by its Unix socket, others by TCP, with a greeting (tcp.ts) before anything else.

import net from 'node:net'
import type { NodeId, WorkerTag } from '../ids/ids.ts'
import { InvariantError } from '../kernel/invariant.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import { decodeMessage, packData, WireFormatError } from '../wire/codec.ts'
import { FrameReader, type OnFrame } from '../wire/frame-reader.ts'
import { PROTOCOL_VERSION, type TcpAddress, type WorkerAddress } from '../wire/messages.ts'
import { type PushExtras, TASK_FRAME_BYTES_MAX, writeDefine, writeHello } from '../wire/task-frames.ts'
import {
  GREETING_BYTES_MAX,
  GREETING_PATIENCE_MS,
  type Greeting,
  greetingFrame,
  prepareSocket,
  refusal,
} from './tcp.ts'
import { connectTcp, onceConnected } from './tls.ts'

/** Written at once when this much waits: the receiver can begin. */
const FLUSH_BYTES = 32 * 1024
const CONNECT_TIMEOUT_MS = 5000

/** What a worker knows of a function index. */
export interface Definition {
  readonly isMethod: boolean
  readonly text: string
  readonly extras: PushExtras
}

export interface PeerEvents {
  onFrame(peer: TaskPeer, buffer: Buffer, start: number, end: number): void
  onClose(peer: TaskPeer): void
  /** Something is about to be written. */
  beforeFlush?(): void
  /** All frames of one read were handed over. */
  onBatchEnd?(peer: TaskPeer): void
}

export class TaskPeer {
  /** The other end: the worker's tag for an owner, the owner's for a worker (after hello; -1 before). */
  tag: WorkerTag
  readonly out = new ByteWriter()
  /** Worker side: what indices mean. */
  readonly definitions: Definition[] = []
  /** Owner side: what was defined already, by content, and by the object that asked for it. */
  readonly #defined = new Map<string, number>()
  readonly #indexOf = new WeakMap<object, number>()
  isClosed = false
  /** It was of another node, and broke: what the other end had sent may be lost. */
  isTorn = false
  readonly #socket: net.Socket
  #isFlushScheduled = false
  readonly #flushNow = (): void => this.flush()
  readonly #beforeFlush: (() => void) | null

  constructor(
    socket: net.Socket,
    tag: WorkerTag,
    events: PeerEvents,
    greeted: OnFrame | null = null,
    isFar = greeted !== null,
  ) {
    this.#socket = socket
    this.tag = tag
    this.#beforeFlush = events.beforeFlush ?? null
    let wasConnected = !socket.connecting
    socket.once('connect', () => {
      wasConnected = true
    })
    const onFrame: OnFrame = (buffer, start, end) => events.onFrame(this, buffer, start, end)
    const reader = greeted ? greetedReader(greeted, onFrame) : new FrameReader(onFrame, TASK_FRAME_BYTES_MAX)
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk)
      } catch (error) {
        if (error instanceof InvariantError) throw error // Not what came is wrong, but what we made of it.
        socket.destroy(error as Error)
        return
      }
      events.onBatchEnd?.(this)
    })
    socket.on('error', () => socket.destroy())
    socket.on('close', (hadError) => {
      if (this.isClosed) return
      this.isClosed = true
      this.isTorn = hadError && isFar && wasConnected
      events.onClose(this)
    })
  }

  static connect(
    address: WorkerAddress,
    own: { readonly tag: WorkerTag; readonly nodeId: NodeId; readonly token: string | null },
    events: PeerEvents,
  ): TaskPeer {
    const { tcp, socket: path, nodeId } = address
    const far = tcp && nodeId !== own.nodeId ? connectFar(tcp, own.nodeId, own.token) : null // P3
    const peer = new TaskPeer(far ?? net.connect(path), address.tag, events, null, far !== null)
    writeHello(peer.out, own.tag, PROTOCOL_VERSION)
    peer.schedule()
    return peer
  }

  /** Takes tasks of another node's owner, if its greeting is right. */
  static accept(socket: net.Socket, token: string | null, events: PeerEvents): TaskPeer {
    prepareSocket(socket)
    const timer = setTimeout(() => socket.destroy(), GREETING_PATIENCE_MS)
    socket.once('close', () => clearTimeout(timer))
    return new TaskPeer(socket, -1, events, (buffer, start, end) => {
      clearTimeout(timer)
      const greeting = decodeMessage<Greeting>(buffer.subarray(start, end))
      const error = greeting.purpose === 'tasks' ? refusal(token, greeting) : { code: 'SYSTEM' }
      if (error) throw new WireFormatError(`an owner of another node was refused: ${error.code}`)
    })
  }

  /** The index of a function hash or method name with the extras of its calls; tells the worker when it is new. */
  indexOf(fn: { readonly key: string }, isMethod: boolean, extras: Readonly<Record<string, unknown>> | null): number {
    const known = this.#indexOf.get(extras ?? fn)
    if (known !== undefined) return known
    const packed = extras ? packData(extras) : null
    const content = `${isMethod}|${fn.key}|${packed?.toString('latin1') ?? ''}`
    let index = this.#defined.get(content)
    if (index === undefined) {
      index = this.#defined.size
      this.#defined.set(content, index)
      writeDefine(this.out, index, isMethod, fn.key, packed)
    }
    this.#indexOf.set(extras ?? fn, index)
    return index
  }

  /** After writing a frame to `out`. */
  schedule(): void {
    if (this.out.pending > FLUSH_BYTES) this.flush()
    else if (!this.#isFlushScheduled) {
      this.#isFlushScheduled = true
      process.nextTick(this.#flushNow)
    }
  }

  flush(): void {
    this.#isFlushScheduled = false
    if (this.out.pending === 0 || this.isClosed) return
    this.#beforeFlush?.()
    this.#socket.write(this.out.take())
  }

  unref(): void {
    this.#socket.unref()
  }

  ref(): void {
    this.#socket.ref()
  }

  close(): void {
    this.isClosed = true
    this.#socket.destroy()
  }
}

function connectFar({ host, port }: TcpAddress, nodeId: NodeId, token: string | null): net.Socket {
  const socket = connectTcp({ host, port })
  prepareSocket(socket)
  const timer = setTimeout(() => socket.destroy(), CONNECT_TIMEOUT_MS)
  onceConnected(socket, () => clearTimeout(timer))
  socket.once('close', () => clearTimeout(timer))
  socket.write(greetingFrame({ nodeId, token, purpose: 'tasks', detail: null }))
  return socket
}

/** The first frame goes to `greeted`, which throws when it is not right; nobody else reads anything then. */
function greetedReader(greeted: OnFrame, onFrame: OnFrame): FrameReader {
  let isFirst = true
  const reader: FrameReader = new FrameReader((buffer, start, end) => {
    if (!isFirst) return onFrame(buffer, start, end)
    greeted(buffer, start, end)
    isFirst = false
    reader.bytesMax = TASK_FRAME_BYTES_MAX
  }, GREETING_BYTES_MAX)
  return reader
}
