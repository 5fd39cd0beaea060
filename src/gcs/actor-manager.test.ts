// Failure here looks like a handle whose calls wait for ever, or a table that grows with every actor that ever was.
import { expect, test } from 'vitest'
import type { ActorSpec } from '../wire/messages.ts'
import { ActorManager, type ActorNodes } from './actor-manager.ts'

const ONE_NODE: ActorNodes = {
  place: () => ({ kind: 'node', nodeId: 'n', mayWait: true }),
  nodeOf: () => 'n',
  isAwaited: () => false,
}

function spec(actorId: string): ActorSpec {
  const options = { maxConcurrency: 1, concurrencyGroups: {}, methods: {} }
  const lease = { resources: {} }
  const args = { args: new Uint8Array(0), argRefs: [] }
  return {
    actorId,
    className: 'A',
    name: null,
    owner: 1,
    maxRestarts: 0,
    lease,
    options,
    ...args,
  } as unknown as ActorSpec
}

test('[ACT-09] the last ten thousand dead actors are remembered, and of others that they died', () => {
  const manager = new ActorManager(1000, ONE_NODE)
  manager.joined(1)
  for (let i = 0; i < 10_100; i++) {
    manager.create(1, spec(`a${i}`))
    manager.kill(`a${i}`, true, 'killed')
    manager.drain()
  }
  expect(manager.size).toBe(10_000)
  manager.subscribe(7, 'a5', 1)
  const reason = 'it died long ago'
  expect(manager.drain()).toMatchObject([{ t: 'send', to: 7, message: { info: { state: 'DEAD', death: { reason } } } }])
})

test('[ACT-14] who asks for an actor before it is made hears of it when it is, or when its owner dies', () => {
  const manager = new ActorManager(1000, ONE_NODE)
  manager.joined(1)
  manager.subscribe(5, 'a1', 1)
  manager.subscribe(5, 'a2', 1)
  expect(manager.drain()).toEqual([])
  manager.create(1, spec('a1'))
  const told = manager.drain().flatMap((effect) => (effect.t === 'send' ? [[effect.to, effect.message.t]] : []))
  expect(told).toEqual([[5, 'actor.state']])
  const exit = { tag: 1, pid: 1, code: 1, signal: null, lastLines: [], reason: 'crashed', detail: '' } as const
  manager.workerGone(exit)
  const states = manager
    .drain()
    .flatMap((effect) => (effect.t === 'send' && effect.message.t === 'actor.state' ? [effect.message.info] : []))
  expect(states.map(({ actorId, state }) => [actorId, state])).toEqual([
    ['a2', 'DEAD'],
    ['a1', 'DEAD'],
  ])
  manager.subscribe(6, 'a3', 1)
  expect(manager.drain()).toMatchObject([{ t: 'send', to: 6, message: { info: { actorId: 'a3', state: 'DEAD' } } }])
})

test('[ACT-03] an actor whose argument failed is dead for everybody who asked', () => {
  const manager = new ActorManager(1000, ONE_NODE)
  manager.joined(1)
  manager.subscribe(5, 'a1', 1)
  manager.createFailed(1, spec('a1'), Buffer.from('why'))
  const told = manager.drain().flatMap((effect) => (effect.t === 'send' ? [effect] : []))
  expect(told).toMatchObject([1, 5].map((to) => ({ to, message: { info: { state: 'DEAD' } } })))
})
