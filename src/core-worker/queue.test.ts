// Fails when the queue is not first in, first out, whatever is put back or taken out of the middle.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Queue } from './queue.ts'

test('[TASK-14] a queue does what an array does', () => {
  const step = fc.oneof(
    fc.record({ t: fc.constant('push' as const), n: fc.nat(9) }),
    fc.record({ t: fc.constant('unshift' as const), n: fc.nat(9) }),
    fc.record({ t: fc.constant('shift' as const), n: fc.nat(0) }),
    fc.record({ t: fc.constant('remove' as const), n: fc.nat(9) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const queue = new Queue<number>()
      const array: number[] = []
      for (const { t, n } of steps) {
        if (t === 'remove') {
          const at = array.indexOf(n)
          expect(queue.remove((item) => item === n)).toBe(at < 0 ? undefined : array.splice(at, 1)[0])
        } else if (t === 'shift') expect(queue.shift()).toBe(array.shift())
        else {
          queue[t](n)
          array[t](n)
        }
        expect([queue.length, queue.peek(), ...queue]).toEqual([array.length, array[0], ...array])
      }
    }),
  )
})
