// Guide 3.2, sixth sample (ActorPool): work spread over eight actors.

import * as ray from 'ray-ts'

class Predictor {
  private readonly scale: number

  constructor(modelPath: string) {
    this.scale = modelPath.length // Stands for a model that was loaded.
  }

  predict(batch: readonly number[]): number {
    return batch.reduce((sum, x) => sum + x * this.scale, 0)
  }
}

await using _cluster = await ray.init()

const RemotePredictor = ray.remote(Predictor)
const predictors = Array.from({ length: 8 }, () => RemotePredictor.remote('/models/model.pt'))
const pool = new ray.util.ActorPool(predictors)

const dataset = Array.from({ length: 640 }, (_, i) => i)
const dataBatches = Array.from({ length: 10 }, (_, i) => dataset.slice(i * 64, (i + 1) * 64))

// map() spreads the batches, and yields results in their order.
const results: number[] = []
for await (const result of pool.map((actor, batch: number[]) => actor.predict.remote(batch), dataBatches)) {
  results.push(result)
}
console.log(results.length, results[0])

// submit() and getNext(), one by one.
for (const batch of dataBatches) pool.submit((actor, b: number[]) => actor.predict.remote(b), batch)
let sum = 0
while (pool.hasNext()) sum += (await pool.getNext()) as number
console.log(sum === results.reduce((a, b) => a + b))
//> 10 32256
//> true
