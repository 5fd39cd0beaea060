// apache-arrow, an optional peer: loaded only here. It comes as two copies, one for `import` and one for `require`, whose classes are
// strangers to each other: a table comes back from the copy that it came from.

import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { missingLibrary, type TableAdapter } from './table-adapter.ts'

interface ApacheArrow {
  readonly Table: abstract new (...args: never[]) => object
  readonly tableToIPC: (table: object, format: 'stream') => Uint8Array
  readonly tableFromIPC: (bytes: Uint8Array) => object
}

const IMPORTED = 'apache-arrow'
const REQUIRED = 'apache-arrow/cjs'
const loaded = new Map<string, ApacheArrow>()

/** Loaded at once: values are written and read without waiting. Whoever made the table has loaded it already. */
function library(copy: string): ApacheArrow {
  let found = loaded.get(copy)
  if (found) return found
  const require = createRequire(import.meta.url)
  try {
    const file = copy === IMPORTED ? fileURLToPath(import.meta.resolve('apache-arrow')) : 'apache-arrow'
    found = require(file) as ApacheArrow
  } catch (error) {
    throw missingLibrary('apache-arrow', error)
  }
  loaded.set(copy, found)
  return found
}

export const apacheArrow: TableAdapter = {
  encode: (value) => {
    if (!('batches' in value)) return undefined
    // Its own `instanceof` accepts tables of both copies, but its writer makes nonsense of a stranger's.
    const isOfImported = Object.prototype.isPrototypeOf.call(library(IMPORTED).Table.prototype as object, value)
    const copy = isOfImported ? IMPORTED : REQUIRED
    return { library: copy, parts: [library(copy).tableToIPC(value, 'stream')] }
  },
  decode: (bytes, copy) => library(copy === REQUIRED ? REQUIRED : IMPORTED).tableFromIPC(bytes),
}
