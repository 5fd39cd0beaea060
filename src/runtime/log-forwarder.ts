// Lines of workers on their way to one driver.
//
//   F1. A driver that does not read does not fill the node's memory: what it has not taken is bounded, and it hears how much it missed.

import type { FromNode, LogBatch } from '../wire/messages.ts'

export const UNREAD_BYTES_MAX = 4 * 1024 * 1024

export class LogForwarder {
  readonly #send: (message: FromNode) => void
  readonly #unreadBytes: () => number
  #dropped = 0

  constructor(send: (message: FromNode) => void, unreadBytes: () => number) {
    this.#send = send
    this.#unreadBytes = unreadBytes
  }

  forward(batch: LogBatch): void {
    if (this.#unreadBytes() > UNREAD_BYTES_MAX) {
      this.#dropped += batch.lines.length
      return
    }
    if (this.#dropped > 0) {
      const text = `[${this.#dropped} lines of workers are not shown: this program did not read them in time. They are in the log files.]`
      this.#dropped = 0
      this.#send({ t: 'log.lines', batch: { ...batch, name: '', pid: 0, isError: true, lines: [text] } })
    }
    this.#send({ t: 'log.lines', batch })
  }
}
