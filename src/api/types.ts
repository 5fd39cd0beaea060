// Types that flow from users' functions and classes through `.remote()` to `ray.get`.

import type { ObjectRefGenerator } from './generator.ts'
import type { ObjectRef } from './object-ref.ts'

// biome-ignore lint/suspicious/noExplicitAny: the widest function type; it never reaches a user as `any`.
export type AnyFunction = (...args: any[]) => unknown
// biome-ignore lint/suspicious/noExplicitAny: the widest constructor type; it never reaches a user as `any`.
export type Constructor = new (...args: any[]) => object

/** A value, or a reference to one. */
export type Argument<T> = T | ObjectRef<T>

/** Each argument may be given by reference; optional and rest parameters stay so. */
export type RemoteArguments<A extends readonly unknown[]> = { [K in keyof A]: Argument<A[K]> }

/** `any` and `never` count as no generator. */
type Yielded<R> = [R] extends [never]
  ? undefined
  : unknown extends R
    ? undefined
    : R extends Generator<infer T> | AsyncGenerator<infer T>
      ? { readonly item: T }
      : undefined

/** What a function yields, or resolves to. */
export type Awaited_<F extends AnyFunction> =
  Yielded<ReturnType<F>> extends { readonly item: infer T } ? T : Awaited<ReturnType<F>>

export type RemoteResult<F extends AnyFunction> =
  Yielded<ReturnType<F>> extends { readonly item: infer T } ? ObjectRefGenerator<T> : ObjectRef<Awaited<ReturnType<F>>>
