// Placement groups on one node, with real processes. Failure would look like: half a group reserved, a task outside its bundle,
// resources that do not come back, or a task that hangs although its group is gone.

import * as ray from 'ray-ts'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { startProgram, until } from './helpers.ts'

const { placementGroup, placementGroupTable, removePlacementGroup, getPlacementGroup } = ray.util
const made: ray.PlacementGroup[] = []

beforeAll(() => ray.init({ numCpus: 4, namespace: 'groups' }))
afterAll(() => ray.shutdown())
afterEach(async () => {
  for (const group of made.splice(0)) removePlacementGroup(group)
  await until(async () => (await ray.availableResources()).CPU === 4, 'all CPUs are free again')
})

function group(bundles: ray.Bundle[], options?: ray.PlacementGroupOptions): ray.PlacementGroup {
  const one = placementGroup(bundles, options)
  made.push(one)
  return one
}

const within = (
  placementGroup: ray.PlacementGroup,
  bundleIndex = -1,
  captureChildTasks = false,
): ray.PlacementGroupSchedulingStrategy =>
  new ray.PlacementGroupSchedulingStrategy({ placementGroup, bundleIndex, captureChildTasks })

test('[PG-01] bundles are reserved together, and come back when the group is removed', async () => {
  const one = group([{ CPU: 1 }, { CPU: 2 }])
  expect(await one.wait()).toBe(true)
  expect([one.id.length, one.bundleCount]).toEqual([36, 2])
  expect((await ray.availableResources()).CPU).toBe(1)
  removePlacementGroup(one)
  await until(async () => (await ray.availableResources()).CPU === 4, 'the CPUs are free')
})

test('[PG-01] what is too much stays pending and reserves nothing, until there is room', async () => {
  const first = group([{ CPU: 3 }])
  await first.wait()
  const second = group([{ CPU: 1 }, { CPU: 1 }])
  expect(await second.wait({ timeoutS: 0.3 })).toBe(false)
  expect((await ray.availableResources()).CPU).toBe(1)
  expect(await placementGroupTable(second)).toMatchObject({
    state: 'PENDING',
    reason: expect.stringContaining('in use'),
  })
  removePlacementGroup(first)
  expect(await second.wait()).toBe(true)
})

test('[PG-01] what cannot be right is refused at once', () => {
  const refused: [unknown, unknown, RegExp][] = [
    [[], {}, /not empty/],
    [[{}], {}, /bundle 0 asks for nothing/],
    [[{ CPU: 0 }], {}, /bundle 0 asks for nothing/],
    [[{ CPU: -1 }], {}, /negative/],
    [[{ CPU: 1 }], { strategy: 'X' }, /"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"/],
    [[{ CPU: 1 }], { lifetime: 'x' }, /lifetime/],
    [[{ CPU: 1 }], { softTargetNodeId: 'a' }, /STRICT_PACK/],
    [[{ CPU: 1 }], { bundleLabelSelector: [] }, /0 entries for 1 bundles/],
  ]
  for (const [bundles, options, message] of refused)
    expect(() => placementGroup(bundles as ray.Bundle[], options as ray.PlacementGroupOptions)).toThrow(message)
})

test('[PG-06] ready() gives a reference to the group, wait() whether it is there in time', async () => {
  const one = group([{ CPU: 1 }])
  const ready = await ray.get(one.ready())
  expect([ready.id, ready.bundleSpecs]).toEqual([one.id, one.bundleSpecs])
  const never = group([{ CPU: 100 }])
  expect(await never.wait({ timeoutS: 0.1 })).toBe(false)
  const pending = never.ready()
  await expect(ray.get(pending, { timeoutS: 0.1 })).rejects.toThrow(ray.exceptions.GetTimeoutError)
  removePlacementGroup(never)
  await expect(ray.get(pending)).rejects.toThrow(ray.exceptions.TaskPlacementGroupRemoved)
  await expect(never.wait()).rejects.toThrow(/it was removed by removePlacementGroup/)
})

test('[PG-07] tasks and actors take from their bundle, one after the other when it is full', async () => {
  const one = group([{ CPU: 1 }, { CPU: 2 }])
  const busy = ray.remote(async (ms: number) => {
    const from = Date.now()
    await new Promise((resolve) => setTimeout(resolve, ms))
    return [from, Date.now()] as const
  })
  const inFirst = busy.options({ schedulingStrategy: within(one, 0) })
  const spans = await ray.get([inFirst.remote(100), inFirst.remote(100)])
  const [a, b] = spans.sort((left, right) => left[0] - right[0])
  expect(b?.[0]).toBeGreaterThanOrEqual(a?.[1] ?? 0)
  class Who {
    bundle(): Promise<ray.PlacementGroup | null> {
      return ray.util.getCurrentPlacementGroup()
    }
  }
  const actor = ray
    .remote(Who)
    .options({ numCpus: 2, schedulingStrategy: within(one, 1) })
    .remote()
  expect((await ray.get(actor.bundle.remote()))?.id).toBe(one.id)
  const raw = await ray.availableResources({ raw: true })
  expect(raw[`CPU_group_1_${one.id}`]).toBeUndefined() // All in use.
  expect(raw[`CPU_group_0_${one.id}`]).toBe(1)
  ray.kill(actor)
})

test('[PG-07] a task that asks for more than any bundle has can never run, nor one in a bundle that is not there', async () => {
  const one = group([{ CPU: 1 }, { CPU: 2 }])
  const task = ray.remote(() => 1)
  await expect(ray.get(task.options({ numCpus: 3, schedulingStrategy: within(one) }).remote())).rejects.toThrow(
    /asks for \{CPU: 3\}, but the largest bundle it may use has \{CPU: 2\}/,
  )
  await expect(ray.get(task.options({ numCpus: 2, schedulingStrategy: within(one, 0) }).remote())).rejects.toThrow(
    ray.exceptions.TaskUnschedulableError,
  )
  class Big {
    m(): number {
      return 1
    }
  }
  const actor = ray
    .remote(Big)
    .options({ numCpus: 5, schedulingStrategy: within(one) })
    .remote()
  await expect(ray.get(actor.m.remote())).rejects.toThrow(ray.exceptions.ActorUnschedulableError)
  expect(() => within(one, 2)).toThrow(/bundles 0 to 1/)
})

test('[PG-07] what a task submits runs in its group only if the group captures it', async () => {
  const one = group([{ CPU: 2 }])
  const where = ray.remote(async () => (await ray.util.getCurrentPlacementGroup())?.id ?? null)
  const parent = ray.remote(async () => {
    const own = await ray.util.getCurrentPlacementGroup()
    const outside = where.options({ schedulingStrategy: 'DEFAULT' })
    return [own?.id, ...(await ray.get([where.remote(), outside.remote()]))]
  })
  const captures = await ray.get(parent.options({ schedulingStrategy: within(one, 0, true) }).remote())
  expect(captures).toEqual([one.id, one.id, null])
  const not = await ray.get(parent.options({ schedulingStrategy: within(one, 0, false) }).remote())
  expect(not).toEqual([one.id, null, null])
  expect(await ray.get(parent.remote())).toEqual([undefined, null, null])
  expect(await ray.util.getCurrentPlacementGroup()).toBeNull()
})

test('[PG-07] the group travels with a function that captures it, and as an argument', async () => {
  const one = group([{ CPU: 2 }])
  const inner = ray.remote(async () => (await ray.util.getCurrentPlacementGroup())?.id)
  const strategy = within(one)
  const outer = ray.remote(async (passed: ray.PlacementGroup) => {
    const again = new ray.PlacementGroupSchedulingStrategy({ placementGroup: passed })
    const both = [inner.options({ schedulingStrategy: strategy }), inner.options({ schedulingStrategy: again })]
    return ray.get(both.map((one) => one.remote()))
  })
  expect(await ray.get(outer.remote(one))).toEqual([one.id, one.id])
})

test('[PG-08] removing a group ends what runs in it and what waits for it, with errors that say so', async () => {
  const one = group([{ CPU: 1 }])
  const forever = ray.remote(() => new Promise(() => {})).options({ schedulingStrategy: within(one, 0) })
  class Idle {
    pid(): number {
      return process.pid
    }
  }
  const actor = ray
    .remote(Idle)
    .options({ numCpus: 0, maxRestarts: 5, schedulingStrategy: within(one) })
    .remote()
  await ray.get(actor.pid.remote())
  const running = forever.remote()
  const waiting = forever.remote()
  await until(
    async () => (await ray.availableResources({ raw: true }))[`CPU_group_0_${one.id}`] === undefined,
    'it runs',
  )
  removePlacementGroup(one)
  await expect(ray.get(running)).rejects.toThrow(ray.exceptions.TaskPlacementGroupRemoved)
  await expect(ray.get(waiting)).rejects.toThrow(ray.exceptions.TaskPlacementGroupRemoved)
  await expect(ray.get(actor.pid.remote())).rejects.toThrow(ray.exceptions.ActorPlacementGroupRemoved)
  await expect(ray.get(forever.remote())).rejects.toThrow(/its placement group .* is gone/)
  const late = ray
    .remote(Idle)
    .options({ schedulingStrategy: within(one) })
    .remote()
  await expect(ray.get(late.pid.remote())).rejects.toThrow(ray.exceptions.ActorPlacementGroupRemoved)
})

test('[PG-09] the table has the keys of Ray', async () => {
  const one = group([{ CPU: 1 }, { CPU: 0.5 }], { name: 'table', strategy: 'STRICT_PACK' })
  await one.wait()
  const nodeId = ray.getRuntimeContext().getNodeId()
  const entry = await placementGroupTable(one)
  expect(entry).toEqual({
    placement_group_id: one.id,
    name: 'table',
    bundles: { 0: { CPU: 1 }, 1: { CPU: 0.5 } },
    bundles_to_node_id: { 0: nodeId, 1: nodeId },
    strategy: 'STRICT_PACK',
    state: 'CREATED',
    reason: '',
    stats: {
      end_to_end_creation_latency_ms: expect.any(Number),
      scheduling_attempt: expect.any(Number), // What the group before it held may not be free yet.
      highest_retry_delay_ms: expect.any(Number),
      scheduling_state: 'FINISHED',
    },
  })
  expect((await placementGroupTable())[one.id]).toEqual(entry)
  removePlacementGroup(one)
  await until(async () => (await placementGroupTable(one)).state === 'REMOVED', 'it is REMOVED')
})

test('[PG-10] a group is found by its name in its namespace; the name is free again after its removal', async () => {
  const one = group([{ CPU: 1 }], { name: 'named' })
  const found = await getPlacementGroup('named')
  expect([found.id, found.bundleSpecs]).toEqual([one.id, [{ CPU: 1 }]])
  await expect(group([{ CPU: 1 }], { name: 'named' }).wait()).rejects.toThrow(
    /the placement group name 'named' is taken/,
  )
  removePlacementGroup(one)
  await expect(getPlacementGroup('named')).rejects.toThrow(/no placement group is named 'named'/)
  expect(await group([{ CPU: 1 }], { name: 'named' }).wait()).toBe(true)
})

test('[PG-10] a detached group outlives the program that made it, another does not', async () => {
  const program = startProgram('placement-groups.mjs', [ray.getRuntimeContext().gcsAddress])
  expect([await program.ended, program.text()]).toEqual([0, expect.stringContaining('made')])
  const kept = await getPlacementGroup('kept')
  made.push(kept)
  expect(await placementGroupTable(kept)).toMatchObject({ state: 'CREATED' })
  await until(async () => {
    const all = Object.values(await placementGroupTable())
    return all.some(({ name, state }) => name === 'gone' && state === 'REMOVED')
  }, 'the other group is removed')
})

test('[PG-12] the names of bundles are hidden, unless asked for', async () => {
  const one = group([{ CPU: 1 }, { CPU: 2 }])
  await one.wait()
  expect(Object.keys(await ray.clusterResources()).filter((name) => name.includes('group'))).toEqual([])
  const raw = await ray.clusterResources({ raw: true })
  expect(Object.fromEntries(Object.entries(raw).filter(([name]) => name.includes('group')))).toEqual({
    [`CPU_group_0_${one.id}`]: 1,
    [`CPU_group_1_${one.id}`]: 2,
    [`CPU_group_${one.id}`]: 3,
    [`bundle_group_0_${one.id}`]: 1000,
    [`bundle_group_1_${one.id}`]: 1000,
    [`bundle_group_${one.id}`]: 2000,
  })
})
