// What actors keep across their lives (`ray.actorState`): keys and values of each, as bytes.
//
//   S1. Only the living incarnation of an actor changes it, and hears so when it is in the journal (R1 of records.ts).
//   S2. It goes when the actor is dead for good, and only then.

import type { ActorId } from '../ids/ids.ts'
import type { ActorStateEntry } from '../wire/messages.ts'
import type { GcsRecord, Journal } from './records.ts'

const NOTHING: readonly ActorStateEntry[] = []

export class ActorStates {
  readonly #states = new Map<ActorId, Map<string, Uint8Array>>()
  readonly #journal: Journal

  constructor(journal: Journal) {
    this.#journal = journal
  }

  restore(records: readonly GcsRecord[]): void {
    for (const { table, key, value } of records) {
      if (table !== 'state') continue
      const at = key.indexOf(' ')
      this.#stateOf(key.slice(0, at)).set(key.slice(at + 1), value)
    }
  }

  /** null: the key goes. */
  put(actorId: ActorId, key: string, value: Uint8Array | null): void {
    const record = `${actorId} ${key}`
    if (value) {
      this.#stateOf(actorId).set(key, value)
      this.#journal.put('state', record, () => value)
    } else if (this.#states.get(actorId)?.delete(key)) this.#journal.remove('state', record)
  }

  of(actorId: ActorId): readonly ActorStateEntry[] {
    const state = this.#states.get(actorId)
    return state ? [...state] : NOTHING
  }

  /** S2 */
  forget(actorId: ActorId): void {
    for (const key of this.#states.get(actorId)?.keys() ?? []) this.#journal.remove('state', `${actorId} ${key}`)
    this.#states.delete(actorId)
  }

  #stateOf(actorId: ActorId): Map<string, Uint8Array> {
    const state = this.#states.get(actorId) ?? new Map<string, Uint8Array>()
    this.#states.set(actorId, state)
    return state
  }
}
