// Types of tasks, objects and options. Nothing here runs: `npm run check` compiles it, and each `@ts-expect-error` must be one.

import * as ray from 'ray-ts'
import { is, type Same } from './assert.ts'

// --- functions: arguments and results flow ---------------------------------------------------------------------------------

const add = ray.remote((a: number, b: number) => a + b)
const sum = add.remote(1, 2)
is<Same<typeof sum, ray.ObjectRef<number>>>()
is<Same<Awaited<ReturnType<typeof sum.get>>, number>>()

// Values and references to them, in any mix.
add.remote(sum, 2)
add.remote(1, ray.put(2))
add.remote(add.remote(1, 2), add.remote(3, 4))
// @ts-expect-error a string is no number
add.remote('1', 2)
// @ts-expect-error nor is a reference to one
add.remote(1, ray.put('2'))
// @ts-expect-error too few
add.remote(1)
// @ts-expect-error too many
add.remote(1, 2, 3)
// @ts-expect-error a remote function is not called directly
add(1, 2)

// Optional and rest parameters stay so.
const greet = ray.remote((name: string, options?: { loud: boolean }) => `${name}${options?.loud}`)
greet.remote('a')
greet.remote(ray.put('a'), { loud: true })
greet.remote('a', ray.put({ loud: true }))
// @ts-expect-error no such field
greet.remote('a', { louder: true })
const join = ray.remote((separator: string, ...parts: number[]) => parts.join(separator))
join.remote('-')
join.remote('-', 1, ray.put(2), 3)
// @ts-expect-error a wrong rest argument
join.remote('-', 1, 'x')

// Unions and nested references.
const either = ray.remote((value: number | string) => value)
either.remote(ray.put(1))
either.remote(ray.put('one'))
is<Same<ReturnType<typeof either.remote>, ray.ObjectRef<string | number>>>()
const nested = ray.remote(async (refs: ray.ObjectRef<number>[], box: { ref: ray.ObjectRef<string> }) => [refs, box])
nested.remote([sum], { ref: ray.put('a') })
// @ts-expect-error a list of numbers is no list of references
nested.remote([1], { ref: ray.put('a') })

// A top-level reference arrives as its value: a parameter that wants the reference itself cannot be filled by one.
const wrong = ray.remote(async (ref: ray.ObjectRef<number>) => ray.get(ref))
// @ts-expect-error pass [ref] or { ref }, or let the parameter be a number
wrong.remote(sum)

// Async functions resolve; a reference that a task returns stays one.
const later = ray.remote(async (x: number) => ({ x }))
is<Same<ReturnType<typeof later.remote>, ray.ObjectRef<{ x: number }>>>()
const deep = ray.remote(async () => Promise.resolve(Promise.resolve(new Map<string, number>())))
is<Same<ReturnType<typeof deep.remote>, ray.ObjectRef<Map<string, number>>>>()
const returnsRef = ray.remote(() => add.remote(1, 2))
is<Same<ReturnType<typeof returnsRef.remote>, ray.ObjectRef<ray.ObjectRef<number>>>>()
const nothing = ray.remote(() => {})
is<Same<ReturnType<typeof nothing.remote>, ray.ObjectRef<void>>>()
const throws = ray.remote((): never => {
  throw new Error('always')
})
is<Same<ReturnType<typeof throws.remote>, ray.ObjectRef<never>>>()

// Type parameters are fixed when the function is made remote.
const first = <T>(list: readonly T[]): T | undefined => list[0]
const firstText = ray.remote(first<string>)
is<Same<ReturnType<typeof firstText.remote>, ray.ObjectRef<string | undefined>>>()
// @ts-expect-error of strings, not numbers
firstText.remote([1])
is<Same<ReturnType<(typeof firstOfAnything)['remote']>, ray.ObjectRef<unknown>>>()
const firstOfAnything = ray.remote(first)

// Overloads are kept.
function parse(text: string): Date
function parse(time: number, zone: string): string
function parse(value: string | number, zone?: string): unknown {
  return `${value}${zone}`
}
const remoteParse = ray.remote(parse)
const date = remoteParse.remote('2026')
is<Same<typeof date, ray.ObjectRef<Date>>>()
const stamp = remoteParse.remote(ray.put(2026), 'UTC')
is<Same<typeof stamp, ray.ObjectRef<string>>>()
// @ts-expect-error no overload takes a number alone
remoteParse.remote(2026)

// A parameter without a type is never, not any: the mistake shows at the first call.
// @ts-expect-error
ray.remote((x) => x).remote(1)
// @ts-expect-error neither a function nor a class
ray.remote(5)
// @ts-expect-error a promise is not a function
ray.remote(Promise.resolve(1))

// --- generators and several results -----------------------------------------------------------------------------------------

const stream = ray.remote(function* (n: number) {
  for (let i = 0; i < n; i++) yield { i }
})
is<Same<ReturnType<typeof stream.remote>, ray.ObjectRefGenerator<{ i: number }>>>()
const asyncStream = ray.remote(async function* () {
  yield 'a'
})
is<Same<ReturnType<typeof asyncStream.remote>, ray.ObjectRefGenerator<string>>>()
const annotated = ray.remote(function* (): IterableIterator<number> {
  yield 1
})
is<Same<ReturnType<typeof annotated.remote>, ray.ObjectRefGenerator<number>>>()
async function drain(): Promise<void> {
  for await (const ref of stream.remote(3)) {
    is<Same<typeof ref, ray.ObjectRef<{ i: number }>>>()
  }
  // @ts-expect-error a generator of references is no reference
  await ray.get(stream.remote(3))
}
const list = ray.remote(() => [1, 2, 3])
is<Same<ReturnType<typeof list.remote>, ray.ObjectRef<number[]>>>()
const streamed = list.options({ numReturns: 'streaming' })
is<Same<ReturnType<typeof streamed.remote>, ray.ObjectRefGenerator<number>>>()

const pair = ray.remote((): [number, string] => [1, 'a'])
const [left, right] = pair.options({ numReturns: 2 }).remote()
is<Same<typeof left, ray.ObjectRef<number>>>()
is<Same<typeof right, ray.ObjectRef<string>>>()
const [early] = ray.remote(async (): Promise<[Date, string]> => [new Date(0), 'a'], { numReturns: 2 }).remote()
is<Same<typeof early, ray.ObjectRef<Date>>>()
const three = list.options({ numReturns: 3 }).remote()
is<Same<typeof three, [ray.ObjectRef<number>, ray.ObjectRef<number>, ray.ObjectRef<number>]>>()
const some = list.options({ numReturns: Number('3') }).remote()
is<Same<typeof some, ray.ObjectRef<number>[]>>()
is<Same<ReturnType<ReturnType<typeof none>['remote']>, undefined>>()
const none = () => list.options({ numReturns: 0 })
is<Same<ReturnType<ReturnType<typeof single>['remote']>, ray.ObjectRef<[number, string]>>>()
const single = () => pair.options({ numReturns: 1 })
is<Same<ReturnType<ReturnType<typeof mismatch>['remote']>, never>>()
const mismatch = () => pair.options({ numReturns: 3 })
// Later options keep the number of results.
const both = pair.options({ numReturns: 2 }).options({ numCpus: 2 }).remote()
is<Same<typeof both, [ray.ObjectRef<number>, ray.ObjectRef<string>]>>()

// --- options ----------------------------------------------------------------------------------------------------------------

ray.remote(() => 1, { numCpus: 0.5, maxRetries: 1, retryExceptions: [TypeError, RangeError], maxCalls: 2 })
// @ts-expect-error [TASK-12] tasks have maxRetries; maxTaskRetries belongs to actors
ray.remote(() => 1, { maxTaskRetries: 5 })
// @ts-expect-error [TASK-12] nor can it come later
add.options({ maxTaskRetries: 5 })
// @ts-expect-error set where the function is made remote
add.options({ maxCalls: 5 })
// @ts-expect-error Ray's Python spelling
ray.remote(() => 1, { num_cpus: 1 })
// @ts-expect-error a number
ray.remote(() => 1, { numCpus: '1' })
// @ts-expect-error one of two words
add.options({ onInfeasible: 'hope' })
// @ts-expect-error classes, not names
add.options({ retryExceptions: ['TypeError'] })
// @ts-expect-error an actor's option
add.options({ maxRestarts: 1 })

// --- get, put, wait ---------------------------------------------------------------------------------------------------------

async function reads(): Promise<void> {
  const [a, b] = [ray.put(1), ray.put('b')]
  is<Same<typeof a, ray.ObjectRef<number>>>()
  const one = await ray.get(a)
  is<Same<typeof one, number>>()
  const tuple = await ray.get([a, b] as const)
  is<Same<typeof tuple, [number, string]>>()
  const literal = await ray.get([a, b])
  is<Same<typeof literal, [number, string]>>()
  const numbers: ray.ObjectRef<number>[] = [a]
  const plain = await ray.get(numbers)
  is<Same<typeof plain, number[]>>()
  const mixed: (ray.ObjectRef<number> | ray.ObjectRef<string>)[] = [a, b]
  const mixedValues = await ray.get(mixed)
  is<Same<typeof mixedValues, (string | number)[]>>()
  await ray.get(a, { timeoutS: 1 })
  // @ts-expect-error seconds are spelled timeoutS
  await ray.get(a, { timeout: 1 })
  // @ts-expect-error the value comes with await
  const unawaited: number = ray.get(a)
  // @ts-expect-error not a reference
  await ray.get(5)
  // @ts-expect-error nor a list of them
  await ray.get([1, 2])
  // @ts-expect-error a promise of a reference is no reference
  await ray.get(Promise.resolve(a))
  // @ts-expect-error a reference is not thenable
  a.then()
  // @ts-expect-error a reference of numbers holds no string
  const text: ray.ObjectRef<string> = a
  // @ts-expect-error an object of the right shape is none
  const fake: ray.ObjectRef<number> = { hex: () => '', get: async () => 1, promise: async () => 1, free() {} }
  void [unawaited, text, fake]

  const [ready, notReady] = await ray.wait(numbers, { numReturns: 1, timeoutS: 1, fetchLocal: false })
  is<Same<typeof ready, ray.ObjectRef<number>[]>>()
  is<Same<typeof notReady, ray.ObjectRef<number>[]>>()
  const [mixedReady] = await ray.wait([a, b])
  is<Same<typeof mixedReady, (ray.ObjectRef<number> | ray.ObjectRef<string>)[]>>()
  // @ts-expect-error a list
  await ray.wait(a)
  // @ts-expect-error Ray's Python spelling
  await ray.wait(numbers, { num_returns: 1 })
  ray.cancel(a, { force: true })
  ray.cancel(stream.remote(1))
  // @ts-expect-error to end an actor is ray.kill
  ray.cancel(5)
}

async function connects(): Promise<void> {
  await using cluster = await ray.init({ numCpus: 2, resources: { disk: 1 } })
  is<Same<typeof cluster.address, string>>()
  // @ts-expect-error
  await ray.init({ numCPUs: 2 })
  // @ts-expect-error
  await ray.init({ objectStoreMemory: '1GB' })
  const error = new ray.exceptions.GetTimeoutError('GET_TIMEOUT', {})
  is<Same<typeof error.hint, string>>()
  error satisfies ray.RayError
}

export const compiled = [drain, reads, connects, remoteParse, wrong]
