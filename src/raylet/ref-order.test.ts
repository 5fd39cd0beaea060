// Fails when a process lets go of a value before the reference that it found there is held, or when what is held back never leaves.

import { expect, test } from 'vitest'
import { ClusterView } from './cluster-view.ts'
import { Hub } from './hub.ts'
import { Outbox } from './outbox.ts'

const [A, B] = ['a', 'b']
/** Of this node; owners on the nodes a and b. */
const [OWN, OTHER, OF_A, OF_B] = [1, 2, 256, 512] as const

function world() {
  const view = new ClusterView({ nodeId: 'c', state: 'ALIVE', total: {}, available: {}, labels: {} })
  view.addTags({ first: 1, count: 255 })
  view.learnTags(A, [{ first: 256, count: 256 }])
  view.learnTags(B, [{ first: 512, count: 256 }])
  const out = new Outbox()
  const hub = new Hub(view, out, (tag) => tag < 256)
  const said = (): string[] =>
    out.take().flatMap((one) => {
      if (one.kind !== 'local' || one.event.t !== 'toPeer') return []
      const { nodeId, message } = one.event
      const what = message.t === 'ref.route' ? message.body.t : message.t
      return [`${what} ${'flushId' in message ? message.flushId : ''}${nodeId}`]
    })
  const add = (from: number, to: number): void =>
    hub.route(from, to, { t: 'ref.add', id: 7, borrower: from, via: from })
  const remove = (from: number, to: number): void =>
    hub.route(from, to, { t: 'ref.remove', id: 8, borrower: from, count: 1 })
  return { hub, said, add, remove }
}

test('[ARCH-21] what ends a hold waits until another node has heard of the holds before it (E1)', () => {
  const { hub, said, add, remove } = world()
  add(OWN, OF_A)
  remove(OWN, OF_A) // The same road.
  remove(OTHER, OF_B) // Another process.
  expect(said()).toEqual(['ref.add a', 'ref.remove a', 'ref.remove b'])
  remove(OWN, OF_B)
  remove(OWN, OF_B)
  expect([said(), hub.asked]).toEqual([['ref.flush 1a'], 1])
  add(OWN, OF_A)
  remove(OWN, OF_B)
  expect(said()).toEqual(['ref.add a', 'ref.flush 2a'])
  hub.onPeer(A, { t: 'ref.flushed', flushId: 1 })
  expect(said()).toEqual(['ref.remove b', 'ref.remove b'])
  hub.onPeer(A, { t: 'ref.flushed', flushId: 2 })
  expect([said(), hub.asked]).toEqual([['ref.remove b'], 0])
  remove(OWN, OF_B)
  expect(said()).toEqual(['ref.remove b'])
})

test('[ARCH-21] nothing waits for a dead node; a process that ends has said all (E2)', () => {
  const { hub, said, add, remove } = world()
  add(OWN, OF_A)
  remove(OWN, OF_B)
  add(OTHER, OF_A)
  remove(OTHER, OF_B)
  said()
  hub.onWorkerDied(OWN)
  expect(said()).toEqual(['ref.remove b'])
  hub.onNodeDied(A)
  expect([said(), hub.asked]).toEqual([['ref.remove b'], 0])
})

test('[ARCH-21] a flush is answered after what came before it', () => {
  const { hub, said } = world()
  hub.onPeer(A, { t: 'ref.flush', flushId: 3 })
  expect(said()).toEqual(['ref.flushed 3a'])
})

test("[ARCH-21] a question that is taken back is told to the owner's node, also when it was answered", () => {
  const { hub, said } = world()
  const id = OF_A * 2 ** 32
  hub.resolve(OWN, id)
  hub.unresolve(OWN, id)
  expect([said(), hub.asked]).toEqual([['object.resolve a', 'object.unresolve a'], 0])
  hub.resolve(OWN, id)
  hub.onPeer(A, { t: 'object.resolved', to: OWN, id, location: null, error: null })
  hub.unresolve(OWN, id)
  expect(said()).toEqual(['object.resolve a', 'object.unresolve a'])
})
