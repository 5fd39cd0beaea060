// A parameter server and its two trainers that start together or not at all: on one node, with what was reserved for each.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

class Server {
  private sum = 0
  add(gradient: number): number {
    this.sum += gradient
    return this.sum
  }
}

await using _cluster = await ray.init({ numCpus: 4 })

const group = ray.util.placementGroup([{ CPU: 1 }, { CPU: 1 }, { CPU: 1 }], {
  strategy: 'STRICT_PACK',
  name: 'training',
})
if (!(await group.wait({ timeoutS: 30 }))) throw new Error('there is no room for all three')
const inBundle = (bundleIndex: number) =>
  new ray.PlacementGroupSchedulingStrategy({ placementGroup: group, bundleIndex })

const server = ray
  .remote(Server)
  .options({ numCpus: 1, schedulingStrategy: inBundle(0) })
  .remote()
const train = ray.remote(async (steps: number) => {
  let last = 0
  for (let step = 1; step <= steps; step++) last = await ray.get(server.add.remote(step))
  return last
})
const trainers = [1, 2].map((index) => train.options({ schedulingStrategy: inBundle(index) }).remote(10))
const results = await ray.get(trainers)
assert.equal(Math.max(...results), 110) // Two trainers, 1 + 2 + … + 10 each.

// Nobody else can have what is reserved: one CPU of four is left.
const { CPU } = await ray.availableResources()
assert.equal(CPU, 1)
console.log(`trained to ${Math.max(...results)} with ${group.bundleCount} bundles`)

ray.util.removePlacementGroup(group)

//> trained to 110 with 3 bundles
