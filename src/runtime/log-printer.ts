// What workers printed, as the driver shows it: `(name pid=123) line`, repetitions across workers folded.
//
//   L1. A line is shown at once the first time. The same line from several workers within the window is counted, and its newest
//       instance shown once more with `[repeated 5x across cluster]`. Words with digits in them do not make lines different.
//   L2. One worker that repeats itself is shown as it speaks.
//   L3. A broken output (EPIPE) ends the printing, not the program.

import type { LogBatch } from '../wire/messages.ts'
import { monotonicMs } from './clock.ts'

const PATTERNS_MAX = 10_000
const CYAN = '\u001b[36m'
const GREEN = '\u001b[32m'
const RESET = '\u001b[0m'
/** Ray's choice with RAY_COLOR_PREFIX=1: one of these by pid. */
const PID_COLORS = [35, 36, 32, 90, 94, 95].map((code) => `\u001b[${code}m`)

export interface LogSink {
  write(text: string): void
  readonly isTTY: boolean
}

interface Repeated {
  since: number
  /** Not shown yet. */
  count: number
  readonly sources: Set<string>
  newest: string
  batch: LogBatch
}

export class LogPrinter {
  readonly #streams: readonly [Deduplicator, Deduplicator]

  constructor(
    sinks: { readonly out: LogSink; readonly err: LogSink },
    env: NodeJS.ProcessEnv,
    now: () => number = () => monotonicMs(),
  ) {
    const explain = once(
      ' (Ray deduplicates logs by default. Set RAY_DEDUP_LOGS=0 to disable log deduplication, or see docs/logging.md for more options.)',
    )
    this.#streams = [new Deduplicator(sinks.out, env, now, explain), new Deduplicator(sinks.err, env, now, explain)]
  }

  print(batch: LogBatch): void {
    this.#streams[batch.isError ? 1 : 0].print(batch)
  }

  /** Shows what is still counted. */
  flush(): void {
    for (const stream of this.#streams) stream.flush()
  }
}

/** One of the two streams of output. */
class Deduplicator {
  readonly #sink: LogSink
  readonly #colors: 'none' | 'plain' | 'byPid'
  readonly #isDedup: boolean
  readonly #windowMs: number
  readonly #allow: RegExp | null
  readonly #skip: RegExp | null
  readonly #seen = new Map<string, Repeated>()
  readonly #now: () => number
  readonly #explain: () => string
  #timer: NodeJS.Timeout | null = null
  #out = ''

  constructor(sink: LogSink, env: NodeJS.ProcessEnv, now: () => number, explain: () => string) {
    this.#sink = sink
    this.#now = now
    this.#explain = explain
    this.#isDedup = env.RAY_DEDUP_LOGS !== '0'
    this.#windowMs = secondsOf(env.RAY_DEDUP_LOGS_AGG_WINDOW_S, 5) * 1000
    this.#allow = patternOf(env.RAY_DEDUP_LOGS_ALLOW_REGEX)
    this.#skip = patternOf(env.RAY_DEDUP_LOGS_SKIP_REGEX)
    const hasColors = sink.isTTY && env.NO_COLOR === undefined
    if (env.RAY_COLOR_PREFIX === '1') this.#colors = 'byPid'
    else this.#colors = env.RAY_COLOR_PREFIX === '0' || !hasColors ? 'none' : 'plain'
  }

  print(batch: LogBatch): void {
    for (const line of batch.lines) this.#take(line, batch)
    this.#closeWindows()
    this.#writeOut()
  }

  flush(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    for (const repeated of this.#seen.values()) this.#report(repeated)
    this.#seen.clear()
    this.#writeOut()
  }

  #take(line: string, batch: LogBatch): void {
    if (!this.#isDedup || this.#allow?.test(line)) return this.#show(line, batch)
    if (this.#skip?.test(line)) return
    const key = line
      .split(/\s+/)
      .filter((word) => !/\d|0x[0-9a-f]/i.test(word))
      .join(' ')
    if (key === '') return this.#show(line, batch)
    const source = `${batch.ip}:${batch.pid}`
    const known = this.#seen.get(key)
    if (!known) {
      if (this.#seen.size >= PATTERNS_MAX) this.#forgetOldest()
      this.#seen.set(key, { since: this.#now(), count: 0, sources: new Set([source]), newest: line, batch })
      this.#arm()
      return this.#show(line, batch)
    }
    known.sources.add(source)
    if (known.sources.size === 1) return this.#show(line, batch) // L2
    known.count++
    known.newest = line
    known.batch = batch
  }

  #closeWindows(): void {
    for (const [key, repeated] of this.#seen) {
      if (this.#now() - repeated.since < this.#windowMs) break // Oldest first.
      this.#seen.delete(key)
      const goesOn = repeated.count > 1
      this.#report(repeated)
      if (!goesOn) continue
      this.#seen.set(key, { ...repeated, since: this.#now(), count: 0 })
    }
  }

  #forgetOldest(): void {
    for (const [key, repeated] of this.#seen) {
      this.#seen.delete(key)
      return this.#report(repeated)
    }
  }

  #report({ count, newest, batch }: Repeated): void {
    if (count === 0) return
    if (count === 1) return this.#show(newest, batch)
    const note = ` [repeated ${count}x across cluster]${this.#explain()}`
    this.#show(`${newest}${this.#colors === 'none' ? note : `${GREEN}${note}${RESET}`}`, batch)
  }

  #show(line: string, batch: LogBatch): void {
    this.#out += `${this.#prefix(batch)} ${line}\n`
  }

  #prefix({ name, pid, ip }: LogBatch): string {
    const where = ip === '' || ip === '127.0.0.1' ? '' : `, ip=${ip}`
    const text = pid === 0 ? '(ray)' : `(${name ? `${name} ` : ''}pid=${pid}${where})`
    if (this.#colors === 'none') return text
    const color = this.#colors === 'byPid' ? PID_COLORS[pid % PID_COLORS.length] : CYAN
    return `${color}${text}${RESET}`
  }

  #writeOut(): void {
    const text = this.#out
    this.#out = ''
    if (text) this.#sink.write(text)
  }

  #arm(): void {
    if (this.#timer) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#closeWindows()
      this.#writeOut()
      if (this.#seen.size > 0) this.#arm()
    }, this.#windowMs)
    this.#timer.unref()
  }
}

/** The program's own stdout or stderr; printing stops when nobody reads it any more (L3). */
export function sinkOf(stream: NodeJS.WriteStream): LogSink & { close(): void } {
  let isBroken = false
  const onError = (error: NodeJS.ErrnoException): void => {
    isBroken = true
    if (error.code !== 'EPIPE' && stream.listenerCount('error') === 1) throw error
  }
  stream.on('error', onError)
  return {
    isTTY: stream.isTTY === true,
    write: (text) => {
      if (!isBroken) stream.write(text)
    },
    close: () => {
      // Late errors of what was written still come.
      setImmediate(() => stream.off('error', onError)).unref()
    },
  }
}

function secondsOf(text: string | undefined, otherwise: number): number {
  const seconds = Number(text)
  return text && Number.isFinite(seconds) && seconds >= 0 ? seconds : otherwise
}

function patternOf(text: string | undefined): RegExp | null {
  if (!text) return null
  try {
    return new RegExp(text)
  } catch {
    return null
  }
}

function once(text: string): () => string {
  let isSaid = false
  return () => {
    const said = isSaid ? '' : text
    isSaid = true
    return said
  }
}
