// How many bytes of shared memory are in use, counted by all processes of a node in one shared word.
//
//   K1. Whoever makes a file adds its size before writing; whoever unlinks it subtracts the same size. A file has its full size as soon
//       as it exists, so that a maker killed in the middle is counted out rightly.
//   K2. One killed between the two leaves a difference, which the node takes out when it has been there for a while (`drift`).

import fs from 'node:fs'
import path from 'node:path'
import { shmBackend } from './backend.ts'

const CONTROL_BYTES = 4096
const CONTROL = 'control'

export class ShmControl {
  readonly #dir: string
  readonly #used: BigInt64Array | null

  constructor(shmDir: string) {
    this.#dir = shmDir
    const shared = shmBackend().openShared(path.join(shmDir, CONTROL), CONTROL_BYTES)
    this.#used = shared && new BigInt64Array(shared, 0, 1)
  }

  static create(shmDir: string): void {
    fs.writeFileSync(path.join(shmDir, CONTROL), Buffer.alloc(CONTROL_BYTES), { mode: 0o600 })
  }

  /** Without shared counters the folder itself is asked: slower, as right. */
  used(): number {
    if (this.#used) return Number(Atomics.load(this.#used, 0))
    let sum = 0
    for (const name of fs.readdirSync(this.#dir)) if (name !== CONTROL) sum += sizeOf(path.join(this.#dir, name))
    return sum
  }

  /** Takes `bytes`, unless that would exceed `capacityBytes`. */
  reserve(bytes: number, capacityBytes: number): boolean {
    if (!this.#used) return this.used() + bytes <= capacityBytes
    const before = Number(Atomics.add(this.#used, 0, BigInt(bytes)))
    if (before + bytes <= capacityBytes) return true
    this.release(bytes)
    return false
  }

  release(bytes: number): void {
    if (this.#used) Atomics.sub(this.#used, 0, BigInt(bytes))
  }

  /** Counted, but in no file; null: cannot be told now, since something is being made or unlinked. */
  drift(): number | null {
    if (!this.#used) return 0
    const before = Atomics.load(this.#used, 0)
    let inFiles = 0
    for (const name of fs.readdirSync(this.#dir)) if (name !== CONTROL) inFiles += sizeOf(path.join(this.#dir, name))
    return Atomics.load(this.#used, 0) === before ? Number(before) - inFiles : null
  }

  /** Unlinks a file and counts it out. False: it was not there. */
  unlink(file: string): boolean {
    const size = sizeOf(file)
    try {
      fs.unlinkSync(file)
    } catch {
      return false
    }
    this.release(size)
    return true
  }
}

function sizeOf(file: string): number {
  try {
    return fs.statSync(file).size
  } catch {
    return 0
  }
}
