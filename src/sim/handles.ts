// References and actor handles as simulated programs hold them, and the failures that a `get` meets.
//
//   H1. A handle takes one hold and gives it back once: by `drop`, some time later, as a garbage collector would.

import type { ActorId, ObjectId } from '../ids/ids.ts'
import type { ValueHost } from '../values/index.ts'
import type { CoreShell } from './core-shell.ts'

/** Why a get failed: what kind, and which object failed first. */
export interface FailureInfo {
  readonly kind: string
  readonly origin: ObjectId
  /** For 'thrown': the number of the script that threw. */
  readonly of: number | null
}

export class GetFailure extends Error {
  override name = 'GetFailure'
  readonly failure: FailureInfo
  constructor(failure: FailureInfo) {
    super(`${failure.kind} of ${failure.origin}`)
    this.failure = failure
  }
}

/** A reference; for an actor's handle `actorId` says whose, and `id` is the handle's object. */
export class SimRef {
  readonly id: ObjectId
  readonly shell: CoreShell
  readonly actorId: ActorId | null
  isDropped = false

  /** The caller has taken the hold. */
  constructor(shell: CoreShell, id: ObjectId, actorId: ActorId | null = null) {
    this.shell = shell
    this.id = id
    this.actorId = actorId
    shell.refs.add(this)
    shell.host.scope?.push(this)
  }

  drop(): void {
    if (this.isDropped) return
    this.isDropped = true
    const { shell } = this
    shell.refs.delete(this)
    const { random } = shell.cluster.world
    shell.os.after(random.chance(0.5) ? 0 : random.next() * 30, () => {
      if (!shell.isClosed) shell.core.release(this.id)
    })
  }
}

export class HostOf implements ValueHost {
  readonly #shell: CoreShell
  /** Where handles made by deserialization are noted. */
  scope: SimRef[] | null = null

  constructor(shell: CoreShell) {
    this.#shell = shell
  }

  refId(value: object): ObjectId | undefined {
    return value instanceof SimRef && value.actorId === null ? value.id : undefined
  }

  makeRef(id: ObjectId): object {
    this.#adopt(id)
    return new SimRef(this.#shell, id)
  }

  actorHandle(value: object): { actorId: ActorId; handleId: ObjectId; state: unknown } | undefined {
    if (!(value instanceof SimRef) || value.actorId === null) return undefined
    return { actorId: value.actorId, handleId: value.id, state: null }
  }

  makeActorHandle(actorId: ActorId, handleId: ObjectId): object {
    this.#adopt(handleId)
    return new SimRef(this.#shell, handleId, actorId)
  }

  encodeCode(): undefined {
    return undefined
  }

  decodeCode(): unknown {
    return undefined
  }

  #adopt(id: ObjectId): void {
    const { table, effects } = this.#shell.core
    table.adopt(id, effects)
  }
}
