// Which way the lines of workers go: to the drivers of their job on this node, and to the nodes on which others are.
//
//     node with drivers ── log.wanted (their jobs) ──► every other node ── log.lines ──► it ──► the drivers
//
//   R1. Lines of a job go to who wants them, and nowhere else; where nobody does they are in the log files only.
//   R2. Links carry what the cluster lives by: of lines no more wait on one than `LINK_BYTES_MAX`, the rest is dropped with a count.
//   R3. A worker may speak before its node has heard who wants that (the node has just joined): the last lines of such jobs are kept.

import type { JobId, NodeId, WorkerTag } from '../ids/ids.ts'
import type { NodeAddress, NodeView, RayletToRaylet } from '../wire/cluster.ts'
import type { FromNode, LogBatch } from '../wire/messages.ts'
import { LogForwarder } from './log-forwarder.ts'

export type LogMessage = Extract<RayletToRaylet, { t: `log.${string}` }>

export interface LogRoadsOptions {
  /** What others call this node: lines of workers at this address need not say where they are. */
  readonly host: string
  send(to: NodeId, message: LogMessage, address: NodeAddress | null): void
  /** What that node has not acknowledged yet. */
  keptBytes(nodeId: NodeId): number
  others(): Iterable<NodeView>
}

/** One that reads its connection. */
export interface Driver {
  readonly jobId: JobId
  send(message: FromNode): void
  unreadBytes(): number
}

interface Reader {
  readonly jobId: JobId
  readonly logs: LogForwarder
}

const LINK_BYTES_MAX = 1024 * 1024
const EARLY_BATCHES_MAX = 100
const FLUSH_PATIENCE_MS = 2000

export class LogRoads {
  readonly #options: LogRoadsOptions
  readonly #drivers = new Map<WorkerTag, Reader>()
  readonly #wanted = new Map<NodeId, { jobs: ReadonlySet<JobId>; readonly logs: LogForwarder }>()
  readonly #told = new Set<NodeId>()
  #early: LogBatch[] = []
  readonly #flushes = new Map<number, { readonly waiting: Set<NodeId>; readonly done: () => void }>()
  #flushId = 0

  constructor(options: LogRoadsOptions) {
    this.#options = options
  }

  add(tag: WorkerTag, { jobId, send, unreadBytes }: Driver): void {
    const logs = new LogForwarder({ send: (batch) => send({ t: 'log.lines', batch }), unreadBytes })
    this.#drivers.set(tag, { jobId, logs })
    this.#tellAll()
  }

  remove(tag: WorkerTag): void {
    if (this.#drivers.delete(tag)) this.#tellAll()
  }

  /** Of a worker here. `jobId`: null while it may serve any job; those lines are for who is here. */
  lines(jobId: JobId | null, batch: LogBatch): void {
    let isWanted = jobId === null
    for (const driver of this.#drivers.values()) {
      if (jobId !== null && driver.jobId !== jobId) continue
      isWanted = true
      driver.logs.forward({ ...batch, ip: '' })
    }
    for (const { jobs, logs } of this.#wanted.values()) {
      if (jobId === null || !jobs.has(jobId)) continue
      isWanted = true
      logs.forward(batch)
    }
    if (isWanted) return
    this.#early.push(batch) // R3
    if (this.#early.length > EARLY_BATCHES_MAX) this.#early.shift()
  }

  /** Before the views are acted on: a node hears what is wanted before it is given work. */
  nodes(views: readonly NodeView[]): void {
    for (const { nodeId, state, address } of views) {
      if (state === 'DEAD') this.#forget(nodeId)
      else if (this.#drivers.size > 0) this.#tell(nodeId, address)
    }
  }

  onPeer(nodeId: NodeId, message: LogMessage): void {
    switch (message.t) {
      case 'log.wanted':
        return this.#onWanted(nodeId, new Set(message.jobs))
      case 'log.lines': {
        const { batch } = message
        const ip = batch.ip === this.#options.host ? '' : batch.ip
        for (const { jobId, logs } of this.#drivers.values()) if (jobId === batch.jobId) logs.forward({ ...batch, ip })
        return
      }
      case 'log.flush':
        return afterReading(() => {
          this.#wanted.get(nodeId)?.logs.tell()
          this.#options.send(nodeId, { t: 'log.flushed', flush: message.flush }, null)
        })
      case 'log.flushed':
        return this.#flushed(nodeId, message.flush)
    }
  }

  /** Calls back when what workers have printed so far, here and elsewhere, is on its way to the drivers; or after a while. */
  flush(done: () => void): void {
    const flush = ++this.#flushId
    const waiting = new Set<NodeId>()
    for (const { nodeId } of this.#options.others()) if (this.#told.has(nodeId)) waiting.add(nodeId)
    const timer = setTimeout(() => this.#endFlush(flush), FLUSH_PATIENCE_MS)
    const end = (): void => {
      clearTimeout(timer)
      afterReading(() => {
        for (const { logs } of this.#drivers.values()) logs.tell()
        done()
      })
    }
    this.#flushes.set(flush, { waiting, done: end })
    if (waiting.size === 0) return this.#endFlush(flush)
    for (const nodeId of waiting) this.#options.send(nodeId, { t: 'log.flush', flush }, null)
  }

  #flushed(nodeId: NodeId, flush: number): void {
    const one = this.#flushes.get(flush)
    one?.waiting.delete(nodeId)
    if (one?.waiting.size === 0) this.#endFlush(flush)
  }

  #endFlush(flush: number): void {
    const one = this.#flushes.get(flush)
    this.#flushes.delete(flush)
    one?.done()
  }

  #onWanted(nodeId: NodeId, jobs: ReadonlySet<JobId>): void {
    const { send, keptBytes } = this.#options
    const known = this.#wanted.get(nodeId)
    const logs =
      known?.logs ??
      new LogForwarder({
        send: (batch) => send(nodeId, { t: 'log.lines', batch }, null),
        unreadBytes: () => keptBytes(nodeId),
        bytesMax: LINK_BYTES_MAX, // R2
        because: 'they came faster than they could be sent from their node',
      })
    if (jobs.size === 0) this.#wanted.delete(nodeId)
    else this.#wanted.set(nodeId, { jobs, logs })
    const early = this.#early
    this.#early = early.filter(({ jobId }) => !jobs.has(jobId))
    for (const batch of early) if (jobs.has(batch.jobId)) logs.forward(batch) // R3
  }

  #tellAll(): void {
    for (const { nodeId, address } of this.#options.others()) {
      this.#told.delete(nodeId)
      this.#tell(nodeId, address)
    }
  }

  #tell(nodeId: NodeId, address: NodeAddress): void {
    if (this.#told.has(nodeId)) return
    this.#told.add(nodeId)
    const jobs = [...new Set([...this.#drivers.values()].map(({ jobId }) => jobId))]
    this.#options.send(nodeId, { t: 'log.wanted', jobs }, address)
  }

  #forget(nodeId: NodeId): void {
    this.#wanted.delete(nodeId)
    this.#told.delete(nodeId)
    for (const flush of [...this.#flushes.keys()]) this.#flushed(nodeId, flush)
  }
}

/** When the pipes of workers were read once more. */
function afterReading(run: () => void): void {
  setImmediate(() => setImmediate(run))
}
