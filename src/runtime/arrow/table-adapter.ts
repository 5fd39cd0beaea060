// What an adapter of an Arrow library does for `index.ts`.

export interface EncodedTable {
  /** Which adapter reads it. */
  readonly library: string
  /** The IPC stream, in pieces that follow each other. */
  readonly parts: readonly Uint8Array[]
}

export interface TableAdapter {
  /** Undefined: not a table of this library. */
  encode(value: object): EncodedTable | undefined
  decode(bytes: Uint8Array, library: string): object
}

/** Says what to install. */
export function missingLibrary(name: string, cause: unknown): TypeError {
  const message = `a value holds an Arrow table of ${name}, which is not installed here: npm install ${name}`
  return new TypeError(message, { cause })
}
