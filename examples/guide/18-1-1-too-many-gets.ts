// Guide 18.1, anti-pattern 1 (too many ray.get): waiting for each task before the next is started loses the parallelism.

import * as ray from 'ray-ts'

await using _cluster = await ray.init({ numCpus: 2 })
const compute = ray.remote(async (i: number) => {
  await new Promise((resolve) => setTimeout(resolve, 10))
  return i * i
})

// BAD: one at a time, so that one worker is busy and the others are idle.
const bad: number[] = []
for (let i = 0; i < 100; i++) bad.push(await ray.get(compute.remote(i)))

// GOOD: start all, then read all.
const good = await ray.get(Array.from({ length: 100 }, (_, i) => compute.remote(i)))
console.log(bad.every((value, i) => value === good[i]))

// BETTER: handle each when it is ready.
let refs = Array.from({ length: 100 }, (_, i) => compute.remote(i))
let sum = 0
while (refs.length > 0) {
  const [[first], rest] = await ray.wait(refs, { numReturns: 1 })
  refs = rest
  if (first) sum += await ray.get(first)
}
console.log(sum)
//> true
//> 328350
