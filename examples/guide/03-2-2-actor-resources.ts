// Guide 3.2, second sample (resources of actors): held from its start to its end. A small linear model stands for ResNet; the GPU is
// logical, so that this runs anywhere.

import * as ray from 'ray-ts'

class ModelServer {
  private readonly device: string
  private readonly weights: readonly number[]

  constructor(modelPath: string) {
    this.device = `cuda:${ray.getGpuIds()[0]}`
    this.weights = modelPath.includes('resnet50') ? [1, 2, 3] : []
  }

  predict(input: readonly number[]): { device: string; output: number } {
    return { device: this.device, output: this.weights.reduce((sum, w, i) => sum + w * (input[i] ?? 0), 0) }
  }
}

await using _cluster = await ray.init({ numCpus: 2, numGpus: 1 })

const RemoteModelServer = ray.remote(ModelServer, { numCpus: 2, numGpus: 1 })
const server = RemoteModelServer.remote('/models/resnet50.pt')
const prediction = await ray.get(server.predict.remote([4, 5, 6]))
console.log(`${prediction.output} from ${prediction.device}`)

const { CPU = 0, GPU = 0 } = await ray.availableResources()
console.log(`left: ${CPU} CPUs, ${GPU} GPUs`)
//> 32 from cuda:0
//> left: 0 CPUs, 0 GPUs
