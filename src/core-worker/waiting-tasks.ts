// What waits in this process for which values, and what makes those: for people (`ray why`, warnings about long waits).

import type { ObjectId } from '../ids/ids.ts'
import type { Maker, WaitingTasks, WaitsFor } from '../wire/work.ts'
import type { Task } from './effects.ts'

/** A look at a million tasks that wait would hold up their owner. */
const LOOKED_AT_MAX = 1000

/** How far a task is that has not ended. */
export function makerOf(task: Task): Maker {
  const { name } = task.fn
  if (task.target) {
    const { pid, nodeId } = task.target.address
    return { name, place: { kind: 'process', pid, nodeId } }
  }
  if (task.openDependencies > 0) return { name, place: { kind: 'arguments' } }
  if (!task.schedulingClass) return { name, place: { kind: 'actor' } }
  return { name, place: { kind: 'worker', asked: task.schedulingClass.spec.resources } }
}

export interface WaitingList {
  readonly waiting: readonly WaitingTasks[]
  readonly isCut: boolean
}

/** One for each task. */
export interface Waiter {
  readonly fn: { readonly name: string }
}

/** `pairs`: a value that is not there, and who waits for it. `taskOf` a value of this owner. */
export function listWaiting(
  pairs: Iterable<readonly [ObjectId, Waiter]>,
  taskOf: (id: ObjectId) => Task | undefined,
  what: WaitsFor = 'arguments',
): WaitingList {
  const groups = new Map<string, { id: ObjectId; maker: Maker | null; tasks: Set<Waiter>; values: Set<ObjectId> }>()
  let count = 0
  let isCut = false
  for (const [id, task] of pairs) {
    if (++count > LOOKED_AT_MAX) {
      isCut = true
      break
    }
    const making = taskOf(id)
    const maker = making ? makerOf(making) : null
    const key = JSON.stringify([task.fn.name, maker ?? id])
    const group = groups.get(key) ?? { id, maker, tasks: new Set(), values: new Set() }
    groups.set(key, group)
    group.tasks.add(task)
    group.values.add(id)
  }
  const waiting = [...groups.values()].map(({ id, maker, tasks, values }) => {
    const [first] = tasks
    return { what, name: first?.fn.name ?? '', tasks: tasks.size, values: values.size, id, maker }
  })
  return { waiting, isCut }
}
