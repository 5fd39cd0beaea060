// How processes ended, in words: from what the system says of them, what they announced, and what they had printed last.

import type { WorkerTag } from '../ids/ids.ts'
import type { RayletToRaylet } from '../wire/cluster.ts'
import type { ExitInfo } from '../wire/messages.ts'
import type { PooledWorker } from './worker-pool.ts'

/** What the system says. */
export interface ProcessEnd {
  readonly tag: WorkerTag
  readonly pid: number
  readonly code: number | null
  readonly signal: string | null
  /** The end of what it wrote to its standard error. */
  readonly lastLines?: readonly string[]
}

/** What V8 prints before it aborts: the sentence, or the frames that follow it. */
const HEAP_FULL = /JavaScript heap out of memory|FatalProcessOutOfMemory/

/** Of processes of a node that says hello: those whose tags were handed out and do not live. */
export function* endedBefore({ tagBlocks, living, next }: RayletToRaylet & { t: 'hello' }): Generator<ExitInfo> {
  const alive = new Set(living)
  for (const { first, count } of tagBlocks) {
    for (let tag = first; tag < first + count; tag++) {
      if (alive.has(tag) || (next > first && next <= first + count && tag >= next)) continue
      if (next <= first) break // Not begun.
      yield endedEarlier(tag)
    }
  }
}

/** Of a process whose end was not heard of when it came. */
function endedEarlier(tag: WorkerTag): ExitInfo {
  const detail = 'it ended while its node was not connected'
  return { tag, pid: 0, code: null, signal: null, reason: 'crashed', detail, lastLines: [] }
}

export function exitOf(event: ProcessEnd, worker: PooledWorker | undefined): ExitInfo {
  const { tag, pid, code, signal, lastLines = [] } = event
  const how = signal ? `it was ended by ${signal}` : `it exited with code ${code ?? 'unknown'}`
  const exit = { tag, pid, code, signal, lastLines }
  const isCutShort = signal !== null && worker?.endReason?.isOwnWish === true // What it had still to answer is lost.
  if (worker?.endReason?.reason === 'intended' && !isCutShort) return { ...exit, ...worker.endReason, lastLines: [] }
  if (worker?.endReason && !isCutShort) return { ...exit, ...worker.endReason }
  if (lastLines.some((line) => HEAP_FULL.test(line)))
    return { ...exit, reason: 'outOfMemory', retry: 'counted', detail: `its JavaScript heap was full, and ${how}` }
  return { ...exit, reason: 'crashed', detail: how }
}
