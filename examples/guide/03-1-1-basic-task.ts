// Guide 3.1, first sample (basic use): a remote function, its reference, its result; then a hundred of them at once.
// The sample's second of work is ten milliseconds here.

import * as ray from 'ray-ts'

await using _cluster = await ray.init()

const computeSquare = ray.remote(async (x: number): Promise<number> => {
  await new Promise((resolve) => setTimeout(resolve, 10)) // Stands for heavy work.
  return x * x
})

// A reference comes back at once.
const future = computeSquare.remote(42)

// Its value comes when it is there.
const result = await ray.get(future)
console.log(result)

// Many tasks in parallel.
const futures = Array.from({ length: 100 }, (_, i) => computeSquare.remote(i))
const results = await ray.get(futures)
console.log(results.length, results.at(-1))
//> 1764
//> 100 9801
