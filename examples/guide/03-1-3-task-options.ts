// Guide 3.1, third sample (task options).
//
// Differences: `max_task_retries` belongs to actors, and real Ray refuses it for tasks as well (FEATURES 1.21, no. 7): the error names
// maxRetries, and it does not compile. Of the runtime environment, `env_vars` is here; packages (`pip`) come with the runtime
// environments of a later release.

import * as ray from 'ray-ts'

class ConnectionError extends Error {}
class TimeoutError extends Error {}

await using _cluster = await ray.init()

/** A fault-tolerant task. */
const robustTask = ray.remote((data: number[]) => `${process.env.CUDA_VISIBLE_DEVICES}: ${data.length}`, {
  numCpus: 1,
  numGpus: 0,
  maxRetries: 3, // when the worker dies, or one of these is thrown
  retryExceptions: [ConnectionError, TimeoutError],
  maxCalls: 100, // the worker ends after so many runs
  runtimeEnv: { envVars: { CUDA_VISIBLE_DEVICES: '0' } },
})
console.log(await ray.get(robustTask.remote([1, 2, 3])))

try {
  // @ts-expect-error no such option for tasks
  ray.remote(() => 1, { maxTaskRetries: 5 })
} catch (error) {
  console.log((error as Error).message.replaceAll('\n ', ''))
}
//> 0: 3
//> unknown option 'maxTaskRetries' for a task Write maxRetries.
