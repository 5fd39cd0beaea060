// @ts-nocheck: it rebuilds arbitrary values from data; its behaviour is held by the tests of this room.
// Makes a captured function live again in another process.
//
//   L1. `build` is synchronous; what it needs imported, `prefetch` imports first, resolved as from the user's own file.
//   L2. Code is compiled under the user's file name and position, so that stacks are exact.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
// Worker side: IR -> live function. Async only because of import().
import vm from 'node:vm'
import { emit } from './capture.ts'
import { classes, classIds, identity } from './registry.ts'
import { encodeMap } from './source-map.ts'

const USE_MAIN = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER
// The constant is experimental in name; its warning, on first use, would reach every user.
if (USE_MAIN) {
  const emit = process.emitWarning
  process.emitWarning = () => {}
  try {
    new vm.Script('0', { importModuleDynamically: USE_MAIN })
  } finally {
    process.emitWarning = emit
  }
}
const importers = new Map()
const evals = new Map()
const evalFor = (parent) => {
  let f = evals.get(parent)
  if (!f)
    evals.set(
      parent,
      (f = new vm.Script('(c)=>(0,eval)(c)', {
        filename: parent,
        importModuleDynamically: USE_MAIN,
      }).runInThisContext()),
    )
  return f
}
let uid = 0
const importerFor = (parent) => {
  let f = importers.get(parent)
  if (!f)
    importers.set(
      parent,
      (f = new vm.Script('(s,o)=>o?import(s,o):import(s)', {
        filename: parent,
        importModuleDynamically: USE_MAIN,
      }).runInThisContext()),
    )
  return f
}
const metaFor = (url) => {
  const f = url.startsWith('file:') ? fileURLToPath(url) : url
  return Object.assign(Object.create(null), {
    url,
    filename: f,
    dirname: path.dirname(f),
    main: false,
    resolve: (s) => import.meta.resolve(new URL(s, url).href),
  })
}
export const counters = { compileMs: 0 }
const modules = new Map()
const moduleKey = (n) => `${n.parent ?? ''}|${n.spec}|${JSON.stringify(n.attrs ?? null)}`
/** Imports what the payload refers to; null when all of it is imported already. */
export function prefetch(nodes) {
  const missing = nodes.filter((n) => n.t === 'import' && !modules.has(moduleKey(n)))
  if (missing.length === 0) return null
  return Promise.all(
    missing.map(async (n) => {
      modules.set(
        moduleKey(n),
        await importerFor(n.parent ?? import.meta.url)(
          n.spec,
          n.attrs ? { with: Object.fromEntries(n.attrs) } : undefined,
        ),
      )
    }),
  )
}
export function build(payload, host) {
  const { nodes, root } = payload
  const vals = new Array(nodes.length),
    state = new Uint8Array(nodes.length)
  nodes.forEach((n, i) => {
    if (n.t !== 'import') return
    const ns = modules.get(moduleKey(n))
    let v = n.imported === '*' ? ns : pick(ns, n.imported, n)
    if (n.path) {
      if (n.spec.startsWith('node:')) v = ns.default ?? ns
      for (const k of n.path) v = v[k]
    }
    vals[i] = v
    state[i] = 2
    if ((typeof v === 'object' && v) || typeof v === 'function') {
      if (!n.spec.startsWith('node:') && !identity.has(v)) identity.set(v, n)
    }
  })
  const protos = [
    Object.getPrototypeOf(function* () {}),
    Object.getPrototypeOf(async () => {}),
    Object.getPrototypeOf(async function* () {}),
    Object.getPrototypeOf(Int8Array),
  ]
  const pend = [],
    fix = []
  const bindTo = (setter, x) => {
    if (x && typeof x === 'object' && 'r' in x && state[x.r] === 3) fix.push(() => setter(val(x)))
    else setter(val(x))
  }
  const set = (i, v) => {
    vals[i] = v
    state[i] = 1
    return v
  }
  function pick(ns, k, n) {
    if (!(k in ns)) throw new SyntaxError(`module ${n.spec} has no export ${k}`)
    return ns[k]
  }
  function val(x) {
    if (x === null || typeof x !== 'object') return x
    if ('r' in x) return make(x.r)
    if ('u' in x) return undefined
    if ('n' in x) return Number(x.n)
    if ('b' in x) return BigInt(x.b)
    if ('sy' in x) return Symbol[x.sy]
    if ('sf' in x) return Symbol.for(x.sf)
    if ('src' in x) return Function(x.src)()
    if ('special' in x)
      switch (x.special) {
        case 'require':
          return createRequire(x.url)
        case '__filename':
          return fileURLToPath(x.url)
        case '__dirname':
          return path.dirname(fileURLToPath(x.url))
        case 'exports':
          return {}
        case 'module':
          return { exports: {} }
        case 'import.meta':
          return metaFor(x.url)
        case 'dynamicImport':
          return (s, o) =>
            importerFor(x.url)(
              x.root && s.startsWith('/') && !s.startsWith('/@fs/') && fs.existsSync(x.root + s)
                ? pathToFileURL(x.root + s).href
                : s.replace(/^\/@fs/, ''),
              o,
            )
      }
    throw new Error('bad ref ' + JSON.stringify(x))
  }
  const props = (o, ps) => {
    for (const p of ps ?? []) {
      const k = val(p[0]),
        fl = p[1],
        base = { configurable: !!(fl & 1), enumerable: !!(fl & 2) }
      Object.defineProperty(
        o,
        k,
        p.length === 3
          ? { ...base, writable: !!(fl & 4), value: val(p[2]) }
          : { ...base, get: val(p[2]), set: val(p[3]) },
      )
    }
  }
  function make(i) {
    if (state[i]) return vals[i]
    const n = nodes[i]
    let o
    switch (n.t) {
      case 'sym':
        return set(i, Symbol(n.d))
      case 'g': {
        let v = globalThis
        if (n.path[0] === '%p') v = protos[n.path[1]]
        else for (const k of n.path) v = v[k]
        return set(i, v)
      }
      case 'get': {
        const v = make(n.of)[n.k]
        return set(i, v)
      }
      case 'cell': {
        const c = set(i, { v: undefined })
        c.v = val(n.v)
        return c
      }
      case 'cjs': {
        const env = {}
        for (const k in n.env) env[k] = val(n.env[k])
        const ks = Object.keys(env)
        let v = new Function('require', ...ks, 'return ' + n.code)(createRequire(n.parent), ...ks.map((k) => env[k]))
        if (n.pick !== undefined) v = v[n.pick]
        return set(i, v)
      }
      case 'init': {
        const ks = Object.keys(n.env)
        const vs = ks.map((k) => val(n.env[k]))
        const v = new vm.Script(`(function(${ks.join()}){"use strict";return (${n.code})})`, {
          filename: n.parent,
          importModuleDynamically: USE_MAIN,
        }).runInThisContext()(...vs)
        if ((typeof v === 'object' && v) || typeof v === 'function') identity.set(v, n)
        return set(i, v)
      }
      case 'bound': {
        const f = make(n.f.r)
        return set(i, Function.prototype.bind.call(f, val(n.self), ...n.args.map(val)))
      }
      case 'fn':
        return buildFn(i, n)
      case 'red':
        return set(i, host.revive(n.x))
      case 'remote':
        return set(i, host.makeRemote(n.kind, val(n.f), val(n.o)))
      case 'wm':
        return set(i, new WeakMap())
      case 'ws':
        return set(i, new WeakSet())
      case 'date':
        o = set(i, new Date(val(n.v)))
        break
      case 're':
        o = set(i, new RegExp(n.s, n.f))
        break
      case 'box':
        return set(i, Object(val(n.v)))
      case 'ab': {
        const b = Buffer.from(n.d, 'base64')
        return set(i, b.buffer.slice(b.byteOffset, b.byteOffset + b.length))
      }
      case 'buf':
        return set(i, Buffer.from(n.d, 'base64'))
      case 'ta':
        return set(i, new globalThis[n.k](val(n.b), n.o, n.l))
      case 'url':
        return set(i, new URL(n.v))
      case 'err':
        o = set(i, new Error())
        delete o.stack
        break
      case 'map':
        o = set(i, new Map())
        pend.push(() => n.e.forEach(([k, v]) => Map.prototype.set.call(o, val(k), val(v))))
        n.e.forEach(([k, v]) => {
          val(k)
          val(v)
        })
        break
      case 'set':
        o = set(i, new Set())
        pend.push(() => n.e.forEach((v) => Set.prototype.add.call(o, val(v))))
        n.e.forEach(val)
        break
      case 'arr':
        o = set(i, new Array(n.len))
        n.items?.forEach((x, k) => {
          o[k] = val(x)
        })
        break
      case 'obj':
        o = set(i, {})
        break
      default:
        throw new Error('bad node ' + n.t)
    }
    if ('proto' in n) Object.setPrototypeOf(o, val(n.proto))
    props(o, n.props)
    if (n.ext === 3) Object.freeze(o)
    else if (n.ext === 2) Object.seal(o)
    else if (n.ext === 1) Object.preventExtensions(o)
    return o
  }
  function buildFn(i, n) {
    if (n.cid) {
      const C = classes.get(n.cid)?.deref()
      if (C) return set(i, C)
    }
    const { text, prefixLen } = emit(n)
    let filename = n.url ?? 'ray-closure'
    const so = { importModuleDynamically: USE_MAIN, filename }
    let t = text
    if (n.map)
      t += `\n//# ${'sourceMapping'}URL=data:application/json;base64,${Buffer.from(JSON.stringify(encodeMap(n.map, prefixLen))).toString('base64')}`
    else if (n.line !== undefined) {
      so.lineOffset = n.line
      so.columnOffset = n.col - prefixLen
    }
    const t0 = performance.now()
    const factory = n.map
      ? evalFor(filename)(t + `\n//# sourceURL=${filename}?ray=${++uid}`)
      : new vm.Script(t, so).runInThisContext()
    counters.compileMs += performance.now() - t0
    const isClass = /^class[\s{]/.test(n.code)
    const lets = Object.keys(n.free ?? {}).filter(
      (k) => !(n.free[k] && typeof n.free[k] === 'object' && 'cell' in n.free[k]),
    )
    const cellVals = Object.keys(n.free ?? {})
      .filter((k) => !lets.includes(k))
      .map((k) => make(n.free[k].cell))
    if (isClass) {
      // dependencies first: heritage, static initialisers and computed keys run now
      state[i] = 3
      lets.forEach((k) => {
        const x = n.free[k]
        if (x && typeof x === 'object' && 'r' in x && state[x.r] === 3) return
        val(x)
      })
    }
    let setters
    const f = factory(
      (s) => {
        setters = s
        if (isClass)
          lets.forEach((k) => {
            const x = n.free[k]
            const cyc = x && typeof x === 'object' && 'r' in x && state[x.r] === 3
            if (!cyc) s[k](val(x))
          })
      },
      ...cellVals,
      ...(n.meta ? [metaFor(n.meta)] : []),
    )
    set(i, f)
    if (n.cid) {
      classIds.set(f, n.cid)
      classes.set(n.cid, new WeakRef(f))
    }
    lets.forEach((k) => bindTo(setters[k], n.free[k]))
    if (n.fproto) Object.setPrototypeOf(f, val(n.fproto))
    if (n.protoProto !== undefined) Object.setPrototypeOf(f.prototype, val(n.protoProto))
    props(f.prototype, n.protoProps)
    props(f, n.props)
    if (f.name !== n.name)
      try {
        Object.defineProperty(f, 'name', { value: n.name, configurable: true })
      } catch {}
    return f
  }
  const r = val(root)
  for (const p of pend) p()
  for (const p of fix) p()
  return r
}
