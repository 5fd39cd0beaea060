// The public door of ray-ts.

export { type ActorClass, type ActorHandle, type ActorMethod, type HandleOf, method } from './api/actor.ts'
export { type ActorState, actorState } from './api/actor-state.ts'
export { exitActor, getGpuIds, getRuntimeContext, type RuntimeContext } from './api/context.ts'
export {
  availableResources,
  cancel,
  clusterResources,
  getActor,
  kill,
  nodes,
  type ResourceListing,
} from './api/control.ts'
export { ObjectRefGenerator } from './api/generator.ts'
export { type GetOptions, get, put, type Values, type WaitOptions, wait } from './api/get-put-wait.ts'
export { type Cluster, init, isInitialized, shutdown } from './api/init.ts'
export { ObjectRef } from './api/object-ref.ts'
export type { ObjectSpillingOptions } from './api/object-spilling.ts'
export type {
  ActorOptions,
  Fallback,
  InitOptions,
  LabelSelector,
  LogLevel,
  MethodOptions,
  ResourceOptions,
  RuntimeEnvOptions,
  SystemConfigOptions,
  TaskCallOptions,
  TaskOptions,
} from './api/options.ts'
export { perProcess } from './api/per-process.ts'
export type { Bundle, PlacementGroup, PlacementGroupEntry, PlacementGroupOptions } from './api/placement-group.ts'
export { type RemoteFunction, remote } from './api/remote.ts'
export { deserialize, serialize } from './api/serialization.ts'
export {
  DoesNotExist,
  Exists,
  In,
  type LabelMatch,
  NodeAffinitySchedulingStrategy,
  NodeLabelSchedulingStrategy,
  NotIn,
  PlacementGroupSchedulingStrategy,
  type SchedulingStrategyOption,
} from './api/strategies.ts'
export type {
  AnyFunction,
  Argument,
  Constructor,
  NumReturns,
  RemoteArguments,
  RemoteCall,
  RemoteResult,
} from './api/types.ts'
/** Helpers on top of tasks and actors: queues, pools, bounded maps, serializers. */
export * as util from './api/util/index.ts'
/** The error classes, by Ray's names: see docs/errors.md. */
export * as exceptions from './errors/exceptions.ts'
export { RayError, RayTaskError } from './errors/exceptions.ts'
export type { GroupState, GroupStrategy } from './wire/groups.ts'
