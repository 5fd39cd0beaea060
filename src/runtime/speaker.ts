// A worker's own side of its output: says on each stream who speaks before anything is printed, and writes JSON records when asked to.
//
//   K1. The streams are opened when something is first printed: most workers never print, and opening them is part of every start.
//       One that user code closed is no failure: what is printed afterwards is lost.
//   K2. A marker stands at the beginning of a line, and only when the speaker changes.

import { format } from 'node:util'

export interface Speaker {
  readonly kind: 'task' | 'actor'
  readonly name: string
}

export interface LogRecordContext {
  readonly job_id: string
  readonly worker_id: string
  readonly node_id: string
  readonly task_id?: string
  readonly task_name?: string
  readonly actor_id?: string
  readonly actor_name?: string
}

type Write = (chunk: unknown, ...rest: unknown[]) => boolean

export function announceSpeakers(speaker: () => Speaker | null): void {
  for (const name of ['stdout', 'stderr'] as const) {
    const getter = Object.getOwnPropertyDescriptor(process, name)?.get
    if (!getter) continue
    let stream: NodeJS.WriteStream | null = null
    Object.defineProperty(process, name, {
      configurable: true,
      enumerable: true,
      get: () => {
        if (!stream) {
          stream = getter.call(process) as NodeJS.WriteStream
          stream.on('error', () => {}) // K1
          announceOn(stream, speaker)
        }
        return stream
      },
    })
  }
}

function announceOn(stream: NodeJS.WriteStream, speaker: () => Speaker | null): void {
  const write = stream.write.bind(stream) as Write
  let announced = ''
  let isLineStart = true
  stream.write = ((chunk: unknown, ...rest: unknown[]) => {
    const who = speaker()
    const marker = who ? `:${who.kind}_name:${who.name.replaceAll('\n', ' ')}\n` : announced
    if (marker !== announced) {
      write(isLineStart ? marker : `\n${marker}`)
      announced = marker
    }
    if (typeof chunk === 'string' && chunk !== '') isLineStart = chunk.endsWith('\n')
    else if (chunk instanceof Uint8Array && chunk.length > 0) isLineStart = chunk[chunk.length - 1] === 10
    return write(chunk, ...rest)
  }) as typeof stream.write
}

const LEVELS = { debug: 10, info: 20, warning: 30, error: 40, critical: 50 } as const
const METHODS = { debug: 'debug', log: 'info', info: 'info', warn: 'warning', error: 'error' } as const

/** `loggingConfig`: what is logged with `console` becomes one JSON record a line, with Ray's keys; lower levels are dropped. */
export function configureLogging(
  config: { readonly encoding?: 'TEXT' | 'JSON'; readonly logLevel?: keyof typeof LEVELS },
  context: () => LogRecordContext,
): void {
  const threshold = LEVELS[config.logLevel ?? 'debug']
  for (const [method, level] of Object.entries(METHODS) as [keyof typeof METHODS, keyof typeof LEVELS][]) {
    const plain = console[method].bind(console)
    console[method] = (...args: unknown[]) => {
      if (LEVELS[level] < threshold) return
      if (config.encoding !== 'JSON') return plain(...args)
      const now = Date.now()
      const record = {
        asctime: new Date(now).toISOString().replace('T', ' ').replace('Z', '').replace('.', ','),
        levelname: level.toUpperCase(),
        message: format(...args),
        ...context(),
        timestamp_ns: now * 1_000_000,
      }
      const stream = LEVELS[level] >= LEVELS.warning ? process.stderr : process.stdout
      stream.write(`${JSON.stringify(record)}\n`)
    }
  }
}
