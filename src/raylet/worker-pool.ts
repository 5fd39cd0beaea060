// The worker processes of a node: started ahead, matched to leases, reused, and ended when idle too long.
//
//     starting ──register──► idle ◄──► leased ──► exiting ──► gone
//
// Invariants:
//   P1. A worker serves one lease (or one actor) at a time, only leases that ask for the same environment, and those of one job: what
//       a program leaves in a worker's modules and globals is never seen by another.
//   P2. At most `maxStarting` workers start at once; a lease that waits for a worker has one starting for it, if the limit allows.
//   P3. Workers above the soft limit end when idle for `idleMs`; actors do not count.
//   P4. A worker that does not register within `registerTimeoutMs` is given up.
//   P5. GPUs go to fresh workers only: a GPU library never sees other devices than those of its first task.

import type { JobId, WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import type { ExitInfo, RuntimeEnv, WorkerAddress } from '../wire/messages.ts'

export interface PooledWorker {
  readonly address: WorkerAddress
  readonly envKey: string
  state: 'idle' | 'leased' | 'exiting'
  idleSince: Ms
  /** Whose it is, from its first lease on (P1); null: fresh. */
  jobId: JobId | null
  isActor: boolean
  /** Set before it ends by our doing, for the exit report. */
  endReason: EndReason | null
}

export interface EndReason {
  readonly reason: 'crashed' | 'killed' | 'cancelled' | 'outOfMemory' | 'ownerDied' | 'groupRemoved' | 'intended'
  readonly detail: string
  /** It said so itself: true only if it then ends by itself. */
  readonly isOwnWish?: boolean
  readonly retry?: NonNullable<ExitInfo['retry']>
}

interface Starting {
  readonly envKey: string
  readonly since: Ms
}

export interface PoolConfig {
  readonly softLimit: number
  readonly maxStarting: number
  readonly idleMs: Ms
  readonly registerTimeoutMs: Ms
}

export interface StartOrder {
  readonly startupToken: string
  readonly runtimeEnv: RuntimeEnv
  readonly heapMiB: number
}

const IDLE = 'idle'
export const DEFAULT_ENV_KEY = '{}|0'

export function envKeyOf(runtimeEnv: RuntimeEnv, heapMiB: number | undefined): string {
  return `${JSON.stringify(runtimeEnv)}|${heapMiB ?? 0}`
}

export class WorkerPool {
  readonly workers = new Map<WorkerTag, PooledWorker>()
  readonly #starting = new Map<string, Starting>()
  /** Starts in a row that ended before registration, by environment. */
  readonly #failures = new Map<string, number>()
  readonly #config: PoolConfig
  #tokens = 0
  #isPrestarted = false

  constructor(config: PoolConfig) {
    this.#config = config
  }

  get startingCount(): number {
    return this.#starting.size
  }

  /** Ahead of need, once: in steps, when fewer may start at once than are wanted. */
  prestart(now: Ms, wanted: number): readonly StartOrder[] {
    const missing = wanted - this.workers.size
    if (missing <= 0) this.#isPrestarted = true
    return this.#isPrestarted ? [] : this.start(now, DEFAULT_ENV_KEY, missing)
  }

  /** Starts as many workers of `envKey` as `needed` lacks, within the limit. */
  start(now: Ms, envKey: string, needed: number): StartOrder[] {
    let starting = 0
    for (const one of this.#starting.values()) if (one.envKey === envKey) starting++
    const orders: StartOrder[] = []
    while (starting < needed && this.#starting.size < this.#config.maxStarting) {
      const startupToken = `w${++this.#tokens}`
      this.#starting.set(startupToken, { envKey, since: now })
      const split = envKey.lastIndexOf('|')
      orders.push({
        startupToken,
        runtimeEnv: JSON.parse(envKey.slice(0, split)) as RuntimeEnv,
        heapMiB: Number(envKey.slice(split + 1)),
      })
      starting++
    }
    return orders
  }

  /** False: the token is unknown (it was given up). */
  register(now: Ms, startupToken: string, address: WorkerAddress): boolean {
    const starting = this.#starting.get(startupToken)
    if (!starting) return false
    this.#starting.delete(startupToken)
    this.#failures.delete(starting.envKey)
    const { envKey } = starting
    this.workers.set(address.tag, {
      address,
      envKey,
      state: 'idle',
      idleSince: now,
      jobId: null,
      isActor: false,
      endReason: null,
    })
    return true
  }

  /** A process ended before it registered. How often in a row, for its environment; 0: it was none of ours. */
  startFailed(startupToken: string): { envKey: string; count: number } | undefined {
    const starting = this.#starting.get(startupToken)
    if (!starting) return undefined
    this.#starting.delete(startupToken)
    const count = (this.#failures.get(starting.envKey) ?? 0) + 1
    this.#failures.set(starting.envKey, count)
    return { envKey: starting.envKey, count }
  }

  /** Workers that should have registered by now (P4). Their processes must be ended; that reports their failure. */
  overdue(now: Ms): string[] {
    const tokens: string[] = []
    for (const [token, { since }] of this.#starting)
      if (now - since >= this.#config.registerTimeoutMs) tokens.push(token)
    return tokens
  }

  clearFailures(envKey: string): void {
    this.#failures.delete(envKey)
  }

  /** Never the asker itself: its tasks would wait behind one of them that waits for them. */
  idle(envKey: string, jobId: JobId, isFreshWanted: boolean, asker: WorkerTag): PooledWorker | undefined {
    let best: PooledWorker | undefined
    for (const worker of this.workers.values()) {
      if (worker.state !== 'idle' || worker.envKey !== envKey || worker.address.tag === asker) continue
      if (worker.jobId !== null && (worker.jobId !== jobId || isFreshWanted)) continue // P1, P5
      if (!best || isBetter(worker, best)) best = worker
    }
    return best
  }

  release(now: Ms, worker: PooledWorker): void {
    worker.state = 'idle'
    worker.idleSince = now
  }

  /** A job is over: its idle workers end. */
  retire(jobId: JobId): PooledWorker[] {
    const ended = [...this.workers.values()].filter((worker) => worker.state === 'idle' && worker.jobId === jobId)
    for (const worker of ended) end(worker, 'its job is over')
    return ended
  }

  /** One that was told to end for being idle goes on, as others need what it owns. */
  stays(now: Ms, tag: WorkerTag): boolean {
    const worker = this.workers.get(tag)
    if (worker?.state !== 'exiting' || worker.endReason?.detail !== IDLE) return false
    worker.endReason = null
    this.release(now, worker)
    return true
  }

  remove(tag: WorkerTag): PooledWorker | undefined {
    const worker = this.workers.get(tag)
    this.workers.delete(tag)
    return worker
  }

  /** Surplus idle workers to end now (P3): those of odd environments first. */
  surplus(now: Ms): PooledWorker[] {
    const idle = [...this.workers.values()].filter((worker) => worker.state === 'idle')
    let excess = -this.#config.softLimit
    for (const worker of this.workers.values()) if (!worker.isActor && worker.state !== 'exiting') excess++
    const old = idle.filter((worker) => now - worker.idleSince >= this.#config.idleMs)
    old.sort(
      (a, b) =>
        Number(a.envKey === DEFAULT_ENV_KEY) - Number(b.envKey === DEFAULT_ENV_KEY) || a.idleSince - b.idleSince,
    )
    const ended: PooledWorker[] = []
    for (const worker of old) {
      if (excess <= 0) break
      excess--
      end(worker, IDLE)
      ended.push(worker)
    }
    return ended
  }
}

/** Used ones before fresh ones, which others need (P1, P5); then the one used last: warm caches, and the surplus ages. */
function isBetter(worker: PooledWorker, than: PooledWorker): boolean {
  const isUsed = worker.jobId !== null
  return isUsed === (than.jobId !== null) ? worker.idleSince > than.idleSince : isUsed
}

function end(worker: PooledWorker, detail: string): void {
  worker.state = 'exiting'
  worker.endReason ??= { reason: 'intended', detail }
}
