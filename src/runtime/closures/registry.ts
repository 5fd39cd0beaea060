// @ts-nocheck: a shared global table; its behaviour is held by the tests of this room.
// Process-wide identities: what arrived by reference leaves by reference, and a class that was loaded once is the same class again.

// process-wide: lets values that arrived by reference leave by reference again, and keeps class identity across payloads
const G = (globalThis[Symbol.for('ray.closure.registry')] ??= {
  identity: new WeakMap(),
  classIds: new WeakMap(),
  classes: new Map(),
  ord: new Map(),
})
export const { identity, classIds, classes } = G
export function classId(C, key) {
  let id = classIds.get(C)
  if (!id) {
    const n = G.ord.get(key) ?? 0
    G.ord.set(key, n + 1)
    id = key + '#' + n
    classIds.set(C, id)
    classes.set(id, new WeakRef(C))
  }
  return id
}
