// Fails when an object goes while somebody holds it, or stays when nobody does.

import { expect, test } from 'vitest'
import { makeObjectId } from '../ids/ids.ts'
import type { Effects } from './effects.ts'
import { ReferenceTable } from './reference-table.ts'

const OWN = makeObjectId(1, 5)
const OTHERS = makeObjectId(2, 9)
const STORED = { kind: 'stored', storageId: makeObjectId(3, 1), size: 10, refs: [OTHERS] } as const

const unpublished = { t: 'toNode', message: { t: 'object.unpublish', ids: [OWN] } }

function tableOf(): { table: ReferenceTable; fx: Effects; take: () => unknown[] } {
  const fx: Effects = []
  return { table: new ReferenceTable(1, () => new Uint8Array(1)), fx, take: () => fx.splice(0) }
}

test('[ARCH-21] the last hold of an owned object frees its copy and what it contains (R3)', () => {
  const { table, fx, take } = tableOf()
  table.create(OWN)
  table.hold(OTHERS)
  table.granted(OTHERS)
  table.fulfil(OWN, STORED, fx)
  expect(take()).toEqual([{ t: 'ready', id: OWN }])
  table.release(OWN, fx)
  expect(take()).toEqual([
    { t: 'toNode', message: { t: 'object.free', storageIds: [STORED.storageId] } },
    {
      t: 'toNode',
      message: { t: 'ref.route', to: 2, body: { t: 'ref.remove', id: OTHERS, borrower: 1, count: 1 } },
    },
  ])
  table.check()
})

test('[ARCH-21] a borrower keeps it; counts add up in any order (R1)', () => {
  const { table, fx, take } = tableOf()
  table.create(OWN)
  table.onRefMessage({ t: 'ref.remove', id: OWN, borrower: 4, count: 1 }, fx) // Its ref.add is still on its way.
  table.release(OWN, fx)
  table.check()
  expect(table.owned.has(OWN)).toBe(true)
  table.onRefMessage({ t: 'ref.add', id: OWN, borrower: 4, via: 4 }, fx)
  expect([table.owned.has(OWN), take()]).toEqual([false, []])
})

test('[ARCH-21] who waits no more for a value takes the question back (R7)', () => {
  const { table, fx, take } = tableOf()
  const unresolve = { t: 'toNode', message: { t: 'object.unresolve', id: OTHERS } }
  table.hold(OTHERS)
  table.look(OTHERS, fx)
  take()
  table.onLost(OTHERS, fx)
  expect(take()).toEqual([unresolve, { t: 'ready', id: OTHERS }])
  table.release(OTHERS, fx)
  table.hold(OTHERS)
  table.look(OTHERS, fx)
  take()
  table.release(OTHERS, fx)
  expect(take()).toEqual([unresolve])
})

test('[ARCH-21] an escaped reference is published when its value is there, and withdrawn with it (R4)', () => {
  const { table, fx, take } = tableOf()
  table.create(OWN)
  table.grant(OWN, 4, fx)
  table.fulfil(OWN, { kind: 'inline', bytes: Buffer.from('x'), refs: [] }, fx)
  const location = { kind: 'inline', bytes: Buffer.from('x'), refs: [] }
  expect(take()).toEqual([
    { t: 'toNode', message: { t: 'object.publish', id: OWN, location } },
    { t: 'ready', id: OWN },
  ])
  table.release(OWN, fx)
  expect(take()).toEqual([])
  table.onWorkerDied(4, fx)
  expect(take()).toEqual([{ t: 'toNode', message: { t: 'object.unpublish', ids: [OWN] } }])
})

test('[ARCH-21] a hold that comes too late is answered, and fails the borrower instead of leaving it to wait (R5)', () => {
  const { table, fx, take } = tableOf()
  table.onRefMessage({ t: 'ref.add', id: OWN, borrower: 4, via: 4 }, fx)
  const body = { t: 'ref.lost', id: OWN } as const
  expect(take()).toEqual([{ t: 'toNode', message: { t: 'ref.route', to: 4, body } }])
  table.adopt(OTHERS, fx)
  expect(table.look(OTHERS, fx).kind).toBe('pending')
  take()
  table.onLost(OTHERS, fx)
  expect([table.look(OTHERS, fx).kind, take().at(-1)]).toEqual(['error', { t: 'ready', id: OTHERS }])
})

test('[ARCH-21] a borrowed reference gives back all its grants, once (R2)', () => {
  const { table, fx, take } = tableOf()
  table.hold(OTHERS)
  table.granted(OTHERS)
  table.granted(OTHERS)
  table.release(OTHERS, fx)
  const body = { t: 'ref.remove', id: OTHERS, borrower: 1, count: 2 } as const
  expect(take()).toEqual([{ t: 'toNode', message: { t: 'ref.route', to: 2, body } }])
  table.release(OTHERS, fx)
  expect(take()).toEqual([])
})

test('[ARCH-21] what somebody counted for us and was killed before it gave it is not kept (R6)', () => {
  const { table, fx, take } = tableOf()
  table.create(OWN)
  table.onRefMessage({ t: 'ref.add', id: OWN, borrower: 1, via: 4 }, fx)
  table.release(OWN, fx)
  expect(table.owned.has(OWN)).toBe(true)
  take()
  table.onWorkerDied(4, fx)
  expect([table.owned.has(OWN), take()]).toEqual([false, [unpublished]])
})

test('[ARCH-21] what a dead process had given to somebody else lives until that one says that nothing more comes (R6)', () => {
  const { table, fx, take } = tableOf()
  table.create(OWN)
  table.onRefMessage({ t: 'ref.add', id: OWN, borrower: 5, via: 4 }, fx)
  table.release(OWN, fx)
  take()
  table.onWorkerDied(4, fx)
  const asked = { t: 'ref.settle', of: 4, owner: 1 } as const
  expect([table.owned.has(OWN), take()]).toEqual([
    true,
    [{ t: 'toNode', message: { t: 'ref.route', to: 5, body: asked } }],
  ])
  table.onRefMessage({ t: 'ref.accept', id: OWN, borrower: 5, via: 4, isLate: true }, fx)
  table.onRefMessage({ t: 'ref.settled', of: 4, borrower: 5 }, fx)
  expect([...(table.owned.get(OWN)?.borrowers ?? [])]).toEqual([[5, 1]])
  table.onRefMessage({ t: 'ref.remove', id: OWN, borrower: 5, count: 1 }, fx)
  expect(table.owned.has(OWN)).toBe(false)
})

test('[ARCH-21] of the copies that a dead process made for us, those of which we never heard are freed (R6)', () => {
  const { table, fx, take } = tableOf()
  table.create(OWN)
  table.fulfil(OWN, { ...STORED, refs: [] }, fx)
  take()
  const unheard = makeObjectId(3, 2)
  table.claim([STORED.storageId, unheard], fx)
  expect(take()).toEqual([{ t: 'toNode', message: { t: 'object.free', storageIds: [unheard] } }])
})

const COPY = makeObjectId(7, 1)
const freed = (storageId: number) => ({ t: 'toNode', message: { t: 'object.free', storageIds: [storageId] } })
const released = {
  t: 'toNode',
  message: { t: 'ref.route', to: 2, body: { t: 'ref.remove', id: OTHERS, borrower: 1, count: 1 } },
}

/** Owned, stored, known to a borrower; its copy is lost. */
function suspended(): ReturnType<typeof tableOf> {
  const one = tableOf()
  const { table, fx, take } = one
  table.create(OWN)
  table.grant(OWN, 4, fx)
  table.hold(OTHERS)
  table.granted(OTHERS)
  table.fulfil(OWN, STORED, fx)
  take()
  expect(table.suspend((storageId) => storageId === STORED.storageId, fx)).toEqual([STORED.storageId])
  expect(take()).toEqual([{ t: 'toNode', message: { t: 'object.withdraw', ids: [OWN] } }])
  expect(table.look(OWN, fx).kind).toBe('pending')
  return one
}

test('[FT-03][ARCH-21] another copy takes the place of a lost one: it is published, holds what it contains, and is freed in the end', () => {
  const { table, fx, take } = suspended()
  expect(table.rescued(STORED.storageId, COPY, fx)).toEqual({ id: OWN, isHopeless: false })
  const location = { ...STORED, storageId: COPY }
  expect(take()).toEqual([
    { t: 'toNode', message: { t: 'object.publish', id: OWN, location } },
    { t: 'ready', id: OWN },
  ])
  table.check()
  table.release(OWN, fx)
  table.onWorkerDied(4, fx)
  expect(take()).toContainEqual(freed(COPY))
})

test('[FT-03][ARCH-21] a copy that is found when its object is gone, or was freed, is freed too', () => {
  const gone = suspended()
  gone.table.release(OWN, gone.fx)
  gone.table.onWorkerDied(4, gone.fx)
  gone.take()
  expect(gone.table.rescued(STORED.storageId, COPY, gone.fx)).toBeUndefined()
  expect(gone.take()).toEqual([freed(COPY), released])
  const free = suspended()
  expect(free.table.freeNow(OWN, free.fx)).toBe(true)
  free.take()
  expect(free.table.rescued(STORED.storageId, COPY, free.fx)).toBeUndefined()
  expect(free.take()).toEqual([freed(COPY), released])
})

test('[FT-03] without another copy, what cannot be made again is hopeless', () => {
  const { table, fx, take } = suspended()
  expect(table.rescued(STORED.storageId, null, fx)).toEqual({ id: OWN, isHopeless: true })
  expect(take()).toEqual([released])
})
