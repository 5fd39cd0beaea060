// Fails when work is placed or completed wrongly in a larger cluster, or when what it costs grows with the number of nodes.

import { expect, test } from 'vitest'
import { ScaleCluster, type ScaleOptions } from './cluster.ts'
import { figuresOf, type ScaleFigures } from './figures.ts'
import { Meter } from './meter.ts'

/** Costs are counted in messages: no clock. Wrong placement throws (Y1 to Y5 of judge.ts). */
function run(options: ScaleOptions): ScaleFigures {
  const cluster = new ScaleCluster(options, new Meter(() => 0))
  cluster.run()
  return figuresOf(cluster, options)
}

test('[ARCH-22] 50 nodes, 1,000 actors, 20,000 tasks, 25 groups: placed right, done right, nothing left', {
  timeout: 300_000,
}, () => {
  const { perTask, perActor, perGroup } = run({ nodes: 50, owners: 3, actors: 1000, tasks: 20_000, groups: 25 })
  // The GCS is not on the path of a task; a frame goes there and one comes back.
  expect([perTask.gcsMessages, perTask.frameMessages]).toEqual([0, 2])
  expect(perTask.peerMessages).toBeLessThan(4)
  expect(perTask.localMessages).toBeLessThan(4)
  expect(perActor.gcsMessages).toBeLessThan(40)
  expect(perGroup.gcsMessages).toBeLessThan(30)
})

test('[ARCH-22] the end of a process is told to nodes that know its node, not to all', () => {
  const small = run({ nodes: 10, owners: 2, actors: 50, tasks: 100, groups: 0 })
  const large = run({ nodes: 40, owners: 2, actors: 50, tasks: 100, groups: 0 })
  const perActor = (figures: ScaleFigures): number => (figures.upkeep.peerProcessMessages ?? 0) / figures.actors
  expect(perActor(small)).toBeGreaterThan(0)
  expect(perActor(large)).toBeLessThan(2 * perActor(small))
})
