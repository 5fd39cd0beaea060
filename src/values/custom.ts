// Serializers that users register for their own classes (Ray: `ray.util.register_serializer`).
//
//   X1. A class is known by its name on both sides; the name must be registered wherever the value is read. The class itself may
//       carry the pair instead: `static [Symbol.for('ray-ts.serialize')]` and `static [Symbol.for('ray-ts.deserialize')]` travel with it.

/** How instances of a class travel. */
export interface CustomSerializer<T = unknown> {
  /** What travels instead of the instance. */
  readonly serialize: (value: T) => unknown
  /** Makes the instance anew from it. */
  readonly deserialize: (data: unknown) => T
}

type AnyClass = abstract new (...args: never[]) => unknown

interface Registration extends CustomSerializer {
  readonly name: string
  readonly type: AnyClass
}

const byName = new Map<string, Registration>()

/**
 * Serializes instances of `type` through `serialize`, whose result travels, and `deserialize`, which makes the instance anew.
 * Register in every process that reads such values (a task's module is a good place).
 */
export function registerSerializer<T>(
  type: abstract new (...args: never[]) => T,
  serializer: CustomSerializer<T>,
): void {
  byName.set(type.name, { ...(serializer as CustomSerializer), name: type.name, type })
}

/** Undoes `registerSerializer`, in this process. */
export function deregisterSerializer(type: { readonly name: string }): void {
  byName.delete(type.name)
}

export function customSerializer(value: object): Registration | undefined {
  if (byName.size === 0) return undefined
  const registration = byName.get(value.constructor?.name ?? '')
  return registration && value instanceof registration.type ? registration : undefined
}

export function deserializerNamed(name: string): (data: unknown) => unknown {
  const registration = byName.get(name)
  if (!registration) {
    throw new TypeError(
      `no serializer is registered here for ${name}: call registerSerializer(${name}, …) in this process too`,
    )
  }
  return registration.deserialize
}
