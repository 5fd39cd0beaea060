// Failure here looks like a worker that two jobs share, one that nobody ends, or a start that is waited for for ever.
import { expect, test } from 'vitest'
import type { Effect, Input } from '../kernel/machine.ts'
import type { FromNode, LeaseSpec, ToNode, WorkerAddress } from '../wire/messages.ts'
import { Raylet } from './raylet.ts'
import type { RayletEffect, RayletInput } from './shell.ts'
import { DEFAULT_ENV_KEY, WorkerPool } from './worker-pool.ts'

type Fx = Effect<FromNode, RayletEffect>[]
const [JOB, OTHER_JOB] = ['01000000', '02000000']

const address = (tag: number): WorkerAddress => ({ tag, workerId: `w${tag}`, pid: tag, socket: `s${tag}`, nodeId: 'n' })
function pool(limits: Partial<ConstructorParameters<typeof WorkerPool>[0]> = {}): WorkerPool {
  return new WorkerPool({ softLimit: 2, maxStarting: 2, idleMs: 1000, registerTimeoutMs: 60_000, ...limits })
}
/** So many registered workers, tagged from 1. */
function filled(count: number, limits: Parameters<typeof pool>[0] = {}): WorkerPool {
  const made = pool({ maxStarting: count, ...limits })
  made.start(0, DEFAULT_ENV_KEY, count).forEach(({ startupToken }, i) => {
    made.register(0, startupToken, address(i + 1))
  })
  return made
}

test('[ARCH-09] P1: a worker stays with the job of its first lease; P5: GPUs go to fresh ones', () => {
  const workers = filled(2)
  const first = workers.idle(DEFAULT_ENV_KEY, JOB, false, 99)
  if (!first) throw new Error('none is idle')
  first.jobId = JOB
  for (const worker of workers.workers.values()) if (worker !== first) workers.release(5, worker)
  // Although the fresh one was idle last: others need it.
  expect(workers.idle(DEFAULT_ENV_KEY, JOB, false, 99)).toBe(first)
  const fresh = workers.idle(DEFAULT_ENV_KEY, OTHER_JOB, false, 99)
  expect(fresh).not.toBe(first)
  expect(workers.idle(DEFAULT_ENV_KEY, JOB, true, 99)).toBe(fresh)
  if (fresh) fresh.jobId = OTHER_JOB
  expect(workers.idle(DEFAULT_ENV_KEY, JOB, true, 99)).toBeUndefined()
  expect(workers.retire(JOB)).toEqual([first])
  expect(first.state).toBe('exiting')
})

test('[ARCH-15] P2: never more than maxStarting at once', () => {
  const workers = pool({ maxStarting: 1 })
  const orders = workers.start(0, DEFAULT_ENV_KEY, 5)
  expect(orders.length).toBe(1)
  expect(workers.start(0, DEFAULT_ENV_KEY, 5)).toEqual([])
  workers.register(1, orders[0]?.startupToken ?? '', address(1))
  expect(workers.start(1, DEFAULT_ENV_KEY, 5).length).toBe(1)
})

test('[ARCH-09] P3: idle ones above the limit end, oldest first; actors do not count', () => {
  const workers = filled(5)
  const [actor, busy, ...idle] = [...workers.workers.values()]
  if (!actor || !busy) throw new Error('five were made')
  Object.assign(actor, { state: 'leased', isActor: true })
  busy.state = 'leased'
  for (const [i, worker] of idle.entries()) workers.release(i, worker)
  expect(workers.surplus(1000).map(({ address }) => address.tag)).toEqual([3]) // The second is idle for 999 ms only.
  expect(workers.surplus(2000).map(({ address }) => address.tag)).toEqual([4])
  expect(workers.surplus(9000)).toEqual([]) // One busy and one idle make two.
})

test('[ARCH-09] P4: who does not register in time is given up', () => {
  const workers = pool()
  const [one, two] = workers.start(0, DEFAULT_ENV_KEY, 2)
  workers.register(10, one?.startupToken ?? '', address(1))
  expect(workers.overdue(59_999)).toEqual([])
  expect(workers.overdue(60_000)).toEqual([two?.startupToken])
  expect(workers.startFailed(two?.startupToken ?? '')).toEqual({ envKey: DEFAULT_ENV_KEY, count: 1 })
  expect(workers.register(60_001, two?.startupToken ?? '', address(2))).toBe(false)
})

test('[ARCH-15] prestart goes on one by one when only one may start at a time; a driver that leaves takes its idle workers along', () => {
  const raylet = new Raylet({
    nodeId: 'n',
    total: { CPU: 30_000 },
    numWorkersSoftLimit: 3,
    maxStarting: 1,
    idleMs: 1000,
    idleCheckMs: 200,
    prestart: 3,
  })
  const step = (input: Input<ToNode, RayletInput>): Fx => raylet.step(0, input)
  const tokens = (fx: Fx): string[] =>
    fx.flatMap((effect) =>
      effect.kind === 'local' && effect.event.t === 'spawnWorker' ? [effect.event.startupToken] : [],
    )
  const registered = (startupToken: string, tag: number): Fx =>
    step({ kind: 'local', event: { t: 'registered', kind: 'worker', startupToken, address: address(tag) } })
  const [first] = tokens(step({ kind: 'start' }))
  const [second] = tokens(registered(first as string, 2))
  const [third] = tokens(registered(second as string, 3))
  expect(tokens(registered(third as string, 4))).toEqual([])
  const job = { jobId: OTHER_JOB, namespace: 'theirs' }
  step({ kind: 'local', event: { t: 'registered', kind: 'driver', startupToken: '', address: address(5), job } })
  const spec: LeaseSpec = {
    resources: { CPU: 10_000 },
    strategy: { kind: 'DEFAULT' },
    runtimeEnv: {},
    jobId: OTHER_JOB,
    priority: 0,
    onInfeasible: 'fail',
    name: 'f',
    retriable: true,
  }
  const granted = step({ kind: 'message', from: 5, message: { t: 'lease.request', leaseId: 'l', spec } })
  const assigned = granted.flatMap((effect) =>
    effect.kind === 'send' && effect.message.t === 'worker.assigned' ? [effect] : [],
  )
  expect(assigned).toMatchObject([{ message: { jobId: OTHER_JOB, namespace: 'theirs', gpuIds: [] } }])
  step({ kind: 'message', from: 5, message: { t: 'lease.return', leaseId: 'l', dispose: false } })
  const left = step({ kind: 'local', event: { t: 'gone', tag: 5, pid: 5, code: null, signal: null } })
  const exits = left.flatMap((effect) =>
    effect.kind === 'send' && effect.message.t === 'worker.exit' ? [effect.to] : [],
  )
  expect(exits).toEqual([assigned[0]?.to])
  raylet.check()
})
