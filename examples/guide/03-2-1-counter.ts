// Guide 3.2, first sample (basic use of actors). Python's keyword arguments are an options object here.

import * as ray from 'ray-ts'

class Counter {
  private value: number

  constructor({ initialValue = 0 }: { initialValue?: number } = {}) {
    this.value = initialValue
  }

  increment(delta = 1): number {
    this.value += delta
    return this.value
  }

  getValue(): number {
    return this.value
  }
}

await using _cluster = await ray.init()

// Starts in a process of its own.
const counter = ray.remote(Counter).remote({ initialValue: 10 })

counter.increment.remote(5)
const ref2 = counter.increment.remote(3) // runs after the first
console.log(await ray.get(ref2))
console.log(await ray.get(counter.getValue.remote()))
//> 18
//> 18
