// Guide 18.1, anti-pattern 3 (deep nesting of tasks): three levels work, but a flat loop is easier to follow and to debug. The
// sample's hundred by hundred is ten by ten in the nested form.

import * as ray from 'ray-ts'

await using _cluster = await ray.init()

// BAD: a task that starts tasks that start tasks.
const level3 = ray.remote((x: number, j: number) => x * j)
const level2 = ray.remote(async (x: number) => ray.get(Array.from({ length: 10 }, (_, j) => level3.remote(x, j))))
const level1 = ray.remote(async () => ray.get(Array.from({ length: 10 }, (_, i) => level2.remote(i))))
const nested = await ray.get(level1.remote())
console.log(nested.flat().reduce((a, b) => a + b))

// GOOD: flat.
const processItem = ray.remote((x: number, j: number) => x * j)
const allFutures: ray.ObjectRef<number>[] = []
for (let i = 0; i < 100; i++) {
  for (let j = 0; j < 100; j++) allFutures.push(processItem.remote(i, j))
}
const results = await ray.get(allFutures)
console.log(
  results.length,
  results.reduce((a, b) => a + b),
)
//> 2025
//> 10000 24502500
