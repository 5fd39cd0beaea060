// Lines of workers on their way to one driver, or to one node with drivers.
//
//   F1. Who does not take them does not fill the node's memory: what waits for it is bounded, and it hears how much it missed, at the
//       latest when it has taken what waited.

import type { LogBatch } from '../wire/messages.ts'

export const UNREAD_BYTES_MAX = 4 * 1024 * 1024
const LOOK_MS = 100

export interface LogForwarderOptions {
  send(batch: LogBatch): void
  /** What waits to be taken. */
  unreadBytes(): number
  /** Default: 4 MiB. */
  readonly bytesMax?: number
  /** Why lines are not shown. */
  readonly because?: string
}

export class LogForwarder {
  readonly #options: LogForwarderOptions
  #dropped = 0
  #last: LogBatch | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(options: LogForwarderOptions) {
    this.#options = options
  }

  forward(batch: LogBatch): void {
    if (this.#isFull) {
      this.#dropped += batch.missing ?? batch.lines.length
      this.#last = batch
      this.#timer ??= setTimeout(() => this.#look(), LOOK_MS).unref()
      return
    }
    this.tell()
    this.#options.send(batch)
  }

  get #isFull(): boolean {
    const { unreadBytes, bytesMax = UNREAD_BYTES_MAX } = this.#options
    return unreadBytes() > bytesMax
  }

  #look(): void {
    this.#timer = this.#isFull ? setTimeout(() => this.#look(), LOOK_MS).unref() : null
    if (!this.#timer) this.tell()
  }

  /** How much was dropped, if anything. */
  tell(): void {
    if (!this.#last || this.#dropped === 0) return
    const { because = 'this program did not read them in time' } = this.#options
    const text = `[${this.#dropped} lines of workers are not shown: ${because}. They are in the log files.]`
    const batch = { ...this.#last, name: '', pid: 0, isError: true, lines: [text], missing: this.#dropped }
    this.#dropped = 0
    this.#last = null
    this.#options.send(batch)
  }
}
