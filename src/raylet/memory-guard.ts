// Which worker is ended when memory runs short, before the kernel picks one. Pure: readings come in, orders go out.
//
// Ray's policy "group by owner": tasks of one owner that may be retried form a group, everything else stands alone. The group that
// may be retried goes first, then the larger, then the one that began last; of it the newest worker ends, since it has lost least.
//
// Invariants:
//   M1. One worker at a time: the next is chosen from a reading taken after the last one is gone.
//   M2. The last of its group is not run again for nothing: its task fails with OutOfMemoryError instead of filling memory for ever.
//   M3. A worker that promised to stay within its reservation (`enforceMemory`) is ended when it does not, however much is free.
//   M4. An idle worker that still holds much ends before any work does.

import type { WorkerTag } from '../ids/ids.ts'
import { UNITS } from '../scheduling/resources.ts'
import type { Granted } from './lease-manager.ts'

/** Memory of the node at one moment. */
export interface MemoryReading {
  readonly usedBytes: number
  readonly limitBytes: number
  /** Private memory of each worker; empty when nothing made the reader look. */
  readonly workers: ReadonlyMap<WorkerTag, { readonly pid: number; readonly bytes: number }>
}

export interface KillOrder {
  readonly tag: WorkerTag
  readonly detail: string
  /** 'free': the task runs again and loses no retry; 'never': it would fail again; 'counted': as after a crash. */
  readonly retry: 'free' | 'never' | 'counted'
  readonly isIdle: boolean
}

const TOP_COUNT = 5
/** A worker that has done nothing yet holds less. */
const IDLE_BYTES_MIN = 80_000_000

export class MemoryGuard {
  readonly #threshold: number
  #ending: WorkerTag | null = null

  constructor(threshold: number) {
    this.#threshold = threshold
  }

  /** The worker is gone: another may be chosen (M1). */
  onGone(tag: WorkerTag): void {
    if (this.#ending === tag) this.#ending = null
  }

  onReading(reading: MemoryReading, leases: Iterable<Granted>, idle: readonly WorkerTag[]): readonly KillOrder[] {
    const granted = [...leases]
    const orders = granted.flatMap((lease) => this.#overReservation(reading, lease))
    if (orders.length > 0 || this.#ending !== null || reading.usedBytes < reading.limitBytes * this.#threshold)
      return orders
    const surplus = largestIdle(reading, idle)
    if (surplus !== undefined) {
      this.#ending = surplus
      return [{ tag: surplus, retry: 'counted', detail: 'it was idle, and memory ran short', isIdle: true }]
    }
    const chosen = choose(granted)
    if (!chosen) return []
    this.#ending = chosen.lease.worker
    const { lease, retry } = chosen
    return [{ tag: lease.worker, retry, detail: this.#explain(reading, granted, lease), isIdle: false }]
  }

  /** M3 */
  #overReservation(reading: MemoryReading, lease: Granted): KillOrder[] {
    if (lease.spec.heapMiB === undefined) return []
    const reserved = (lease.spec.resources.memory ?? 0) / UNITS
    const bytes = reading.workers.get(lease.worker)?.bytes ?? 0
    if (bytes <= reserved) return []
    const detail = `it used ${gigabytes(bytes)}, more than the ${gigabytes(reserved)} that its option memory reserves (enforceMemory)`
    return [{ tag: lease.worker, retry: 'counted', detail, isIdle: false }]
  }

  #explain(reading: MemoryReading, granted: readonly Granted[], victim: Granted): string {
    const { usedBytes, limitBytes, workers } = reading
    const own = workers.get(victim.worker)?.bytes ?? 0
    const top = [...granted]
      .map((lease) => ({ name: lease.spec.name, of: workers.get(lease.worker) }))
      .sort((a, b) => (b.of?.bytes ?? 0) - (a.of?.bytes ?? 0))
      .slice(0, TOP_COUNT)
      .map(({ name, of }) => `\n    ${gigabytes(of?.bytes ?? 0).padStart(9)}  pid ${of?.pid ?? '?'}  ${name}`)
    const share = (usedBytes / limitBytes).toFixed(3)
    return `the node used ${gigabytes(usedBytes)} of ${gigabytes(limitBytes)} (${share}), above the threshold ${this.#threshold}; this worker used ${gigabytes(own)}. The largest:${top.join('')}`
  }
}

/** M4 */
function largestIdle({ workers }: MemoryReading, idle: readonly WorkerTag[]): WorkerTag | undefined {
  const bytesOf = (tag: WorkerTag): number => workers.get(tag)?.bytes ?? 0
  return idle.filter((tag) => bytesOf(tag) >= IDLE_BYTES_MIN).sort((a, b) => bytesOf(b) - bytesOf(a))[0]
}

function choose(granted: readonly Granted[]): { lease: Granted; retry: 'free' | 'never' } | undefined {
  const groups = new Map<string, Granted[]>()
  for (const lease of granted) {
    const key = lease.spec.retriable ? `owner ${lease.owner}` : lease.leaseId
    const group = groups.get(key)
    if (group) group.push(lease)
    else groups.set(key, [lease])
  }
  const ordered = [...groups.values()].map((group) => group.sort((a, b) => b.order - a.order))
  ordered.sort((a, b) => rank(a) - rank(b) || b.length - a.length || newest(b) - newest(a))
  const group = ordered[0]
  const lease = group?.[0]
  if (!group || !lease) return undefined
  return { lease, retry: lease.spec.retriable && group.length > 1 ? 'free' : 'never' } // M2
}

function rank(group: readonly Granted[]): number {
  return group[0]?.spec.retriable ? 0 : 1
}

function newest(group: readonly Granted[]): number {
  return group[0]?.order ?? 0
}

function gigabytes(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`
}
