// One node of the tests of transfers: a store, its machine and its bulk connections, without workers. The test carries what raylets say
// to each other, over the channel of its children.

import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { makeObjectId } from '../../src/ids/ids.ts'
import type { PeerMessage } from '../../src/object-store/transfer.ts'
import { ObjectTransfer } from '../../src/runtime/object-transfer.ts'
import { ShmControl } from '../../src/runtime/shm/control.ts'
import { NodeStore, type StoreConfig } from '../../src/runtime/shm/node-store.ts'
import { SegmentStore } from '../../src/runtime/shm/segment-store.ts'
import { offerFolder } from '../../src/runtime/shm/shared-folder.ts'
import { TcpListener } from '../../src/runtime/tcp.ts'

export interface NodeSetup {
  readonly index: number
  readonly dir: string
  readonly shmDir: string
  readonly capacityBytes: number
  readonly token: string
}

export type Command =
  | { readonly t: 'ports'; readonly ports: readonly number[] }
  | { readonly t: 'put'; readonly sequence: number; readonly bytes: number }
  | { readonly t: 'want'; readonly storageId: number; readonly bytes: number; readonly isHashed: boolean }
  /** As its maker does it, and no word to other nodes. */
  | { readonly t: 'recycle'; readonly storageIds: readonly number[] }
  /** The word of another node. */
  | { readonly t: 'freed'; readonly storageIds: readonly number[] }
  | { readonly t: 'free'; readonly storageIds: readonly number[] }
  | { readonly t: 'peer'; readonly from: number; readonly message: PeerMessage }
  | { readonly t: 'died'; readonly index: number }
  | { readonly t: 'stats' }

export type Report =
  | { readonly t: 'ready'; readonly port: number }
  | { readonly t: 'toPeer'; readonly to: number; readonly message: PeerMessage }
  | { readonly t: 'put'; readonly storageId: number; readonly hash: string }
  | {
      readonly t: 'got'
      readonly storageId: number
      readonly hash: string | null
      readonly where: 'shm' | 'disk' | null
      readonly ms: number
    }
  | { readonly t: 'stats'; readonly stats: Readonly<Record<string, number>>; readonly files: readonly string[] }

const setup = JSON.parse(process.argv[2] as string) as NodeSetup
const { index, dir, shmDir, token, capacityBytes } = setup
const tag = index * 256 + 1
const spillDir = path.join(dir, `spill-${index}`)
for (const made of [shmDir, spillDir]) fs.mkdirSync(made, { recursive: true })
ShmControl.create(shmDir)
const config: StoreConfig = {
  shmDir,
  spillDirs: [spillDir],
  capacityBytes,
  spillThreshold: 0.8,
  minSpillingBytes: 1,
  maxFusedObjects: 100,
  maxIoWorkers: 1,
  spillBufferBytes: 1024 * 1024,
  collectGraceMs: 1,
  diskThreshold: 1,
  diskCheckMs: 1000,
}
const say = (report: Report): void => void process.send?.(report)
const segments = new SegmentStore(config, tag)
const store: NodeStore = new NodeStore(config, {
  onPressure: () => {},
  recycle: (_, ids) => {
    segments.free(ids)
    segments.trim()
    return true
  },
  spilled: (_, ids) => segments.spilled(ids),
  evicted: (ids) => transfer.evicted(ids),
})
let ports: readonly number[] = []
const asked = new Map<number, { bytes: number; isHashed: boolean; at: number }>()
const transfer: ObjectTransfer = new ObjectTransfer({
  nodeId: `node-${index}`,
  token,
  store,
  folder: offerFolder(shmDir),
  nodeOf: (owner) => `node-${Math.floor(owner / 256)}`,
  hasEnded: () => false,
  addressOf: (nodeId) => ({ host: '127.0.0.1', port: ports[Number(nodeId.slice(5))] as number }),
  toPeer: (nodeId, message) => say({ t: 'toPeer', to: Number(nodeId.slice(5)), message }),
  promote: () => null,
  rescued: () => {},
  located: (_, storageId, where) => {
    const { bytes, isHashed, at } = asked.get(storageId) as { bytes: number; isHashed: boolean; at: number }
    const ms = performance.now() - at
    const open = () => (where === 'shm' ? segments.open(storageId, bytes) : where && segments.openAt(where, bytes))
    const range = isHashed ? open() : null
    const hash = range ? hashOf(new Uint8Array(range.buffer, range.byteOffset, range.byteLength)) : null
    say({ t: 'got', storageId, hash, where: where === null ? null : where === 'shm' ? 'shm' : 'disk', ms })
  },
})
const listener = await TcpListener.listen({ host: '127.0.0.1', port: 0, token, purposes: { bulk: transfer.accept } })
process.on('message', (command: Command) => perform(command))
process.on('disconnect', () => process.exit(0))
say({ t: 'ready', port: listener.port })

function perform(command: Command): void {
  switch (command.t) {
    case 'ports':
      ports = command.ports
      return
    case 'put': {
      const storageId = makeObjectId(tag, command.sequence)
      const part = crypto.randomBytes(Math.min(command.bytes, 1_000_003))
      const parts: Uint8Array[] = []
      for (let left = command.bytes; left > 0; left -= part.length) parts.push(part.subarray(0, left))
      const spilled = segments.write(storageId, { parts, byteLength: command.bytes } as never)
      store.created(storageId, tag, command.bytes, spilled)
      transfer.made(storageId)
      return say({ t: 'put', storageId, hash: hashOf(...parts) })
    }
    case 'want':
      asked.set(command.storageId, { ...command, at: performance.now() })
      return transfer.locate(tag, command.storageId)
    case 'free':
      store.free(command.storageIds, -1)
      return transfer.freed(command.storageIds)
    case 'recycle':
      segments.free(command.storageIds)
      return store.free(command.storageIds, tag)
    case 'freed':
      return transfer.freed(command.storageIds)
    case 'peer':
      return transfer.onPeer(`node-${command.from}`, command.message)
    case 'died':
      return transfer.nodeDied(`node-${command.index}`)
    case 'stats': {
      const files = [...fs.readdirSync(shmDir), ...fs.readdirSync(spillDir)].filter(
        (name) => !/^(control|proof-.*)$/.test(name),
      )
      return say({ t: 'stats', stats: { ...store.stats(), ...transfer.stats() }, files })
    }
  }
}

function hashOf(...parts: readonly Uint8Array[]): string {
  const hash = crypto.createHash('sha1')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}
