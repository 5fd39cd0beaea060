// What runs and what waits, as plain data for people (`ray why`).
//
//     ray why ──purpose 'work'──► raylet ──work.ask──► each process of its node ──work.is──► raylet ──the welcome──► ray why
//
// A raylet knows of leases; which tasks wait for their arguments, and which values are waited for in `get`, is known to their processes only. Programs that have a cluster of their own
// listen on no port: they are asked over the socket of their node (`ask`, before any `register`).

import type { JobId, NodeId, ObjectId } from '../ids/ids.ts'
import type { LabelConditions, Resources, SchedulingStrategy, WireError } from './messages.ts'

/** A lease on a node: one task after another, or an actor. */
export interface RunningLease {
  readonly name: string
  readonly isActor: boolean
  readonly pid: number
  readonly jobId: JobId
  /** Now: a worker that waits in `get` has lent its CPU. */
  readonly held: Resources
  readonly isBlocked: boolean
}

/** Requests for workers that ask for the same and wait at one raylet. */
export interface WaitingLeases {
  readonly name: string
  readonly isActor: boolean
  readonly jobId: JobId
  readonly resources: Resources
  readonly strategy: SchedulingStrategy
  readonly selectors: readonly LabelConditions[]
  readonly priority: number
  readonly count: number
}

/** A task that makes a value, and how far it is. */
export interface Maker {
  readonly name: string
  readonly place: /** With that process, which runs it or what came before it. */
    | { readonly kind: 'process'; readonly pid: number; readonly nodeId: NodeId }
    /** Its own ones are not there yet. */
    | { readonly kind: 'arguments' }
    /** A call of an actor that does not live yet. */
    | { readonly kind: 'actor' }
    | { readonly kind: 'worker'; readonly asked: Resources }
}

/** What a value is waited for: a task's arguments, in `get` or `wait` by a task that runs, or a constructor's arguments. */
export type WaitsFor = 'arguments' | 'get' | 'constructor'

/** Tasks (actors, whose constructors wait) of one name and process that wait for values of tasks that are equally far. */
export interface WaitingTasks {
  readonly what: WaitsFor
  readonly name: string
  readonly tasks: number
  readonly values: number
  /** The first of those values. */
  readonly id: ObjectId
  /** null: its owner knows, or nobody (it is looked for, or made again). */
  readonly maker: Maker | null
}

/** What one process says. */
export interface ProcessWork {
  readonly jobId: JobId
  readonly waiting: readonly WaitingTasks[]
  /** There are more than it looked at. */
  readonly isCut: boolean
  /** Of the ids that were asked for; those that no open task makes are missing. */
  readonly makers: readonly (readonly [ObjectId, Maker])[]
}

/** What runs on a node and what waits there. */
export interface NodeWork {
  /** With its bundles, under their names (bundle-names.ts). */
  readonly total: Resources
  readonly free: Resources
  readonly running: readonly RunningLease[]
  readonly waiting: readonly WaitingLeases[]
  readonly processes: readonly (ProcessWork & { readonly pid: number })[]
  /** Processes that did not answer in time: they compute. */
  readonly silent: readonly number[]
}

/** What the purpose 'work' asks beside: who makes these values. Their owners on that node are asked. */
export interface WorkQuestion {
  readonly ids: readonly ObjectId[]
}

/** From a raylet to a process. */
export interface WorkAsk extends WorkQuestion {
  readonly t: 'work.ask'
  readonly question: number
}

export interface WorkIs {
  readonly t: 'work.is'
  readonly question: number
  readonly work: ProcessWork
}

/** In place of `register`, over the socket of a node. */
export interface LocalAsk extends WorkQuestion {
  readonly t: 'ask'
  readonly protocol: number
  readonly about: 'status' | 'work'
}

export interface LocalAnswer {
  readonly t: 'answer'
  readonly detail: unknown
  readonly error: WireError | null
}
