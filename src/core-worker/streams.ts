// Generator tasks as their owner sees them: items that arrive one by one, and the end.
//
// Invariants:
//   G1. Item i becomes an owned object once, whatever a retried generator sends again.
//   G2. The worker is told how many items were taken, so that it stays at most `backpressure` ahead.
//   G3. The end is known when the reply has come: then `count` is final, and an error, if any, is the last item.

import type { ObjectId } from '../ids/ids.ts'

export interface StreamState {
  /** Objects not taken yet, by index. */
  readonly items: Map<number, ObjectId>
  received: number
  consumed: number
  /** Known at the end. */
  count: number
  isAbandoned: boolean
}

export class Streams {
  readonly #streams = new Map<number, StreamState>()

  open(sequence: number): StreamState {
    const stream: StreamState = { items: new Map(), received: 0, consumed: 0, count: -1, isAbandoned: false }
    this.#streams.set(sequence, stream)
    return stream
  }

  get(sequence: number): StreamState | undefined {
    return this.#streams.get(sequence)
  }

  /** False when the item is a repetition, or nobody wants it. */
  accepts(sequence: number, index: number): boolean {
    const stream = this.#streams.get(sequence)
    return stream !== undefined && !stream.isAbandoned && index === stream.received
  }

  add(sequence: number, index: number, id: ObjectId): void {
    const stream = this.#streams.get(sequence)
    if (!stream) return
    stream.items.set(index, id)
    stream.received = index + 1
  }

  finish(sequence: number): void {
    const stream = this.#streams.get(sequence)
    if (stream && stream.count < 0) stream.count = stream.received
  }

  /** The next item: an id, 'wait' or 'end'. */
  next(sequence: number): ObjectId | 'wait' | 'end' {
    const stream = this.#streams.get(sequence)
    if (!stream) return 'end'
    const id = stream.items.get(stream.consumed)
    if (id !== undefined) {
      stream.items.delete(stream.consumed)
      stream.consumed++
      return id
    }
    return stream.count >= 0 && stream.consumed >= stream.count ? 'end' : 'wait'
  }

  /** Nobody will take more: the ids of what was not taken. */
  abandon(sequence: number): readonly ObjectId[] {
    const stream = this.#streams.get(sequence)
    if (!stream) return []
    this.#streams.delete(sequence)
    stream.isAbandoned = true
    return [...stream.items.values()]
  }
}
