// Objects as one process sees them: where their values are, and who still needs them.
//
// Owned objects were made here (put, or returned by a task submitted here). Borrowed ones belong to another process, which must
// be told how many holds it grants (`ref.add`) and when they end (`ref.remove`).
//
//     hold of a borrower      granted by whoever gives the reference away, BEFORE its own hold ends; released here when neither a
//                             handle nor an object containing it is left. Counts per borrower add up in any order of arrival.
//     hold in transit         given away by somebody who is not the owner (`via`), in a frame that may be lost with its sender: counted
//                             apart, by sender and receiver, until the receiver has it. When the sender is gone the owner asks the
//                             receiver whether anything can still come, and then forgets what never came.
//
// Invariants:
//   R1. An owned object lives while it has a local hold (handles, pinned arguments, objects containing it) or a borrower's count
//       that is not zero. A negative count means that the matching `ref.add` is still on its way: the object lives.
//   R2. Each `granted` hold of a borrowed object is given back exactly once.
//   R3. When an owned object dies, its stored copies are freed, its publication withdrawn, what it contains released; once.
//   R4. A reference that has left this process is published as soon as its value is known, so that nobody has to ask us.
//   R5. A hold that reaches the owner too late is answered: its borrower's reads fail instead of waiting for ever.
//   R7. A question to the node ends with its answer, or with our word that we do not care any more.
//   R6. Whatever a process had written when it was killed: what it had counted and not given, or given and not counted, is settled.

import { makeObjectId, type ObjectId, ownerOf, WORKER_TAG_MAX, type WorkerTag } from '../ids/ids.ts'
import { DenseTable } from '../kernel/dense-table.ts'
import { invariant } from '../kernel/invariant.ts'
import type { ObjectLocation, RefMessage } from '../wire/messages.ts'
import type { Effects } from './effects.ts'
import { Lineage, type LineageRecord } from './lineage.ts'

export type ValueState =
  | { readonly kind: 'pending' }
  /** Nobody needs it but tasks that may have to be run again, or its copy is lost: it is made again when it is asked for. */
  | { readonly kind: 'evicted' }
  /** A small immutable value, kept decoded. */
  | { readonly kind: 'primitive'; readonly value: unknown }
  | ObjectLocation

export interface OwnedObject {
  state: ValueState
  /** Handles in this process, pins of submitted tasks, and owned objects that contain it. */
  holds: number
  /** By borrower, or `inTransit` from somebody to a borrower. */
  borrowers: Map<number, number> | null
  hasEscaped: boolean
  isPublished: boolean
  /** How to make it again, and how many kept tasks would need it for that. */
  lineage: { record: LineageRecord | null; claims: number } | null
  /** Not an object but an actor's handles: what to say when nobody holds them. */
  actorId: string | null
}

export interface BorrowedObject {
  holds: number
  /** Holds that the owner counts for us. */
  granted: number
  location: ObjectLocation | null
  isResolving: boolean
}

const NOTHING_REVIVED: LineageRecord[] = []
const PENDING: ValueState = { kind: 'pending' }
/** Its copy is lost, and another one looked for. */
const RESCUED: ValueState = { kind: 'pending' }
/** No bytes: the shell reads it as `ObjectFreedError`. */
const FREED: ValueState = { kind: 'error', bytes: new Uint8Array(0) }

export class ReferenceTable {
  readonly tag: WorkerTag
  readonly owned: DenseTable<OwnedObject>
  readonly borrowed = new Map<ObjectId, BorrowedObject>()
  /** Owned ones that have or had borrowers: the end of a process must not cost a look at a million others. */
  readonly #lent = new Set<ObjectId>()
  readonly lineage = new Lineage()
  readonly #revived: LineageRecord[] = []
  /** By the id of the lost copy. */
  readonly #rescued = new Map<
    ObjectId,
    { readonly id: ObjectId; readonly state: ObjectLocation & { kind: 'stored' } }
  >()
  /** Objects of these that were asked for meanwhile. */
  readonly #awaited = new Set<ObjectId>()
  /** Turns a primitive state into the bytes that others can read. Pure, given by the shell. */
  readonly #encodePrimitive: (value: unknown) => Uint8Array

  constructor(tag: WorkerTag, encodePrimitive: (value: unknown) => Uint8Array) {
    this.tag = tag
    this.owned = new DenseTable(makeObjectId(tag, 0))
    this.#encodePrimitive = encodePrimitive
  }

  /** A new owned object with one hold: the handle about to be made. */
  create(id: ObjectId, actorId: string | null = null): OwnedObject {
    const object: OwnedObject = {
      state: PENDING,
      holds: 1,
      borrowers: null,
      hasEscaped: false,
      isPublished: false,
      lineage: null,
      actorId,
    }
    this.owned.set(id, object)
    return object
  }

  /** Somebody holds it: here, or elsewhere by our count. */
  knows(id: ObjectId): boolean {
    return this.owned.has(id) || this.borrowed.has(id)
  }

  isOwned(id: ObjectId): boolean {
    return ownerOf(id) === this.tag
  }

  /** Another hold in this process: a handle, a pin, an object that contains it. */
  hold(id: ObjectId): void {
    const owned = this.owned.get(id)
    if (owned) {
      owned.holds++
      return
    }
    const borrowed = this.borrowed.get(id)
    if (borrowed) borrowed.holds++
    else this.borrowed.set(id, { holds: 1, granted: 0, location: null, isResolving: false })
  }

  /** A hold on an id found in a value: a borrowed one that is new here is asked for. */
  adopt(id: ObjectId, effects: Effects): void {
    const known = this.owned.get(id) ?? this.borrowed.get(id)
    if (known) {
      known.holds++
      return
    }
    this.hold(id)
    this.borrow(id, effects)
  }

  release(id: ObjectId, effects: Effects): void {
    const owned = this.owned.get(id)
    if (owned) {
      owned.holds--
      if (owned.holds <= 0) this.#dropIfUnused(id, owned, effects)
      return
    }
    const borrowed = this.borrowed.get(id)
    if (!borrowed) return
    borrowed.holds--
    if (borrowed.holds <= 0) this.#dropBorrowed(id, borrowed, effects)
  }

  /** The owner counts one hold more for this process (R2). */
  granted(id: ObjectId): void {
    if (this.isOwned(id)) return
    const borrowed = this.borrowed.get(id)
    if (borrowed) borrowed.granted++
    else this.borrowed.set(id, { holds: 0, granted: 1, location: null, isResolving: false })
  }

  /** A reference came in a frame from `via`, which has counted a hold for us; we hold it already. */
  received(id: ObjectId, via: WorkerTag, effects: Effects): void {
    if (this.isOwned(id)) return this.#count(id, this.#keyOf(via, this.tag), -1, effects)
    this.granted(id)
    if (via !== ownerOf(id) && via !== this.tag)
      this.#tell(id, { t: 'ref.accept', id, borrower: this.tag, via, isLate: false }, effects)
  }

  /** Gives `to` a hold on `id` in the name of `via`: it will hear of the reference in a frame of that process. */
  grant(id: ObjectId, to: WorkerTag, effects: Effects, via: WorkerTag = this.tag): void {
    const owned = this.owned.get(id)
    if (owned) {
      addCount(this.#borrowersOf(id, owned), this.#keyOf(via, to), 1)
      this.escape(id, effects)
    } else this.#tell(id, { t: 'ref.add', id, borrower: to, via }, effects)
  }

  /** Asks the owner for a hold of our own: we found `id` in a value that somebody else keeps alive for now. */
  borrow(id: ObjectId, effects: Effects): void {
    if (this.isOwned(id)) return
    this.granted(id)
    this.grant(id, this.tag, effects)
  }

  /** To an owner. */
  onRefMessage(body: RefMessage, effects: Effects): void {
    switch (body.t) {
      case 'ref.add': {
        const { id, borrower, via } = body
        if (!this.owned.has(id)) return this.#tellLost(id, borrower, effects)
        this.#count(id, this.#keyOf(via, borrower), 1, effects)
        return this.escape(id, effects)
      }
      case 'ref.accept': {
        const { id, borrower, via, isLate } = body
        const owned = this.owned.get(id)
        if (!owned) return this.#tellLost(id, borrower, effects)
        const key = inTransit(via, borrower)
        this.#count(id, borrower, 1, effects)
        if (!isLate || owned.borrowers?.has(key)) this.#count(id, key, -1, effects)
        return this.escape(id, effects)
      }
      case 'ref.remove':
        return this.#count(body.id, body.borrower, -body.count, effects)
      case 'ref.settled':
        return this.#forget((key) => key === inTransit(body.of, body.borrower), effects)
      default:
        return
    }
  }

  /** It holds nothing any more. What it had given away and was not accepted yet may still arrive: whoever should get it is asked (R6). */
  onWorkerDied(tag: WorkerTag, effects: Effects): void {
    const asked = new Set<WorkerTag>()
    this.#forget((key) => {
      const borrower = key % TAGS
      if (borrower === tag) return true
      if (Math.floor(key / TAGS) !== tag) return false
      if (borrower === this.tag) return true // Its connection has closed: nothing comes any more.
      asked.add(borrower)
      return false
    }, effects)
    for (const borrower of asked) {
      const body = { t: 'ref.settle', of: tag, owner: this.tag } as const
      effects.push({ t: 'toNode', message: { t: 'ref.route', to: borrower, body } })
    }
  }

  /** Everyone whom a count names. */
  parties(): Set<WorkerTag> {
    const tags = new Set<WorkerTag>()
    for (const id of this.#lent) {
      for (const key of this.owned.get(id)?.borrowers?.keys() ?? []) {
        tags.add(key % TAGS)
        if (key >= TAGS) tags.add(Math.floor(key / TAGS))
      }
    }
    return tags
  }

  /** Of the copies that a dead process made for us, those that it told nobody of are freed. */
  claim(storageIds: readonly ObjectId[], effects: Effects): void {
    const unknown = new Set(storageIds)
    for (const [, { state }] of this.owned) if (state.kind === 'stored') unknown.delete(state.storageId)
    if (unknown.size > 0) effects.push({ t: 'toNode', message: { t: 'object.free', storageIds: [...unknown] } })
  }

  /** The reference leaves this process inside a value (R4). */
  escape(id: ObjectId, effects: Effects): void {
    const owned = this.owned.get(id)
    if (!owned || owned.hasEscaped) return
    owned.hasEscaped = true
    this.#publish(id, owned, effects)
  }

  /** An owned object has its value. References inside were granted to us by whoever sent it. */
  fulfil(id: ObjectId, state: ValueState, effects: Effects): void {
    const owned = this.owned.get(id)
    if (!owned) {
      this.#discard(state, effects)
      return
    }
    if (owned.state.kind !== 'pending') return this.#discard(state, effects) // A late second answer: the first one counts.
    owned.state = state
    if (owned.hasEscaped) this.#publish(id, owned, effects)
    effects.push({ t: 'ready', id })
  }

  /** `free()`: the value is given up although references remain. */
  freeNow(id: ObjectId, effects: Effects): boolean {
    const owned = this.owned.get(id)
    if (!owned || owned.actorId !== null) return false
    if (owned.state.kind === 'pending' && owned.state !== RESCUED) return false
    if (owned.lineage) owned.lineage.record = null // What is freed is not made again.
    const state = owned.state
    owned.state = FREED
    this.#discard(state, effects)
    return true
  }

  onResolved(id: ObjectId, location: ObjectLocation, effects: Effects): void {
    const borrowed = this.borrowed.get(id)
    if (!borrowed) return
    borrowed.isResolving = false
    borrowed.location = location
    effects.push({ t: 'ready', id })
  }

  /** The owner had let the object go before our hold reached it (R5). */
  onLost(id: ObjectId, effects: Effects): void {
    const borrowed = this.borrowed.get(id)
    if (!borrowed || borrowed.location) return
    this.#giveUp(id, borrowed, effects)
    this.onResolved(id, FREED as ObjectLocation, effects)
  }

  /** The value's state, asking the node for a borrowed one that is not known yet. */
  look(id: ObjectId, effects: Effects): ValueState {
    const owned = this.owned.get(id)
    if (owned) {
      if (owned.state === RESCUED) this.#awaited.add(id)
      return owned.state.kind === 'evicted' ? this.#revive(owned) : owned.state
    }
    if (this.isOwned(id)) return FREED // It came back in a value that outlived the count.
    const borrowed = this.borrowed.get(id)
    if (!borrowed) return FREED // Nobody held it any more: it was released here.
    if (borrowed.location) return borrowed.location
    if (!borrowed.isResolving) {
      borrowed.isResolving = true
      effects.push({ t: 'toNode', message: { t: 'object.resolve', id } })
    }
    return PENDING
  }

  /** As it is, without asking for anything. */
  stateOf(id: ObjectId): ValueState | undefined {
    return this.owned.get(id)?.state ?? this.borrowed.get(id)?.location ?? undefined
  }

  // Lineage

  /** Returns of a finished task can be made again. */
  keep(record: LineageRecord, returns: readonly ObjectId[], effects: Effects): void {
    for (const id of returns) {
      const owned = this.owned.get(id)
      if (owned?.state.kind !== 'stored') continue
      owned.lineage ??= { record: null, claims: 0 }
      owned.lineage.record = record
      record.returns++
    }
    if (record.returns === 0) return
    for (const id of record.claimed) {
      const owned = this.owned.get(id)
      if (!owned) continue
      owned.lineage ??= { record: null, claims: 0 }
      owned.lineage.claims++
    }
    for (const old of this.lineage.add(record)) this.#forgetRecord(old, effects)
  }

  /** How to make them, if that is known of any of them. */
  recordOf(ids: readonly ObjectId[]): LineageRecord | undefined {
    for (const id of ids) {
      const record = this.owned.get(id)?.lineage?.record
      if (record) return record
    }
    return undefined
  }

  /** Stored copies that are lost: their values are pending until it is known whether another copy is left. Those copies. */
  suspend(isLost: (storageId: ObjectId) => boolean, effects: Effects): ObjectId[] {
    const lost: ObjectId[] = []
    for (const [id, owned] of this.owned) {
      const { state } = owned
      if (state.kind !== 'stored' || !isLost(state.storageId)) continue
      if (owned.isPublished) effects.push({ t: 'toNode', message: { t: 'object.withdraw', ids: [id] } })
      owned.isPublished = false
      owned.state = RESCUED
      this.#rescued.set(state.storageId, { id, state })
      lost.push(state.storageId)
    }
    return lost
  }

  /**
   * `copy` takes the place of the lost one; null: there is none, and the value is made again when it is asked for or held elsewhere.
   * `isHopeless`: it cannot be.
   */
  rescued(
    storageId: ObjectId,
    copy: ObjectId | null,
    effects: Effects,
  ): { readonly id: ObjectId; readonly isHopeless: boolean } | undefined {
    const lost = this.#rescued.get(storageId)
    this.#rescued.delete(storageId)
    const isAwaited = lost !== undefined && this.#awaited.delete(lost.id)
    const owned = lost && this.owned.get(lost.id)
    if (!lost || owned?.state !== RESCUED) {
      // Dropped, freed or made again meanwhile.
      if (copy !== null) effects.push({ t: 'toNode', message: { t: 'object.free', storageIds: [copy] } })
      for (const ref of lost?.state.refs ?? []) this.release(ref, effects)
      return undefined
    }
    if (copy !== null) {
      this.fulfil(lost.id, { ...lost.state, storageId: copy }, effects)
      return { id: lost.id, isHopeless: false }
    }
    for (const ref of lost.state.refs) this.release(ref, effects)
    if (!owned.lineage?.record) {
      owned.state = PENDING
      return { id: lost.id, isHopeless: true }
    }
    owned.state = { kind: 'evicted' }
    if (owned.hasEscaped || isAwaited) this.#revive(owned) // Others may ask at any time.
    return undefined
  }

  /** Records to be run again. */
  takeRevived(): LineageRecord[] {
    return this.#revived.length === 0 ? NOTHING_REVIVED : this.#revived.splice(0)
  }

  /** Its returns are pending again, if they are lost or given up. */
  reopen(record: LineageRecord): void {
    const { task } = record
    for (let i = 0; i < task.numReturns; i++) {
      const owned = this.owned.get(makeObjectId(this.tag, task.sequence + i))
      if (owned?.state.kind === 'evicted') owned.state = PENDING
    }
  }

  #revive(owned: OwnedObject): ValueState {
    const record = owned.lineage?.record
    if (!record) return owned.state.kind === 'evicted' ? FREED : owned.state
    owned.state = PENDING
    if (!record.isRunning) {
      record.isRunning = true
      this.#revived.push(record)
    }
    return PENDING
  }

  /** L1 */
  #leaveRecord(owned: OwnedObject, effects: Effects): void {
    const record = owned.lineage?.record
    if (!record || --record.returns > 0) return
    this.lineage.remove(record)
    this.#forgetRecord(record, effects)
  }

  #forgetRecord(record: LineageRecord, effects: Effects): void {
    const { task } = record
    for (let i = 0; i < task.numReturns; i++) {
      const owned = this.owned.get(makeObjectId(this.tag, task.sequence + i))
      if (owned?.lineage?.record === record) owned.lineage.record = null
    }
    for (const id of record.claimed) {
      const owned = this.owned.get(id)
      if (!owned?.lineage) continue
      owned.lineage.claims--
      this.#dropIfUnused(id, owned, effects)
    }
  }

  /** A stored copy could not be read: forget what we knew. */
  forgetLocation(id: ObjectId): void {
    const borrowed = this.borrowed.get(id)
    if (borrowed) borrowed.location = null
  }

  locationOf(state: ValueState): ObjectLocation {
    invariant(state.kind !== 'pending' && state.kind !== 'evicted', 'an object without a value has no location')
    if (state.kind === 'primitive') return { kind: 'inline', bytes: this.#encodePrimitive(state.value), refs: [] }
    return state
  }

  check(): void {
    for (const [id, owned] of this.owned) {
      const isClaimed = owned.lineage !== null && owned.lineage.claims > 0
      const isNeeded = owned.holds > 0 || (owned.borrowers !== null && owned.borrowers.size > 0) || isClaimed
      invariant(isNeeded, `R1: object ${id} is kept though nobody needs it`)
    }
    for (const [id, borrowed] of this.borrowed) {
      invariant(borrowed.holds > 0 || borrowed.granted > 0, `R2: borrowed ${id} is kept without holds`)
    }
  }

  /** What the owner gives, or somebody takes, is not in transit for others to lose. */
  #keyOf(via: WorkerTag, borrower: WorkerTag): number {
    return via === this.tag || via === borrower ? borrower : inTransit(via, borrower)
  }

  #count(id: ObjectId, key: number, count: number, effects: Effects): void {
    const owned = this.owned.get(id)
    if (!owned) return
    addCount(this.#borrowersOf(id, owned), key, count)
    this.#dropIfUnused(id, owned, effects)
  }

  #forget(isOver: (key: number) => boolean, effects: Effects): void {
    for (const id of [...this.#lent]) {
      const owned = this.owned.get(id)
      for (const key of [...(owned?.borrowers?.keys() ?? [])]) if (isOver(key)) owned?.borrowers?.delete(key)
      if (!owned?.borrowers?.size) this.#lent.delete(id)
      if (owned) this.#dropIfUnused(id, owned, effects)
    }
  }

  #borrowersOf(id: ObjectId, owned: OwnedObject): Map<number, number> {
    this.#lent.add(id)
    return (owned.borrowers ??= new Map())
  }

  #tell(id: ObjectId, body: RefMessage, effects: Effects): void {
    effects.push({ t: 'toNode', message: { t: 'ref.route', to: ownerOf(id), body } })
  }

  #publish(id: ObjectId, owned: OwnedObject, effects: Effects): void {
    if (owned.isPublished || owned.actorId !== null) return
    if (owned.state.kind === 'pending' || owned.state.kind === 'evicted') return
    owned.isPublished = true
    const location = this.locationOf(owned.state)
    if (location.kind !== 'error') for (const ref of location.refs) this.escape(ref, effects)
    effects.push({ t: 'toNode', message: { t: 'object.publish', id, location } })
  }

  #dropIfUnused(id: ObjectId, owned: OwnedObject, effects: Effects): void {
    if (owned.holds > 0) return
    if (owned.borrowers !== null && owned.borrowers.size > 0) return
    if (owned.lineage !== null && owned.lineage.claims > 0) return this.#evict(id, owned, effects)
    this.owned.delete(id)
    if (owned.borrowers !== null) this.#lent.delete(id)
    if (owned.lineage !== null) this.#leaveRecord(owned, effects)
    if (owned.actorId !== null) {
      effects.push({ t: 'toNode', message: { t: 'actor.outOfScope', actorId: owned.actorId } })
      return
    }
    // Also when it was never published: somebody may have asked for it.
    if (owned.hasEscaped) effects.push({ t: 'toNode', message: { t: 'object.unpublish', ids: [id] } })
    this.#discard(owned.state, effects)
  }

  /** Only tasks that may be run again need it: its value goes, the way to make it stays. */
  #evict(id: ObjectId, owned: OwnedObject, effects: Effects): void {
    if (owned.state.kind === 'evicted' || owned.state.kind === 'pending') return
    if (owned.hasEscaped) effects.push({ t: 'toNode', message: { t: 'object.unpublish', ids: [id] } })
    owned.isPublished = false
    owned.hasEscaped = false
    const { state } = owned
    owned.state = { kind: 'evicted' }
    this.#discard(state, effects)
  }

  #discard(state: ValueState, effects: Effects): void {
    if (state.kind === 'stored') {
      if (ownerOf(state.storageId) === this.tag) effects.push({ t: 'freeOwn', storageIds: [state.storageId] })
      effects.push({ t: 'toNode', message: { t: 'object.free', storageIds: [state.storageId] } })
    }
    if (state.kind === 'stored' || state.kind === 'inline') for (const ref of state.refs) this.release(ref, effects)
  }

  /** Whoever gave the reference away died before the owner heard of it (R5): the borrower must not wait for its value. */
  #tellLost(id: ObjectId, borrower: WorkerTag, effects: Effects): void {
    if (borrower === this.tag) return
    effects.push({ t: 'toNode', message: { t: 'ref.route', to: borrower, body: { t: 'ref.lost', id } } })
  }

  /** R7: the object may have gone before the question came to the node, and nobody would answer it. */
  #giveUp(id: ObjectId, { isResolving }: BorrowedObject, effects: Effects): void {
    if (isResolving) effects.push({ t: 'toNode', message: { t: 'object.unresolve', id } })
  }

  #dropBorrowed(id: ObjectId, borrowed: BorrowedObject, effects: Effects): void {
    this.borrowed.delete(id)
    this.#giveUp(id, borrowed, effects)
    if (borrowed.granted === 0) return
    this.#tell(id, { t: 'ref.remove', id, borrower: this.tag, count: borrowed.granted }, effects)
  }
}

const TAGS = WORKER_TAG_MAX + 1

/** The key of what `via` has given to `borrower`, until that one has it. */
function inTransit(via: WorkerTag, borrower: WorkerTag): number {
  return via * TAGS + borrower
}

function addCount(counts: Map<number, number>, key: number, count: number): void {
  const sum = (counts.get(key) ?? 0) + count
  if (sum === 0) counts.delete(key)
  else counts.set(key, sum)
}
