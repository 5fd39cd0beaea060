// Deliberate bugs. Each breaks one thing in a machine or a message, as a small patch; the simulation must notice within `seeds` seeds.

import type { CoreWorker } from '../core-worker/core-worker.ts'
import type { Gcs } from '../gcs/gcs.ts'
import type { WorkerTag } from '../ids/ids.ts'
import type { Raylet } from '../raylet/raylet.ts'
import type { GcsToRaylet, RayletToGcs } from '../wire/gcs-raylet.ts'
import type { FromNode, ToNode } from '../wire/messages.ts'
import type { Cluster } from './cluster.ts'
import type { CoreShell } from './core-shell.ts'
import type { SimExecutor } from './executor.ts'

export interface Bug {
  readonly name: string
  readonly what: string
  /** Found within so many seeds. */
  readonly seeds: number
  readonly core?: (core: CoreWorker, shell: CoreShell) => void
  readonly raylet?: (raylet: Raylet) => void
  readonly gcs?: (gcs: Gcs) => void
  readonly executor?: (executor: SimExecutor) => void
  readonly toNode?: (message: ToNode) => readonly ToNode[]
  readonly fromNode?: (message: FromNode, to: WorkerTag, cluster: Cluster) => readonly FromNode[]
  readonly toRaylet?: (message: GcsToRaylet, cluster: Cluster) => readonly GcsToRaylet[]
  readonly toGcs?: (message: RayletToGcs, cluster: Cluster) => readonly RayletToGcs[]
}

export const BUGS: readonly Bug[] = []
