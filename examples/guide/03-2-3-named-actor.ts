// Guide 3.2, third sample (named actors): found by name from another process. That process is this file again, with an address.

import { execFileSync } from 'node:child_process'
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
}

const address = process.argv[2]
if (address === undefined) {
  await using cluster = await ray.init()
  const counter = ray
    .remote(Counter)
    .options({
      name: 'global_counter',
      namespace: 'my_app',
      lifetime: 'detached', // it outlives the program that made it
      maxRestarts: -1, // without limit
      maxTaskRetries: -1,
    })
    .remote({ initialValue: 0 })
  console.log(await ray.get(counter.increment.remote()))
  execFileSync(process.execPath, [...process.execArgv, import.meta.filename, cluster.address], { stdio: 'inherit' })
  console.log(await ray.get(counter.increment.remote()))
} else {
  await using _cluster = await ray.init({ address })
  const counter = await ray.getActor<Counter>('global_counter', { namespace: 'my_app' })
  console.log(`${await ray.get(counter.increment.remote(1))}, from another process`)
}
//> 1
//> 2, from another process
//> 3
