// Values that every process has: JavaScript's and Node's globals, and what Node's own modules export. They travel by name.
//
//   G1. A global that the user made travels by value.

import { builtinModules } from 'node:module'
import type { Node } from './payload.ts'
import { isHeld } from './registry.ts'

const NAMESPACES = new Set(
  'Math JSON Reflect Atomics Intl WebAssembly console process crypto performance navigator'.split(' '),
)
/** Functions among Node's globals that are written in JavaScript. */
const NODE_FUNCTIONS = new Set(
  (
    'fetch setTimeout setInterval setImmediate clearTimeout clearInterval clearImmediate queueMicrotask structuredClone atob btoa ' +
    'URL URLSearchParams TextEncoder TextDecoder AbortController AbortSignal Event EventTarget Blob Buffer MessageChannel ' +
    'MessagePort MessageEvent BroadcastChannel DOMException Headers Request Response FormData File ReadableStream WritableStream ' +
    'TransformStream Performance PerformanceEntry PerformanceMark PerformanceMeasure PerformanceObserver Crypto CryptoKey ' +
    'SubtleCrypto CompressionStream DecompressionStream TextDecoderStream TextEncoderStream CountQueuingStrategy ' +
    'ByteLengthQueuingStrategy WebSocket EventSource CustomEvent Navigator Storage CloseEvent'
  ).split(' '),
)
/** Made by test runners, or costly to look at. */
const PASSED_OVER = /^(__(vi|ray|coverage__|vitest|mocker)|(GLOBAL|root|localStorage|sessionStorage)$)/
const SAFE_GETTERS = /^(process|Buffer|crypto|performance|navigator|fetch)$/
/** Prototypes that no global names. */
const HIDDEN: readonly object[] = [
  Object.getPrototypeOf(function* () {}) as object,
  Object.getPrototypeOf(async () => {}) as object,
  Object.getPrototypeOf(async function* () {}) as object,
  Object.getPrototypeOf(Int8Array) as object,
]

export function isNative(text: string): boolean {
  return /\{\s*\[native code\]\s*\}$/.test(text)
}

/** The node for a value that is the same everywhere. */
export function knownNode(value: object): Node | undefined {
  const path = globals().get(value)
  if (path) return { t: 'global', path }
  const hidden = HIDDEN.indexOf(value)
  if (hidden >= 0) return { t: 'hidden', index: hidden }
  const found = builtins().get(value)
  return found && { t: 'import', spec: `node:${found[0]}`, imported: '*', path: found.slice(1) }
}

/** The name of the Node module that exports this value: `events.EventEmitter`. */
export function builtinName(value: object): string | undefined {
  return builtins().get(value)?.join('.')
}

export function hiddenPrototype(index: number): object | undefined {
  return HIDDEN[index]
}

let globalPaths: Map<object, readonly string[]> | null = null

function globals(): ReadonlyMap<object, readonly string[]> {
  if (globalPaths) return globalPaths
  const paths = new Map<object, readonly string[]>()
  const add = (value: unknown, path: readonly string[]): value is object => {
    if (!isHeld(value) || paths.has(value)) return false
    paths.set(value, path)
    return true
  }
  add(globalThis, [])
  for (const name of Object.getOwnPropertyNames(globalThis)) {
    const value = readGlobal(name)
    if (!isHeld(value) || value === globalThis) continue
    add(value, [name])
    for (const [key, member] of dataMembers(value)) {
      if (add(member, [name, key]) && key === 'prototype')
        for (const [inner, method] of dataMembers(member)) if (inner !== 'constructor') add(method, [name, key, inner])
    }
  }
  add(process.env, ['process', 'env'])
  globalPaths = paths
  return paths
}

/** undefined: not there, or the user's own (G1). */
function readGlobal(name: string): unknown {
  if (PASSED_OVER.test(name)) return undefined
  const { value, get } = Object.getOwnPropertyDescriptor(globalThis, name) ?? {}
  const isReadable = get !== undefined && (SAFE_GETTERS.test(name) || isNative(Function.prototype.toString.call(get)))
  const found: unknown = isReadable ? (globalThis as Record<string, unknown>)[name] : value
  if (typeof found === 'function')
    return NODE_FUNCTIONS.has(name) || isNative(Function.prototype.toString.call(found)) ? found : undefined
  return NAMESPACES.has(name) ? found : undefined
}

function dataMembers(value: object): [string, unknown][] {
  const members: [string, unknown][] = []
  for (const key of Object.getOwnPropertyNames(value)) {
    const descriptor = Object.getOwnPropertyDescriptor(value, key)
    if (descriptor && 'value' in descriptor) members.push([key, descriptor.value as unknown])
  }
  return members
}

const builtinPaths = new Map<object, readonly string[]>()
let modulesSeen = -1

/** Only modules that are loaded are looked at: nobody can hold a value of another, and loading them all takes 20 ms. */
function builtins(): ReadonlyMap<object, readonly string[]> {
  const { moduleLoadList } = process as unknown as { moduleLoadList?: readonly string[] }
  const loaded = moduleLoadList?.length ?? 0
  if (loaded === modulesSeen) return builtinPaths
  modulesSeen = loaded
  const names = new Set(moduleLoadList?.map((line) => line.replace(/^NativeModule /, '')) ?? builtinModules)
  for (const name of builtinModules) {
    if (/^(_|node:)|^(punycode|sys|domain|wasi|sqlite|sea|test|inspector|trace_events)/.test(name)) continue
    if (!names.has(name)) continue
    const module = process.getBuiltinModule(name) as unknown
    if (isHeld(module)) addBuiltin(module, name)
  }
  return builtinPaths
}

function addBuiltin(module: object, name: string): void {
  const add = (value: unknown, path: readonly string[]): value is object => {
    if (!isHeld(value) || builtinPaths.has(value) || globals().has(value)) return false
    builtinPaths.set(value, path)
    return true
  }
  add(module, [name])
  for (const key of Object.keys(module)) {
    const isPromises = key === 'promises' // A getter, but one that does no harm.
    const descriptor = Object.getOwnPropertyDescriptor(module, key)
    const value = isPromises ? (module as { promises: object }).promises : (descriptor?.value as unknown)
    if (!add(value, [name, key])) continue
    if (isPromises) for (const [inner, member] of dataMembers(value)) add(member, [name, key, inner])
    if (typeof value === 'function') add((value as { prototype?: unknown }).prototype, [name, key, 'prototype'])
  }
}
