// Classes of this package: they travel by name, since every worker has the package; and so do objects made of an actor handle.

const byName = new Map<string, unknown>()
const names = new Map<unknown, string>()

export function builtin<T>(name: string, target: T): T {
  byName.set(name, target)
  names.set(target, name)
  return target
}

export function builtinName(target: unknown): string | undefined {
  return names.get(target)
}

export function builtinNamed(name: string): unknown {
  return byName.get(name)
}

/** How an object of this package travels: as plain data, and the actor handle (or other such object) that it wraps. */
export interface BuiltinObject {
  readonly name: string
  readonly take: (value: object) => { readonly handle: object | null; readonly data: unknown }
  readonly make: (handle: object | null, data: unknown) => object
}

const objects = new Map<unknown, BuiltinObject>()

export function builtinObject(type: unknown, kind: BuiltinObject): void {
  objects.set(type, kind)
  byName.set(kind.name, kind)
}

export function builtinObjectKind(value: unknown): BuiltinObject | undefined {
  return typeof value === 'object' && value !== null ? objects.get(value.constructor) : undefined
}
