// @uwdata/flechette, an optional peer: loaded only here. Its writer hands out pieces, so a table is copied once, into the store.

import { createRequire } from 'node:module'
import { missingLibrary, type TableAdapter } from './table-adapter.ts'

interface Flechette {
  readonly Table: abstract new (...args: never[]) => object
  readonly tableToIPC: (table: object, options: { format: 'stream'; sink: PieceSink }) => unknown
  readonly tableFromIPC: (bytes: Uint8Array) => object
}

/** Smaller pieces are joined: each costs a system call when it is written. */
const PIECE_BYTES_MIN = 64 * 1024

let loaded: Flechette | undefined

function library(): Flechette {
  try {
    loaded ??= createRequire(import.meta.url)('@uwdata/flechette') as Flechette
    return loaded
  } catch (error) {
    throw missingLibrary('@uwdata/flechette', error)
  }
}

/** What the library's writer writes to. */
class PieceSink {
  readonly parts: Uint8Array[] = []
  #small: Uint8Array[] = []

  write(bytes: Uint8Array): void {
    if (bytes.byteLength < PIECE_BYTES_MIN) {
      this.#small.push(bytes.slice())
      return
    }
    this.#join()
    this.parts.push(bytes)
  }

  pad(bytes: number): void {
    this.write(new Uint8Array(bytes))
  }

  finish(): null {
    this.#join()
    return null
  }

  #join(): void {
    if (this.#small.length > 0) this.parts.push(Buffer.concat(this.#small))
    this.#small = []
  }
}

export const flechette: TableAdapter = {
  encode: (value) => {
    // Its tables hold columns as `children`; those of apache-arrow have `batches`.
    if (!('children' in value) || 'batches' in value) return undefined
    const sink = new PieceSink()
    library().tableToIPC(value, { format: 'stream', sink })
    sink.finish()
    return { library: 'flechette', parts: sink.parts }
  },
  decode: (bytes) => library().tableFromIPC(bytes),
}
