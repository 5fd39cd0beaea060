// @ts-nocheck: it walks arbitrary values and ESTree nodes; its behaviour is held by the tests of this room.
// A function or class, by value with all that it captures, as plain data and a content hash; imports stay references.
//
//   C1. Synchronous: what is captured is the state at the first `.remote()`.
//   C2. What cannot travel throws `ClosureError` with the trail from the function to the value.
//   C3. Equal captures give an equal hash.

import { createHash } from 'node:crypto'
import { builtinModules, createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
// By-value closure serializer ("cloudpickle for V8"): fn -> plain-JSON IR + content hash. Fully synchronous.
import { types } from 'node:util'
import vm from 'node:vm'
import { analyze, declaringScope, importTable, moduleRoot, parse, parseExpr, pathTo, topLevelNames } from './analyze.ts'
import { internals, script } from './inspect.ts'
import { classId, identity } from './registry.ts'
import { sliceMap } from './source-map.ts'

const req = createRequire(import.meta.url)
export class ClosureError extends Error {
  constructor(m, trail) {
    super(m)
    this.name = 'ClosureError'
    this.trail = trail ?? []
  }
}

// ---- intrinsics: identity -> path from globalThis
let INTR
function intrinsics() {
  if (INTR) return INTR
  INTR = new Map()
  const isObj = (v) => (typeof v === 'object' && v !== null) || typeof v === 'function'
  const add = (v, p) => {
    if (isObj(v) && !INTR.has(v)) {
      INTR.set(v, p)
      return true
    }
  }
  add(globalThis, [])
  for (const k of Object.getOwnPropertyNames(globalThis)) {
    if (/^__vi|^__ray|^__coverage__|^__vitest|^__mocker|^(GLOBAL|root|localStorage|sessionStorage)$/.test(k)) continue
    const d = Object.getOwnPropertyDescriptor(globalThis, k)
    let v
    try {
      v =
        d.value ??
        ((d.get && /native code/.test(Function.prototype.toString.call(d.get))) ||
        /^(process|Buffer|crypto|performance|navigator|fetch)$/.test(k)
          ? globalThis[k]
          : undefined)
    } catch {
      continue
    }
    if (!isObj(v) || v === globalThis) continue
    if (typeof v === 'function' && !/\[native code\]/.test(Function.prototype.toString.call(v)) && !NODE_GLOBALS.has(k))
      continue // user-defined global: ship by value
    if (
      typeof v === 'object' &&
      ![
        'Math',
        'JSON',
        'Reflect',
        'Atomics',
        'Intl',
        'WebAssembly',
        'console',
        'process',
        'crypto',
        'performance',
        'navigator',
      ].includes(k)
    )
      continue
    add(v, [k])
    for (const q of Reflect.ownKeys(v)) {
      if (typeof q !== 'string') continue
      const dd = Object.getOwnPropertyDescriptor(v, q)
      if (dd && 'value' in dd) {
        add(dd.value, [k, q])
        if (q === 'prototype' && isObj(dd.value))
          for (const r of Reflect.ownKeys(dd.value)) {
            const d3 = Object.getOwnPropertyDescriptor(dd.value, r)
            if (typeof r === 'string' && d3 && 'value' in d3 && r !== 'constructor') add(d3.value, [k, q, r])
          }
      }
    }
  }
  add(process.env, ['process', 'env'])
  const protos = [
    Object.getPrototypeOf(function* () {}),
    Object.getPrototypeOf(async () => {}),
    Object.getPrototypeOf(async function* () {}),
    Object.getPrototypeOf(Int8Array),
  ]
  protos.forEach((p, i) => {
    add(p, ['%p', i])
  })
  return INTR
}
const NODE_GLOBALS = new Set([
  'fetch',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'clearTimeout',
  'clearInterval',
  'clearImmediate',
  'queueMicrotask',
  'structuredClone',
  'atob',
  'btoa',
  'URL',
  'URLSearchParams',
  'TextEncoder',
  'TextDecoder',
  'AbortController',
  'AbortSignal',
  'Event',
  'EventTarget',
  'Blob',
  'Buffer',
  'MessageChannel',
  'MessagePort',
  'MessageEvent',
  'BroadcastChannel',
  'DOMException',
  'WebAssembly',
  'Headers',
  'Request',
  'Response',
  'FormData',
  'File',
  'ReadableStream',
  'WritableStream',
  'TransformStream',
  'Performance',
  'PerformanceEntry',
  'PerformanceMark',
  'PerformanceMeasure',
  'PerformanceObserver',
  'Crypto',
  'CryptoKey',
  'SubtleCrypto',
  'CompressionStream',
  'DecompressionStream',
  'TextDecoderStream',
  'TextEncoderStream',
  'CountQueuingStrategy',
  'ByteLengthQueuingStrategy',
  'WebSocket',
  'EventSource',
  'CustomEvent',
  'Navigator',
  'Storage',
  'CloseEvent',
])
let BUILTIN
function builtins() {
  if (BUILTIN) return BUILTIN
  BUILTIN = new Map()
  const put = (v, n, p) => {
    if (((typeof v === 'object' && v) || typeof v === 'function') && !BUILTIN.has(v) && !intrinsics().has(v)) {
      BUILTIN.set(v, { url: 'node:' + n, path: p })
      return true
    }
  }
  for (const n of builtinModules) {
    if (/^_|^node:|punycode|^sys$|wasi|sqlite|sea|test|inspector|trace_events|\/|domain/.test(n)) continue
    let m
    try {
      m = process.getBuiltinModule ? process.getBuiltinModule(n) : req('node:' + n)
    } catch {
      continue
    }
    put(m, n, [])
    for (const k of Object.keys(m)) {
      let v
      const d = Object.getOwnPropertyDescriptor(m, k)
      if (!d || !('value' in d)) continue
      v = d.value
      if (put(v, n, [k]) && typeof v === 'function' && v.prototype) put(v.prototype, n, [k, 'prototype'])
    }
  }
  put(req('node:fs/promises'), 'fs/promises', [])
  for (const [k, v] of Object.entries(req('node:fs/promises'))) put(v, 'fs/promises', [k])
  put(req('node:path/posix'), 'path/posix', [])
  return BUILTIN
}
const toURL = (u) =>
  !u
    ? u
    : /^(\[eval|\[stdin|REPL\d)/.test(u)
      ? pathToFileURL(path.join(process.cwd(), u)).href
      : u.startsWith('file:') || u.startsWith('node:')
        ? u
        : path.isAbsolute(u)
          ? pathToFileURL(u).href
          : u
const clean = (u) => u?.replace(/[?#].*$/, '')
const infoCache = new Map()
function scriptInfo(id) {
  let i = infoCache.get(id)
  if (i) return i
  const s = script(id)
  const url = toURL(s.url)
  let table = new Map(),
    program
  try {
    program = parse(s.source, s.isModule ? 'module' : 'script')
    table = importTable(program, s.source)
  } catch (e) {
    i = { s, url, table, parseError: e }
  }
  const lineStarts = [0]
  for (let k = 0; k < s.source.length; k++) if (s.source.charCodeAt(k) === 10) lineStarts.push(k + 1)
  i ??= { s, url, table }
  {
    const mr = program ? moduleRoot(program, s.source) : { roots: new Set(), body: [] }
    i.roots = mr.roots
    i.body = mr.body
  }
  i.lineStarts = lineStarts
  i.program = program
  i.strict = s.isModule || program?.body[0]?.directive === 'use strict'
  infoCache.set(id, i)
  return i
}
const WELL = new Map(
  Object.getOwnPropertyNames(Symbol)
    .filter((k) => typeof Symbol[k] === 'symbol')
    .map((k) => [Symbol[k], k]),
)
const own = Object.prototype.hasOwnProperty
const hasSrcHash = (c) => /#[\p{ID_Start}$_]/u.test(Function.prototype.toString.call(c))
const isClassSrc = (t) => /^class[\s{]/.test(t)

export function serialize(root, opt = {}) {
  const mainURL = opt.mainURL ?? (process.argv[1] ? pathToFileURL(process.argv[1]).href : undefined)
  const nodes = [],
    memo = new Map(),
    cells = new Map(),
    trail = [],
    byIdentity = new Map(),
    warnings = []
  const fail = (m) => {
    throw new ClosureError(m, trail.slice())
  }
  const node = (v, n) => {
    const id = nodes.push(n) - 1
    if (v !== undefined) memo.set(v, id)
    return id
  }
  const at = (label, f) => {
    trail.push(label)
    try {
      return f()
    } finally {
      trail.pop()
    }
  }

  function ser(v) {
    switch (typeof v) {
      case 'undefined':
        return { u: 1 }
      case 'boolean':
      case 'string':
        return v
      case 'number':
        return Object.is(v, -0) ? { n: '-0' } : Number.isFinite(v) ? v : { n: String(v) }
      case 'bigint':
        return { b: String(v) }
      case 'symbol': {
        if (WELL.has(v)) return { sy: WELL.get(v) }
        const k = Symbol.keyFor(v)
        if (k !== undefined) return { sf: k }
        return { r: memo.get(v) ?? node(v, { t: 'sym', d: v.description }) }
      }
    }
    if (v === null) return null
    if (memo.has(v)) return { r: memo.get(v) }
    const g = intrinsics().get(v)
    if (g) return { r: node(v, { t: 'g', path: g }) }
    const b = builtins().get(v)
    if (b) return { r: node(v, { t: 'import', spec: b.url, imported: '*', path: b.path }) }
    const im = byIdentity.get(v) ?? identity.get(v)
    if (im) return { r: node(v, im) }
    if (opt.reduce) {
      const x = opt.reduce(v)
      if (x !== undefined)
        return x.by === 'value'
          ? (() => {
              const n = { t: 'remote', kind: x.kind }
              const id = node(v, n)
              n.f = ser(x.target)
              n.o = ser(x.options)
              return { r: id }
            })()
          : { r: node(v, { t: 'red', x }) }
    }
    return { r: typeof v === 'function' ? serFn(v) : serObj(v) }
  }
  function serProps(v, skip) {
    const out = []
    for (const k of Reflect.ownKeys(v)) {
      if (skip?.has(k)) continue
      const d = Object.getOwnPropertyDescriptor(v, k)
      const label = '.' + String(k)
      const fl = (d.configurable ? 1 : 0) | (d.enumerable ? 2 : 0) | (d.writable ? 4 : 0)
      if ('value' in d) out.push([ser(k), fl, at(label, () => ser(d.value))])
      else out.push([ser(k), fl, at(label, () => ser(d.get)), at(label, () => ser(d.set))])
    }
    return out
  }
  function serObj(v) {
    if (types.isProxy(v)) fail('cannot serialize a Proxy')
    if (types.isPromise(v)) fail('cannot serialize a Promise: await it before capturing it')
    if (types.isModuleNamespaceObject(v))
      fail(
        'cannot tell which module a captured namespace object came from: use a top-level `import * as ns from "..."`',
      )
    if (types.isWeakMap(v) || types.isWeakSet(v)) {
      if (internals(v).entries)
        fail(
          'cannot serialize a non-empty ' +
            (types.isWeakMap(v) ? 'WeakMap' : 'WeakSet') +
            ' (e.g. down-levelled #private state)',
        )
      return node(v, { t: types.isWeakMap(v) ? 'wm' : 'ws' })
    }
    if (v instanceof WeakRef || types.isGeneratorObject(v) || types.isExternal(v))
      fail('cannot serialize a ' + Object.prototype.toString.call(v))
    if (own.call(v, 'constructor')) {
      const c = Object.getOwnPropertyDescriptor(v, 'constructor').value
      if (typeof c === 'function' && c.prototype === v && !types.isProxy(c)) {
        ser(c)
        if (memo.has(v)) return memo.get(v)
      }
    }
    const proto = Object.getPrototypeOf(v)
    if (proto && proto !== Object.prototype && own.call(proto, 'constructor')) {
      ser(proto)
      if (memo.has(v)) return memo.get(v)
    }
    const n = {}
    const id = node(v, n)
    const finish = (skip) => {
      const ps = serProps(v, skip)
      if (ps.length) n.props = ps
      if (Object.isFrozen(v)) n.ext = 3
      else if (Object.isSealed(v)) n.ext = 2
      else if (!Object.isExtensible(v)) n.ext = 1
      return id
    }
    const withProto = (std) => {
      if (proto !== std) n.proto = at('[[Prototype]]', () => ser(proto))
    }
    if (Array.isArray(v)) {
      n.t = 'arr'
      n.len = v.length
      if (v.every((x, i) => i in v) && Reflect.ownKeys(v).length === v.length + 1 && !Object.isFrozen(v)) {
        n.items = v.map((x, i) => at('[' + i + ']', () => ser(x)))
        withProto(Array.prototype)
        return id
      }
      withProto(Array.prototype)
      return finish(new Set(['length']))
    }
    if (types.isDate(v)) {
      n.t = 'date'
      n.v = ser(v.getTime())
      withProto(Date.prototype)
      return finish()
    }
    if (types.isRegExp(v)) {
      n.t = 're'
      n.s = v.source
      n.f = v.flags
      withProto(RegExp.prototype)
      return finish()
    }
    if (types.isBoxedPrimitive(v)) {
      n.t = 'box'
      n.v = ser(v.valueOf())
      return id
    }
    if (types.isMap(v)) {
      n.t = 'map'
      n.e = [...Map.prototype.entries.call(v)].map(([k, x]) => [
        at('Map key', () => ser(k)),
        at('Map value', () => ser(x)),
      ])
      withProto(Map.prototype)
      return finish()
    }
    if (types.isSet(v)) {
      n.t = 'set'
      n.e = [...Set.prototype.values.call(v)].map((x) => at('Set item', () => ser(x)))
      withProto(Set.prototype)
      return finish()
    }
    if (types.isAnyArrayBuffer(v)) {
      if (types.isSharedArrayBuffer(v)) fail('cannot serialize a SharedArrayBuffer')
      n.t = 'ab'
      n.d = Buffer.from(v).toString('base64')
      return id
    }
    if (Buffer.isBuffer(v)) {
      n.t = 'buf'
      n.d = v.toString('base64')
      return id
    }
    if (ArrayBuffer.isView(v)) {
      n.t = 'ta'
      n.k = types.isDataView(v) ? 'DataView' : Object.getPrototypeOf(Int8Array.prototype) && v[Symbol.toStringTag]
      n.b = ser(v.buffer)
      n.o = v.byteOffset
      n.l = types.isDataView(v) ? v.byteLength : v.length
      return id
    }
    if (types.isNativeError(v)) {
      n.t = 'err'
      n.proto = ser(proto)
      const st = v.stack
      const r = finish(new Set(['stack']))
      ;(n.props ??= []).push([ser('stack'), 5, ser(st)])
      return r
    }
    if (types.isArgumentsObject(v)) {
      n.t = 'arr'
      n.len = v.length
      n.items = [...v].map(ser)
      return id
    }
    if (v[Symbol.toStringTag] === 'URL') {
      n.t = 'url'
      n.v = v.href
      return id
    }
    n.t = 'obj'
    if (proto === null) n.proto = null
    else if (proto !== Object.prototype) {
      for (let p = proto; p && p !== Object.prototype; p = Object.getPrototypeOf(p)) {
        const c = own.call(p, 'constructor') && p.constructor
        if (typeof c === 'function' && /\[native code\]/.test(Function.prototype.toString.call(c)))
          fail('cannot serialize an instance of native ' + c.name)
        const bi = c && builtins().get(c)
        if (bi && !(bi.url === 'node:events'))
          fail(`cannot serialize an instance of ${bi.url} ${c.name} (holds native state)`)
        if (c && hasSrcHash(c)) {
          const f = internals(v).fields
          if (f.length)
            fail(
              `instance of ${c.name} has private fields (${f.join(', ')}) that cannot be copied by value; add [ray.serialize]()/static [ray.deserialize]() or build it inside the task/actor`,
            )
        }
      }
      n.proto = at('[[Prototype]] of ' + (proto.constructor?.name ?? '?'), () => ser(proto))
    }
    return finish()
  }

  function byRef(f, info) {
    // function living in a module we do not ship by value: find it among the exports, synchronously
    const file = clean(info.url)
    let ns
    try {
      ns = req(fileURLToPath(file))
    } catch (e) {
      return
    }
    if (ns === f) return { t: 'cjs', parent: file, code: `require(${JSON.stringify(fileURLToPath(file))})`, env: {} }
    for (const k of Object.keys(ns ?? {})) {
      let d
      try {
        d = ns[k]
      } catch {
        continue
      }
      if (d === f) return { t: 'import', spec: file, imported: '*', path: [k] }
    }
  }
  function serFn(f) {
    const label = (isClassSrc(Function.prototype.toString.call(f)) ? 'class ' : 'function ') + (f.name || '(anonymous)')
    return at(label, () => serFn2(f))
  }
  function serFn2(f) {
    let src = Function.prototype.toString.call(f)
    if (types.isProxy(f)) fail('cannot serialize a Proxy')
    const I = internals(f)
    if (I.target) {
      const n = { t: 'bound' }
      const id = node(f, n)
      n.f = at('bound target', () => ser(I.target))
      n.self = at('bound this', () => ser(I.boundThis))
      n.args = I.boundArgs.map(ser)
      return id
    }
    if (/\{\s*\[native code\]\s*\}$/.test(src))
      fail(`native function ${f.name} is not reachable from a global or a node: module`)
    const info = scriptInfo(I.loc.scriptId)
    const s = info.s
    if (s.url.startsWith('node:')) fail(`internal Node.js function ${f.name} (${s.url})`)
    if (/[\\/]node_modules[\\/]/.test(info.url ?? '') && !opt.byValueDeps) {
      const r = byRef(f, info)
      if (r) return node(f, r)
      fail(
        `function ${f.name} belongs to ${clean(info.url)} and is not one of its exports; import it at the top level of your file instead of reaching it through a captured value`,
      )
    }
    learn(info, I)
    const n = { t: 'fn' }
    const id = node(f, n)
    // --- parse the function's own text
    let ast,
      off = 0,
      kind = 'expr'
    try {
      ast = parseExpr('(' + src + ')')
      off = 1
    } catch {
      ast = null
    }
    if (!ast || !/Function|Class/.test(ast.type)) {
      try {
        const o = parseExpr('({' + src + '})')
        off = 2
        if (o.properties.length !== 1) throw 0
        ast = o.properties[0]
        kind = ast.kind === 'get' || ast.kind === 'set' ? ast.kind : 'method'
        n.key = null
      } catch {
        try {
          const c = parseExpr('(class{' + src + '})')
          off = 7
          ast = c.body.body[0]
          kind = 'cmethod'
        } catch (e) {
          fail('cannot parse the source of this function: ' + src.slice(0, 80))
        }
      }
    }
    const heritage =
      ast.type === 'ClassExpression' && ast.superClass && !(ast.superClass.type === 'Literal')
        ? ast.superClass
        : undefined
    if (heritage) ast.superClass = { type: 'Identifier', name: '__ray_super', start: heritage.start, end: heritage.end }
    const A = analyze(ast)
    if (A.directEval) fail('uses direct eval(): captured variables cannot be determined')
    if (A.withStmt) fail('uses `with`')
    const loc0 = locate(info, I, src)
    const encl = loc0 >= 0 && info.program ? pathTo(info.program, loc0, loc0 + src.length) : undefined
    const topThis =
      encl && !encl.some((x) => /^Function(Decl|Expr)|^PropertyDefinition|^StaticBlock|^Class(Body)/.test(x.type))
    if (A.thisTop && kind === 'expr' && !(topThis && s.isModule))
      fail('arrow function captures `this` of its enclosing function; copy what you need into a const first')
    if (A.argsTop) fail('arrow function captures `arguments` of its enclosing function')
    if (A.newTargetTop && kind === 'expr' && ast.type === 'ArrowFunctionExpression')
      fail('arrow function captures new.target')
    if (A.superTop) fail('uses `super` of an enclosing class or object literal')
    const undeclared = [...A.privateUsed].filter((x) => !A.privateDeclared.has(x))
    if (undeclared.length) fail('uses private name(s) #' + undeclared.join(', #') + ' of an enclosing class')
    // --- where it is
    const start = loc0
    const edits = []
    for (const m of A.importMeta) edits.push([m.start - off, m.end - off, '__ray_meta'])
    if (A.importMeta.length) n.meta = clean(info.url)
    // --- captured variables
    const free = {}
    if (heritage) {
      edits.push([heritage.start - off, heritage.end - off, '__ray_super'])
      free.__ray_super = at('superclass', () => ser(Object.getPrototypeOf(f)))
    }
    for (const [name, use] of A.free) {
      if (name === '__ray_super') continue
      if (name === 'undefined' || name === 'arguments') continue
      let sc,
        depth = -1
      const scopes = I.scopes ?? []
      for (let i = 0; i < scopes.length; i++)
        if (scopes[i].object !== globalThis && scopes[i].kind !== 'Global' && name in scopes[i].object) {
          sc = scopes[i]
          depth = i
          break
        }
      if (!sc) {
        if (scopes.some((x) => x.kind === 'Script' && name in x.object)) fail(`captures script-scope variable ${name}`)
        if (!(name in globalThis) && !use.typeofOnly && opt.strictGlobals) warnings.push(name)
        const T0 = info.table.get(name)
        if (T0 && !(name in globalThis)) {
          const r = at('captured variable ' + name, () => serImport(T0, name, undefined, info, I))
          if (r) {
            free[name] = r
            continue
          }
        }
        if (encl && !(name in globalThis) && (declaringScope(encl, name) >= 0 || topNames(info).has(name)))
          fail(
            `variable ${name} is not visible to the inspector (it is only used while the class body is evaluated, e.g. in a computed key)`,
          )
        continue
      }
      const ds = encl ? declaringScope(encl, name) : -2
      const top =
        /^(Module|Script)$/.test(sc.kind) ||
        (ds !== -2 ? ds === -1 || info.roots.has(ds) : isCjsTop(scopes, depth, info))
      const viteTop = /^__(vi|vite_ssr)_import_/.test(name)
      const T = top || viteTop || info.table.get(name)?.how === 'vite' ? info.table.get(name) : undefined
      free[name] = at(`captured variable ${name}`, () => {
        if (top && !s.isModule && (name === 'exports' || name === 'module')) {
          const used = use.members
          if (name === 'module' || !used) {
            if (name === 'exports') fail('uses `exports` other than as exports.name')
            return { special: name, url: clean(info.url) }
          }
          const o = {}
          for (const k of used) o[k] = sc.object.exports[k]
          return ser(o)
        }
        if (top && !s.isModule && CJS.has(name)) return { special: name, url: clean(info.url) }
        if (/^__(vi|vite_ssr)_(import_meta|dynamic_import|export)/.test(name)) {
          if (/import_meta/.test(name)) return { special: 'import.meta', url: clean(info.url) }
          if (/dynamic_import/.test(name)) return { special: 'dynamicImport', url: clean(info.url), root: opt.viteRoot }
        }
        let value
        try {
          value = sc.object[name]
        } catch (e) {
          fail(
            `variable ${name} is used before it is initialised (temporal dead zone): move this call below its declaration`,
          )
        }
        if (T) {
          const r = serImport(T, name, value, info, I)
          if (r) return r
        }
        if (value === undefined && !use.typeofOnly && constInit(info, name))
          fail(
            `variable ${name} is still undefined although it is declared with an initializer: it is probably used before its declaration`,
          )
        if (use.assigned || cellAssigned(info, name, top)) {
          if (top) {
            const key = s.id + ':' + name
            let c = cells.get(key)
            if (c === undefined) {
              const cn = { t: 'cell' }
              c = node(undefined, cn)
              cells.set(key, c)
              cn.v = ser(value)
            }
            for (const r of use.refs) edits.push(cellEdit(r, off, name))
            return { cell: c }
          }
        }
        if (!top) {
          const key = s.id + ':' + ds + ':' + name
          const prev = localCells.get(key) ?? []
          const rec = { f, value, assigned: use.assigned }
          for (const q of prev)
            if (q.f !== f && (q.assigned || use.assigned) && Object.is(q.value, value))
              fail(
                `local variable ${name} is re-assigned and shared by two shipped functions; V8 cannot tell whether it is the same variable. Put it in an object ({ value }) or a class field`,
              )
          prev.push(rec)
          localCells.set(key, prev)
        }
        if (!opt.recreate || !top) return ser(value)
        const save = [nodes.length, new Map(memo), new Map(cells), new Map(byIdentity)]
        try {
          return ser(value)
        } catch (e) {
          if (!(e instanceof ClosureError)) throw e
          nodes.length = save[0]
          memo.clear()
          save[1].forEach((v, k) => memo.set(k, v))
          cells.clear()
          save[2].forEach((v, k) => cells.set(k, v))
          trail.length = trail.lastIndexOf(`captured variable ${name}`) + 1
          const d = info.body
            .flatMap((q) => {
              q = q.declaration ?? q
              return q.type === 'VariableDeclaration' && q.kind === 'const' ? q.declarations : []
            })
            .find((q) => q.id.type === 'Identifier' && q.id.name === name && q.init)
          if (!d) throw e
          const code = s.source.slice(d.init.start, d.init.end),
            env = {}
          const AA = analyze(parseExpr(code))
          if (/\bawait\b/.test(code)) throw e
          const id = node(value, { t: 'init', code, env, parent: clean(info.url) })
          for (const k of AA.free.keys()) {
            if (!(k in sc.object)) {
              if (k in globalThis || k === 'undefined') continue
              const TT = info.table.get(k)
              if (TT) {
                env[k] = serImport(TT, k, undefined, info, I)
                continue
              }
              throw e
            }
            const TT = info.table.get(k)
            env[k] = (TT && serImport(TT, k, sc.object[k], info, I)) ?? ser(sc.object[k])
          }
          warnings.push(`${name} is re-created in the worker from its initializer`)
          return { r: id }
        }
      })
    }
    if (Object.keys(free).length) n.free = free
    // --- source text
    let code = src
    if (kind === 'method' || kind === 'get' || kind === 'set') {
      n.wrap = kind
      if (ast.computed) {
        edits.push([ast.key.start - off - 1, src.indexOf(']', ast.key.end - off) + 1, JSON.stringify('m')])
        n.key = 'm'
      } else n.key = ast.key.name ?? String(ast.key.value)
    } else if (kind === 'cmethod') {
      n.wrap = 'cmethod'
      n.key = ast.key.name ?? String(ast.key.value)
    }
    edits.sort((a, b) => b[0] - a[0])
    for (const [a, b, t] of edits) code = code.slice(0, a) + t + code.slice(b)
    n.code = code
    n.name = f.name
    n.strict = info.strict || undefined
    const isClass = ast.type === 'ClassExpression'
    // location (0-based); mapped scripts carry a sliced source map, others are placed at the original line:col
    n.url = clean(info.url) || undefined
    if (start >= 0) {
      let lo = 0,
        hi = info.lineStarts.length - 1
      while (lo < hi) {
        const m = (lo + hi + 1) >> 1
        if (info.lineStarts[m] <= start) lo = m
        else hi = m - 1
      }
      n.line = lo
      n.col = start - info.lineStarts[lo]
      if (s.mapPayload && edits.length >= 0)
        n.map = sliceMap(
          s.mapPayload,
          n.line,
          n.col,
          lo + src.split('\n').length - 1,
          info.url,
          src.includes('\n') ? src.length - src.lastIndexOf('\n') - 1 : n.col + src.length,
        )
    }
    if (isClass)
      n.cid = classId(
        f,
        createHash('sha256')
          .update((clean(info.url) ?? '') + ':' + start + ':' + src)
          .digest('hex')
          .slice(0, 16),
      )
    // --- extra state on the function object
    const skip = new Set(['length', 'name', 'prototype', 'arguments', 'caller'])
    if (isClass) {
      for (const m of ast.body.body)
        if (m.static && m.type === 'MethodDefinition') {
          const k = keyOf(m)
          const d = k !== undefined && Object.getOwnPropertyDescriptor(f, k)
          const g = d && (d.value ?? d.get ?? d.set)
          if (typeof g === 'function' && src.includes(Function.prototype.toString.call(g))) skip.add(k)
        }
      const protoSkip = new Set(['constructor'])
      for (const m of ast.body.body)
        if (!m.static && m.type === 'MethodDefinition') {
          const k = keyOf(m)
          const d = k !== undefined && Object.getOwnPropertyDescriptor(f.prototype, k)
          const g = d && (d.value ?? d.get ?? d.set)
          if (m.computed && k === undefined) continue
          if (typeof g === 'function' && src.includes(Function.prototype.toString.call(g))) protoSkip.add(k)
        }
      const computed = ast.body.body.some((m) => m.computed && keyOf(m) === undefined)
      for (const k of Reflect.ownKeys(f.prototype))
        if (!protoSkip.has(k) && computed) {
          const d = Object.getOwnPropertyDescriptor(f.prototype, k)
          const g = d.value ?? d.get ?? d.set
          if (typeof g === 'function' && src.includes(Function.prototype.toString.call(g))) protoSkip.add(k)
        }
      for (const k of Reflect.ownKeys(f))
        if (!skip.has(k) && computed) {
          const d = Object.getOwnPropertyDescriptor(f, k)
          const g = d.value ?? d.get
          if (typeof g === 'function' && src.includes(Function.prototype.toString.call(g))) skip.add(k)
        }
      const pp = at('prototype', () => serProps(f.prototype, protoSkip))
      if (pp.length) n.protoProps = pp
      memo.set(f.prototype, node(undefined, { t: 'get', of: id, k: 'prototype' }))
      if (ast.superClass) {
        const sup = Object.getPrototypeOf(f)
        if (
          ast.superClass.type !== 'Identifier' &&
          ast.superClass.type !== 'MemberExpression' &&
          sup !== Function.prototype
        )
          n.superOverride = undefined
      }
    } else if (own.call(f, 'prototype') && f.prototype) {
      const pr = f.prototype
      const gen = types.isGeneratorFunction(f)
      const plain =
        gen || (Object.getPrototypeOf(pr) === Object.prototype && Reflect.ownKeys(pr).every((k) => k === 'constructor'))
      const pid = node(undefined, { t: 'get', of: id, k: 'prototype' })
      memo.set(pr, pid)
      if (!plain) {
        n.protoProps = at('prototype', () => serProps(pr, new Set(pr.constructor === f ? ['constructor'] : [])))
        if (Object.getPrototypeOf(pr) !== Object.prototype) n.protoProto = ser(Object.getPrototypeOf(pr))
      }
      const fp = Object.getPrototypeOf(f)
      if (!gen && fp !== Function.prototype && !types.isAsyncFunction(f)) n.fproto = ser(fp)
    }
    const ps = serProps(f, skip)
    if (ps.length) n.props = ps
    // compile check on the driver: errors surface here and not in a remote worker
    try {
      new vm.Script(emit(n).text)
    } catch (e) {
      fail('re-created source does not compile: ' + e.message)
    }
    return id
  }
  function learn(info, I) {
    // identity map of everything this script imports: aliases and superclasses become imports too
    if (learned.has(info.s.id)) return
    learned.add(info.s.id)
    const sc =
      I.scopes?.findLast?.((x) => x.kind === 'Module') ??
      I.scopes?.filter((x) => x.kind !== 'Global' && !/^Script/.test(x.kind)).at(-1)
    if (!sc) return
    for (const [name, T] of info.table) {
      if (T.how !== 'esm' && T.how !== 'cjs') continue
      if (!(name in sc.object)) continue
      let v
      try {
        v = sc.object[name]
      } catch {
        continue
      }
      if (!((typeof v === 'object' && v) || typeof v === 'function') || byIdentity.has(v)) continue
      if (T.how === 'esm') {
        if (/^\.|^\/|^file:/.test(T.spec) && new URL(T.spec, clean(info.url)).href === mainURL) continue
        byIdentity.set(v, {
          t: 'import',
          spec: T.spec,
          parent: clean(info.url),
          imported: T.imported,
          attrs: T.attrs?.length ? T.attrs : undefined,
        })
      }
    }
  }
  const learned = new Set()
  function locate(info, I, src) {
    const s = info.s
    const o0 =
      (info.lineStarts[I.loc.lineNumber - (s.startLine ?? 0)] ?? 0) +
      I.loc.columnNumber -
      (I.loc.lineNumber === s.startLine ? s.startColumn : 0)
    const start = s.source.lastIndexOf(src, o0)
    return start < 0 || start + src.length < o0 ? -1 : start
  }
  const localCells = new Map()
  const topNames = (info) => (info.topNames ??= topLevelNames({ body: info.body }))
  const keyOf = (m) =>
    m.key.type === 'PrivateIdentifier'
      ? undefined
      : !m.computed
        ? (m.key.name ?? String(m.key.value))
        : m.key.type === 'MemberExpression' && m.key.object.name === 'Symbol'
          ? Symbol[m.key.property.name]
          : m.key.type === 'Literal'
            ? String(m.key.value)
            : undefined
  function serImport(T, name, value, info, I) {
    const parent = clean(info.url)
    const remember = (n, v) => {
      if ((typeof v === 'object' && v) || typeof v === 'function') {
        if (!memo.has(v)) memo.set(v, nodes.length)
        byIdentity.set(v, n)
      }
    }
    if (T.how === 'createRequire') return { special: 'require', url: parent }
    if (T.how === 'esm') {
      if (/^\.|^\/|^file:/.test(T.spec) && new URL(T.spec, parent).href === mainURL) return // the driver itself: by value
      const n = {
        t: 'import',
        spec: T.spec,
        parent,
        imported: T.imported,
        attrs: T.attrs?.length ? T.attrs : undefined,
      }
      remember(n, value)
      return { r: nodes.push(n) - 1 }
    }
    if (T.how === 'vite') {
      let spec = T.spec
      if (opt.viteRoot && spec.startsWith('/') && !spec.startsWith('/@fs/')) {
        const p = path.join(opt.viteRoot, spec)
        spec = req('node:fs').existsSync(p) ? pathToFileURL(p).href : pathToFileURL(spec).href
      } else if (spec.startsWith('/@fs/')) spec = pathToFileURL(spec.slice(4)).href
      else if (path.isAbsolute(spec)) spec = pathToFileURL(spec).href
      const n = { t: 'import', spec, parent, imported: T.imported }
      remember(n, value)
      return { r: nodes.push(n) - 1 }
    }
    if (T.how === 'cjs') {
      const ast = parseExpr(T.code)
      const A = analyze(ast)
      const env = {}
      const n = { t: 'cjs', parent, code: T.code, env, pick: T.imported === '*' ? undefined : T.imported }
      const id = nodes.length
      nodes.push(n)
      if (((typeof value === 'object' && value) || typeof value === 'function') && !memo.has(value)) memo.set(value, id)
      for (const k of A.free.keys()) {
        if (k === 'require' || k === 'undefined') continue
        const sc = I.scopes.find((x) => x.kind !== 'Global' && k in x.object)
        if (!sc) {
          const h = helperValue(info, k)
          if (h) {
            env[k] = { src: h }
            continue
          }
          if (!(k in globalThis)) fail(`import helper ${k} is not visible`)
          continue
        }
        env[k] = ser(sc.object[k])
      }
      return { r: id }
    }
  }
  function helperValue(info, k) {
    // __toESM/__importStar not captured by any closure, so not in the scope object: take its declaration text
    const need = new Set(),
      out = []
    const add = (nm) => {
      if (need.has(nm)) return
      need.add(nm)
      for (const st of info.body) {
        const names =
          st.type === 'VariableDeclaration'
            ? st.declarations.filter((d) => d.id.name === nm)
            : st.type === 'FunctionDeclaration' && st.id.name === nm
              ? [st]
              : []
        for (const d of names) {
          const t = info.s.source.slice(d.start, d.end)
          for (const x of analyze(d.type === 'VariableDeclarator' ? d.init : d).free.keys()) if (x !== nm) add(x)
          out.push(d.type === 'VariableDeclarator' ? 'var ' + t : t)
        }
      }
    }
    add(k)
    return out.length ? out.join(';') + ';return ' + k : undefined
  }
  const CJS = new Set(['require', 'module', 'exports', '__filename', '__dirname'])
  const isTopLevelFn = (I) => (I.scopes ?? []).every((s) => !/^Closure|^Local/.test(s.kind))
  const isCjsTop = (scopes, depth, info) =>
    !info.s.isModule &&
    /^Closure|^Local/.test(scopes[depth].kind) &&
    !scopes.slice(depth + 1).some((s) => /^(Closure|Local|Block|Catch|With)/.test(s.kind))
  function constInit(info, name) {
    info.classDecl ??= new Set(
      info.body.flatMap((s) => {
        s = s.declaration ?? s
        return s.type === 'ClassDeclaration'
          ? [s.id?.name]
          : s.type === 'VariableDeclaration' && s.kind === 'const'
            ? s.declarations
                .filter(
                  (d) =>
                    d.id.type === 'Identifier' &&
                    /Function|Class|Literal|ObjectExpression|ArrayExpression|NewExpression/.test(d.init?.type),
                )
                .map((d) => d.id.name)
            : []
      }),
    )
    return info.classDecl.has(name)
  }
  function cellAssigned(info, name, top) {
    // is this module-level variable re-assigned by any function of the script?
    if (!top || !info.program) return false
    if (!info.assigned) {
      info.assigned = new Set()
      const walk = (x, inFn) => {
        if (!x || typeof x.type !== 'string') return
        if (inFn) {
          if (x.type === 'UpdateExpression' && x.argument.type === 'Identifier') info.assigned.add(x.argument.name)
          if (x.type === 'AssignmentExpression' && x.left.type === 'Identifier') info.assigned.add(x.left.name)
        }
        const fn = inFn || /Function/.test(x.type)
        for (const k in x) {
          const v = x[k]
          if (Array.isArray(v)) v.forEach((c) => walk(c, fn))
          else if (v && typeof v.type === 'string') walk(v, fn)
        }
      }
      walk(info.program, false)
    }
    return info.assigned.has(name)
  }
  function cellEdit(r, off, name) {
    const a = r.start - off,
      b = r.end - off
    return r.shorthand || r.shorthandPat
      ? [a, b, `${name}: __c_${name}.v`]
      : r.isCallee
        ? [a, b, `(0,__c_${name}.v)`]
        : [a, b, `__c_${name}.v`]
  }
  const rootRef = ser(root)
  const json = JSON.stringify({ v: 1, nodes, root: rootRef })
  return {
    json,
    hash: createHash('sha256').update(json).digest('hex').slice(0, 40),
    nodes,
    warnings,
    sizes: topSizes(nodes),
  }
}

export function emit(n) {
  // one line of prefix, then the user's text verbatim (so line numbers stay true)
  const names = Object.keys(n.free ?? {})
  const params = [],
    lets = []
  for (const k of names) {
    const v = n.free[k]
    if (v && typeof v === 'object' && 'cell' in v) params.push('__c_' + k)
    else lets.push(k)
  }
  let prefix = `(function(__set${params.map((p) => ',' + p).join('')}${n.meta ? ',__ray_meta' : ''}){${n.strict ? '"use strict";' : ''}`
  if (lets.length)
    prefix += `let ${lets.join(',')};__set({${lets.map((k) => `${k}:__ray_v=>{${k}=__ray_v}`).join(',')}});`
  let suffix
  if (n.wrap === 'method') {
    prefix += 'return ({'
    suffix = `})[${JSON.stringify(n.key)}]})`
  } else if (n.wrap === 'get' || n.wrap === 'set') {
    prefix += 'return Object.getOwnPropertyDescriptor({'
    suffix = `},${JSON.stringify(n.key)}).${n.wrap}})`
  } else if (n.wrap === 'cmethod') {
    prefix += 'return (class{'
    suffix = `})[${JSON.stringify(n.key)}]})`
  } else {
    prefix += `return ({${JSON.stringify(n.name)}:`
    suffix = `})[${JSON.stringify(n.name)}]})`
    if (n.name === '__proto__') {
      prefix = prefix.replace(/\(\{.*$/, '(')
      suffix = ')})'
    }
  }
  return { text: prefix + n.code + suffix, prefixLen: prefix.length }
}

/** The captured variables that weigh most, for the size warning: name to bytes, largest first. */
function topSizes(nodes) {
  const sizes = []
  for (const n of nodes)
    for (const [name, v] of Object.entries(n.free ?? {})) {
      if (!v || typeof v !== 'object' || !('r' in v)) continue
      const seen = new Set()
      const weigh = (x) => {
        if (!x || typeof x !== 'object') return typeof x === 'string' ? x.length : 8
        if (Array.isArray(x)) return x.reduce((a, b) => a + weigh(b), 0)
        if ('r' in x) {
          if (seen.has(x.r)) return 0
          seen.add(x.r)
          return weigh(nodes[x.r])
        }
        return Object.values(x).reduce((a, b) => a + weigh(b), 0)
      }
      sizes.push([name, weigh(v)])
    }
  return sizes.sort((a, b) => b[1] - a[1]).slice(0, 3)
}
