// Guide 3.1, second sample (resource requirements). CPUs and GPUs are logical: they say how much runs at once, so that this runs
// on a machine without GPUs too.

import * as ray from 'ray-ts'

await using _cluster = await ray.init({ numCpus: 4, numGpus: 1, resources: { specialHardware: 1, memoryGb: 16 } })

const assigned = (): Record<string, number> => ray.getRuntimeContext().getAssignedResources()
const show = (given: Record<string, number>): string =>
  Object.entries(given)
    .sort()
    .map(([name, amount]) => `${name} ${amount}`)
    .join(', ')

/** A task of 2 CPUs. */
const cpuIntensive = ray.remote(assigned, { numCpus: 2 })

/** A task of 1 GPU. */
const gpuTraining = ray.remote(
  (model: string, data: number[]) => `${model} on GPU ${ray.getGpuIds()}: ${data.length}`,
  {
    numGpus: 1,
  },
)

/** Light inference that shares. */
const lightweightInference = ray.remote((_input: number) => assigned(), { numCpus: 0.5, numGpus: 0.25 })

/** A task that needs special hardware. */
const specializedTask = ray.remote(assigned, { resources: { specialHardware: 1, memoryGb: 16 } })

console.log(show(await ray.get(cpuIntensive.remote())))
console.log(await ray.get(gpuTraining.remote('model', [1, 2, 3])))
console.log(show(await ray.get(lightweightInference.remote(1))))
console.log(show(await ray.get(specializedTask.remote())))

// Requirements may be changed for one call.
const future = cpuIntensive.options({ numCpus: 4, numGpus: 1 }).remote()
console.log(show(await ray.get(future)))
//> CPU 2
//> model on GPU 0: 3
//> CPU 0.5, GPU 0.25
//> CPU 1, memoryGb 16, specialHardware 1
//> CPU 4, GPU 1
