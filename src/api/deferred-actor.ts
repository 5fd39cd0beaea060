// Actors whose constructor arguments are references that have no value yet: they are made when the values are there.

import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { ByteWriter } from '../wire/byte-writer.ts'
import type { ActorSpec } from '../wire/messages.ts'
import { VALUE_OVERHEAD_BYTES, writeInline, writeStored } from '../wire/task-frames.ts'
import type { WrittenArguments } from './arguments.ts'

export class DeferredActor {
  readonly #runtime: CoreRuntime

  constructor(runtime: CoreRuntime) {
    this.#runtime = runtime
  }

  /** An argument that fails kills the actor with its error before it is made. */
  createWhenReady(spec: Omit<ActorSpec, 'args' | 'argRefs'>, written: WrittenArguments): void {
    const { core } = this.#runtime
    const ids = (written.parts ?? []).filter((part): part is number => typeof part === 'number')
    this.#runtime.whenReady(ids).then(() => {
      const writer = new ByteWriter()
      writer.u16(written.parts?.length ?? 0)
      const refs = new Set(written.nested)
      for (const part of written.parts ?? []) {
        if (typeof part !== 'number') {
          writer.reserve(part.length)
          writer.bytes(part)
          continue
        }
        const location = core.table.locationOf(core.table.look(part, core.effects))
        if (location.kind === 'error') {
          this.#runtime.failCreation({ ...spec, args: new Uint8Array(2), argRefs: [] }, location.bytes, written.pinned)
          return
        }
        for (const ref of location.refs) refs.add(ref)
        writer.reserve(VALUE_OVERHEAD_BYTES)
        if (location.kind === 'inline') writeInline(writer, location.bytes, location.refs)
        else writeStored(writer, location.storageId, location.size, location.refs)
      }
      core.createActor({ ...spec, args: Buffer.from(writer.take()), argRefs: [...refs] }, written.pinned)
      this.#runtime.perform()
    })
  }
}
