// The native addon (packages/native), where there is one for this platform.

import { constants } from 'node:buffer'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { ShmBackend } from './backend.ts'
import { readCopy } from './plain.ts'

interface Addon {
  openReader(path: string, offset: number, bytes: number, isCounted: boolean): ArrayBuffer | undefined
  openWriter(path: string, bytes: number): ArrayBuffer
  copy(target: Uint8Array, offset: number, source: Uint8Array, byTwo: boolean): void
  adviseLargePages(source: Uint8Array): void
  mappings(): number
  endWithParent(pid: number): void
}

/** The kernel's limit of mappings for a process, less what V8 and libraries need. Near it, values are copied instead. */
const MAPPINGS_RESERVE = 8000
/** Node 20 makes no buffer of foreign memory beyond 4 GiB: such values are copied when read. */
const VIEW_BYTES_MAX = constants.MAX_LENGTH

export function nativeBackend(): ShmBackend | null {
  const addon = load()
  if (!addon) return null
  const mappingsMax = kernelMappingsMax() - MAPPINGS_RESERVE
  return {
    kind: 'native',
    canRecycle: true,
    openReader: (path, { offset, bytes, isCounted }) => {
      if (addon.mappings() >= mappingsMax || bytes > VIEW_BYTES_MAX) return readCopy(path, offset, bytes)
      const buffer = addon.openReader(path, offset, bytes, isCounted)
      return buffer && { buffer, byteOffset: 0, byteLength: bytes }
    },
    openShared: (path, bytes) => addon.openWriter(path, bytes),
    copy: (target, offset, source, byTwo) => addon.copy(target, offset, source, byTwo),
    willRead: (source) => addon.adviseLargePages(source),
    mappings: () => addon.mappings(),
  }
}

/**
 * Has the kernel end this process when its parent `pid` ends: also when it computes and sees no connection close. Without the addon
 * only the closing connection ends it.
 */
export function endWithParent(pid: number): void {
  try {
    load()?.endWithParent(pid)
  } catch {
    // Not allowed here.
  }
}

let loaded: Addon | null = null

function load(): Addon | null {
  loaded ??= open()
  return loaded
}

function open(): Addon | null {
  const name = `${process.platform}-${process.arch}.node`
  for (const place of [`./prebuilds/${name}`, `../../../packages/native/prebuilds/${name}`]) {
    const file = fileURLToPath(new URL(place, import.meta.url))
    if (!fs.existsSync(file)) continue
    try {
      const module = { exports: {} }
      process.dlopen(module, file) // As `require` would, without loading node:module.
      return module.exports as Addon
    } catch {
      // Built for another C library: a fallback serves.
    }
  }
  return null
}

function kernelMappingsMax(): number {
  try {
    return Number(fs.readFileSync('/proc/sys/vm/max_map_count', 'utf8')) || 65_530
  } catch {
    return 65_530
  }
}
