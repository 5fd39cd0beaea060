// Connections on which this node pulls chunks, one a holder, made when first needed.
//
//   W1. The bytes of a chunk go from the buffer of the socket straight into the file of the copy.
//   W2. `onClosed` comes once for each connection that broke or could not be made; what is sent next makes a new one.
//   W3. In one turn of the event loop a connection takes `TURN_BYTES`, and then lets others have theirs.

import type net from 'node:net'
import type { NodeId, ObjectId } from '../ids/ids.ts'
import { decodeMessage, encodeMessage, WireFormatError } from '../wire/codec.ts'
import { BulkReader, type HolderToPuller, type PullerToHolder } from '../wire/transfer.ts'
import { type Answer, greetingFrame, prepareSocket } from './tcp.ts'
import { connectTcp, onceConnected } from './tls.ts'

export interface ChunkPart {
  readonly storageId: ObjectId
  readonly index: number
  /** From the beginning of the chunk. */
  readonly offset: number
  /** Bytes of the chunk that follow. */
  readonly left: number
  readonly bytes: Uint8Array
}

export interface BulkClientOptions {
  readonly nodeId: NodeId
  readonly token: string | null
  addressOf(nodeId: NodeId): { readonly host: string; readonly port: number } | undefined
  onMessage(from: NodeId, message: HolderToPuller): void
  /** Not to be kept. */
  onData(from: NodeId, part: ChunkPart): void
  onClosed(nodeId: NodeId): void
}

const READ_BYTES = 256 * 1024
/** W3. A socket that is never empty is read 32 times in a turn: what others said to this node waited 100 ms and more behind chunks. */
const TURN_BYTES = 1024 * 1024
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024
const CONNECT_TIMEOUT_MS = 3000

interface Connection {
  readonly socket: net.Socket
  /** Until the other side has taken us. */
  waiting: Buffer[] | null
}

export class BulkClient {
  readonly #options: BulkClientOptions
  readonly #connections = new Map<NodeId, Connection>()

  constructor(options: BulkClientOptions) {
    this.#options = options
  }

  isOpen(nodeId: NodeId): boolean {
    return this.#connections.has(nodeId)
  }

  send(to: NodeId, message: PullerToHolder): void {
    const connection = this.#connections.get(to) ?? this.#dial(to)
    const frame = frameOf(message)
    if (!connection) return
    if (connection.waiting) connection.waiting.push(frame)
    else connection.socket.write(frame)
  }

  /** Without a word. */
  close(nodeId: NodeId): void {
    const connection = this.#connections.get(nodeId)
    this.#connections.delete(nodeId)
    connection?.socket.destroy()
  }

  closeAll(): void {
    for (const nodeId of [...this.#connections.keys()]) this.close(nodeId)
  }

  #dial(nodeId: NodeId): Connection | null {
    const address = this.#options.addressOf(nodeId)
    if (!address) {
      process.nextTick(() => this.#options.onClosed(nodeId))
      return null
    }
    const reader = new BulkReader(
      {
        onMessage: (bytes) => this.#onMessage(nodeId, connection, bytes),
        onData: (part) => this.#options.onData(nodeId, part),
      },
      MESSAGE_BYTES_MAX,
    )
    let turnBytes = 0
    const onread = {
      buffer: Buffer.allocUnsafeSlow(READ_BYTES), // W1: used again for each read.
      callback: (bytes: number, buffer: Uint8Array): boolean => {
        if (this.#connections.get(nodeId) !== connection) return true
        try {
          reader.push(buffer.subarray(0, bytes))
        } catch (error) {
          if (!(error instanceof WireFormatError)) throw error
          console.error(`the bulk connection with ${address.host}:${address.port} is closed: ${error.message}`)
          socket.destroy()
        }
        turnBytes += bytes
        if (turnBytes < TURN_BYTES) return true
        setImmediate(() => {
          turnBytes = 0
          socket.resume()
        })
        return false // W3
      },
    }
    const socket = connectTcp({ ...address, onread })
    prepareSocket(socket)
    const connection: Connection = { socket, waiting: [] }
    this.#connections.set(nodeId, connection)
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => connection.waiting && socket.destroy())
    const { token, nodeId: own } = this.#options
    const greeting = greetingFrame({ purpose: 'bulk', token, nodeId: own, detail: null })
    onceConnected(socket, () => socket.write(greeting))
    socket.on('error', () => socket.destroy())
    socket.on('end', () => socket.destroy())
    socket.once('close', () => {
      if (this.#connections.get(nodeId) !== connection) return
      this.#connections.delete(nodeId)
      this.#options.onClosed(nodeId)
    })
    return connection
  }

  #onMessage(nodeId: NodeId, connection: Connection, bytes: Uint8Array): void {
    const message = decodeMessage<HolderToPuller | Answer>(bytes)
    if (message.t === 'welcome') {
      const waiting = connection.waiting ?? []
      connection.waiting = null
      for (const frame of waiting) connection.socket.write(frame)
    } else if (message.t === 'refused') connection.socket.destroy()
    else this.#options.onMessage(nodeId, message)
  }
}

function frameOf(message: { readonly t: string }): Buffer {
  const body = encodeMessage(message)
  const head = Buffer.allocUnsafe(4)
  head.writeUInt32LE(body.length)
  return Buffer.concat([head, body])
}
