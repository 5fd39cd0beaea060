// Failure here looks like a handle whose calls wait for ever, or a table that grows with every actor that ever was.
import { expect, test } from 'vitest'
import type { ActorSpec } from '../wire/messages.ts'
import { ActorManager } from './actor-manager.ts'

function spec(actorId: string): ActorSpec {
  const options = { maxConcurrency: 1, concurrencyGroups: {}, methods: {} }
  return { actorId, className: 'A', name: null, owner: 1, maxRestarts: 0, lease: {}, options } as unknown as ActorSpec
}

test('[ACT-09] the last ten thousand dead actors are remembered', () => {
  const manager = new ActorManager(1000)
  for (let i = 0; i < 10_100; i++) {
    manager.create(1, spec(`a${i}`))
    manager.kill(`a${i}`, true, 'killed')
    manager.drain()
  }
  expect(manager.size).toBe(10_000)
})
