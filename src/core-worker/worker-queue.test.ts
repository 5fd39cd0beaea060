// Fails when tasks that were pushed to a worker do not run in order and alone, or wait behind one that is slow.

import { describe, expect, test } from 'vitest'
import { WATCH_MS, WorkerQueue } from './worker-queue.ts'

interface Task {
  readonly key: string
  readonly extras: { readonly maxCalls?: number; readonly once?: boolean }
  readonly n: number
}

const task = (n: number, extras: Task['extras'] = {}): Task => ({ key: 'fn:a', extras, n })

/** One whose function is there. */
function warm(): WorkerQueue<Task, string> {
  const queue = new WorkerQueue<Task, string>()
  queue.push(task(0))
  queue.begin(0)
  queue.loaded('a')
  queue.begin(0)
  queue.end(0)
  return queue
}

describe('[TASK-14]', () => {
  test('tasks begin in the order of arrival, one at a time; one whose function is to be loaded keeps its place', () => {
    const queue = new WorkerQueue<Task, string>()
    for (const n of [1, 2]) queue.push(task(n))
    expect(queue.begin(10).n).toBe(1)
    expect(queue.fn).toBeUndefined()
    expect(queue.isReady).toBe(false)
    expect(() => queue.begin(10)).toThrow('W1')
    queue.loaded('a')
    expect(queue.begin(12).n).toBe(1)
    expect(queue.fn).toBe('a')
    expect(queue.end(12.5)).toBe(500)
    expect(queue.begin(13).n).toBe(2)
    queue.end(13)
    expect(queue.isIdle).toBe(true)
  })

  test('what waits behind a slow task goes back, not what waits behind a quick one', () => {
    const queue = warm()
    expect(queue.watch()).toBe(false)
    queue.push(task(1))
    queue.begin(100)
    expect(queue.watch()).toBe(false)
    for (const n of [2, 3]) queue.push(task(n))
    expect(queue.watch()).toBe(true)
    expect(queue.watch()).toBe(false)
    expect(queue.onWatch(100 + WATCH_MS - 1)).toEqual([])
    expect(queue.watch()).toBe(true)
    expect(queue.onWatch(100 + WATCH_MS).map(({ n }) => n)).toEqual([2, 3])
    expect(queue.running?.n).toBe(1)
    expect(queue.watch()).toBe(false)
  })

  test('a task that waits for values lends its CPU once, and what comes behind it meanwhile goes back', () => {
    const queue = warm()
    for (const n of [1, 2]) queue.push(task(n))
    queue.begin(0)
    expect(queue.block()).toBe(true)
    expect(queue.block()).toBe(false)
    expect(queue.giveBack().map(({ n }) => n)).toEqual([2])
    queue.push(task(3))
    expect(queue.watch()).toBe(true)
    expect(queue.onWatch(0).map(({ n }) => n)).toEqual([3])
    expect(queue.unblock()).toBe(false)
    expect(queue.unblock()).toBe(true)
    expect(queue.unblock()).toBe(false)
  })

  test('a function is slow until it has run, while it takes more than a millisecond, and when it must run once', () => {
    const queue = warm()
    const slow: boolean[] = []
    for (const [took, extras] of [[0], [3], [0], [0, { once: true }]] as const) {
      queue.push(task(1, extras))
      queue.begin(0)
      slow.push(queue.isSlow)
      queue.end(took)
    }
    expect(slow).toEqual([false, false, false, true])
    for (let i = 0; i < 5; i++) {
      queue.push(task(1))
      queue.begin(0)
      queue.end(3)
    }
    queue.push(task(1))
    queue.begin(0)
    expect(queue.isSlow).toBe(true)
  })

  test('one that is taken out, or abandoned, does not run', () => {
    const queue = warm()
    for (const n of [1, 2, 3]) queue.push(task(n))
    expect(queue.take(({ n }) => n === 2)?.n).toBe(2)
    expect(queue.take(({ n }) => n === 2)).toBeUndefined()
    expect(queue.begin(0).n).toBe(1)
    queue.abandon()
    expect(queue.begin(0).n).toBe(3)
  })
})

test('[TASK-11] after maxCalls runs the worker is worn out; one that leaves begins nothing more', () => {
  const queue = warm()
  queue.push(task(1, { maxCalls: 3 }))
  const first = queue.begin(0)
  queue.end(0)
  expect(queue.isWornOut(first)).toBe(false)
  for (const n of [2, 3]) queue.push(task(n, { maxCalls: 3 }))
  const second = queue.begin(0)
  queue.end(0)
  expect(queue.isWornOut(second)).toBe(true)
  expect(queue.leave().map(({ n }) => n)).toEqual([3])
  queue.push(task(4))
  expect(queue.isReady).toBe(false)
})
