// Drives the node's machine of transfers (object-store/transfer.ts) with the store's files and bulk connections.
//
//   X1. One input, all its effects, then the next input.
//   X2. What a reader is told to be here was whole and named when it was told.

import { type NodeId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import {
  ObjectTransfer as Machine,
  type PeerMessage,
  type TransferEffect,
  type TransferInput,
} from '../object-store/transfer.ts'
import type { SharedFolder } from '../wire/cluster.ts'
import type { SpillLocation } from '../wire/messages.ts'
import { CHUNK_BYTES, type PullerToHolder } from '../wire/transfer.ts'
import { BulkClient, type ChunkPart } from './bulk-client.ts'
import { BulkServer } from './bulk-server.ts'
import { monotonicMs, msUntil } from './clock.ts'
import type { NodeStore } from './shm/node-store.ts'
import { isSameFolder } from './shm/shared-folder.ts'

export interface ObjectTransferOptions {
  readonly nodeId: NodeId
  readonly token: string | null
  readonly store: NodeStore
  /** What other nodes are told of the store's folder; null: nothing. */
  readonly folder: SharedFolder | null
  /** Bytes that may be asked for and not have come. */
  readonly budgetBytes?: number
  readonly stallMs?: number
  nodeOf(tag: WorkerTag): NodeId | undefined
  /** Of a process of this node. */
  hasEnded(owner: WorkerTag): boolean
  /** Of its raylet. */
  addressOf(nodeId: NodeId): { readonly host: string; readonly port: number } | undefined
  toPeer(nodeId: NodeId, message: PeerMessage): void
  /** A pulled copy becomes one of this node's own: under which id; null: it cannot. */
  promote(storageId: ObjectId, owner: WorkerTag, size: number): ObjectId | null
  /** Answer to `rescue`. */
  rescued(owner: WorkerTag, storageId: ObjectId, copy: ObjectId | null): void
  /** Answer to `locate`; `where` null: it is lost. */
  located(reader: WorkerTag, storageId: ObjectId, where: SpillLocation | 'shm' | null): void
}

export class ObjectTransfer {
  readonly #options: ObjectTransferOptions
  readonly #machine: Machine
  readonly #client: BulkClient
  readonly #server: BulkServer
  readonly #inputs: TransferInput[] = []
  #isStepping = false
  #timer: NodeJS.Timeout | null = null
  #isClosed = false
  /** By holder: the chunk that is coming from it is written. */
  readonly #isWriting = new Map<NodeId, boolean>()

  constructor(options: ObjectTransferOptions) {
    const { nodeId, token, store, folder, budgetBytes, stallMs } = options
    this.#options = options
    this.#machine = new Machine({
      nodeId,
      folder,
      nodeOf: options.nodeOf,
      hasEnded: options.hasEnded,
      look: (storageId) => store.look(storageId),
      ...(budgetBytes === undefined ? {} : { budgetBytes }),
      ...(stallMs === undefined ? {} : { stallMs }),
    })
    this.#client = new BulkClient({
      nodeId,
      token,
      addressOf: options.addressOf,
      onMessage: (from, message) => this.#step({ t: 'fromHolder', from, message }),
      onData: (from, part) => this.#onData(from, part),
      onClosed: (closed) => this.#step({ t: 'holderClosed', nodeId: closed }),
    })
    this.#server = new BulkServer({
      onMessage: (from, message) => this.#onPuller(from, message),
      onClosed: (closed) => this.#step({ t: 'pullerClosed', nodeId: closed }),
      fileOf: (storageId) => store.fileOf(storageId),
    })
  }

  /** Taker of the purpose 'bulk' of the node's `TcpListener`. */
  get accept(): BulkServer['accept'] {
    return this.#server.accept
  }

  /** A process of this node asks where a value is. */
  locate(reader: WorkerTag, storageId: ObjectId): void {
    const { nodeOf, nodeId, store, located } = this.#options
    const home = nodeOf(ownerOf(storageId))
    if (home === undefined || home === nodeId) located(reader, storageId, store.locate(storageId))
    else this.#step({ t: 'want', storageId, reader })
  }

  /** It waits no more. */
  unlocate(reader: WorkerTag, storageId: ObjectId): void {
    this.#step({ t: 'unwant', storageId, reader })
  }

  onPeer(from: NodeId, message: PeerMessage): void {
    this.#step({ t: 'peer', from, message })
  }

  /** Announced by a maker of this node. */
  made(storageId: ObjectId): void {
    this.#step({ t: 'made', storageId })
  }

  /** By their owners. Those of this node's makers are the store's too: free them there first. */
  freed(storageIds: readonly ObjectId[]): void {
    this.#step({ t: 'freed', storageIds })
  }

  /** The store gave up pulled copies: its event. */
  evicted(storageIds: readonly ObjectId[]): void {
    this.#step({ t: 'evicted', storageIds })
  }

  /** See `object.rescue`. */
  rescue(owner: WorkerTag, storageIds: readonly ObjectId[], of: NodeId | null): void {
    this.#step({ t: 'rescue', owner, storageIds, of })
  }

  ownerGone(owner: WorkerTag): void {
    this.#step({ t: 'ownerGone', owner })
  }

  readerGone(reader: WorkerTag): void {
    this.#step({ t: 'readerGone', reader })
  }

  nodeDied(nodeId: NodeId): void {
    this.#client.close(nodeId)
    this.#server.close(nodeId)
    this.#step({ t: 'nodeDied', nodeId })
  }

  stats(): Readonly<Record<string, number>> {
    return this.#machine.stats()
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer) clearTimeout(this.#timer)
    this.#client.closeAll()
    this.#server.closeAll()
  }

  /** X1 */
  #step(input: TransferInput): void {
    this.#inputs.push(input)
    if (this.#isStepping) return
    this.#isStepping = true
    try {
      for (let next = this.#inputs.shift(); next && !this.#isClosed; next = this.#inputs.shift())
        for (const effect of this.#machine.step(monotonicMs(), next)) this.#perform(effect)
    } finally {
      this.#isStepping = false
    }
  }

  #perform(effect: TransferEffect): void {
    const { store } = this.#options
    switch (effect.t) {
      case 'toPeer':
        return this.#options.toPeer(effect.nodeId, effect.message)
      case 'toHolder':
        // A connection that is closed needs no word that we stop listening.
        if (effect.message.t === 'chunk.unwatch' && !this.#client.isOpen(effect.nodeId)) return
        return this.#client.send(effect.nodeId, effect.message)
      case 'toPuller':
        return this.#server.send(effect.nodeId, effect.message)
      case 'sendChunk':
        return this.#server.sendChunk(effect.nodeId, effect)
      case 'adopt': {
        const { storageId, size, folder } = effect
        const isDone = isSameFolder(folder) && store.adoptPulled(storageId, size, folder.path)
        return this.#step({ t: 'adopted', storageId, isDone })
      }
      case 'allocate': {
        const isDone = store.beginPulled(effect.storageId, effect.size)
        return this.#step({ t: 'allocated', storageId: effect.storageId, isDone })
      }
      case 'promote': {
        const { storageId, owner, size } = effect
        return this.#step({ t: 'promoted', storageId, copy: this.#options.promote(storageId, owner, size) })
      }
      case 'rescued':
        return this.#options.rescued(effect.owner, effect.storageId, effect.copy)
      case 'seal':
        return store.pulled.seal(effect.storageId)
      case 'drop':
        return store.pulled.drop(effect.storageId)
      case 'located':
        for (const reader of effect.readers) {
          const where = effect.where === null ? null : store.locate(effect.storageId)
          this.#options.located(reader, effect.storageId, where)
        }
        return
      case 'timer':
        if (this.#timer) clearTimeout(this.#timer)
        this.#timer = setTimeout(() => this.#step({ t: 'timer' }), msUntil(effect.at))
    }
  }

  #onPuller(from: NodeId, message: PullerToHolder): void {
    if (message.t === 'chunk.unwatch') this.#server.forget(from, message.storageId)
    this.#step({ t: 'fromPuller', from, message })
  }

  #onData(from: NodeId, { storageId, index, offset, left, bytes }: ChunkPart): void {
    const { pulled } = this.#options.store
    if (offset === 0) this.#isWriting.set(from, this.#machine.expects(storageId, index, bytes.length + left))
    if (!this.#isWriting.get(from)) return
    const outcome = pulled.write(storageId, index * CHUNK_BYTES + offset, bytes)
    if (outcome !== 'written') {
      this.#isWriting.set(from, false)
      if (outcome === 'failed') this.#step({ t: 'writeFailed', storageId })
    } else if (left === 0) this.#step({ t: 'chunkCame', storageId, index })
  }
}
