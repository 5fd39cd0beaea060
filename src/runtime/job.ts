// One push of an owner, as a worker holds it. It is also the context that user code asks for while it runs.
//
// A class that reads its frame itself: a worker makes several hundred thousand of them a second.

import { type ActorId, makeObjectId, type ObjectId } from '../ids/ids.ts'
import { unpackData } from '../wire/codec.ts'
import { type PushExtras, PushReader } from '../wire/task-frames.ts'
import type { JobPeer } from './job-runner.ts'
import type { TaskContext } from './task-context.ts'
import type { Definition } from './task-peer.ts'

const frame = new PushReader()

export class Job implements TaskContext {
  readonly peer: JobPeer
  readonly definition: Definition
  readonly sequence: number
  readonly numReturns: number
  /** The frame that it came in, and where its arguments begin there. */
  readonly buffer: Buffer
  readonly argsStart: number
  readonly refs: readonly ObjectId[]
  readonly extras: PushExtras
  actorId: ActorId | null = null
  isCancelled = false
  /** When it is cancelled: what it has submitted too. */
  cancelsChildren = false
  /** It can be found by its sequence: set by who keeps it. */
  isTracked = false
  consumed = 0
  onConsumed: (() => void) | null = null
  /** Told when it is cancelled while it runs. */
  onCancelled: (() => void) | null = null
  #controller: AbortController | null = null

  constructor(peer: JobPeer, definition: Definition, buffer: Buffer, start: number) {
    frame.read(buffer, start)
    this.peer = peer
    this.definition = definition
    this.sequence = frame.task
    this.numReturns = frame.numReturns
    this.buffer = buffer
    this.argsStart = frame.argsStart
    this.refs = frame.refs
    this.extras = frame.extras ? (unpackData(frame.extras) as PushExtras) : definition.extras
  }

  get key(): string {
    return this.definition.text
  }

  get taskId(): ObjectId {
    return makeObjectId(this.peer.tag, this.sequence)
  }

  get name(): string {
    return this.extras.name ?? this.definition.text
  }

  get attempt(): number {
    return this.extras.attempt ?? 0
  }

  /** Made when somebody asks: most jobs are never asked for their signal. */
  get controller(): AbortController {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.isCancelled) this.#controller.abort()
    }
    return this.#controller
  }

  /** Nobody waits for it any more. */
  cancel(reason?: unknown): void {
    this.isCancelled = true
    this.onConsumed?.()
    this.#controller?.abort(reason)
    this.onCancelled?.()
  }
}
