// How a process gets at stored values that do not lie in its node's shared memory, as `runtime/core-runtime.ts` does: it asks its node where
// they are, and asks again when they have moved on before it looks. What it reads stays until it has read it.

import type { ObjectId } from '../ids/ids.ts'
import type { FromNode } from '../wire/messages.ts'
import type { CoreShell } from './core-shell.ts'

export class Fetches {
  readonly #shell: CoreShell
  /** By value: who waits for the node's answer. */
  readonly #locating = new Map<ObjectId, Set<() => void>>()

  constructor(shell: CoreShell) {
    this.#shell = shell
  }

  /** Calls back when each is here, or known to be lost. */
  fetch(storageIds: readonly ObjectId[], callback: () => void): void {
    const { node, os, link, cluster } = this.#shell
    const { store } = node
    if (!cluster.net.hasTransfers) return callback()
    const ids = [...new Set(storageIds)]
    const missing = new Set(ids.filter((id) => !store.isAtHand(id)))
    for (const id of ids) if (!missing.has(id)) store.pin(id, os)
    const finish = (): void => {
      callback()
      for (const id of ids) store.unpin(id, os)
    }
    if (missing.size === 0) return finish()
    this.#shell.onBlocked?.()
    for (const storageId of missing) {
      const known = this.#locating.get(storageId)
      const waiting = known ?? new Set()
      this.#locating.set(storageId, waiting)
      waiting.add(() => {
        store.pin(storageId, os)
        missing.delete(storageId)
        if (missing.size > 0) return
        this.#shell.onUnblocked?.()
        this.#shell.soon(finish)
      })
      if (!known) link.send({ t: 'object.locate', storageId })
    }
  }

  onLocated({ storageId, where }: FromNode & { t: 'object.located' }): void {
    const { node, link } = this.#shell
    const waiting = this.#locating.get(storageId)
    if (!waiting) return
    if (where !== null && !node.store.open(storageId)) return link.send({ t: 'object.locate', storageId }) // It has moved on.
    this.#locating.delete(storageId)
    for (const go of waiting) go()
  }
}
