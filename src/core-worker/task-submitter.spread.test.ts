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

test('[EXTRA-02] when the last waiting task is taken out, the request for its worker goes too: it would count as demand for ever', () => {
  const submitter = new TaskSubmitter(1)
  const fn: RemoteFunctionEntry = { key: 'fn:1', name: 'f', averageMicros: -1 }
  const [one, other] = [taskOf(fn), taskOf(fn)]
  const effects: CoreOutput[] = []
  for (const task of [one, other]) submitter.submit(0, task, effects)
  const asked = effects.splice(0).flatMap((effect) => (effect.t === 'toNode' ? [effect.message] : []))
  expect(asked.every(({ t }) => t === 'lease.request')).toBe(true)
  expect(submitter.remove(one, effects)).toBe(true)
  expect(effects).toEqual([])
  expect(submitter.remove(other, effects)).toBe(true)
  const ids = asked.flatMap((message) => (message.t === 'lease.request' ? [message.leaseId] : []))
  expect(effects).toEqual(ids.map((leaseId) => ({ t: 'toNode', message: { t: 'lease.cancel', leaseId } })))
  expect(submitter.stats().requests).toBe(0)
})
