// What a node says to the GCS, so that nothing of it is lost with a connection, or with a GCS that dies and comes back; and what of the
// GCS's words counts.
//
//     node.register │ node.registered ──► kept messages … follow-ups … node.resumed ──► live
//
// Invariants:
//   S1. A message is kept until the GCS has acknowledged it: what came of it is durable by then. Kept ones are said again, in
//       order, on the next connection; the GCS takes what it knows already for what it is.
//   S2. A question is kept until it is answered, since the GCS forgets who waits.
//   S3. Who follows an actor is said again, since the GCS forgets that too: after the kept messages, as it is by then.
//   S4. Of a process that is gone nothing is said but that.
//   S5. What comes before the answer to a registration is not heard: the GCS said it before it knew what the node had when it registered, and
//       takes it for lost. (A bundle that was reserved in between was reserved elsewhere too.)

import type { ActorId, WorkerTag } from '../ids/ids.ts'
import type { GcsToNode, NodeToGcs } from '../wire/cluster.ts'
import type { FromNode, ToNode } from '../wire/messages.ts'

interface Kept {
  readonly message: NodeToGcs
  /** Which one it is on this connection; 0: not said yet. */
  number: number
}

/** True for this moment only: a GCS that comes back has no use for them. */
const FLEETING: ReadonlySet<string> = new Set(['node.report', 'pong', 'node.resumed'])
const ANSWERS: ReadonlySet<string> = new Set(['node.registered', 'node.refused', 'node.end'])

export class GcsStream {
  #kept: Kept[] = []
  readonly #questions = new Map<string, NodeToGcs & { t: 'forward' }>()
  readonly #following = new Map<WorkerTag, Map<ActorId, WorkerTag>>()
  #said = 0
  #isLive = false

  /** How many messages wait for their acknowledgement. */
  get kept(): number {
    return this.#kept.length
  }

  /** Whether it may leave now; else it follows with `resume`. */
  say(message: NodeToGcs): boolean {
    if (message.t === 'node.register') return true
    this.#note(message)
    const isFleeting = FLEETING.has(message.t)
    if (this.#isLive) this.#said++
    if (!isFleeting) this.#kept.push({ message, number: this.#isLive ? this.#said : 0 })
    return this.#isLive
  }

  /** False: it does not count (S5). */
  hear(message: GcsToNode): boolean {
    if (!this.#isLive) return ANSWERS.has(message.t)
    if (message.t === 'acked') {
      const { count } = message
      this.#kept = this.#kept.filter(({ number }) => number === 0 || number > count)
    } else if (message.t === 'deliver') this.#answered(message.to, message.message)
    return true
  }

  /** The connection is gone, and what was not acknowledged may be. */
  cut(): void {
    this.#isLive = false
    this.#said = 0
    for (const one of this.#kept) one.number = 0
  }

  /** The GCS has taken the registration: what to say now, in order. */
  resume(): NodeToGcs[] {
    this.#isLive = true
    const kept = new Set(this.#kept.map(({ message }) => message))
    const words: NodeToGcs[] = [...this.#questions.values()].filter((one) => !kept.has(one)) // S2
    this.#said = words.length
    for (const one of this.#kept) {
      one.number = ++this.#said
      words.push(one.message)
    }
    for (const [from, actors] of this.#following) {
      for (const [actorId, owner] of actors) {
        words.push({ t: 'forward', from, message: { t: 'actor.subscribe', actorId, owner } })
      }
    }
    words.push({ t: 'node.resumed' })
    this.#said = words.length
    return words
  }

  #note(message: NodeToGcs): void {
    if (message.t === 'worker.gone') this.#forget(message.exit.tag)
    if (message.t !== 'forward') return
    const { from, message: asked } = message
    if ('requestId' in asked) this.#questions.set(`${from} ${asked.requestId}`, message)
    this.#noteFollowing(from, asked)
  }

  #noteFollowing(from: WorkerTag, asked: ToNode): void {
    if (asked.t === 'actor.subscribe') this.#follow(from, asked.actorId, asked.owner)
    else if (asked.t === 'actor.create' || asked.t === 'actor.failed') {
      this.#follow(from, asked.spec.actorId, asked.spec.owner)
    } else if (asked.t === 'actor.unsubscribe') this.#unfollow(from, asked.actorId)
  }

  #answered(to: WorkerTag, answer: FromNode): void {
    if ('requestId' in answer) this.#questions.delete(`${to} ${answer.requestId}`)
    else if (answer.t === 'actor.state' && answer.info.state === 'DEAD') this.#unfollow(to, answer.info.actorId)
    else if (answer.t === 'actor.createRefused') this.#unfollow(to, answer.actorId)
  }

  #follow(from: WorkerTag, actorId: ActorId, owner: WorkerTag): void {
    const actors = this.#following.get(from) ?? new Map<ActorId, WorkerTag>()
    actors.set(actorId, owner)
    this.#following.set(from, actors)
  }

  #unfollow(from: WorkerTag, actorId: ActorId): void {
    const actors = this.#following.get(from)
    actors?.delete(actorId)
    if (actors?.size === 0) this.#following.delete(from)
  }

  /** S4 */
  #forget(tag: WorkerTag): void {
    this.#following.delete(tag)
    for (const [key, { from }] of this.#questions) if (from === tag) this.#questions.delete(key)
  }
}
