// Between core workers: what they say about references, and the values of objects whose references have left their owners. On one
// node it is handed over here; between nodes the two raylets hand it on.
//
// Invariants:
//   H1. No hold is counted for a borrower, or in the name of its giver, after their end was told to the owner.
//   H2. A question for a value is answered once: by the owner's node, or with OWNER_DIED when the owner or its node is gone; or the
//       asker takes it back.
//   H3. What was asked of a node that died is answered here.
//   H5. A process's word that it lets go leaves for a node after others have its earlier words that it holds (ref-order.ts).
//   H4. Before an owner hears of a borrower, or of who gave it the reference, its node has met theirs (N6 of raylet.ts).
//   H6. What concerns a process of a node that has joined, and of which the GCS has not told yet, waits until it has, in order.

import { type NodeId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import type { RayletToRaylet } from '../wire/cluster.ts'
import type { ObjectLocation, RefMessage } from '../wire/messages.ts'
import type { ClusterView } from './cluster-view.ts'
import { type Answer, ObjectDirectory, ownerDied } from './object-directory.ts'
import type { Outbox } from './outbox.ts'
import { RefOrder } from './ref-order.ts'

/** What `from` says, or the object whose value it asks for. */
interface Word {
  readonly from: WorkerTag
  readonly body: RefMessage | ObjectId
}

export class Hub {
  readonly directory = new ObjectDirectory()
  readonly order: RefOrder
  readonly #view: ClusterView
  readonly #out: Outbox
  readonly #isHere: (tag: WorkerTag) => boolean
  /** Asked of other nodes and not answered: by object, who waits. */
  readonly #asked = new Map<ObjectId, Set<WorkerTag>>()

  /** By process: what is to be said to it, when it is known where it is (H6). */
  readonly #strangers = new Map<WorkerTag, Word[]>()

  /** `isHere`: a living process of this node. */
  constructor(view: ClusterView, out: Outbox, isHere: (tag: WorkerTag) => boolean) {
    this.#view = view
    this.#out = out
    this.#isHere = isHere
    this.order = new RefOrder(out, (from, to, body) => this.#routeHeld(from, to, body))
  }

  get asked(): number {
    return this.#asked.size + this.directory.waitingCount + this.order.held
  }

  /** H2: nobody waits for one that has ended, or waits and has ended. */
  check(): void {
    for (const [id, waiting] of this.#asked)
      for (const tag of [ownerOf(id), ...waiting])
        invariant(this.isAlive(tag), `H2: a question for ${id} waits, but ${tag} has ended`)
    for (const [id, tag] of this.directory.questions())
      invariant(this.isAlive(tag), `H2: ${tag} has ended, but its question for ${id} waits`)
  }

  isAlive(tag: WorkerTag): boolean {
    if (this.#view.isStranger(tag)) return true
    return this.#view.isRemote(tag) ? this.#view.mayLive(tag) : this.#isHere(tag)
  }

  // References

  route(from: WorkerTag, to: WorkerTag, body: RefMessage): void {
    if (this.#view.isStranger(to)) return this.#await(to, { from, body })
    const nodeId = this.#view.nodeOf(to)
    if (nodeId === undefined || !this.#view.isRemote(to) || !this.#view.isNodeAlive(nodeId))
      return this.#deliver(from, to, body)
    if (body.t === 'ref.add') this.order.added(from, nodeId)
    if (body.t === 'ref.remove' && this.order.holds(from, to, body, nodeId)) return
    this.#out.toPeer(nodeId, { t: 'ref.route', from, to, body })
  }

  /** What was held back, at last. */
  #routeHeld(from: WorkerTag, to: WorkerTag, body: RefMessage): void {
    const nodeId = this.#view.nodeOf(to)
    if (nodeId !== undefined && this.#view.isNodeAlive(nodeId))
      this.#out.toPeer(nodeId, { t: 'ref.route', from, to, body })
  }

  #deliver(from: WorkerTag, to: WorkerTag, body: RefMessage): void {
    if (!this.#isHere(to)) return this.#undeliverable(from, to, body)
    if ('borrower' in body) this.meet(body.borrower) // H4
    if ('via' in body) this.meet(body.via)
    if (body.t === 'ref.settle') this.meet(body.of)
    if (body.t === 'ref.add' && !(this.isAlive(body.borrower) && this.isAlive(body.via))) return // H1
    if (body.t === 'ref.accept' && !this.isAlive(body.borrower)) return
    const known = body.t === 'ref.accept' ? { ...body, isLate: !this.isAlive(body.via) } : body
    this.#out.send(to, { t: 'ref.routed', from, body: known })
  }

  #undeliverable(from: WorkerTag, to: WorkerTag, body: RefMessage): void {
    const nodeId = this.#view.nodeOf(from)
    if (nodeId !== undefined && this.#view.isRemote(from))
      this.#out.toPeer(nodeId, { t: 'ref.undeliverable', from, to, body })
    else this.#out.send(from, { t: 'ref.undeliverable', to, body })
  }

  /** A process here is to hear of it, which may live on another node. */
  meet(tag: WorkerTag): void {
    if (this.#view.isStranger(tag)) return this.#await(tag)
    const nodeId = this.#view.nodeOf(tag)
    if (nodeId === undefined || !this.#view.isRemote(tag) || !this.#view.isNodeAlive(nodeId)) return
    if (!this.#view.met.has(nodeId)) this.#out.local({ t: 'meet', nodeId })
  }

  #await(tag: WorkerTag, word?: Word): void {
    const words = this.#strangers.get(tag) ?? []
    this.#strangers.set(tag, words)
    if (word) words.push(word)
  }

  /** More is known of who lives where (H6). */
  introduce(): void {
    for (const [tag, words] of this.#strangers) {
      if (this.#view.isStranger(tag)) continue
      this.#strangers.delete(tag)
      this.meet(tag)
      for (const { from, body } of words) {
        if (typeof body !== 'number') this.route(from, tag, body)
        else if (this.#isHere(from)) this.resolve(from, body)
      }
    }
  }

  // Values

  publish(id: ObjectId, location: ObjectLocation): void {
    this.#answer(this.directory.publish(id, location))
  }

  /** Another node that has asked must not wait for ever either: it is told that nothing comes. */
  unpublish(ids: readonly ObjectId[]): void {
    const forgotten = this.directory.unpublish(ids)
    this.#answer(forgotten.filter(({ to }) => this.#view.isRemote(to)))
  }

  resolve(from: WorkerTag, id: ObjectId): void {
    const owner = ownerOf(id)
    if (this.#view.isStranger(owner)) return this.#await(owner, { from, body: id })
    const nodeId = this.#view.nodeOf(owner)
    if (nodeId === undefined || !this.#view.isRemote(owner))
      return this.#answer(this.directory.resolve(from, id, this.#isHere(owner)))
    if (!this.#view.mayLive(owner)) return this.#out.send(from, ownerDied(id))
    const waiting = this.#asked.get(id)
    if (waiting) waiting.add(from)
    else this.#asked.set(id, new Set([from]))
    this.#out.toPeer(nodeId, { t: 'object.resolve', from, id })
  }

  /** `from` does not care any more. Its question may wait here or at the owner's node, or be on its way there. */
  unresolve(from: WorkerTag, id: ObjectId): void {
    const owner = ownerOf(id)
    this.directory.giveUp(id, from)
    this.#unask(id, from)
    const words = this.#strangers.get(owner)
    if (words)
      this.#strangers.set(
        owner,
        words.filter((word) => word.from !== from || word.body !== id),
      )
    const nodeId = this.#view.nodeOf(owner)
    if (nodeId !== undefined && this.#view.isRemote(owner) && this.#view.isNodeAlive(nodeId))
      this.#out.toPeer(nodeId, { t: 'object.unresolve', from, id })
  }

  // Other nodes

  onPeer(nodeId: NodeId, message: RayletToRaylet): void {
    switch (message.t) {
      case 'ref.flush':
        return this.#out.toPeer(nodeId, { t: 'ref.flushed', flushId: message.flushId })
      case 'ref.flushed':
        return this.order.flushed(message.flushId)
      case 'ref.route':
        return this.#deliver(message.from, message.to, message.body)
      case 'ref.undeliverable':
        return this.#out.send(message.from, { t: 'ref.undeliverable', to: message.to, body: message.body })
      case 'object.resolve':
        return this.#answer(this.directory.resolve(message.from, message.id, this.#isHere(ownerOf(message.id))))
      case 'object.unresolve':
        return this.directory.giveUp(message.id, message.from)
      case 'object.resolved': {
        const { id, to, location, error } = message
        if (this.#unask(id, to) && (location || error))
          this.#out.send(to, { t: 'object.resolved', id, location, error })
        return
      }
      default:
    }
  }

  /** `tag`, of this node or another, has ended. The stored copies that it had published are given back. */
  onWorkerDied(tag: WorkerTag): readonly ObjectId[] {
    this.order.gone(tag)
    for (const id of [...this.#asked.keys()]) this.#unask(id, tag)
    for (const id of [...this.#asked.keys()]) if (ownerOf(id) === tag) this.#giveUp(id)
    const { answers, storageIds } = this.directory.onWorkerDied(tag)
    this.#answer(answers)
    return storageIds
  }

  onNodeDied(nodeId: NodeId): void {
    this.order.nodeDied(nodeId)
    for (const id of [...this.#asked.keys()]) if (this.#view.nodeOf(ownerOf(id)) === nodeId) this.#giveUp(id) // H3
    this.directory.forget((tag) => this.#view.nodeOf(tag) === nodeId)
  }

  /** False: `tag` did not wait for it. */
  #unask(id: ObjectId, tag: WorkerTag): boolean {
    const waiting = this.#asked.get(id)
    if (!waiting?.delete(tag)) return false
    if (waiting.size === 0) this.#asked.delete(id)
    return true
  }

  #giveUp(id: ObjectId): void {
    const waiting = this.#asked.get(id)
    this.#asked.delete(id)
    for (const to of waiting ?? []) this.#out.send(to, ownerDied(id))
  }

  #answer(answers: readonly Answer[]): void {
    for (const { to, message } of answers) {
      const nodeId = this.#view.nodeOf(to)
      if (nodeId !== undefined && this.#view.isRemote(to)) this.#out.toPeer(nodeId, { ...message, to })
      else this.#out.send(to, message)
    }
  }
}
