// `ray-ts/testing`: clusters of several nodes on one machine, for tests.

export {
  Cluster,
  type ClusterOptions,
  type ConnectOptions,
  type RemoveNodeOptions,
} from './cluster.ts'
export type { ClusterNode, NodeHost, NodeOptions, Signal } from './cluster-node.ts'
