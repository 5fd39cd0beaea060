// The public door of ray-ts.

export { type ActorClass, type ActorHandle, type ActorMethod, method } from './api/actor.ts'
export { exitActor, getGpuIds, getRuntimeContext, type RuntimeContext } from './api/context.ts'
export { availableResources, cancel, clusterResources, getActor, kill, nodes } from './api/control.ts'
export { ObjectRefGenerator } from './api/generator.ts'
export { type GetOptions, get, put, type WaitOptions, wait } from './api/get-put-wait.ts'
export { type Cluster, init, isInitialized, shutdown } from './api/init.ts'
export { ObjectRef } from './api/object-ref.ts'
export {
  type ActorOptions,
  type InitOptions,
  type MethodOptions,
  NodeAffinitySchedulingStrategy,
  type TaskOptions,
} from './api/options.ts'
export { type RemoteFunction, remote } from './api/remote.ts'
export { deserialize, serialize } from './api/serialization.ts'
export * as util from './api/util/index.ts'
export * as exceptions from './errors/errors.ts'
export { RayError, RayTaskError } from './errors/errors.ts'
