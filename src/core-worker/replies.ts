// What workers answer to this process, frame by frame: values, items, errors, statuses, and acknowledgements of cancels.
//
//     frame ──► reader ──► states (their references counted as received) ──► the core worker's task
//                 └── nobody waits for it any more ──► what came with it is given back
//
// Invariants:
//   F1. Every reference in a frame is counted as received once, and every one that the sender keeps is granted to it once, whatever
//       becomes of the answer.
//   F2. Only an answer of the worker on which a task is now counts for it.

import type { ObjectId, WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import { decodeSmall, isSmall } from '../values/index.ts'
import { readU32 } from '../wire/byte-writer.ts'
import { FRAME, STATUS, ValueReader } from '../wire/task-frames.ts'
import type { CoreWorker } from './core-worker.ts'
import type { Task } from './effects.ts'
import type { ValueState } from './reference-table.ts'

/** The shell decides whether it is to be retried, which may take a while, and calls `core.completeWithError`. */
export type OnTaskError = (task: Task, error: Uint8Array, microseconds: number) => void

export class Replies {
  readonly #core: CoreWorker
  readonly #onTaskError: OnTaskError
  readonly #cancelAcked = new Set<number>()

  constructor(core: CoreWorker, onTaskError: OnTaskError) {
    this.#core = core
    this.#onTaskError = onTaskError
  }

  /** A frame that begins at `start`. False: no worker sends such a one. */
  onFrame(now: Ms, from: WorkerTag, buffer: Buffer, start: number): boolean {
    const sequence = readU32(buffer, start + 1)
    switch (buffer[start]) {
      case FRAME.reply:
        this.#onReply(now, from, sequence, buffer, start)
        return true
      case FRAME.item:
        this.#onItem(now, from, sequence, buffer, start)
        return true
      case FRAME.cancelAck:
        if (this.#core.task(sequence)) this.#cancelAcked.add(sequence)
        return true
      default:
        return false
    }
  }

  /** Has the worker taken note that this task is cancelled? Asked once. */
  takeCancelAck(sequence: number): boolean {
    return this.#cancelAcked.delete(sequence)
  }

  #onReply(now: Ms, from: WorkerTag, sequence: number, buffer: Buffer, start: number): void {
    const core = this.#core
    const task = core.task(sequence)
    const status = buffer[start + 5] as number
    const reader = new ValueReader(buffer, start + 10)
    if (!task || task.target?.address.tag !== from) return this.#drop(reader, status, from)
    if (this.#cancelAcked.size > 0) this.#cancelAcked.delete(sequence)
    const microseconds = readU32(buffer, start + 6)
    if (status === STATUS.ok) {
      const count = reader.u16()
      if (count === 1 && task.numReturns === 1) {
        const state = this.#received(reader, from)
        this.#kept(reader, from)
        core.completeOne(now, task, state, microseconds)
        return
      }
      const states: ValueState[] = []
      for (let i = 0; i < count; i++) states.push(this.#received(reader, from))
      this.#kept(reader, from)
      core.complete(now, task, states, microseconds)
      return
    }
    const error = status === STATUS.error ? Buffer.from(reader.prefixed()) : null
    this.#kept(reader, from)
    if (error) this.#onTaskError(task, error, microseconds)
    else if (status === STATUS.bounced) core.onBounced(now, task)
    else core.onCancelled(now, task)
  }

  #onItem(now: Ms, from: WorkerTag, sequence: number, buffer: Buffer, start: number): void {
    const task = this.#core.task(sequence)
    const state = this.#received(new ValueReader(buffer, start + 9), from)
    if (!task || task.target?.address.tag !== from) this.#core.discard(state)
    else this.#core.onItem(now, task, readU32(buffer, start + 5), state)
  }

  /** The next value, in a form that may be kept. Its references were counted for us by the sender. */
  #received(reader: ValueReader, from: WorkerTag): ValueState {
    reader.next()
    const { refs } = reader
    if (refs.length > 0) {
      const { table, effects } = this.#core
      for (const ref of refs) {
        table.hold(ref)
        table.received(ref, from, effects)
      }
    }
    if (reader.isStored) return { kind: 'stored', storageId: reader.storageId, size: reader.size, refs }
    if (reader.isError) return { kind: 'error', bytes: Buffer.from(reader.buffer.subarray(reader.start, reader.end)) }
    if (isSmall(reader.buffer, reader.start))
      return { kind: 'primitive', value: decodeSmall(reader.buffer, reader.start) }
    const bytes = Buffer.allocUnsafeSlow(reader.end - reader.start)
    reader.buffer.copy(bytes, 0, reader.start, reader.end)
    return { kind: 'inline', bytes, refs }
  }

  #drop(reader: ValueReader, status: number, from: WorkerTag): void {
    if (status === STATUS.error) reader.prefixed()
    for (let count = status === STATUS.ok ? reader.u16() : 0; count > 0; count--)
      this.#core.discard(this.#received(reader, from))
    this.#kept(reader, from)
  }

  /** Of the references in the arguments, those of ours that the worker still holds. */
  #kept(reader: ValueReader, worker: WorkerTag): void {
    const ids = reader.ids()
    for (let i = 0; i < ids.length; i++) this.#core.table.grant(ids[i] as ObjectId, worker, this.#core.effects)
  }
}
