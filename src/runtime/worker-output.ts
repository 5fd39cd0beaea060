// What a worker prints on one of its streams: kept in its log file as it is, and handed on line by line with who printed it.
//
// A worker announces whose output follows with lines of its own: `:task_name:<name>` and `:actor_name:<name>` (Ray's markers).
//
//   O1. Lines arrive whole and in order; the rest of a crashed worker's output follows when its pipe closes.
//   O2. Of a line that is drawn again and again with carriage returns (a progress bar) the newest state is handed on, once a second
//       at most, and the last one when the line ends.
//   O3. Memory is bounded: of a very long line the beginning is handed on, with how much is cut; the file has all of it.

import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import type { LogBatch } from '../wire/messages.ts'
import { RotatingFile, type RotationLimits } from './rotating-file.ts'

const LINE_CHARS_MAX = 16 * 1024
const PROGRESS_MS = 1000
const TAIL_LINES = 20

export type OutputLines = Pick<LogBatch, 'name' | 'isError' | 'lines'>

export class WorkerOutput {
  readonly #file: RotatingFile | null
  readonly #isError: boolean
  readonly #onLines: (lines: OutputLines) => void
  readonly #decoder = new StringDecoder('utf8')
  #rest = ''
  /** Characters of the unfinished line that are not kept in `rest`. */
  #cut = 0
  #name = ''
  #timer: NodeJS.Timeout | null = null
  #shownProgress = ''
  readonly tail: string[] = []

  constructor(
    stream: Readable,
    options: {
      file: string
      limits: RotationLimits
      isError: boolean
      onLines: (lines: OutputLines) => void
    },
  ) {
    this.#file = openOrNull(options.file, options.limits)
    this.#isError = options.isError
    this.#onLines = options.onLines
    stream.on('data', (chunk: Buffer) => this.#take(chunk))
    stream.on('error', () => {})
    stream.on('close', () => this.#end())
  }

  renameFile(file: string): void {
    try {
      this.#file?.rename(file)
    } catch {
      // It keeps its name.
    }
  }

  #take(chunk: Buffer): void {
    try {
      this.#file?.write(chunk)
    } catch {
      // A full disk must not end the node: the driver still sees the lines.
    }
    const lines = this.#decoder.write(chunk).split('\n')
    lines[0] = this.#rest + (lines[0] as string)
    this.#rest = lines.pop() ?? ''
    this.#emit(lines)
    this.#boundRest()
    if (this.#rest.includes('\r')) this.#timer ??= setTimeout(() => this.#showProgress(), PROGRESS_MS).unref()
  }

  /** O3; and of a progress bar only its newest state is kept. */
  #boundRest(): void {
    const drawn = this.#rest.lastIndexOf('\r', this.#rest.length - 2)
    if (drawn > 0) this.#rest = this.#rest.slice(drawn)
    if (this.#rest.length <= LINE_CHARS_MAX) return
    this.#cut += this.#rest.length - LINE_CHARS_MAX
    this.#rest = this.#rest.slice(0, LINE_CHARS_MAX)
  }

  #showProgress(): void {
    this.#timer = null
    const text = lastDrawn(this.#rest)
    if (!this.#rest.includes('\r') || text === '' || text === this.#shownProgress) return
    this.#shownProgress = text
    this.#onLines({ name: this.#name, isError: this.#isError, lines: [text] })
  }

  #emit(lines: readonly string[]): void {
    let batch: string[] = []
    const flush = (): void => {
      if (batch.length > 0) this.#onLines({ name: this.#name, isError: this.#isError, lines: batch })
      batch = []
    }
    for (const line of lines) {
      const marker = line.startsWith(':') ? /^:(task_name|actor_name|job_id):(.*)$/.exec(line) : null
      if (!marker) {
        const shown = this.#shown(line)
        batch.push(shown)
        this.tail.push(shown)
        if (this.tail.length > TAIL_LINES) this.tail.shift()
        continue
      }
      flush()
      if (marker[1] !== 'job_id') this.#name = marker[2] ?? ''
    }
    flush()
  }

  #shown(line: string): string {
    const text = lastDrawn(line)
    const cut = this.#cut + Math.max(0, text.length - LINE_CHARS_MAX)
    this.#cut = 0
    this.#shownProgress = ''
    return cut === 0 ? text : `${text.slice(0, LINE_CHARS_MAX)} [${cut} more characters are in the log file]`
  }

  #end(): void {
    if (this.#timer) clearTimeout(this.#timer)
    const rest = this.#rest + this.#decoder.end()
    this.#rest = ''
    if (rest) this.#emit([rest])
    this.#file?.close()
  }
}

/** What a terminal would show of a line with carriage returns in it. */
function lastDrawn(line: string): string {
  if (!line.includes('\r')) return line
  const states = line.split('\r').filter((state) => state !== '')
  return states.at(-1) ?? ''
}

function openOrNull(file: string, limits: RotationLimits): RotatingFile | null {
  try {
    return new RotatingFile(file, limits)
  } catch {
    return null
  }
}
