// The state of the GCS in a folder, by lmdb, which is loaded only here. lmdb never writes over pages in use: after a crash at any
// moment the last whole transaction is there. What it does not guard against is checked here.
//
//   <dir>/data.mdb   the records        <dir>/lock.mdb   lmdb's own        <dir>/made   "there are records": written after the first
//
//   M1. A file shorter than lmdb's header says is filled up with zeros before it is mapped: reading past the end of a mapped file
//       kills the process, a page of zeros is an error. (The last pages may be missing by right, when they are free.)
//   M2. Every record carries its checksum and its full name; keys of lmdb are short, so long names stand there as hashes.
//   M3. An empty folder is a new cluster only while `made` is not there.
//   M4. Who writes is noted in the store, and read in every transaction: a second process is refused while the first lives, and the
//       first is fenced if it was wrongly thought dead (a process of another machine or container cannot be looked up).
//   M5. Transactions run on this thread: they are groups (StorageQueue), a wait for the disk holds up the GCS only, and an error of
//       the disk is thrown where it happens.
//   M6. A transaction begins only where the disk has room for it: one that lmdb fails to write (3.5.6) damages the memory of the
//       process. So any failure of lmdb's own is lasting: this process ends, and another goes on from what is on the disk.

import crypto from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import type { RootDatabase } from 'lmdb'
import { makeError, RayError } from '../errors/index.ts'
import {
  type GcsStorage,
  recordName,
  type StorageChange,
  type StorageOptions,
  StorageQueue,
  type StorageRecord,
  storageClosed,
} from './gcs-storage.ts'
import { birthOf, isAlive } from './session.ts'

const DATA = 'data.mdb'
const MADE = 'made'
/** lmdb takes 1978 bytes. */
const KEY_BYTES_MAX = 1024
const OWNER = Buffer.from('\u0000owner')
/** Of lmdb's data file: a page header, then magic, version, address, map size, two trees of 48 bytes, last page, transaction. */
const META = { magic: 24, pageBytes: 48, lastPage: 144, transaction: 152, bytes: 168 } as const
const MAGIC = 0xbeefc0de
const PREFIX_BYTES = 12
const PAGE_BYTES = 4096
/** More than a transaction writes beside its values: pages of the tree, of the list of free pages, headers. */
const TREE_PAGES = { transaction: 16, change: 3 } as const

interface Owner {
  readonly pid: number
  readonly birth: string
  readonly host: string
  readonly token: string
}

export class LmdbStorage implements GcsStorage {
  readonly #dir: string
  readonly #queue: StorageQueue
  readonly #owner: Owner
  #db: RootDatabase<Buffer, Buffer> | null = null
  #isMade = false

  constructor(dir: string, options: StorageOptions = {}) {
    this.#dir = dir
    this.#owner = {
      pid: process.pid,
      birth: birthOf(process.pid),
      host: os.hostname(),
      token: crypto.randomBytes(8).toString('hex'),
    }
    this.#queue = new StorageQueue(
      { commit: (changes) => this.#commit(changes), explain: (error) => this.#explain(error) },
      options,
    )
  }

  async open(): Promise<void> {
    const lmdb = await import('lmdb')
    try {
      fs.mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
      this.#checkFile()
      this.#db = lmdb.open<Buffer, Buffer>({
        path: this.#dir,
        noSubdir: false,
        encoding: 'binary',
        keyEncoding: 'binary',
        overlappingSync: false,
        cache: false,
      })
      this.#own(this.#db)
    } catch (error) {
      await this.#db?.close()
      this.#db = null
      throw this.#explain(error).error
    }
  }

  async load(): Promise<StorageRecord[]> {
    const db = this.#opened()
    const records: StorageRecord[] = []
    try {
      for (const { key, value } of db.getRange()) if (!isOwner(key)) records.push(this.#decode(key, value))
    } catch (error) {
      throw error instanceof RayError ? error : this.#damaged(messageOf(error))
    }
    return records
  }

  write(batch: readonly StorageChange[]): Promise<void> {
    return this.#db ? this.#queue.write(batch) : Promise.reject(storageClosed())
  }

  async close(): Promise<void> {
    const db = this.#db
    if (!db) return
    this.#queue.end(storageClosed())
    await this.#queue.idle()
    this.#db = null
    try {
      checkRoom(this.#dir)
      db.transactionSync(() => {
        if (this.#isMine(db)) db.removeSync(OWNER)
      })
    } catch {
      // A full disk: the next one sees that this process is gone.
    }
    await db.close()
  }

  #commit(changes: readonly StorageChange[]): void {
    const db = this.#opened()
    checkRoom(this.#dir, changes)
    db.transactionSync(() => {
      if (!this.#isMine(db)) throw this.#inUse('it was taken over') // M4
      for (const { table, key, value } of changes) {
        const id = keyOf(table, key)
        if (value) db.putSync(id, encode({ table, key, value }))
        else db.removeSync(id)
      }
    })
    if (this.#isMade) return
    fs.writeFileSync(path.join(this.#dir, MADE), '') // M3
    this.#isMade = true
  }

  /** One transaction looks who writes here, and notes this process. */
  #own(db: RootDatabase<Buffer, Buffer>): void {
    checkRoom(this.#dir)
    db.transactionSync(() => {
      const owner = ownerOf(db)
      if (owner && isOwnerAlive(owner)) throw this.#inUse(`process ${owner.pid} uses it`)
      db.putSync(OWNER, Buffer.from(JSON.stringify(this.#owner)))
    })
  }

  #isMine(db: RootDatabase<Buffer, Buffer>): boolean {
    return ownerOf(db)?.token === this.#owner.token
  }

  #checkFile(): void {
    const file = path.join(this.#dir, DATA)
    const size = fs.existsSync(file) ? fs.statSync(file).size : 0
    if (size === 0) {
      if (fs.existsSync(path.join(this.#dir, MADE))) throw this.#damaged(`${DATA} is missing or empty`)
      return
    }
    const whole = bytesByHeader(file)
    if (whole === null) throw this.#damaged(`${DATA} is not lmdb's`)
    if (size < whole) fs.truncateSync(file, whole) // M1
  }

  #decode(key: Buffer, value: Buffer): StorageRecord {
    const record = decode(value)
    if (!record)
      throw this.#damaged(`the record ${JSON.stringify(key.toString('latin1').slice(0, 40))} is not as it was written`)
    return record
  }

  #opened(): RootDatabase<Buffer, Buffer> {
    if (!this.#db) throw storageClosed()
    return this.#db
  }

  #explain(error: unknown): { error: RayError; isLasting: boolean } {
    if (error instanceof RayError) return { error, isLasting: true }
    const { code } = error as { code?: number | string }
    if (code === MDB.corrupted || code === MDB.pageNotFound || code === MDB.invalid || code === MDB.version) {
      return { error: this.#damaged(messageOf(error)), isLasting: true }
    }
    const made = makeError('GCS_STORAGE_FAILED', { place: this.#dir, detail: messageOf(error) }, { cause: error })
    return { error: made, isLasting: !(error instanceof NoRoom) } // M6
  }

  #damaged(detail: string): RayError {
    return makeError('GCS_STORAGE_DAMAGED', { place: this.#dir, detail })
  }

  #inUse(detail: string): RayError {
    return makeError('GCS_STORAGE_IN_USE', { place: this.#dir, detail })
  }
}

/** lmdb's own codes. */
const MDB = { pageNotFound: -30797, corrupted: -30796, version: -30794, invalid: -30793 } as const

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

class NoRoom extends Error {}

/** M6. Free pages inside the file are not counted: a disk that is nearly full should be heard of. */
function checkRoom(dir: string, changes: readonly StorageChange[] = []): void {
  let pages = TREE_PAGES.transaction
  for (const { value } of changes) pages += TREE_PAGES.change + Math.ceil((value?.length ?? 0) / PAGE_BYTES)
  const { bavail, bsize } = fs.statfsSync(dir)
  if (bavail * bsize < pages * PAGE_BYTES) throw new NoRoom('no space is left there')
}

function isOwner(key: Uint8Array): boolean {
  return OWNER.equals(key)
}

function ownerOf(db: RootDatabase<Buffer, Buffer>): Owner | null {
  const bytes = db.get(OWNER)
  try {
    return bytes ? (JSON.parse(bytes.toString()) as Owner) : null
  } catch {
    return null // Half a note binds nobody.
  }
}

function isOwnerAlive({ pid, birth, host }: Owner): boolean {
  return host === os.hostname() && isAlive(pid) && birth === birthOf(pid)
}

/** How long the file must be by the newer of its two headers; `null` when it is not lmdb's. */
function bytesByHeader(file: string): number | null {
  const fd = fs.openSync(file, 'r')
  try {
    const first = readHeader(fd, 0)
    if (!first) return null
    const second = readHeader(fd, first.pageBytes)
    const newer = second && second.transaction > first.transaction ? second : first
    return (newer.lastPage + 1) * first.pageBytes
  } finally {
    fs.closeSync(fd)
  }
}

function readHeader(fd: number, offset: number): { pageBytes: number; lastPage: number; transaction: bigint } | null {
  const bytes = Buffer.alloc(META.bytes)
  if (fs.readSync(fd, bytes, 0, META.bytes, offset) < META.bytes || bytes.readUInt32LE(META.magic) !== MAGIC)
    return null
  return {
    pageBytes: bytes.readUInt32LE(META.pageBytes),
    lastPage: Number(bytes.readBigUInt64LE(META.lastPage)),
    transaction: bytes.readBigUInt64LE(META.transaction),
  }
}

function keyOf(table: string, key: string): Buffer {
  const name = Buffer.from(recordName(table, key))
  if (name.length <= KEY_BYTES_MAX) return name
  const hash = crypto.createHash('sha256').update(name).digest()
  return Buffer.concat([Buffer.from(recordName(table, '\u0000')), hash]) // M2
}

/** checksum (4), length of the table's name (4), of the key (4), table, key, value. */
function encode({ table, key, value }: StorageRecord): Buffer {
  const keyStart = PREFIX_BYTES + Buffer.byteLength(table)
  const valueStart = keyStart + Buffer.byteLength(key)
  const bytes = Buffer.allocUnsafe(valueStart + value.length)
  bytes.writeUInt32LE(keyStart - PREFIX_BYTES, 4)
  bytes.writeUInt32LE(valueStart - keyStart, 8)
  bytes.write(table, PREFIX_BYTES)
  bytes.write(key, keyStart)
  bytes.set(value, valueStart)
  bytes.writeUInt32LE(crc32(bytes.subarray(4)), 0)
  return bytes
}

function decode(bytes: Buffer): StorageRecord | null {
  if (bytes.length < PREFIX_BYTES || bytes.readUInt32LE(0) !== crc32(bytes.subarray(4))) return null
  const keyStart = PREFIX_BYTES + bytes.readUInt32LE(4)
  const valueStart = keyStart + bytes.readUInt32LE(8)
  return {
    table: bytes.toString('utf8', PREFIX_BYTES, keyStart),
    key: bytes.toString('utf8', keyStart, valueStart),
    value: new Uint8Array(bytes.subarray(valueStart)),
  }
}
