// Guide 3.1, fifth sample (ray.wait): a hundred tasks, handled one by one as they finish, failures included.

import * as ray from 'ray-ts'

await using _cluster = await ray.init()

const slowTask = ray.remote(async (i: number) => {
  await new Promise((resolve) => setTimeout(resolve, (i * 7) % 20))
  if (i % 25 === 13) throw new RangeError(`no ${i}`)
  return i
})

let futures = Array.from({ length: 100 }, (_, i) => slowTask.remote(i))

const completedResults: number[] = []
let failed = 0
while (futures.length > 0) {
  // Waits for one at least, for 10 seconds at most.
  const [done, rest] = await ray.wait(futures, { numReturns: 1, timeoutS: 10 })
  futures = rest
  for (const ref of done) {
    try {
      completedResults.push(await ray.get(ref))
    } catch (error) {
      // It is an instance of RangeError as well.
      if (!(error instanceof ray.exceptions.RayTaskError)) throw error
      failed++
    }
  }
}
console.log(`Completed: ${completedResults.length}/100, failed: ${failed}`)
//> Completed: 96/100, failed: 4
