// Identifiers, as they travel inside the runtime and as users see them.
//
// On the hot path an object or task is ONE safe integer, so that tables are keyed by numbers and a wire id takes 8 bytes:
//
//     object id = workerTag · 2^32 + sequence          workerTag < 2^21, sequence < 2^32
//                 └ the owner ┘   └ counted by the owner, from 1
//
// A worker tag names one life of one process in the cluster: the GCS hands tags out and never reuses one. Tag 0 is the node
// itself (GCS and raylet). A task has the id of its first return object; its further returns follow consecutively.
//
// What users see has Ray's lengths: node and worker ids 28 bytes, actor ids 16, job ids 4, task ids 24, object ids 28, in hex.
//
// Invariants:
//   I1. An object id, as a number, is unique in a cluster for ever.
//   I2. `parse(format(id)) === id`.

export type WorkerTag = number
export type ObjectId = number
/** The id of a task's first return object. */
export type TaskId = ObjectId
/** 32 hex digits. */
export type ActorId = string
/** 56 hex digits. */
export type NodeId = string
/** 56 hex digits. */
export type WorkerId = string
/** 36 hex digits. */
export type PlacementGroupId = string
/** 8 hex digits. */
export type JobId = string

export const WORKER_TAG_MAX = 2 ** 21 - 1
export const NODE_TAG: WorkerTag = 0
const SEQUENCES = 2 ** 32

export function makeObjectId(owner: WorkerTag, sequence: number): ObjectId {
  return owner * SEQUENCES + sequence
}

export function ownerOf(id: ObjectId): WorkerTag {
  return Math.floor(id / SEQUENCES)
}

export function sequenceOf(id: ObjectId): number {
  return id % SEQUENCES
}

/** 56 hex digits, Ray's length of an object id: 24 bytes of task id, then the return index (1-based), little endian. */
export function formatObjectId(id: ObjectId, jobId: JobId = '00000000'): string {
  return formatTaskId(id, jobId) + '01000000'
}

/** 48 hex digits, Ray's length of a task id: 8 unique bytes, 12 bytes of actor (all ones: none), 4 of job. */
export function formatTaskId(id: TaskId, jobId: JobId = '00000000'): string {
  return (
    ownerOf(id).toString(16).padStart(8, '0') + sequenceOf(id).toString(16).padStart(8, '0') + 'f'.repeat(24) + jobId
  )
}

/** Accepts what `formatObjectId` or `formatTaskId` wrote; `undefined` for anything else. */
export function parseObjectId(hex: string): ObjectId | undefined {
  if (!/^([0-9a-f]{48}|[0-9a-f]{56})$/.test(hex)) return undefined
  return makeObjectId(Number.parseInt(hex.slice(0, 8), 16), Number.parseInt(hex.slice(8, 16), 16))
}

export function formatJobId(number: number): JobId {
  return number.toString(16).padStart(2, '0').padEnd(8, '0')
}
