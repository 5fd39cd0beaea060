// The native addon, where there is one for this platform. Without it stored values are copied when read, and never recycled.
//
//   N1. RAY_TS_SHM=plain turns it off, so that tests can prove the fallback.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

export interface NativeShm {
  /** A private, writable view of the value in a segment file; undefined when the file is not there. */
  openReader(path: string, bytes: number): ArrayBuffer | undefined
  /** The first `bytes` of a file, shared with every process. */
  openWriter(path: string, bytes: number): ArrayBuffer
  liveMappings(): number
}

let loaded: NativeShm | null | undefined

export function nativeShm(): NativeShm | null {
  if (loaded !== undefined) return loaded
  loaded = null
  if (process.env.RAY_TS_SHM === 'plain') return null
  const name = `${process.platform}-${process.arch}.node`
  for (const place of [`./prebuilds/${name}`, `../../../packages/native/prebuilds/${name}`]) {
    const file = fileURLToPath(new URL(place, import.meta.url))
    if (!fs.existsSync(file)) continue
    try {
      loaded = createRequire(import.meta.url)(file) as NativeShm
      return loaded
    } catch {
      // Built for another C library: the fallback serves.
    }
  }
  return loaded
}
