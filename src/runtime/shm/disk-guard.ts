// Keeps spilling from filling a disk that others need too (Ray's `local_fs_capacity_threshold`).
//
//   D1. A file system is asked at most once in `checkMs`; what was granted since then counts as used.

import fs from 'node:fs'
import { makeError, type RayError } from '../../errors/index.ts'
import { monotonicMs } from '../clock.ts'

interface Known {
  readonly at: number
  readonly totalBytes: number
  usedBytes: number
}

export class DiskGuard {
  readonly #threshold: number
  readonly #checkMs: number
  readonly #known = new Map<string, Known>()

  constructor(threshold: number, checkMs: number) {
    this.#threshold = threshold
    this.#checkMs = checkMs
  }

  /** Null: `bytes` may be written into `dir`. Else why not. */
  refusal(dir: string, bytes: number): string | null {
    const known = this.#look(dir)
    if (!known) return `${dir} cannot be read`
    const limit = this.#threshold * known.totalBytes
    if (known.usedBytes + bytes <= limit) {
      known.usedBytes += bytes
      return null
    }
    const percent = (part: number): string => `${Math.round((part / known.totalBytes) * 100)} %`
    return `${dir} is ${percent(known.usedBytes)} full, and may be filled to ${percent(limit)}`
  }

  #look(dir: string): Known | null {
    const now = monotonicMs()
    const known = this.#known.get(dir)
    if (known && now - known.at < this.#checkMs) return known
    try {
      const { blocks, bavail, bsize } = fs.statfsSync(dir)
      const fresh = { at: now, totalBytes: blocks * bsize, usedBytes: (blocks - bavail) * bsize }
      this.#known.set(dir, fresh)
      return fresh
    } catch {
      return null
    }
  }
}

/** The error for a value that found no place: full disks are told from unusable ones. */
export function noRoomError(size: number, refusals: readonly string[], cause: unknown): RayError {
  const reason = refusals.join('; ') || (cause instanceof Error ? cause.message : 'there is no spill directory')
  const detail = `shared memory is full, and no spill directory takes ${size} bytes (${reason})`
  const isFull = refusals.length > 0 || (cause as NodeJS.ErrnoException | undefined)?.code === 'ENOSPC'
  return makeError(isFull ? 'OUT_OF_DISK' : 'OBJECT_STORE_FULL', { size, detail }, { cause })
}
