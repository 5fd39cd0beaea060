// Fails when a question is answered twice, never, or with an old value.

import { expect, test } from 'vitest'
import { Kv } from './kv.ts'

test('[ARCH-05] a waiting question is answered by the first put, once (K1)', () => {
  const kv = new Kv()
  const value = Buffer.from('v')
  expect([kv.get(7, 1, 'k', true), kv.get(8, 2, 'k', false)]).toEqual([undefined, { to: 8, requestId: 2, value: null }])
  expect(kv.put('k', value, false)).toEqual([{ to: 7, requestId: 1, value }])
  expect(kv.put('k', Buffer.from('w'), false)).toEqual([])
  expect(kv.get(7, 3, 'k', true)).toEqual({ to: 7, requestId: 3, value })
  expect([kv.keys('k'), kv.delete('k'), kv.keys('')]).toEqual([['k'], undefined, []])
})
