// Measures memory again and again and tells the raylet, which decides who has to go (raylet/memory-guard.ts).
//
//   N1. Workers are measured only when somebody could have to go: above the threshold, within a budget, or with a promise to keep.

import type { WorkerTag } from '../ids/ids.ts'
import type { MemoryReading } from '../raylet/memory-guard.ts'
import { readPrivateBytes, readSystemMemory } from './memory-reader.ts'

export interface MemoryMonitorOptions {
  /** 0: off. */
  readonly refreshMs: number
  readonly threshold: number
  /** What this node's processes may use together; -1: what the machine or container has. */
  readonly limitBytes: number
  readonly workers: () => Iterable<readonly [WorkerTag, number]>
  /** Has any worker promised to stay within its reservation? */
  readonly mustMeasure: () => boolean
  readonly onReading: (reading: MemoryReading) => void
}

/** Ends with the process. */
export function startMemoryMonitor(options: MemoryMonitorOptions): void {
  if (options.refreshMs <= 0) return
  setInterval(() => {
    const reading = read(options)
    if (reading) options.onReading(reading)
  }, options.refreshMs).unref()
}

function read(options: MemoryMonitorOptions): MemoryReading | null {
  const hasBudget = options.limitBytes > 0
  const system = hasBudget ? null : readSystemMemory()
  const isShort = system !== null && system.usedBytes >= system.limitBytes * options.threshold
  if (!hasBudget && !isShort && !options.mustMeasure()) return null // N1
  const workers = new Map<WorkerTag, { pid: number; bytes: number }>()
  let sum = hasBudget ? (readPrivateBytes(process.pid) ?? 0) : 0
  for (const [tag, pid] of options.workers()) {
    const bytes = readPrivateBytes(pid)
    if (bytes === null) continue
    workers.set(tag, { pid, bytes })
    sum += bytes
  }
  if (hasBudget) return { usedBytes: sum, limitBytes: options.limitBytes, workers }
  return { usedBytes: system?.usedBytes ?? 0, limitBytes: system?.limitBytes ?? Number.POSITIVE_INFINITY, workers }
}
