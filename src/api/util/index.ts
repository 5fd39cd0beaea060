export { deregisterSerializer, registerSerializer } from '../../values/index.ts'
export { listNamedActors } from '../control.ts'
export { inspectSerializability } from '../serialization.ts'
