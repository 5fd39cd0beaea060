// Actors whose constructor arguments are references that have no value yet: they are made when the values are there.

import { referencesAmong, resolveArguments, type WrittenArguments } from '../core-worker/written-arguments.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import type { ActorSpec } from '../wire/messages.ts'

export class DeferredActor {
  readonly #runtime: CoreRuntime

  constructor(runtime: CoreRuntime) {
    this.#runtime = runtime
  }

  /** An argument that fails kills the actor with its error before it is made. */
  createWhenReady(spec: Omit<ActorSpec, 'args' | 'argRefs'>, written: WrittenArguments): void {
    const { core } = this.#runtime
    const { parts, nested, pinned } = written
    const ids = referencesAmong(parts ?? [])
    const waiting = { fn: { name: spec.name ?? spec.className }, ids }
    this.#runtime.deferred.add(waiting)
    this.#runtime.whenReady(ids).then(() => {
      this.#runtime.deferred.delete(waiting)
      // One may be lost while another was waited for.
      if (!ids.every((id) => this.#runtime.isReady(id))) return this.createWhenReady(spec, written)
      const resolved = resolveArguments(parts ?? [], nested, core.table, core.effects)
      if (resolved.error === null) {
        core.createActor({ ...spec, args: resolved.blob, argRefs: resolved.nested }, pinned)
        this.#runtime.perform()
      } else this.#runtime.failCreation({ ...spec, args: new Uint8Array(2), argRefs: [] }, resolved.error, pinned)
    })
  }
}
