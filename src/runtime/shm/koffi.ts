// Shared memory through koffi, for machines for which there is no prebuilt addon. koffi is an optional peer, loaded only here.
//
// `koffi.view` cannot say when a view ends, and unmapping at a guess crashes the process (a buffer may live on in a stream or after
// `transfer()`). So a large value is mapped over memory that V8 allocated and will free:
//
//     new ArrayBuffer   | … | page | page | page | … |      from calloc: above 32 MiB always a mapping of its own
//     mmap(MAP_FIXED)         ╰── private pages of the file ──╯
//     free()            the allocator unmaps the whole range, with the file's pages in it
//
// Invariants:
//   O1. Only what the allocator maps by itself is mapped over: never a part of the heap that it might hand out again.
//   O2. Nobody here learns when a view ends: such segments are marked, and never written anew.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import type { ByteRange } from '../../values/index.ts'
import type { ReaderOptions, ShmBackend } from './backend.ts'
import { FLAG_NO_RECYCLE, HEADER_BYTES, WORD } from './layout.ts'
import { readCopy } from './plain.ts'

/** glibc's DEFAULT_MMAP_THRESHOLD_MAX; musl's is lower. Smaller values are read: at most 10 ms. */
const OVERLAY_BYTES_MIN = 32 * 1024 * 1024
const PAGE = 4096
const PROT_READ_WRITE = 3
const MAP_SHARED = 1
const MAP_PRIVATE = 2
const MAP_FIXED = 16

interface Libc {
  /** The address of a buffer's first byte. */
  addressOf(buffer: Uint8Array): number
  mapOver(target: Uint8Array, bytes: number, fd: number, offset: number): boolean
  mapShared(bytes: number, fd: number): ArrayBuffer | null
}

export function koffiBackend(): ShmBackend | null {
  const libc = load()
  if (!libc) return null
  let shared = 0
  return {
    kind: 'koffi',
    canRecycle: false,
    openReader: (path, options) =>
      options.bytes < OVERLAY_BYTES_MIN
        ? readCopy(path, options.offset, options.bytes)
        : openOverlay(libc, path, options),
    openShared: (path, bytes) => {
      const fd = fs.openSync(path, 'r+')
      try {
        shared++
        return libc.mapShared(bytes, fd)
      } finally {
        fs.closeSync(fd)
      }
    },
    copy: (target, offset, source) => target.set(source, offset),
    willRead: () => {},
    mappings: () => shared,
  }
}

function openOverlay(libc: Libc, path: string, { offset, bytes, isCounted }: ReaderOptions): ByteRange | undefined {
  let fd: number
  try {
    fd = fs.openSync(path, isCounted ? 'r+' : 'r')
  } catch {
    return undefined
  }
  try {
    if (fs.fstatSync(fd).size < offset + HEADER_BYTES + bytes) return undefined
    if (isCounted) fs.writeSync(fd, new Uint8Array([FLAG_NO_RECYCLE]), 0, 1, WORD.flags * 4) // O2
    const whole = Math.floor(bytes / PAGE) * PAGE
    const buffer = new ArrayBuffer(bytes + PAGE)
    const address = libc.addressOf(new Uint8Array(buffer, 0, PAGE))
    const byteOffset = (PAGE - (address % PAGE)) % PAGE
    const target = new Uint8Array(buffer, byteOffset, PAGE)
    if (!libc.mapOver(target, whole, fd, offset + HEADER_BYTES)) return readCopy(path, offset, bytes)
    // The last, broken page is copied: the allocator's own bytes follow it.
    if (whole < bytes) {
      const rest = new Uint8Array(buffer, byteOffset + whole, bytes - whole)
      fs.readSync(fd, rest, 0, rest.byteLength, offset + HEADER_BYTES + whole)
    }
    return { buffer, byteOffset, byteLength: bytes }
  } finally {
    fs.closeSync(fd)
  }
}

interface Koffi {
  load(path: null): { func(definition: string): (...args: unknown[]) => unknown }
  view(pointer: unknown, bytes: number): ArrayBuffer
}

function load(): Libc | null {
  if (process.platform === 'win32') return null
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi
    const self = koffi.load(null)
    const memset = self.func('size_t memset(void *target, int value, size_t bytes)')
    const mapFixed = self.func('size_t mmap(void *target, size_t bytes, int prot, int flags, int fd, int64_t offset)')
    const map = self.func('void *mmap(size_t address, size_t bytes, int prot, int flags, int fd, int64_t offset)')
    const addressOf = (buffer: Uint8Array): number => Number(memset(buffer, 0, 0))
    return {
      addressOf,
      mapOver: (target, bytes, fd, offset) =>
        Number(mapFixed(target, bytes, PROT_READ_WRITE, MAP_PRIVATE | MAP_FIXED, fd, offset)) === addressOf(target),
      mapShared: (bytes, fd) => {
        const pointer = map(0, bytes, PROT_READ_WRITE, MAP_SHARED, fd, 0)
        return pointer === -1n || pointer === 0xffffffffffffffffn ? null : koffi.view(pointer, bytes)
      },
    }
  } catch {
    return null // Not installed, or not for this platform.
  }
}
