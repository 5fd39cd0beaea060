// Types that flow from users' functions and classes through `.remote()` to `ray.get`.
//
//   T1. Nothing here is `any`: a parameter without a type becomes `never`, so that a call of it does not compile.
//   T2. Overloads are kept, up to four. Type parameters are not (TypeScript cannot carry them through an object's method): a generic
//       function is made remote for one choice of them, `ray.remote(pick<string>)`.
//   T3. A parameter of type `ObjectRef<T>` cannot be filled by a reference itself: top-level references arrive as values.

import type { ObjectRefGenerator } from './generator.ts'
import type { ObjectRef } from './object-ref.ts'

/** Every function. */
export type AnyFunction = (...args: never[]) => unknown
/** Every class that can be made with `new`. */
export type Constructor = new (...args: never[]) => object

/** What may be passed for a parameter of type `T`: a value, or a reference to one. */
export type Argument<T> = Exclude<T, ObjectRef> | ObjectRef<T>

/** Each argument may be given by reference; optional and rest parameters stay so. */
export type RemoteArguments<A extends readonly unknown[]> = { [K in keyof A]: Argument<A[K]> }

/** How many references a call returns: a number, 'streaming', or null for what the function itself says (one, or a generator's items). */
export type NumReturns = number | 'streaming' | null

/** The items of a generator; null for other results. `any`, `unknown` and `never` are no generators. */
type Yielded<R> = [R] extends [never]
  ? null
  : unknown extends R
    ? null
    : R extends IterableIterator<infer T, unknown, never> | AsyncIterableIterator<infer T, unknown, never>
      ? { readonly item: T }
      : null

type Item<R> = Yielded<R> extends { readonly item: infer T } ? T : Awaited<R> extends Iterable<infer T> ? T : unknown

/** A tuple of `N` times `T`; an array where N is not a small literal. */
type Repeat<T, N extends number, Done extends readonly unknown[] = []> = Done['length'] extends N
  ? Done
  : Done['length'] extends TupleMax
    ? readonly T[]
    : Repeat<T, N, readonly [...Done, T]>
type TupleMax = 64

/** References to the parts of a result: one for each element of a tuple, or `N` of a list's element type. */
type PartRefs<V, N extends number> = number extends N
  ? ObjectRef<V extends readonly (infer T)[] ? T : unknown>[]
  : V extends readonly unknown[]
    ? number extends V['length']
      ? Mutable<Repeat<ObjectRef<V[number]>, N>>
      : V['length'] extends N
        ? { -readonly [K in keyof V]: ObjectRef<V[K]> }
        : never
    : Mutable<Repeat<ObjectRef<unknown>, N>>

type Mutable<T extends readonly unknown[]> = [...T]

/** What a call returns at once, for a function that returns `R`. */
export type RemoteResult<R, N extends NumReturns = null> = [N] extends [null]
  ? Yielded<R> extends { readonly item: infer T }
    ? ObjectRefGenerator<T>
    : ObjectRef<Awaited<R>>
  : [N] extends ['streaming']
    ? ObjectRefGenerator<Item<R>>
    : [N] extends [1]
      ? ObjectRef<Awaited<R>>
      : [N] extends [0]
        ? undefined
        : N extends number
          ? PartRefs<Awaited<R>, N>
          : never

type Call<A extends readonly unknown[], R, N extends NumReturns> = (...args: RemoteArguments<A>) => RemoteResult<R, N>

/** The call signature of `.remote` for `F`: its own parameters, each a value or a reference, and references to what it returns. */
export type RemoteCall<F extends AnyFunction, N extends NumReturns = null> = F extends {
  (...args: infer A1 extends readonly unknown[]): infer R1
  (...args: infer A2 extends readonly unknown[]): infer R2
  (...args: infer A3 extends readonly unknown[]): infer R3
  (...args: infer A4 extends readonly unknown[]): infer R4
}
  ? [A1, R1] extends [A4, R4]
    ? [A4, R4] extends [A1, R1]
      ? Call<A4, R4, N>
      : Call<A1, R1, N> & Call<A2, R2, N> & Call<A3, R3, N> & Call<A4, R4, N>
    : Call<A1, R1, N> & Call<A2, R2, N> & Call<A3, R3, N> & Call<A4, R4, N>
  : never
