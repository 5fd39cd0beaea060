// How values that only the runtime understands travel: references, handles, remote functions, our own errors, and code.
//
//   V1. A handle made here has taken its hold; one found in a value that somebody else keeps alive asks for its own.

import { errorFromWire, isErrorCode, makeTaskError, RayError, RayTaskError } from '../errors/index.ts'
import type { ObjectId } from '../ids/ids.ts'
import { decodeTable, encodeTable } from '../runtime/arrow/index.ts'
import { type ClosureHost, decodeCode, encodeCode, type Reduction } from '../runtime/closures/index.ts'
import type { CoreRuntime } from '../runtime/core-runtime.ts'
import { deserialize, serializeToBytes, type ValueHost } from '../values/index.ts'
import type { ActorWorkerOptions } from '../wire/messages.ts'
import { checkHandle, handleStateOf, makeHandle, remoteClass } from './actor.ts'
import { type BuiltinObject, builtinName, builtinNamed, builtinObjectKind } from './builtin.ts'
import { idOf, ObjectRef } from './object-ref.ts'
import type { ActorOptions, TaskOptions } from './options.ts'
import { Definition, makeRemote, REMOTE } from './remote.ts'
import type { AnyFunction, Constructor } from './types.ts'

/** First byte of code that is no closure (those begin with 2): one of our errors. */
const ERROR_CODE = 1

interface RemoteMark {
  readonly kind: 'function' | 'class'
  readonly definition: Definition
  readonly options: TaskOptions | ActorOptions
}

interface HandleData {
  readonly className: string
  readonly options: ActorWorkerOptions
}

/** The value host of a runtime; `get` because the two are made in a circle. */
export function makeValueHost(get: () => CoreRuntime): ValueHost {
  const host: ValueHost = {
    refId: (value) => (value instanceof ObjectRef ? idOf(value, get()) : undefined),
    makeRef: (id) => makeRef(id, get()),
    actorHandle: (value) => {
      const state = handleStateOf(value)
      if (!state) return undefined
      checkHandle(state, get())
      return {
        actorId: state.actorId,
        handleId: state.handleId,
        state: { className: state.className, options: state.options },
      }
    },
    makeActorHandle: (actorId, handleId, state) => adoptHandle(actorId, handleId, state as HandleData, get()),
    encodeCode: (value, refs) =>
      value instanceof RayError ? encodeError(value, host) : encodeCode(value, closureHost(get(), refs)),
    decodeCode: (bytes) => (bytes[0] === ERROR_CODE ? decodeError(bytes, host) : decodeCode(bytes, closureHost(get()))),
    encodeTable,
    decodeTable,
  }
  return host
}

function makeRef(id: ObjectId, runtime: CoreRuntime): ObjectRef {
  hold(id, runtime)
  return new ObjectRef(id, runtime)
}

function hold(id: ObjectId, runtime: CoreRuntime): void {
  runtime.core.table.adopt(id, runtime.core.effects)
}

function adoptHandle(actorId: string, handleId: ObjectId, data: HandleData, runtime: CoreRuntime): object {
  hold(handleId, runtime)
  return makeHandle({ actorId, handleId, className: data.className, options: data.options, runtime })
}

/** What closures cannot serialize by themselves. `refs`: where references are noted; what has no such place is pinned for good. */
export function closureHost(runtime: CoreRuntime, refs?: ObjectId[]): ClosureHost {
  const note = (id: ObjectId): void => {
    if (refs) refs.push(id)
    else runtime.core.table.hold(id) // A definition is kept by the cluster; so is what it captured.
    runtime.core.table.escape(id, runtime.core.effects)
  }
  return {
    reduce: (value) => reduce(value, runtime, note),
    revive: (data) => revive(data as Reduced, runtime),
    makeRemote: (kind, target, options) =>
      kind === 'class'
        ? remoteClass(target as Constructor, options as ActorOptions)
        : makeRemote(
            new Definition(target as AnyFunction, (target as AnyFunction).name || 'anonymous'),
            options as TaskOptions,
          ),
  }
}

type Reduced =
  | { readonly k: 'ref'; readonly id: ObjectId }
  | { readonly k: 'actor'; readonly actorId: string; readonly handleId: ObjectId; readonly data: HandleData }
  | {
      readonly k: 'fn'
      readonly key: string
      readonly name: string
      readonly isGenerator: boolean
      readonly options: TaskOptions
    }
  | { readonly k: 'data'; readonly bytes: string }
  | { readonly k: 'builtin'; readonly name: string }
  | { readonly k: 'object'; readonly name: string; readonly handle: Reduced | null; readonly data: unknown }

function reduce(value: unknown, runtime: CoreRuntime, note: (id: ObjectId) => void): Reduction | undefined {
  const data = reduceToData(value, runtime, note)
  if (data) return { by: 'data', data }
  const mark = typeof value === 'function' ? (value as { [REMOTE]?: RemoteMark })[REMOTE] : undefined
  if (!mark) return undefined
  const { definition, options, kind } = mark
  const key = kind === 'function' && isPlainOptions(options) ? definition.key(runtime) : null
  if (key === null) return { by: 'value', kind, target: definition.target, options }
  const { name, isGenerator } = definition
  return { by: 'data', data: { k: 'fn', key, name, isGenerator, options } satisfies Reduced }
}

function reduceToData(value: unknown, runtime: CoreRuntime, note: (id: ObjectId) => void): Reduced | undefined {
  if (value instanceof ObjectRef) {
    const id = idOf(value, runtime)
    note(id)
    return { k: 'ref', id }
  }
  const handle = handleStateOf(value)
  if (handle) {
    checkHandle(handle, runtime)
    note(handle.handleId)
    const data = { className: handle.className, options: handle.options }
    return { k: 'actor', actorId: handle.actorId, handleId: handle.handleId, data }
  }
  const kind = builtinObjectKind(value)
  if (kind) {
    const taken = kind.take(value as object)
    const inner = taken.handle === null ? null : reduceToData(taken.handle, runtime, note)
    if (inner !== undefined) return { k: 'object', name: kind.name, handle: inner, data: taken.data }
  }
  if (value instanceof RayError) return { k: 'data', bytes: serializeToBytes(value, runtime.host).toString('base64') }
  const name = typeof value === 'function' ? builtinName(value) : undefined
  return name === undefined ? undefined : { k: 'builtin', name }
}

/** Error classes among the options travel only by value. */
function isPlainOptions(options: TaskOptions | ActorOptions): boolean {
  return !Array.isArray((options as TaskOptions).retryExceptions) && typeof options.schedulingStrategy !== 'object'
}

function revive(data: Reduced, runtime: CoreRuntime): unknown {
  switch (data.k) {
    case 'ref':
      return makeRef(data.id, runtime)
    case 'actor':
      return adoptHandle(data.actorId, data.handleId, data.data, runtime)
    case 'fn':
      return makeRemote(
        new Definition(undefined as unknown as AnyFunction, data.name, data.key, data.isGenerator),
        data.options,
      )
    case 'builtin':
      return builtinNamed(data.name)
    case 'object':
      return (builtinNamed(data.name) as BuiltinObject).make(
        data.handle === null ? null : (revive(data.handle, runtime) as object),
        data.data,
      )
    case 'data':
      return deserialize(Buffer.from(data.bytes, 'base64'), runtime.host)
  }
}

function encodeError(error: RayError, host: ValueHost): Uint8Array {
  const isTask = error instanceof RayTaskError
  const data = isTask ? ['task', error.cause, error.params] : ['code', error.code, error.params]
  return Buffer.concat([Buffer.from([ERROR_CODE]), serializeToBytes(data, host)])
}

function decodeError(bytes: Uint8Array, host: ValueHost): unknown {
  const [kind, what, params] = deserialize(Buffer.from(bytes.subarray(1)), host) as [
    string,
    unknown,
    Record<string, string | number>,
  ]
  if (kind === 'task') return makeTaskError(what, params as unknown as { name: string; pid: number })
  return errorFromWire({ code: isErrorCode(String(what)) ? String(what) : 'SYSTEM', params })
}
