// @ts-nocheck: the inspector's replies are untyped; its behaviour is held by the tests of this room.
// Synchronous access to a function's scopes and source through an in-process inspector session.
//
//   I1. Values read from scopes are the real ones: a mailbox in a private vm context hands them over with their identity.
//   I2. `Debugger.enable` is on only while a script's source is read.

import { readFileSync } from 'node:fs'
// Synchronous access to V8 function internals through an in-process inspector Session.
import inspector from 'node:inspector'
import { SourceMap } from 'node:module'
import { pathToFileURL } from 'node:url'
import vm from 'node:vm'

let S, box, boxId
export const stats = { posts: 0, enableMs: 0, enables: 0 }
function post(m, p) {
  let r,
    e,
    done = false
  stats.posts++
  S.post(m, p, (er, re) => {
    e = er
    r = re
    done = true
  })
  if (!done) throw new Error('inspector call was not synchronous: ' + m)
  if (e) throw new Error(m + ': ' + e.message)
  if (r.exceptionDetails)
    throw new Error(m + ': ' + (r.exceptionDetails.exception?.description ?? r.exceptionDetails.text))
  return r
}
const scripts = new Map()
function open() {
  if (S) return
  S = new inspector.Session()
  S.connect()
  S.on('Debugger.scriptParsed', ({ params }) => {
    if (!scripts.has(params.scriptId)) scripts.set(params.scriptId, params)
  })
  // a private vm context is reachable from every realm (jest, vitest vmThreads): its global is our mail box
  box = vm.createContext({ v: undefined, out: undefined }, { name: 'ray-inspect-' + process.pid })
  let cid
  const on = ({ params }) => {
    if (params.context.name === 'ray-inspect-' + process.pid) cid = params.context.id
  }
  S.on('Runtime.executionContextCreated', on)
  post('Runtime.enable')
  S.off('Runtime.executionContextCreated', on)
  post('Runtime.disable')
  boxId = post('Runtime.evaluate', { expression: 'globalThis', contextId: cid, objectGroup: 'box' }).result.objectId
}
function idOf(v) {
  box.v = v
  try {
    return post('Runtime.callFunctionOn', {
      objectId: boxId,
      functionDeclaration: 'function(){return this.v}',
      objectGroup: 'tmp',
    }).result.objectId
  } finally {
    box.v = undefined
  }
}
function valueOf(objectId) {
  post('Runtime.callFunctionOn', {
    objectId: boxId,
    functionDeclaration: 'function(s){this.out=s}',
    arguments: [{ objectId }],
    silent: true,
  })
  const o = box.out
  box.out = undefined
  return o
}
export function internals(v) {
  open()
  try {
    const p = post('Runtime.getProperties', { objectId: idOf(v), ownProperties: true, nonIndexedPropertiesOnly: true })
    const get = (n) => p.internalProperties?.find((i) => i.name === n)?.value
    const r = {
      privates: (p.privateProperties ?? []).map((x) => x.name),
      fields: (p.privateProperties ?? []).filter((x) => x.value && x.value.type !== 'function').map((x) => x.name),
    }
    if (typeof v === 'function') {
      r.loc = get('[[FunctionLocation]]')?.value
      const sc = get('[[Scopes]]')
      if (sc) {
        const a = valueOf(sc.objectId)
        r.scopes = []
        for (let i = 0; i < a.length; i++)
          r.scopes.push({ kind: String(a[i].description ?? ''), object: a[i].object ?? a[i] })
      }
      if (get('[[TargetFunction]]')) {
        r.target = valueOf(get('[[TargetFunction]]').objectId)
        const t = get('[[BoundThis]]')
        r.boundThis = t?.objectId ? valueOf(t.objectId) : t?.value
        const ba = valueOf(get('[[BoundArgs]]').objectId)
        r.boundArgs = []
        for (let i = 0; i < ba.length; i++) r.boundArgs.push(ba[i])
      }
    } else {
      const e = get('[[Entries]]')
      if (e) r.entries = valueOf(e.objectId)?.length ?? 0
    }
    return r
  } finally {
    post('Runtime.releaseObjectGroup', { objectGroup: 'tmp' })
  }
}
const sources = new Map()
export function script(scriptId) {
  open()
  let s = sources.get(scriptId)
  if (s) return s
  const t = performance.now()
  post('Debugger.enable')
  try {
    const p = scripts.get(scriptId)
    if (!p) throw new Error('unknown script ' + scriptId)
    const source = post('Debugger.getScriptSource', { scriptId }).scriptSource
    s = {
      id: scriptId,
      url: p.url,
      isModule: !!p.isModule,
      source,
      startLine: p.startLine,
      startColumn: p.startColumn,
      sourceMapURL: p.sourceMapURL,
    }
  } finally {
    post('Debugger.disable')
    stats.enableMs += performance.now() - t
    stats.enables++
  }
  const m = /^data:application\/json[^,]*;base64,(.*)$/s.exec(s.sourceMapURL ?? '') // V8 truncates nothing: inline maps arrive whole
  if (m)
    try {
      s.mapPayload = JSON.parse(Buffer.from(m[1], 'base64').toString())
      s.map = new SourceMap(s.mapPayload)
    } catch {}
  else if (s.sourceMapURL && /^(file:|\/)/.test(s.url))
    try {
      s.mapPayload = JSON.parse(
        readFileSync(new URL(s.sourceMapURL, s.url.startsWith('/') ? pathToFileURL(s.url) : s.url), 'utf8'),
      )
    } catch {}
  sources.set(scriptId, s)
  return s
}
