// What workers printed, as the driver shows it: `(name pid=123) line`, repetitions across workers folded.
//
//   L1. A line is shown at once the first time; the same line from other workers within the window is counted and shown once more,
//       with `[repeated 5x across cluster]`. RAY_DEDUP_LOGS=0 turns this off.

import type { LogBatch } from '../wire/messages.ts'

interface Repeated {
  count: number
  readonly pids: Set<number>
  last: string
  until: number
}

export class LogPrinter {
  readonly #write: (text: string) => void
  readonly #isDedup: boolean
  readonly #windowMs: number
  readonly #seen = new Map<string, Repeated>()
  readonly #now: () => number
  #timer: NodeJS.Timeout | null = null
  #hasExplained = false

  constructor(write: (text: string) => void, env: NodeJS.ProcessEnv, now: () => number = () => performance.now()) {
    this.#write = write
    this.#isDedup = env.RAY_DEDUP_LOGS !== '0'
    this.#windowMs = Number(env.RAY_DEDUP_LOGS_AGG_WINDOW_S ?? 5) * 1000
    this.#now = now
  }

  print(batch: LogBatch): void {
    const prefix = batch.name ? `(${batch.name} pid=${batch.pid})` : `(pid=${batch.pid})`
    for (const line of batch.lines) {
      if (!this.#isDedup || line.length === 0) this.#write(`${prefix} ${line}\n`)
      else this.#printOnce(prefix, line, batch.pid)
    }
  }

  /** Shows what is still counted. */
  flush(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    for (const [line, repeated] of this.#seen) this.#report(line, repeated)
    this.#seen.clear()
  }

  #printOnce(prefix: string, line: string, pid: number): void {
    const known = this.#seen.get(line)
    if (known && known.until > this.#now() && !known.pids.has(pid)) {
      known.pids.add(pid)
      known.count++
      known.last = prefix
      return
    }
    if (known && known.until > this.#now() && known.pids.size > 1) {
      known.count++
      known.last = prefix
      return
    }
    if (known) this.#report(line, known)
    this.#seen.set(line, { count: 0, pids: new Set([pid]), last: prefix, until: this.#now() + this.#windowMs })
    this.#write(`${prefix} ${line}\n`)
    this.#arm()
  }

  #report(line: string, repeated: Repeated): void {
    if (repeated.count === 0) return
    const explanation = this.#hasExplained
      ? ''
      : ' (Ray deduplicates logs by default. Set RAY_DEDUP_LOGS=0 to see every line.)'
    this.#hasExplained = true
    this.#write(`${repeated.last} ${line} [repeated ${repeated.count}x across cluster]${explanation}\n`)
  }

  #arm(): void {
    if (this.#timer) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      for (const [line, repeated] of this.#seen) {
        if (repeated.until > this.#now()) continue
        this.#report(line, repeated)
        this.#seen.delete(line)
      }
      if (this.#seen.size > 0) this.#arm()
    }, this.#windowMs)
    this.#timer.unref()
  }
}
