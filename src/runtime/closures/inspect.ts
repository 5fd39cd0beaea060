// Synchronous access to what V8 knows of a function or object, through an in-process inspector session.
//
//   I1. Values read from scopes are the real ones: a mailbox in a private vm context hands them over with their identity. Every
//       realm (vitest, jest) can reach it.
//   I2. `Debugger.enable` is on only while a script's source is read.

import type { Session } from 'node:inspector'
import { createRequire } from 'node:module'
import vm from 'node:vm'
import { monotonicMs } from '../clock.ts'

export interface Scope {
  readonly kind: string
  readonly object: Record<string, unknown>
}

export interface Internals {
  readonly location: { readonly scriptId: string; readonly line: number; readonly column: number } | null
  readonly scopes: readonly Scope[]
  readonly bound: { readonly target: unknown; readonly self: unknown; readonly args: readonly unknown[] } | null
  /** Names of private fields that hold data. */
  readonly privateFields: readonly string[]
  /** Of a weak collection; a set's have keys only. */
  readonly entries: readonly { readonly key: object; readonly value: unknown }[]
}

export interface RawScript {
  readonly url: string
  readonly isModule: boolean
  readonly startLine: number
  readonly startColumn: number
  readonly sourceMapUrl: string
  readonly source: string
}

interface RemoteObject {
  readonly objectId?: string
  readonly value?: unknown
  readonly type?: string
}

interface Reply {
  readonly result?: RemoteObject
  readonly scriptSource?: string
  readonly internalProperties?: readonly { readonly name: string; readonly value?: RemoteObject }[]
  readonly privateProperties?: readonly { readonly name: string; readonly value?: RemoteObject }[]
  readonly exceptionDetails?: { readonly text: string; readonly exception?: { readonly description?: string } }
}

interface ParsedScript {
  readonly scriptId: string
  readonly url: string
  readonly isModule?: boolean
  readonly startLine: number
  readonly startColumn: number
  readonly sourceMapURL?: string
}

class Inspector {
  readonly #session: Session
  readonly #scripts = new Map<string, ParsedScript>()
  readonly #box: { value?: unknown; out?: unknown }
  readonly #boxId: string

  constructor() {
    // Loaded late: workers that only run code never need it.
    const inspector = createRequire(import.meta.url)('node:inspector') as typeof import('node:inspector')
    this.#session = new inspector.Session()
    this.#session.connect()
    this.#session.on('Debugger.scriptParsed', ({ params }) => {
      this.#scripts.set(params.scriptId, params as ParsedScript)
    })
    const name = `ray-ts-inspect-${process.pid}-${monotonicMs()}` // Unlike that of another copy of this package.
    this.#box = vm.createContext({ value: undefined, out: undefined }, { name })
    let contextId = 0
    const onContext = ({ params }: { params: { context: { name: string; id: number } } }): void => {
      if (params.context.name === name) contextId = params.context.id
    }
    this.#session.on('Runtime.executionContextCreated', onContext)
    this.#post('Runtime.enable')
    this.#session.off('Runtime.executionContextCreated', onContext)
    this.#post('Runtime.disable')
    const reply = this.#post('Runtime.evaluate', { expression: 'globalThis', contextId, objectGroup: 'box' })
    this.#boxId = reply.result?.objectId ?? ''
  }

  internals(value: object): Internals {
    try {
      const options = { ownProperties: true, nonIndexedPropertiesOnly: true }
      const reply = this.#post('Runtime.getProperties', { objectId: this.#idOf(value), ...options })
      const find = (name: string): RemoteObject | undefined =>
        reply.internalProperties?.find((property) => property.name === name)?.value
      const at = find('[[FunctionLocation]]')?.value as
        | { scriptId: string; lineNumber: number; columnNumber: number }
        | undefined
      return {
        location: at ? { scriptId: at.scriptId, line: at.lineNumber, column: at.columnNumber } : null,
        scopes: this.#scopes(find('[[Scopes]]')),
        bound: this.#bound(find),
        privateFields: (reply.privateProperties ?? [])
          .filter((property) => property.value && property.value.type !== 'function')
          .map((property) => property.name),
        entries: this.#entries(value, find('[[Entries]]')),
      }
    } finally {
      this.#post('Runtime.releaseObjectGroup', { objectGroup: 'tmp' })
    }
  }

  /** Every script that there is now is known afterwards. */
  readScripts(ids: readonly string[] | ((url: string) => boolean)): Map<string, RawScript> {
    this.#post('Debugger.enable')
    try {
      const wanted =
        typeof ids === 'function' ? [...this.#scripts.values()].filter((s) => ids(s.url)).map((s) => s.scriptId) : ids
      const found = new Map<string, RawScript>()
      for (const id of wanted) {
        const script = this.#scripts.get(id)
        if (!script) throw new Error(`V8 does not know the script ${id}`)
        const { scriptSource } = this.#post('Debugger.getScriptSource', { scriptId: id })
        found.set(id, {
          url: script.url,
          isModule: script.isModule === true,
          startLine: script.startLine,
          startColumn: script.startColumn,
          sourceMapUrl: script.sourceMapURL ?? '',
          source: scriptSource ?? '',
        })
      }
      return found
    } finally {
      this.#post('Debugger.disable') // I2
    }
  }

  #scopes(list: RemoteObject | undefined): Scope[] {
    if (!list) return []
    // The array has a null prototype: it can only be indexed.
    const raw = this.#valueOf(list) as ArrayLike<{ description?: unknown; object?: Record<string, unknown> }>
    const scopes: Scope[] = []
    for (let i = 0; i < raw.length; i++) {
      const scope = raw[i] as { description?: unknown; object?: Record<string, unknown> }
      const object = scope.object ?? (scope as Record<string, unknown>)
      if (object !== globalThis) scopes.push({ kind: String(scope.description ?? ''), object })
    }
    return scopes
  }

  #entries(of: object, list: RemoteObject | undefined): Internals['entries'] {
    if (!list || !(of instanceof WeakMap || of instanceof WeakSet)) return []
    const raw = this.#valueOf(list) as ArrayLike<{ key?: object; value?: unknown }>
    const entries: { key: object; value: unknown }[] = []
    for (let i = 0; i < raw.length; i++) {
      const { key, value } = raw[i] as { key?: object; value?: unknown }
      // Those of a set hold it as their value.
      entries.push({ key: (of instanceof WeakSet ? value : key) as object, value })
    }
    return entries
  }

  #bound(find: (name: string) => RemoteObject | undefined): Internals['bound'] {
    const target = find('[[TargetFunction]]')
    const list = find('[[BoundArgs]]')
    if (!target || !list) return null
    const raw = this.#valueOf(list) as ArrayLike<unknown>
    const args: unknown[] = []
    for (let i = 0; i < raw.length; i++) args.push(raw[i])
    const self = find('[[BoundThis]]')
    return { target: this.#valueOf(target), self: self?.objectId ? this.#valueOf(self) : self?.value, args }
  }

  #post(method: string, params?: object): Reply {
    let reply: Reply | null = null
    let failure: Error | null = null
    const post = this.#session.post as (m: string, p: object, done: (e: Error | null, r?: object) => void) => void
    post.call(this.#session, method, params ?? {}, (error, result) => {
      failure = error
      reply = (result ?? {}) as Reply
    })
    if (failure) throw new Error(`${method}: ${(failure as Error).message}`)
    if (!reply) throw new Error(`the inspector did not answer at once: ${method}`)
    const { exceptionDetails } = reply as Reply
    if (exceptionDetails)
      throw new Error(`${method}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`)
    return reply
  }

  #idOf(value: object): string {
    this.#box.value = value
    try {
      const functionDeclaration = 'function(){return this.value}'
      const call = { objectId: this.#boxId, functionDeclaration, objectGroup: 'tmp' }
      return this.#post('Runtime.callFunctionOn', call).result?.objectId ?? ''
    } finally {
      this.#box.value = undefined
    }
  }

  #valueOf(remote: RemoteObject | undefined): unknown {
    if (!remote?.objectId) return undefined
    const functionDeclaration = 'function(value){this.out=value}'
    const call = {
      objectId: this.#boxId,
      functionDeclaration,
      arguments: [{ objectId: remote.objectId }],
      silent: true,
    }
    this.#post('Runtime.callFunctionOn', call)
    const { out } = this.#box
    this.#box.out = undefined
    return out
  }
}

let inspector: Inspector | null = null

function open(): Inspector {
  inspector ??= new Inspector()
  return inspector
}

export function internals(value: object): Internals {
  return open().internals(value)
}

export function readScript(id: string): RawScript {
  return open().readScripts([id]).get(id) as RawScript
}

/** Reads the scripts whose url fits, ahead of need: the first look at a process's scripts takes V8 20 ms or more. */
export function readScriptsAhead(fits: (url: string) => boolean): Map<string, RawScript> {
  return open().readScripts(fits)
}
