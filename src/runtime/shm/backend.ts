// How this process maps stored values: one interface, three ways, the best one that works here.
//
//     native   our own addon (packages/native): views without a copy, shared counters, segments written anew
//     koffi    the same system calls through koffi, when it is installed: large values without a copy, shared counters
//     plain    read(2) into a fresh buffer, the folder counted each time: works everywhere
//
// Invariants:
//   N1. What `openReader` returns is private and writable: its writes are seen by nobody else, and stays valid as long as anything
//       refers to it: also after `transfer()`, in streams, in several views.
//   N2. `RAY_TS_SHM=native|koffi|plain` chooses; a chosen one that does not work here is an error. Else the first that works.

import { makeError } from '../../errors/index.ts'
import type { ByteRange } from '../../values/index.ts'
import { koffiBackend } from './koffi.ts'
import { nativeBackend } from './native.ts'
import { plainBackend } from './plain.ts'

export interface ReaderOptions {
  /** Where the header page lies in the file; the value is behind it. */
  readonly offset: number
  readonly bytes: number
  /** It is a segment that may be written anew: say in its header that it is read. */
  readonly isCounted: boolean
}

export interface ShmBackend {
  readonly kind: 'native' | 'koffi' | 'plain'
  /** May freed segments be written anew by this process? */
  readonly canRecycle: boolean
  /** N1. Undefined: there is no such file, or it is shorter than that. */
  openReader(path: string, options: ReaderOptions): ByteRange | undefined
  /** The first `bytes` of the file, shared with every process, as long as the process lives; null: this backend has no such thing. */
  openShared(path: string, bytes: number): ArrayBuffer | null
  /** `target.set(source, offset)`, as fast as the memory takes it; with a helper thread if it is large and `byTwo`. */
  copy(target: Uint8Array, offset: number, source: Uint8Array, byTwo: boolean): void
  /** `source` is about to be read whole by a system call: memory that nobody has written faults less often then. */
  willRead(source: Uint8Array): void
  /** Mappings that this process holds, as the kernel counts them. */
  mappings(): number
}

let chosen: ShmBackend | undefined

export function shmBackend(): ShmBackend {
  chosen ??= chooseBackend(process.env.RAY_TS_SHM)
  return chosen
}

/** @throws InvalidArgumentError when `wanted` is none, or does not work here (N2). */
export function chooseBackend(wanted: string | undefined): ShmBackend {
  const makers = { native: nativeBackend, koffi: koffiBackend, plain: plainBackend }
  if (wanted === undefined || wanted === '') return nativeBackend() ?? koffiBackend() ?? plainBackend()
  const made = Object.hasOwn(makers, wanted) ? makers[wanted as keyof typeof makers]() : undefined
  if (made) return made
  const message = made === null ? `RAY_TS_SHM=${wanted} does not work on this machine` : `RAY_TS_SHM is '${wanted}'`
  throw makeError('INVALID_ARGUMENT', { message, hint: 'Leave it unset, or set it to native, koffi or plain.' })
}
