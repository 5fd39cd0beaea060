// Serves chunks of stored values to other nodes: reads them from wherever they lie and writes them to the connection of who asked.
//
// Invariants:
//   V1. What is sent was read while the file still had the value's name: a freed segment is renamed before it is written anew.
//   V2. A connection has `BUFFERS` buffers; the next part is read when one of them has been taken by the kernel.
//   V3. A chunk is answered by all its bytes or by `chunk.gone`. When its value goes in the middle, the connection is closed: the puller
//       asks again, and hears of it.
//   V4. Nothing is written between the parts of a chunk: messages wait for its end.

import fs from 'node:fs'
import type { NodeId, ObjectId } from '../ids/ids.ts'
import { decodeMessage, WireFormatError } from '../wire/codec.ts'
import type { SpillLocation } from '../wire/messages.ts'
import { dataHead, type HolderToPuller, type PullerToHolder } from '../wire/transfer.ts'
import { HEADER_BYTES } from './shm/layout.ts'
import type { Answer, FramedSocket, Greeting } from './tcp.ts'

export interface ChunkOrder {
  readonly storageId: ObjectId
  readonly index: number
  readonly offset: number
  readonly bytes: number
}

export interface BulkServerEvents {
  onMessage(from: NodeId, message: PullerToHolder): void
  onClosed(from: NodeId): void
  /** Where a value lies now. */
  fileOf(storageId: ObjectId): SpillLocation | null
}

interface Connection {
  readonly socket: FramedSocket
  readonly queue: ChunkOrder[]
  isBusy: boolean
  isInChunk: boolean
  readonly messages: HolderToPuller[]
  /** What is read from. */
  open: Source | null
}

interface Source {
  readonly storageId: ObjectId
  readonly path: string
  readonly offset: number
  readonly fd: number
  readonly inode: number
}

const BUFFERS = 2
const PART_BYTES = 1024 * 1024
/** A value may move to disk while it is read. */
const TRIES_MAX = 3

export class BulkServer {
  readonly #events: BulkServerEvents
  readonly #connections = new Map<NodeId, Connection>()
  readonly #buffers: Buffer[] = []

  constructor(events: BulkServerEvents) {
    this.#events = events
  }

  /** Taker of the purpose 'bulk' of the node's `TcpListener`. */
  readonly accept = (socket: FramedSocket, { nodeId }: Greeting): void => {
    this.close(nodeId)
    const connection: Connection = { socket, queue: [], isBusy: false, isInChunk: false, messages: [], open: null }
    this.#connections.set(nodeId, connection)
    socket.events = {
      onFrame: (buffer, start, end) => {
        try {
          this.#events.onMessage(nodeId, decodeMessage<PullerToHolder>(buffer.subarray(start, end)))
        } catch (error) {
          if (!(error instanceof WireFormatError)) throw error
          this.close(nodeId)
        }
      },
      onClose: () => this.close(nodeId, connection),
    }
    const welcome: Answer = { t: 'welcome', detail: null }
    socket.send(welcome)
  }

  send(to: NodeId, message: HolderToPuller): void {
    const connection = this.#connections.get(to)
    if (connection) say(connection, message)
  }

  sendChunk(to: NodeId, order: ChunkOrder): void {
    const connection = this.#connections.get(to)
    if (!connection) return
    connection.queue.push(order)
    if (connection.isBusy) return
    connection.isBusy = true
    void this.#work(to, connection)
  }

  /** It does not want this any more. */
  forget(to: NodeId, storageId: ObjectId): void {
    const queue = this.#connections.get(to)?.queue
    for (let i = (queue?.length ?? 0) - 1; i >= 0; i--) if (queue?.[i]?.storageId === storageId) queue.splice(i, 1)
  }

  close(nodeId: NodeId, only?: Connection): void {
    const connection = this.#connections.get(nodeId)
    if (!connection || (only && connection !== only)) return
    this.#connections.delete(nodeId)
    connection.queue.length = 0
    connection.socket.destroy()
    this.#events.onClosed(nodeId)
  }

  closeAll(): void {
    for (const { socket, queue } of this.#connections.values()) {
      queue.length = 0
      socket.destroy()
    }
    this.#connections.clear()
  }

  async #work(to: NodeId, connection: Connection): Promise<void> {
    const free = Array.from({ length: BUFFERS }, () => this.#buffers.pop() ?? Buffer.allocUnsafeSlow(PART_BYTES))
    let onFree: (() => void) | null = null
    const giveBack = (buffer: Buffer): void => {
      free.push(buffer)
      onFree?.()
    }
    for (let order = connection.queue.shift(); order; order = connection.queue.shift()) {
      for (let done = 0; done < order.bytes && !connection.socket.isClosed; ) {
        while (free.length === 0) await new Promise<void>((resolve) => (onFree = resolve)) // V2
        const buffer = free.pop() as Buffer
        const part = await this.#read(connection, order, done, buffer)
        if (!part) {
          free.push(buffer)
          if (done > 0) this.close(to, connection)
          else say(connection, { t: 'chunk.gone', storageId: order.storageId }) // V3
          break
        }
        connection.isInChunk = true
        const head = done === 0 ? dataHead(order.storageId, order.index, order.bytes) : null
        connection.socket.writeBody(head, part, () => giveBack(buffer))
        done += part.length
      }
      connection.isInChunk = false
      for (const message of connection.messages.splice(0)) connection.socket.send(message)
    }
    connection.isBusy = false
    this.#release(connection)
    while (free.length < BUFFERS) await new Promise<void>((resolve) => (onFree = resolve))
    this.#buffers.push(...free)
  }

  /** null: it is gone. */
  async #read(connection: Connection, order: ChunkOrder, done: number, buffer: Buffer): Promise<Buffer | null> {
    const bytes = Math.min(PART_BYTES, order.bytes - done)
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const source = this.#source(connection, order.storageId)
      if (!source) return null
      const at = source.offset + HEADER_BYTES + order.offset + done
      const isRead = await readWhole(source.fd, buffer.subarray(0, bytes), at)
      if (isRead && inodeOf(source.path) === source.inode) return buffer.subarray(0, bytes) // V1
      this.#release(connection)
    }
    return null
  }

  #source(connection: Connection, storageId: ObjectId): Source | null {
    if (connection.open?.storageId === storageId) return connection.open
    this.#release(connection)
    const location = this.#events.fileOf(storageId)
    if (!location) return null
    try {
      const fd = fs.openSync(location.path, 'r')
      connection.open = { storageId, ...location, fd, inode: fs.fstatSync(fd).ino }
    } catch {
      return null
    }
    return connection.open
  }

  #release(connection: Connection): void {
    if (connection.open) fs.closeSync(connection.open.fd)
    connection.open = null
  }
}

/** V4 */
function say(connection: Connection, message: HolderToPuller): void {
  if (connection.isInChunk) connection.messages.push(message)
  else connection.socket.send(message)
}

function inodeOf(file: string): number {
  return fs.statSync(file, { throwIfNoEntry: false })?.ino ?? -1
}

/** In a thread of the pool: it may come from a disk, and the kernel copies while this thread does other things. */
function readWhole(fd: number, target: Buffer, position: number): Promise<boolean> {
  return new Promise((resolve) => {
    const more = (done: number): void => {
      fs.read(fd, target, done, target.length - done, position + done, (error, read) => {
        if (error || read === 0) resolve(false)
        else if (done + read === target.length) resolve(true)
        else more(done + read)
      })
    }
    more(0)
  })
}
