// A parameter server: an actor holds the weights of a model, and tasks compute gradients on their shards of the data.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

const TRUTH = [2, -3, 0.5]
const SHARDS = 4
const ROUNDS = 60

class ParameterServer {
  private weights: Float64Array

  constructor(size: number) {
    this.weights = new Float64Array(size)
  }

  read(): Float64Array {
    return this.weights
  }

  /** Applies the mean of the gradients. References inside a list stay references, so the actor gets them itself. */
  async apply(gradients: ray.ObjectRef<Float64Array>[], rate: number): Promise<void> {
    const values = await ray.get(gradients)
    this.weights = this.weights.map((w, i) => {
      const mean = values.reduce((sum, gradient) => sum + (gradient[i] ?? 0), 0) / values.length
      return w - rate * mean
    })
  }
}

interface Shard {
  /** Rows of `TRUTH.length` inputs, one after the other. */
  readonly x: Float64Array
  readonly y: Float64Array
}

const makeShard = ray.remote((seed: number): Shard => {
  const rows = 1000
  const x = Float64Array.from({ length: rows * TRUTH.length }, (_, i) => Math.sin(seed * 7919 + i * i))
  const y = Float64Array.from({ length: rows }, (_, row) =>
    TRUTH.reduce((sum, w, i) => sum + w * (x[row * TRUTH.length + i] ?? 0), 0),
  )
  return { x, y }
})

const gradient = ray.remote((weights: Float64Array, { x, y }: Shard) => {
  const sum = new Float64Array(weights.length)
  y.forEach((target, row) => {
    const at = (i: number): number => x[row * weights.length + i] ?? 0
    const error = weights.reduce((dot, w, i) => dot + w * at(i), 0) - target
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + (2 * error * at(i)) / y.length
  })
  return sum
})

await using _cluster = await ray.init()
const server = ray.remote(ParameterServer).remote(TRUTH.length)
const shards = Array.from({ length: SHARDS }, (_, seed) => makeShard.remote(seed + 1))

for (let round = 0; round < ROUNDS; round++) {
  const weights = server.read.remote() // A reference: it is passed on without being read here.
  await ray.get(
    server.apply.remote(
      shards.map((shard) => gradient.remote(weights, shard)),
      0.5,
    ),
  )
}

const learned = [...(await ray.get(server.read.remote()))]
for (const [i, w] of learned.entries()) assert.ok(Math.abs(w - (TRUTH[i] ?? 0)) < 0.01, `${learned}`)
console.log(`learned ${learned.map((w) => w.toFixed(2)).join(', ')}`)
//> learned 2.00, -3.00, 0.50
