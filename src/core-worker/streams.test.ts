// Fails when an item comes twice, is lost, or the end is seen before the last one.

import { expect, test } from 'vitest'
import { Streams } from './streams.ts'

test('[TASK-01] items come once and in order, then the end (G1, G3)', () => {
  const streams = new Streams()
  streams.open(1)
  expect(streams.next(1)).toBe('wait')
  streams.add(1, 0, 100)
  expect([streams.accepts(1, 0), streams.accepts(1, 2), streams.accepts(1, 1)]).toEqual([false, false, true])
  streams.add(1, 1, 101)
  streams.finish(1)
  expect([streams.next(1), streams.next(1), streams.next(1)]).toEqual([100, 101, 'end'])
})

test('[TASK-01] what nobody takes is given back when the stream is given up', () => {
  const streams = new Streams()
  streams.open(1)
  streams.add(1, 0, 100)
  streams.add(1, 1, 101)
  streams.next(1)
  expect([streams.abandon(1), streams.accepts(1, 2), streams.next(1)]).toEqual([[101], false, 'end'])
})
