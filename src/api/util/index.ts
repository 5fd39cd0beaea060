export { type CustomSerializer, deregisterSerializer, registerSerializer } from '../../values/index.ts'
export { listNamedActors, nodeStats } from '../control.ts'
export {
  getCurrentPlacementGroup,
  getPlacementGroup,
  placementGroup,
  placementGroupTable,
  removePlacementGroup,
} from '../placement-group.ts'
export { inspectSerializability, type SerializabilityFailure } from '../serialization.ts'
export { ActorPool, type NextOptions } from './actor-pool.ts'
export { asCompleted, type BoundedOptions, mapBounded, mapUnordered, type Submit } from './map-bounded.ts'
export { type MapOptions, Pool, type PoolOptions } from './pool.ts'
export { Queue, type QueueOptions } from './queue.ts'
