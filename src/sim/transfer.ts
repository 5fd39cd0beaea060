// A node's copies of values that other nodes made, as `runtime/object-transfer.ts`, `bulk-client.ts` and `bulk-server.ts` drive the
// production machine: in small chunks, from every node that has some, over connections that break like others.
//
//   X1. One input, all its effects, then the next input.

import { makeObjectId, type NodeId, type ObjectId, type WorkerTag } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import { ObjectTransfer, type PeerMessage, type TransferEffect, type TransferInput } from '../object-store/transfer.ts'
import type { RayletToRaylet } from '../wire/cluster.ts'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import { BulkReader, dataHead, type HolderToPuller, type PullerToHolder } from '../wire/transfer.ts'
import { connect, type Socket } from './network.ts'
import type { SimNode } from './node.ts'

const CHUNK_BYTES = 150
const OF_TRANSFER = /^object\.(find|holders|dropped|copied|promote|promoted)$/

interface Greeting {
  readonly t: 'greeting'
  readonly nodeId: NodeId
}

export function isOfTransfer(message: RayletToRaylet): message is PeerMessage {
  return OF_TRANSFER.test(message.t)
}

export class SimTransfer {
  readonly machine: ObjectTransfer
  readonly #node: SimNode
  /** By holder, and by puller. */
  readonly #holders = new Map<NodeId, Socket>()
  readonly #pullers = new Map<NodeId, Socket>()
  readonly #inputs: TransferInput[] = []
  #isStepping = false
  #ownTag: WorkerTag | undefined
  #ownSequence = 0

  constructor(node: SimNode) {
    this.#node = node
    this.machine = new ObjectTransfer({
      ...{ nodeId: node.nodeId, chunkBytes: CHUNK_BYTES, budgetBytes: 3000, holderBytesMax: 400, stallMs: 700 },
      nodeOf: (tag) => node.raylet.view.nodeOf(tag),
      look: (storageId) => node.store.look(storageId),
      hasEnded: (owner) => !node.raylet.hub.isAlive(owner),
    })
    node.cluster.bugs.transfer?.(this.machine)
  }

  step(input: TransferInput): void {
    this.#inputs.push(input)
    if (this.#isStepping) return
    this.#isStepping = true
    try {
      for (let next = this.#inputs.shift(); next && this.#node.os.isAlive; next = this.#inputs.shift()) {
        const effects = this.machine.step(this.#node.cluster.world.now, next)
        this.machine.check()
        for (const effect of effects) this.#perform(effect)
      }
    } finally {
      this.#isStepping = false
    }
  }

  nodeDied(nodeId: NodeId): void {
    for (const sockets of [this.#holders, this.#pullers]) {
      sockets.get(nodeId)?.close()
      sockets.delete(nodeId)
    }
    this.step({ t: 'nodeDied', nodeId })
  }

  #perform(effect: TransferEffect): void {
    const { store, cluster } = this.#node
    switch (effect.t) {
      case 'toPeer':
        return this.#node.toPeer(effect.nodeId, effect.message)
      case 'toHolder':
        if (effect.message.t === 'chunk.unwatch' && !this.#holders.has(effect.nodeId)) return
        return this.#holder(effect.nodeId).write(frame(effect.message))
      case 'toPuller':
        this.#pullers.get(effect.nodeId)?.write(frame(effect.message))
        return
      case 'sendChunk': {
        const { nodeId, storageId, index, offset, bytes } = effect
        const value = store.open(storageId)
        const part = value?.subarray(offset, offset + bytes)
        const puller = this.#pullers.get(nodeId)
        if (part) puller?.write(Buffer.concat([dataHead(storageId, index, bytes), part]))
        else puller?.write(frame({ t: 'chunk.gone', storageId }))
        return
      }
      case 'adopt':
        return this.step({ t: 'adopted', storageId: effect.storageId, isDone: false })
      case 'allocate': {
        const { storageId, size } = effect
        const isDone = !cluster.world.transfers.chance(0.05) && this.#node.spilling.allocate(storageId, size)
        return this.step({ t: 'allocated', storageId: effect.storageId, isDone })
      }
      case 'seal': {
        const pulled = store.pulled.get(effect.storageId)
        if (pulled) Object.assign(pulled, { isWhole: true, usedAt: cluster.world.now })
        cluster.judge.onPulled(effect.storageId, store.open(effect.storageId))
        return
      }
      case 'drop':
        store.pulled.delete(effect.storageId)
        return
      case 'promote':
        return this.step({ t: 'promoted', storageId: effect.storageId, copy: this.#promote(effect) })
      case 'rescued': {
        const { owner, storageId, copy } = effect
        return this.#node.send(owner, { t: 'object.rescued', storageId, copy })
      }
      case 'located':
        this.#touch(effect.storageId)
        for (const reader of effect.readers) {
          const where = effect.where === null ? null : ('shm' as const)
          this.#node.send(reader, { t: 'object.located', storageId: effect.storageId, where })
        }
        return
      case 'timer':
        return this.#node.setTimer('transfer', effect.at, () => this.step({ t: 'timer' }))
    }
  }

  #touch(storageId: ObjectId): void {
    const pulled = this.#node.store.pulled.get(storageId)
    if (pulled) pulled.usedAt = this.#node.cluster.world.now
  }

  /** `NodeServer.#promote`. */
  #promote({ storageId, owner }: TransferEffect & { t: 'promote' }): ObjectId | null {
    const { store, raylet, cluster } = this.#node
    if (this.#ownTag === undefined) {
      this.#ownTag = raylet.takeTag()
      if (this.#ownTag === undefined) return null
      cluster.nodeTags.set(this.#ownTag, this.#node)
    }
    const bytes = store.open(storageId)
    if (!bytes) return null
    const copy = makeObjectId(this.#ownTag, ++this.#ownSequence)
    store.pulled.delete(storageId)
    store.write(copy, bytes)
    store.created(copy, owner)
    this.#node.spilling.relieve()
    cluster.judge.onWritten(copy, bytes)
    cluster.judge.onCreated(copy, owner)
    cluster.judge.count('promoted')
    if (!raylet.hub.isAlive(owner)) this.#node.freeStored([copy], -1)
    return copy
  }

  // Connections

  #holder(nodeId: NodeId): Socket {
    const known = this.#holders.get(nodeId)
    if (known) return known
    const { cluster, os } = this.#node
    const other = cluster.nodeById(nodeId)
    const [own, theirs] = connect(cluster.world, cluster.latency, os, other.os, cluster.road(this.#node, other))
    os.sockets.add(own)
    this.#holders.set(nodeId, own)
    let offset = 0
    const reader = new BulkReader(
      {
        onMessage: (bytes) =>
          this.step({ t: 'fromHolder', from: nodeId, message: decodeMessage<HolderToPuller>(bytes) }),
        onData: (part) => {
          if (part.offset === 0)
            offset = this.machine.expects(part.storageId, part.index, part.bytes.length + part.left) ? 0 : -1
          if (offset < 0) return
          const target = this.#node.store.pulled.get(part.storageId)
          if (!target || target.isWhole) return
          target.bytes.set(part.bytes, part.index * CHUNK_BYTES + part.offset)
          if (part.left === 0) this.step({ t: 'chunkCame', storageId: part.storageId, index: part.index })
        },
      },
      CONTROL_FRAME_BYTES_MAX,
    )
    own.listen({
      onData: (chunk) => {
        if (this.#holders.get(nodeId) === own) reader.push(chunk)
      },
      onClose: () => {
        if (this.#holders.get(nodeId) !== own) return
        this.#holders.delete(nodeId)
        this.step({ t: 'holderClosed', nodeId })
      },
    })
    if (!other.os.isAlive || !other.transfer) theirs.close()
    else {
      other.os.sockets.add(theirs)
      other.transfer.accept(theirs)
    }
    own.write(frame({ t: 'greeting', nodeId: this.#node.nodeId }))
    return own
  }

  accept(socket: Socket): void {
    let from: NodeId | null = null
    const reader = new FrameReader((buffer, start, end) => {
      const message = decodeMessage<PullerToHolder | Greeting>(buffer.subarray(start, end))
      if (message.t === 'greeting') {
        from = message.nodeId
        this.#pullers.get(from)?.close()
        this.#pullers.set(from, socket)
      } else if (from !== null && this.#pullers.get(from) === socket) this.step({ t: 'fromPuller', from, message })
    }, CONTROL_FRAME_BYTES_MAX)
    socket.listen({
      onData: (chunk) => reader.push(chunk),
      onClose: () => {
        if (from === null || this.#pullers.get(from) !== socket) return
        this.#pullers.delete(from)
        this.step({ t: 'pullerClosed', nodeId: from })
      },
    })
  }

  checkEnd(): void {
    const left = Object.entries(this.machine.stats()).filter(([name, count]) => count > 0 && !name.endsWith('Ever'))
    const { name } = this.#node.os
    invariant(left.length === 0, `leak: the transfers of ${name} keep ${JSON.stringify(left)}`)
    invariant(this.#node.store.pulled.size === 0, `leak: ${name} has copies of ${[...this.#node.store.pulled.keys()]}`)
  }
}

function frame(message: PullerToHolder | HolderToPuller | Greeting): Buffer {
  const body = encodeMessage(message)
  const head = Buffer.alloc(4)
  head.writeUInt32LE(body.length)
  return Buffer.concat([head, body])
}
