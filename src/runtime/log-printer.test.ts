// Failure here looks like lines that vanish, or a terminal full of the same one.
import { expect, test } from 'vitest'
import type { LogBatch } from '../wire/messages.ts'
import { LogForwarder, UNREAD_BYTES_MAX } from './log-forwarder.ts'
import { LogPrinter } from './log-printer.ts'

function printer(env: NodeJS.ProcessEnv = {}, isTTY = false) {
  const clock = { now: 0 }
  const written: string[] = []
  const sink = { isTTY, write: (text: string) => void written.push(...text.split('\n').slice(0, -1)) }
  const made = new LogPrinter({ out: sink, err: sink }, env, () => clock.now)
  const say = (pid: number, ...lines: string[]): string[] => {
    written.length = 0
    made.print({ pid, jobId: '01000000', name: 'f', ip: '127.0.0.1', isError: false, lines })
    return [...written]
  }
  const flush = (): string[] => {
    written.length = 0
    made.flush()
    return [...written]
  }
  return { clock, say, flush }
}

test('[EXTRA-06] the first is shown at once, others are counted until the window ends, then counting goes on', () => {
  const { clock, say, flush } = printer()
  expect(say(1, 'epoch 1 done')).toEqual(['(f pid=1) epoch 1 done'])
  expect(say(1, 'epoch 2 done')).toEqual(['(f pid=1) epoch 2 done']) // Alone, it may repeat itself.
  expect(say(2, 'epoch 3 done')).toEqual([])
  expect(say(1, 'epoch 4 done')).toEqual([])
  clock.now = 5000
  const [folded, own] = say(3, 'another')
  expect(own).toMatch(/repeated 2x across cluster/)
  expect(own).toMatch(/^\(f pid=1\) epoch 4 done/)
  expect(folded).toBe('(f pid=3) another')
  expect(say(4, 'epoch 5 done')).toEqual([])
  expect(flush()).toEqual(['(f pid=4) epoch 5 done']) // Only one: shown as it is.
})

test('[EXTRA-06] lines of numbers only, and empty ones, are never folded', () => {
  const { say } = printer()
  expect(say(1, '12 34', '')).toEqual(['(f pid=1) 12 34', '(f pid=1) '])
  expect(say(2, '12 34', '')).toEqual(['(f pid=2) 12 34', '(f pid=2) '])
})

test('[EXTRA-06] colours: on a terminal, unless RAY_COLOR_PREFIX=0 or NO_COLOR; by pid with 1', () => {
  const cyan = '\u001b[36m(f pid=1)\u001b[0m hi'
  expect(printer({}, true).say(1, 'hi')).toEqual([cyan])
  expect(printer({ NO_COLOR: '1' }, true).say(1, 'hi')).toEqual(['(f pid=1) hi'])
  expect(printer({ RAY_COLOR_PREFIX: '0' }, true).say(1, 'hi')).toEqual(['(f pid=1) hi'])
  expect(printer({ RAY_COLOR_PREFIX: '1' }).say(6, 'hi')).toEqual(['\u001b[35m(f pid=6)\u001b[0m hi'])
})

test('[EXTRA-06] ten thousand different lines do not pile up for ever', () => {
  const { say, flush } = printer()
  for (let i = 0; i < 10_001; i++) say(1, `word ${'x'.repeat(i)}`)
  say(2, 'word') // The first of them was forgotten: it is new again.
  expect(say(3, 'word xx')).toEqual([])
  expect(flush()).toHaveLength(1)
})

test('[EXTRA-06] a driver that does not read loses lines, and hears how many', () => {
  const sent: LogBatch[] = []
  let unread = 0
  const forwarder = new LogForwarder({ send: (batch) => void sent.push(batch), unreadBytes: () => unread })
  const batch: LogBatch = { pid: 1, jobId: '01000000', name: 'f', ip: '127.0.0.1', isError: false, lines: ['a', 'b'] }
  forwarder.forward(batch)
  unread = UNREAD_BYTES_MAX + 1
  forwarder.forward(batch)
  forwarder.forward(batch)
  unread = 0
  forwarder.forward(batch)
  expect(sent.map(({ lines }) => lines.join())).toEqual(['a,b', expect.stringMatching(/^\[4 lines of workers/), 'a,b'])
})
