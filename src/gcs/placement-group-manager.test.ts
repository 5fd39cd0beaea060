// Failure would look like: half a group committed, bundles that nobody returns, a group that never tries again, or a name that stays
// taken by a group that is gone.

import { expect, test } from 'vitest'
import { NodeTable, type SchedulableNode } from '../scheduling/node-table.ts'
import { subtract, toResources } from '../scheduling/resources.ts'
import type { GroupAnswer, GroupInfo, GroupSpec, GroupStrategy } from '../wire/groups.ts'
import { PlacementGroupManager } from './placement-group-manager.ts'

class Fixture {
  readonly table = new NodeTable()
  readonly manager: PlacementGroupManager
  readonly living = new Set<string>()
  readonly timers: { readonly key: string; readonly afterMs: number }[] = []
  readonly answers: GroupAnswer[] = []
  readonly followed: string[] = []
  changes = 0
  now = 0
  #groups = 0

  constructor(nodes: Readonly<Record<string, number>>) {
    for (const [nodeId, CPU] of Object.entries(nodes)) this.add(nodeId, CPU)
    this.manager = new PlacementGroupManager({
      table: () => this.table,
      take: (nodeId, resources) => {
        const node = this.table.get(nodeId) as SchedulableNode
        const available = { ...node.available }
        subtract(available, resources)
        this.table.set({ ...node, available })
      },
      isActorAlive: (actorId) => this.living.has(actorId),
    })
  }

  add(nodeId: string, CPU: number): void {
    const total = toResources({ CPU })
    this.table.set({ nodeId, state: 'ALIVE', total, available: total, labels: {} })
  }

  create(CPUs: readonly number[], strategy: GroupStrategy, more: Partial<GroupSpec> = {}): string {
    const groupId = `g${++this.#groups}`
    const bundles = CPUs.map((CPU) => toResources({ CPU }))
    const own = { name: null, namespace: '', softTargetNodeId: null, detached: false, jobId: '01', creator: 1 }
    const spec: GroupSpec = { groupId, strategy, bundles, ...own, creatorActorId: null, ...more }
    this.manager.onRequest(this.now, 1, { t: 'pg.create', spec })
    return groupId
  }

  /** What nodes were told since the last call: `a prepare g1.0 #1`. */
  told(): string[] {
    const told: string[] = []
    for (const effect of this.manager.drain()) {
      if (effect.t === 'timer') this.timers.push(effect)
      else if (effect.t === 'changed') this.changes++
      else if (effect.t === 'send') this.answers.push(effect.message as GroupAnswer)
      else if (effect.t === 'bundles') {
        const { nodeId, step } = effect
        const { groupId, indices } = step.bundles
        const attempt = 'attempt' in step ? ` #${step.attempt}` : ''
        const whole = 'isWhole' in step && step.isWhole ? ' whole' : ''
        told.push(`${nodeId} ${step.t} ${groupId}.${indices.join('+')}${attempt}${whole}`)
      } else if (effect.message.t === 'group.is') {
        const { group } = effect.message
        const nodes = group.bundles.map(({ nodeId }) => nodeId ?? '-')
        this.followed.push(`${effect.nodeId}: ${group.state} ${nodes.join(' ')}`)
      }
    }
    return told
  }

  prepared(groupId: string, indices: readonly number[], attempt: number, isReserved = true): void {
    this.manager.answered(this.now, { t: 'prepared', bundles: { groupId, indices }, attempt, isReserved })
  }

  committed(groupId: string, indices: readonly number[], attempt: number): void {
    this.manager.answered(this.now, { t: 'committed', bundles: { groupId, indices }, attempt })
  }

  make(CPUs: readonly number[], strategy: GroupStrategy, more: Partial<GroupSpec> = {}): string {
    const groupId = this.create(CPUs, strategy, more)
    const indices = CPUs.map((_, index) => index)
    if (new Set(this.info(groupId).nodes).size > 1) this.prepared(groupId, indices, 1)
    this.committed(groupId, indices, 1)
    expect(this.info(groupId).state).toBe('CREATED')
    this.told()
    return groupId
  }

  info(groupId: string): GroupInfo {
    this.manager.onRequest(this.now, 9, { t: 'pg.table', requestId: 0, groupId })
    this.told()
    const answer = this.answers.pop() as GroupAnswer & { t: 'pg.tableIs' }
    return answer.groups[0] as GroupInfo
  }
}

test('[PG-01] nothing is committed before all is prepared; waiters hear of it when all is committed (R1, R5)', () => {
  const world = new Fixture({ a: 2, b: 2 })
  const group = world.create([1, 1], 'STRICT_SPREAD')
  world.manager.onRequest(0, 7, { t: 'pg.wait', requestId: 3, groupId: group, timeoutMs: null })
  expect(world.told()).toEqual(['a prepare g1.0 #1', 'b prepare g1.1 #1'])
  world.prepared(group, [0], 1)
  expect([world.told(), world.info(group).state]).toEqual([[], 'PENDING'])
  world.prepared(group, [1], 1)
  expect(world.info(group).state).toBe('PREPARED')
  world.committed(group, [1], 1)
  expect(world.info(group).state).toBe('PREPARED')
  world.now = 5
  world.committed(group, [0], 1)
  expect(world.info(group)).toMatchObject({ state: 'CREATED', nodes: ['a', 'b'], reason: '', stats: { creationMs: 5 } })
  expect(world.answers).toEqual([{ t: 'pg.ready', requestId: 3, isReady: true, error: null }])
})

test('[PG-01] a node that was asked again after its connection broke, and refused once, keeps nothing', () => {
  const world = new Fixture({ a: 1 })
  const group = world.create([1], 'PACK')
  expect(world.told()).toEqual(['a prepare g1.0 #1 whole'])
  world.manager.nodeResumed('a')
  expect(world.told()).toEqual(['a prepare g1.0 #1 whole'])
  world.prepared(group, [0], 1, false)
  expect(world.told()).toEqual(['a return g1.0']) // After the second question, which may find room.
  world.committed(group, [0], 1)
  expect(world.info(group).nodes).toEqual([null])
})

test('[PG-01] when one node refuses, all return theirs, and it is tried again after 100 … 1000 ms', () => {
  const world = new Fixture({ a: 2, b: 2 })
  const group = world.create([1, 1], 'STRICT_SPREAD')
  world.told()
  world.prepared(group, [0], 1)
  world.prepared(group, [1], 1, false)
  // At the one that refused too: asked twice over two connections, it may have reserved it the second time.
  expect(world.told()).toEqual(['a return g1.0', 'b return g1.1'])
  expect(world.timers).toEqual([{ t: 'timer', key: 'retry g1', afterMs: 100 }])
  world.committed(group, [0], 1) // R3: late words change nothing.
  for (let attempt = 3; attempt <= 15; attempt += 2) {
    for (const nodeId of ['a', 'b']) world.add(nodeId, 2) // They have reported.
    world.manager.onTimer('retry g1')
    expect(world.told()).toContain(`a prepare g1.0 #${attempt}`)
    world.prepared(group, [1], attempt, false)
    expect(world.told()).toEqual(['a return g1.0', 'b return g1.1']) // It may have prepared: its answer is under way.
  }
  expect(world.timers.map(({ afterMs }) => afterMs)).toEqual([100, 150, 225, 337.5, 506.25, 759.375, 1000, 1000])
})

test('[PG-02] what fits no node waits with the reason, and goes as soon as a node joins', () => {
  const world = new Fixture({ a: 2, b: 3 })
  const group = world.create([2, 2], 'STRICT_PACK')
  expect(world.told()).toEqual([])
  expect(world.info(group)).toMatchObject({
    state: 'PENDING',
    reason: 'its bundles together ask for {CPU: 4} on one node, but the largest node has {CPU: 3}',
    stats: { schedulingState: 'INFEASIBLE' },
  })
  world.add('c', 4)
  world.manager.nodeJoined(0, 'c', [])
  expect(world.told()).toEqual(['c prepare g1.0+1 #1 whole'])
})

test('[PG-01][PG-03] what goes to one node is reserved and usable in one round trip; a refusal, and nothing is', () => {
  const world = new Fixture({ a: 2, b: 2 })
  const group = world.create([1, 1], 'STRICT_PACK')
  world.manager.onRequest(0, 7, { t: 'pg.wait', requestId: 3, groupId: group, timeoutMs: null })
  expect(world.told()).toEqual(['a prepare g1.0+1 #1 whole'])
  world.prepared(group, [0, 1], 1, false)
  expect([world.told(), world.info(group).nodes]).toEqual([['a return g1.0+1'], [null, null]])
  world.manager.onTimer('retry g1')
  expect(world.told()).toEqual(['b prepare g1.0+1 #3 whole'])
  world.committed(group, [0, 1], 1) // R3
  expect(world.info(group).state).toBe('PENDING')
  world.committed(group, [0, 1], 3)
  expect(world.info(group)).toMatchObject({ state: 'CREATED', nodes: ['b', 'b'] })
  expect([world.told(), world.answers]).toEqual([[], [{ t: 'pg.ready', requestId: 3, isReady: true, error: null }]])
})

test('[PG-01] what goes to two nodes is committed on neither before both have prepared, also when a node is told again', () => {
  const world = new Fixture({ a: 2, b: 1 })
  const group = world.create([1, 1, 1], 'SPREAD')
  expect(world.told()).toEqual(['a prepare g1.0+2 #1', 'b prepare g1.1 #1'])
  world.manager.nodeResumed('a')
  expect(world.told()).toEqual(['a prepare g1.0+2 #1'])
  world.prepared(group, [1], 1)
  world.manager.nodeResumed('a')
  expect(world.told()).toEqual(['a prepare g1.0+2 #1'])
  world.prepared(group, [0, 2], 1)
  expect(world.told()).toEqual(['a commit g1.0+2 #1', 'b commit g1.1 #1'])
})

test('[PG-03] PACK takes one node while one has room', () => {
  const world = new Fixture({ a: 2, b: 4 })
  expect(world.info(world.make([1, 1, 1], 'PACK')).nodes).toEqual(['b', 'b', 'b'])
})

test('[PG-04] STRICT_SPREAD of three on two nodes waits; [PG-05] SPREAD does not', () => {
  const world = new Fixture({ a: 4, b: 4 })
  const strict = world.create([1, 1, 1], 'STRICT_SPREAD')
  expect(world.told()).toEqual([])
  expect(world.info(strict).state).toBe('PENDING')
  expect(new Set(world.info(world.make([1, 1, 1], 'SPREAD')).nodes)).toEqual(new Set(['a', 'b']))
})

test('[PG-11] bundles of a dead node find another, the others stay; who follows hears of both', () => {
  const world = new Fixture({ a: 1, b: 1, c: 1 })
  const group = world.make([1, 1], 'STRICT_SPREAD')
  world.manager.follow('a', group)
  world.table.delete('b')
  world.manager.nodeDied(0, 'b')
  expect(world.told()).toEqual(['c prepare g1.1 #2 whole'])
  expect(world.info(group)).toMatchObject({ state: 'RESCHEDULING', nodes: ['a', 'c'] })
  world.committed(group, [1], 2)
  expect(world.info(group)).toMatchObject({ state: 'CREATED', nodes: ['a', 'c'] })
  expect(world.followed).toEqual(['a: CREATED a b', 'a: RESCHEDULING a -', 'a: CREATED a c'])
})

test('[PG-11] a node that dies while bundles are prepared: all of the attempt return, and are planned anew', () => {
  const world = new Fixture({ a: 1, b: 1 })
  const group = world.create([1, 1], 'STRICT_SPREAD')
  world.prepared(group, [0], 1)
  world.told()
  world.table.delete('b')
  world.manager.nodeDied(0, 'b')
  expect(world.told()).toEqual(['a return g1.0'])
  world.add('a', 1)
  world.add('c', 1)
  world.manager.nodeJoined(0, 'c', [])
  expect(world.told().length).toBe(2)
})

test('[PG-11] a node that dies between prepare and commit loses its bundle; the rest is committed', () => {
  const world = new Fixture({ a: 1, b: 1, c: 1 })
  const group = world.create([1, 1], 'STRICT_SPREAD')
  world.prepared(group, [0, 1], 1)
  world.told()
  world.table.delete('b')
  world.manager.nodeDied(0, 'b')
  world.committed(group, [0], 1)
  expect(world.told()).toEqual(['c prepare g1.1 #2 whole'])
  expect(world.info(group).state).toBe('RESCHEDULING')
})

test('a removed group returns all, answers who waits, and frees its name; what comes late changes nothing (R4)', () => {
  const world = new Fixture({ a: 2 })
  const group = world.create([1, 1], 'PACK', { name: 'n' })
  world.manager.onRequest(0, 7, { t: 'pg.wait', requestId: 3, groupId: group, timeoutMs: 50 })
  world.told()
  world.manager.onRequest(0, 1, { t: 'pg.remove', groupId: group })
  expect(world.told()).toEqual(['a return g1.0+1'])
  expect(world.answers.pop()).toMatchObject({
    t: 'pg.ready',
    isReady: false,
    error: { code: 'PLACEMENT_GROUP_REMOVED' },
  })
  world.committed(group, [0, 1], 1)
  world.manager.onRequest(0, 1, { t: 'pg.remove', groupId: group })
  world.manager.onTimer('wait g1 7 3')
  expect([world.told(), world.answers]).toEqual([[], []])
  world.add('a', 2)
  expect(world.info(world.make([1], 'PACK', { name: 'n' })).state).toBe('CREATED')
})

test('a name that is taken: the second group is gone at once, the first keeps it', () => {
  const world = new Fixture({ a: 2 })
  const first = world.make([1], 'PACK', { name: 'n' })
  const second = world.create([1], 'PACK', { name: 'n' })
  world.manager.onRequest(0, 7, { t: 'pg.wait', requestId: 3, groupId: second, timeoutMs: null })
  expect(world.told()).toEqual([])
  expect(world.answers.pop()).toMatchObject({ error: { code: 'PLACEMENT_GROUP_NAME_TAKEN' } })
  world.manager.onRequest(0, 7, { t: 'pg.find', requestId: 4, name: 'n', namespace: '' })
  world.told()
  expect(world.answers.pop()).toMatchObject({ t: 'pg.found', info: { groupId: first } })
})

test('a wait whose time is over is answered, once', () => {
  const world = new Fixture({ a: 1 })
  const group = world.create([2], 'PACK')
  world.manager.onRequest(0, 7, { t: 'pg.wait', requestId: 3, groupId: group, timeoutMs: 50 })
  world.told()
  expect(world.timers.pop()).toEqual({ t: 'timer', key: 'wait g1 7 3', afterMs: 50 })
  world.manager.onTimer('wait g1 7 3')
  world.manager.onTimer('wait g1 7 3')
  world.told()
  expect(world.answers).toEqual([{ t: 'pg.ready', requestId: 3, isReady: false, error: null }])
})

test('groups end with their job; detached ones do not; those of an actor when it is dead too (R6)', () => {
  const world = new Fixture({ a: 9 })
  const [own, detached] = [world.make([1], 'PACK'), world.make([1], 'PACK', { detached: true })]
  const [ofActor, other] = [world.make([1], 'PACK', { creatorActorId: 'x' }), world.make([1], 'PACK', { jobId: '02' })]
  const states = (): string[] => [own, detached, ofActor, other].map((group) => world.info(group).state)
  world.living.add('x')
  world.manager.jobEnded('01')
  expect(states()).toEqual(['REMOVED', 'CREATED', 'CREATED', 'CREATED'])
  world.living.delete('x')
  world.manager.actorsChanged()
  expect(states()).toEqual(['REMOVED', 'CREATED', 'REMOVED', 'CREATED'])
})

test('a node that comes back: what it should not hold is returned, what it lacks is lost', () => {
  const world = new Fixture({ a: 1, b: 1 })
  const group = world.make([1], 'PACK')
  const [at] = world.info(group).nodes as [string]
  const elsewhere = at === 'a' ? 'b' : 'a'
  world.manager.nodeJoined(0, elsewhere, [{ groupId: group, index: 0 }])
  expect(world.told()).toEqual([`${elsewhere} return g1.0`])
  world.manager.nodeJoined(0, at, [{ groupId: group, index: 0 }])
  expect(world.told()).toEqual([])
  world.manager.nodeJoined(0, at, [])
  expect(world.told()).toEqual([`${elsewhere} prepare g1.0 #2 whole`])
})

test('an actor in a group: waits for its bundle, goes there, or is refused when it is too large or the group gone', () => {
  const world = new Fixture({ a: 4 })
  const group = world.create([1], 'PACK')
  const strategy = { kind: 'bundle', groupId: group, bundleIndex: -1, captures: false } as const
  const place = (CPU: number): unknown =>
    world.manager.place(
      {
        ...{ resources: toResources({ CPU }), strategy, runtimeEnv: {}, jobId: '01', priority: 0 },
        ...{ onInfeasible: 'fail', name: 'A', retriable: false },
      },
      strategy,
    )
  expect(place(1)).toEqual({ kind: 'wait' })
  world.committed(group, [0], 1)
  expect(place(1)).toEqual({ kind: 'node', nodeId: 'a', mayWait: true })
  expect(place(2)).toMatchObject({ kind: 'refused', error: { code: 'BUNDLE_TOO_SMALL' } })
  world.manager.onRequest(0, 1, { t: 'pg.remove', groupId: group })
  expect(place(1)).toMatchObject({ kind: 'refused', error: { code: 'TASK_PLACEMENT_GROUP_REMOVED' } })
})
