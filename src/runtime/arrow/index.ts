// Arrow tables as bytes: the Arrow IPC stream format, which every Arrow library reads. Each library has its own adapter, which loads it
// only when a table of it is met: `import 'ray-ts'` loads none.
//
//   A1. A table comes back as a table of the library that it came from, over views of the bytes: no copy when reading.

import { apacheArrow } from './apache-arrow.ts'
import { flechette } from './flechette.ts'
import type { EncodedTable, TableAdapter } from './table-adapter.ts'

const ADAPTERS: Readonly<Record<string, TableAdapter>> = { flechette, 'apache-arrow': apacheArrow }

export function encodeTable(value: object): EncodedTable | undefined {
  if (!('schema' in value) || typeof (value as { getChild?: unknown }).getChild !== 'function') return undefined
  for (const adapter of Object.values(ADAPTERS)) {
    const encoded = adapter.encode(value)
    if (encoded) return encoded
  }
  return undefined
}

export function decodeTable(library: string, bytes: Uint8Array): object {
  const adapter = ADAPTERS[library.split('/')[0] as string]
  if (!adapter) throw new TypeError(`no Arrow library is known as ${library.slice(0, 40)}`)
  return adapter.decode(bytes, library)
}
