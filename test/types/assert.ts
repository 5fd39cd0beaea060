// Equality of types, as the compiler sees it: `any` equals only `any`.

export type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** `is<Same<typeof value, number>>(true)` compiles only when it is so. */
export function is<_Expected extends true>(): void {}
