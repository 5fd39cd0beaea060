// What a driver does with placement groups, beside all else: makes some, runs tasks and actors in their bundles, and removes them.
//
// Numbers of its own: what else happens in a world does not follow from it.

import type { PlacementGroupId } from '../ids/ids.ts'
import type { GroupStrategy } from '../wire/groups.ts'
import type { Resources, SchedulingStrategy } from '../wire/messages.ts'
import type { CoreShell } from './core-shell.ts'
import { type Around, getQuietly, makeScript } from './driver.ts'
import type { SimGroup } from './group-judge.ts'
import type { SimRef } from './handles.ts'
import type { Await, Program } from './programs.ts'
import type { Random } from './random.ts'
import { createActor, submitTask } from './submit.ts'

const GROUPS_MAX = 5
const STRATEGIES: readonly GroupStrategy[] = ['PACK', 'SPREAD', 'STRICT_PACK', 'STRICT_SPREAD']
const BUNDLES: readonly Resources[] = [{ CPU: 10_000 }, { CPU: 5_000 }, { CPU: 10_000 }, { CPU: 20_000 }, {}]

export function* groupProgram(shell: CoreShell): Program {
  const { groups: random } = shell.cluster.world
  for (let count = random.int(1, GROUPS_MAX); count > 0; count--) {
    yield { t: 'sleep', ms: random.next() * 150 }
    const bundles = Array.from({ length: random.int(1, 4) }, () => ({ places: 1_000, ...random.pick(BUNDLES) }))
    const group = createGroup(shell, bundles, random.pick(STRATEGIES))
    if (random.chance(0.6)) yield whenReady(shell, group.groupId, random.next() * 1500)
    yield* use(shell, group)
    removeGroup(shell, group)
  }
  return undefined
}

/** Everything that runs there is over at the end, or will be when the group is removed. */
function* use(shell: CoreShell, group: SimGroup): Program {
  const { world, faults } = shell.cluster
  const { groups: random } = world
  const around: Around = { held: [], actors: [], depth: 1, isActor: false }
  const refs: SimRef[] = []
  for (let count = random.int(0, 4); count > 0; count--) {
    const [bundleIndex, resources] = place(group, random)
    const strategy: SchedulingStrategy = { kind: 'bundle', groupId: group.groupId, bundleIndex, captures: false }
    if (random.chance(0.2)) {
      const script = makeScript(random, faults, { ...around, isActor: true })
      const options = { detached: false, getIfExists: false, name: null, maxTaskRetries: 0, maxConcurrency: 1 }
      const maxRestarts = random.pick([0, 1, -1])
      const how = { ...options, maxRestarts, resources, placement: resources, dependencies: [], strategy }
      refs.push(createActor(shell, script, how))
    } else {
      const script = makeScript(random, faults, around)
      const options = { numReturns: 1, retries: random.pick([0, 1, 3, -1]), resources, strategy }
      refs.push(...submitTask(shell, script, options, 0).refs)
    }
    yield { t: 'sleep', ms: random.next() * 30 }
  }
  yield { t: 'sleep', ms: random.next() * (random.chance(0.3) ? 2000 : 100) }
  if (random.chance(0.5)) removeGroup(shell, group)
  else for (const ref of refs) if (ref.actorId === null) yield* getQuietly(ref, 500)
  removeGroup(shell, group)
  for (const ref of refs) {
    if (ref.actorId === null) yield* getQuietly(ref)
    ref.drop()
  }
  return undefined
}

function place({ bundles }: SimGroup, random: Random): [number, Resources] {
  const index = random.int(0, bundles.length - 1)
  const CPU = bundles[index]?.CPU ?? 0
  return [random.chance(0.3) ? -1 : index, random.chance(0.5) ? { CPU } : { CPU: CPU / 2 }]
}

function createGroup(shell: CoreShell, bundles: readonly Resources[], strategy: GroupStrategy): SimGroup {
  const { cluster, link, tag, jobId } = shell
  const groupId = cluster.nextGroupId()
  const group = { groupId, bundles }
  cluster.judge.groups.made(group, tag)
  const spec = {
    ...{ groupId, bundles, strategy, jobId, name: null, namespace: 'sim', softTargetNodeId: null },
    ...{ detached: false, creator: tag, creatorActorId: null },
  }
  link.send({ t: 'pg.create', spec })
  return group
}

/** Twice is once. */
function removeGroup(shell: CoreShell, { groupId }: SimGroup): void {
  shell.cluster.judge.groups.removed(groupId)
  shell.link.send({ t: 'pg.remove', groupId })
}

function whenReady(shell: CoreShell, groupId: PlacementGroupId, timeoutMs: number): Await {
  return {
    t: 'until',
    when: (go) => shell.link.request<'pg.ready'>((requestId) => ({ t: 'pg.wait', requestId, groupId, timeoutMs }), go),
  }
}
