// Actor classes of this package: they travel by name, since every worker has the package.

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
