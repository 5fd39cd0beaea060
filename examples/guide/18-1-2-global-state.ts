// Guide 18.1, anti-pattern 2 (global variables): what a function captures is copied into its definition. Large or changing state
// belongs into an actor, or into the object store.
//
// Difference: the sample's last task calls ray.get on a parameter that was passed a reference. Top-level references arrive as values,
// in Ray too (FEATURES 1.21, no. 48), so that there is nothing to get.

import * as ray from 'ray-ts'

class Model {
  readonly weights = new Float64Array(100_000).fill(2)

  predict(x: number): number {
    return x * (this.weights[0] ?? 0)
  }
}

await using _cluster = await ray.init()
const inputs = [1, 2, 3]

// BAD: the model becomes a part of the function.
const globalModel = new Model()
const predictGlobal = ray.remote((x: number) => globalModel.predict(x))
console.log((await ray.get(inputs.map((x) => predictGlobal.remote(x)))).join(' '))

// GOOD: an actor holds it.
class ModelServer {
  private readonly model = new Model()

  predict(x: number): number {
    return this.model.predict(x)
  }
}
const server = ray.remote(ModelServer).remote()
console.log((await ray.get(inputs.map((x) => server.predict.remote(x)))).join(' '))

// GOOD: it is in the object store, once.
const modelRef = ray.put(new Model())
const predict = ray.remote((model: Model, x: number) => model.predict(x))
console.log((await ray.get(inputs.map((x) => predict.remote(modelRef, x)))).join(' '))
//> 2 4 6
//> 2 4 6
//> 2 4 6
