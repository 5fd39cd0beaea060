// Fails when work is spread over more workers than it is worth, held back from workers that it needs, or when an aged lease goes on
// to be fed one task at a time (which made 1,000 no-ops take 30 ms instead of 5 once their leases were a second old).

import { describe, expect, test } from 'vitest'
import type { CoreOutput, RemoteFunctionEntry, Task } from './effects.ts'
import { plainTask } from './task-fixture.ts'
import { TaskSubmitter } from './task-submitter.ts'

const schedulingClass = { key: 'c', spec: { resources: { CPU: 10_000 } } as never }
let sequence = 0

function taskOf(fn: RemoteFunctionEntry): Task {
  return plainTask(++sequence, { fn, schedulingClass })
}

class Bench {
  readonly submitter = new TaskSubmitter(1)
  readonly fn: RemoteFunctionEntry
  readonly pushed = new Map<number, Task[]>()
  readonly requests: string[] = []
  readonly returned: string[] = []
  readonly cancelled: string[] = []

  constructor(averageMicros: number) {
    this.fn = { key: 'fn:1', name: 'f', averageMicros }
  }

  run(call: (effects: CoreOutput[]) => void): void {
    const effects: CoreOutput[] = []
    call(effects)
    for (const effect of effects) {
      if (effect.t === 'push') {
        const { tag } = effect.target.address
        this.pushed.set(tag, [...(this.pushed.get(tag) ?? []), effect.task])
      } else if (effect.t === 'toNode' && effect.message.t === 'lease.request')
        this.requests.push(effect.message.leaseId)
      else if (effect.t === 'toNode' && effect.message.t === 'lease.return') this.returned.push(effect.message.leaseId)
      else if (effect.t === 'toNode' && effect.message.t === 'lease.cancel') this.cancelled.push(effect.message.leaseId)
    }
    this.submitter.check()
  }

  submit(now: number, count: number): void {
    for (let i = 0; i < count; i++) this.run((effects) => this.submitter.submit(now, taskOf(this.fn), effects))
  }

  grant(now: number, tag: number): void {
    const leaseId = this.requests.shift() as string
    this.run((effects) => this.submitter.onGranted(now, leaseId, { tag, socket: `s${tag}` } as never, effects))
  }

  finishAll(now: number, tag: number, micros: number): void {
    const tasks = this.pushed.get(tag) ?? []
    this.pushed.delete(tag)
    for (const task of tasks) this.run((effects) => this.submitter.onDone(now, task, micros, effects))
  }

  inflight(tag: number): number {
    return this.pushed.get(tag)?.length ?? 0
  }
}

describe('[ARCH-22] how far tasks are spread', () => {
  test('a worker that outruns its owner gets them all, and no other is asked for', () => {
    const bench = new Bench(1)
    bench.submit(0, 1)
    bench.grant(0, 7)
    bench.submit(0, 900)
    expect(bench.inflight(7)).toBe(901)
    expect(bench.requests).toEqual([])
  })

  test('tasks of 10 ms go one to a worker', () => {
    const bench = new Bench(10_000)
    bench.submit(0, 4)
    bench.grant(0, 7)
    bench.grant(0, 8)
    expect([bench.inflight(7), bench.inflight(8)]).toEqual([1, 1])
    expect(bench.requests.length).toBeGreaterThan(0)
  })

  test('tasks of 100 µs fill one worker with half a millisecond of work, then the next', () => {
    const bench = new Bench(100)
    bench.submit(0, 1)
    bench.grant(0, 7)
    bench.submit(0, 4)
    expect(bench.inflight(7)).toBe(5)
    bench.submit(0, 5)
    bench.grant(0, 8)
    expect(bench.inflight(8)).toBe(5)
  })

  test('an aged lease drains, is returned and asked for anew', () => {
    const bench = new Bench(1)
    bench.submit(0, 1)
    bench.grant(0, 7)
    bench.submit(1500, 10)
    expect(bench.inflight(7)).toBe(1) // What was there; nothing more is pushed to it.
    bench.finishAll(1500, 7, 1)
    expect(bench.returned).toHaveLength(1)
    bench.grant(1500, 7)
    expect(bench.inflight(7)).toBe(10)
  })
})

describe('[ARCH-22] [TASK-18] nothing waits for one task alone, which may wait for it (S2)', () => {
  const submitQuick = (bench: Bench, averageMicros: number): void => {
    const task = taskOf({ key: 'fn:2', name: 'quick', averageMicros })
    bench.run((effects) => bench.submitter.submit(0, task, effects))
  }

  test('a short task does not wait for one whose time is not known: another worker is asked for', () => {
    const bench = new Bench(-1)
    bench.submit(0, 1)
    bench.grant(0, 7)
    submitQuick(bench, 1)
    expect([bench.inflight(7), bench.requests]).toEqual([1, ['1.2']])
    bench.grant(0, 8)
    expect(bench.inflight(8)).toBe(1)
  })

  test('what is not worth another worker is pushed, beyond the fair share too: the worker gives it back if it must', () => {
    const bench = new Bench(400)
    bench.submit(0, 2)
    bench.grant(0, 7)
    bench.grant(0, 8)
    submitQuick(bench, 150)
    expect([bench.inflight(7) + bench.inflight(8), bench.requests]).toEqual([3, []])
  })
})

describe('[ARCH-22][EXTRA-02] no more workers are asked for than tasks wait (S6)', () => {
  test('a worker that has nothing to do is used before another is asked for', () => {
    const bench = new Bench(-1)
    bench.submit(0, 1)
    bench.grant(0, 7)
    bench.finishAll(0, 7, 10_000)
    bench.submit(1, 1)
    expect([bench.inflight(7), bench.requests]).toEqual([1, []])
  })

  test('one that was granted takes a task: no request replaces it', () => {
    const bench = new Bench(-1)
    bench.submit(0, 2)
    bench.grant(0, 7)
    expect([bench.inflight(7), bench.requests]).toEqual([1, ['1.2']])
  })

  test('as others take what waits, the newest requests are withdrawn', () => {
    const bench = new Bench(10_000)
    bench.submit(0, 3)
    bench.grant(0, 7)
    expect([bench.requests, bench.cancelled]).toEqual([['1.2', '1.3'], []])
    bench.finishAll(10, 7, 10_000)
    expect(bench.cancelled).toEqual(['1.3'])
  })
})

test('[EXTRA-02] a waiting task that is taken out takes the request for its worker with it: it would count as demand for ever', () => {
  const submitter = new TaskSubmitter(1)
  const fn: RemoteFunctionEntry = { key: 'fn:1', name: 'f', averageMicros: -1 }
  const [one, other] = [taskOf(fn), taskOf(fn)]
  const effects: CoreOutput[] = []
  const messages = () => effects.splice(0).flatMap((effect) => (effect.t === 'toNode' ? [effect.message] : []))
  for (const task of [one, other]) submitter.submit(0, task, effects)
  expect(messages().map(({ t }) => t)).toEqual(['lease.request', 'lease.request'])
  expect(submitter.remove(one, effects)).toBe(true)
  expect(messages()).toEqual([{ t: 'lease.cancel', leaseId: '1.2' }])
  expect(submitter.remove(other, effects)).toBe(true)
  expect(messages()).toEqual([{ t: 'lease.cancel', leaseId: '1.1' }])
  expect(submitter.stats().requests).toBe(0)
})
