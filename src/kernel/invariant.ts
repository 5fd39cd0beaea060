// Broken invariants throw at once, in production too. Bytes from the network are never an invariant.

export class InvariantError extends Error {
  override name = 'InvariantError'
}

export function invariant(holds: boolean, what: string): asserts holds {
  if (!holds) throw new InvariantError(what)
}

/** Marks a branch that the types say cannot be reached. */
export function unreachable(value: never, what: string): never {
  throw new InvariantError(`${what}: unexpected ${JSON.stringify(value)}`)
}
