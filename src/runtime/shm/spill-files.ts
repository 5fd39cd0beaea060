// Files on disk that hold values which were moved out of shared memory: several values fused into one file, several files written at
// once, folders in turn.
//
//     <spillDir>/fused-<n>     value, value, …, each as layout.ts says, each at a multiple of the page size: mapped from where it is
//
// Invariants:
//   F1. A file is complete before a location in it is given out; what could not be written whole is removed.
//   F2. A file is removed when the last value in it is freed, and not before.

import fs from 'node:fs'
import path from 'node:path'
import type { SpillLocation } from '../../wire/messages.ts'
import type { DiskGuard } from './disk-guard.ts'
import { HEADER_BYTES, makeHeader, padToPage } from './layout.ts'

export interface SpillSource {
  /** The segment file. */
  readonly file: string
  /** The value's, without the header. */
  readonly size: number
}

export class SpillFiles {
  readonly #dirs: readonly string[]
  readonly #guard: DiskGuard
  readonly #bufferBytes: number
  /** Values alive in each fused file. */
  readonly #live = new Map<string, number>()
  #next = 0

  constructor(options: { dirs: readonly string[]; guard: DiskGuard; bufferBytes: number }) {
    this.#dirs = options.dirs
    this.#guard = options.guard
    this.#bufferBytes = options.bufferBytes
  }

  get count(): number {
    return this.#live.size
  }

  /** Copies the segments into one new file; null for one that was freed meanwhile. Null in all: no folder took them. */
  async write(sources: readonly SpillSource[]): Promise<(SpillLocation | null)[] | null> {
    let bytes = 0
    for (const { size } of sources) bytes += HEADER_BYTES + padToPage(size)
    for (let i = 0; i < this.#dirs.length; i++) {
      const number = this.#next++
      const dir = this.#dirs[number % this.#dirs.length] as string
      if (this.#guard.refusal(dir, bytes) !== null) continue
      const file = path.join(dir, `fused-${number}`)
      try {
        const offsets = await fuse(file, sources, this.#bufferBytes)
        const live = offsets.filter((offset) => offset !== null).length
        if (live > 0) this.#live.set(file, live)
        else fs.rmSync(file, { force: true })
        return offsets.map((offset) => (offset === null ? null : { path: file, offset }))
      } catch {
        fs.rmSync(file, { force: true }) // F1
      }
    }
    return null
  }

  /** A value is freed, wherever it lies on disk. */
  free(location: SpillLocation): void {
    const left = (this.#live.get(location.path) ?? 1) - 1
    if (left > 0) {
      this.#live.set(location.path, left)
      return
    }
    this.#live.delete(location.path)
    fs.rmSync(location.path, { force: true })
  }
}

async function fuse(file: string, sources: readonly SpillSource[], bufferBytes: number): Promise<(number | null)[]> {
  const target = await fs.promises.open(file, 'wx', 0o600)
  try {
    const offsets: (number | null)[] = []
    const chunk = Buffer.allocUnsafeSlow(bufferBytes)
    const header = makeHeader() // Not the segment's: it has readers of its own.
    let end = 0
    for (const source of sources) {
      const from = await fs.promises.open(source.file, 'r').catch(() => null)
      offsets.push(from ? end : null)
      if (!from) continue
      try {
        await target.write(header, 0, HEADER_BYTES, end)
        await copyValue({ from, bytes: source.size, target, start: end + HEADER_BYTES, chunk })
      } finally {
        await from.close()
      }
      end += HEADER_BYTES + padToPage(source.size)
    }
    await target.truncate(end) // The last page whole: a mapping ends inside of the file.
    return offsets
  } finally {
    await target.close()
  }
}

interface Copying {
  readonly from: fs.promises.FileHandle
  readonly bytes: number
  readonly target: fs.promises.FileHandle
  readonly start: number
  readonly chunk: Buffer
}

async function copyValue({ from, bytes, target, start, chunk }: Copying): Promise<void> {
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await from.read(chunk, 0, Math.min(chunk.length, bytes - done), HEADER_BYTES + done)
    if (bytesRead === 0) throw new Error('a segment is shorter than its value')
    for (let written = 0; written < bytesRead; ) {
      const { bytesWritten } = await target.write(chunk, written, bytesRead - written, start + done + written)
      written += bytesWritten
    }
    done += bytesRead
  }
}
