// What workers print: kept in log files, and sent on to drivers line by line with who printed it.
//
// A worker announces whose output follows with lines of its own: `:task_name:<name>` and `:actor_name:<name>` (Ray's markers).
//
//   O1. Lines arrive whole and in order; the rest of a crashed worker's output is sent when its pipe closes.

import fs from 'node:fs'
import type { Readable } from 'node:stream'
import type { LogBatch } from '../wire/messages.ts'

const LINE_BYTES_MAX = 64 * 1024
const TAIL_LINES = 20

export class WorkerOutput {
  readonly #fd: number
  readonly #isError: boolean
  readonly #onBatch: (batch: Omit<LogBatch, 'pid' | 'jobId' | 'ip'>) => void
  #rest = ''
  #name = ''
  readonly tail: string[] = []

  constructor(
    stream: Readable,
    file: string,
    isError: boolean,
    onBatch: (batch: Omit<LogBatch, 'pid' | 'jobId' | 'ip'>) => void,
  ) {
    this.#fd = fs.openSync(file, 'a', 0o600)
    this.#isError = isError
    this.#onBatch = onBatch
    stream.on('data', (chunk: Buffer) => this.#take(chunk))
    stream.on('error', () => {})
    stream.on('close', () => this.#end())
  }

  #take(chunk: Buffer): void {
    fs.writeSync(this.#fd, chunk)
    const text = this.#rest + chunk.toString('utf8')
    const lines = text.split('\n')
    this.#rest = (lines.pop() ?? '').slice(-LINE_BYTES_MAX)
    this.#send(lines)
  }

  #send(lines: readonly string[]): void {
    let batch: string[] = []
    const flush = (): void => {
      if (batch.length > 0) this.#onBatch({ name: this.#name, isError: this.#isError, lines: batch })
      batch = []
    }
    for (const line of lines) {
      const marker = /^:(task_name|actor_name|job_id):(.*)$/.exec(line)
      if (!marker) {
        batch.push(line)
        this.tail.push(line)
        if (this.tail.length > TAIL_LINES) this.tail.shift()
        continue
      }
      flush()
      if (marker[1] !== 'job_id') this.#name = marker[2] ?? ''
    }
    flush()
  }

  #end(): void {
    if (this.#rest) this.#send([this.#rest])
    this.#rest = ''
    fs.closeSync(this.#fd)
  }
}
