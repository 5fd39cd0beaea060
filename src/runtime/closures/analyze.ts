// @ts-nocheck: an ESTree walk over acorn's untyped nodes; its behaviour is held by the tests of this room.
// What a function's source text refers to: free variables, `this`, imports; and the import table of a script.
//
// Works on the JavaScript that V8 runs (stripped, or compiled by tsx or tsc), so no TypeScript parser is needed.
//
//   A1. A name is free when no scope inside the function declares it; hoisting, default parameters and patterns are honoured.

// Free-variable analysis + import-table extraction on *executed JS* (ESTree, acorn).
import * as acorn from 'acorn'

const opts = {
  ecmaVersion: 'latest',
  ranges: false,
  locations: false,
  allowReturnOutsideFunction: true,
  allowAwaitOutsideFunction: true,
  allowImportExportEverywhere: true,
  allowSuperOutsideMethod: true,
  allowHashBang: true,
  checkPrivateFields: false,
}
export function parse(src, sourceType = 'module') {
  try {
    return acorn.parse(src, { ...opts, sourceType })
  } catch (e) {
    if (sourceType === 'module') return acorn.parse(src, { ...opts, sourceType: 'script' })
    throw e
  }
}
export function parseExpr(src) {
  return acorn.parseExpressionAt(src, 0, opts)
}

function patNames(p, out) {
  if (!p) return out
  switch (p.type) {
    case 'Identifier':
      out.push(p.name)
      break
    case 'ObjectPattern':
      for (const q of p.properties) patNames(q.type === 'RestElement' ? q.argument : q.value, out)
      break
    case 'ArrayPattern':
      for (const q of p.elements) patNames(q, out)
      break
    case 'AssignmentPattern':
      patNames(p.left, out)
      break
    case 'RestElement':
      patNames(p.argument, out)
      break
  }
  return out
}
function scanVars(n, set) {
  // hoisted `var` and sloppy function names, not entering functions/classes
  if (!n || typeof n.type !== 'string') return
  switch (n.type) {
    case 'VariableDeclaration':
      if (n.kind === 'var') for (const d of n.declarations) for (const x of patNames(d.id, [])) set.add(x)
      return
    case 'FunctionDeclaration':
    case 'FunctionExpression':
    case 'ArrowFunctionExpression':
    case 'ClassDeclaration':
    case 'ClassExpression':
      return
  }
  if (/Expression$|Literal$|^Identifier$/.test(n.type)) return
  for (const k in n) {
    const v = n[k]
    if (Array.isArray(v)) for (const c of v) scanVars(c, set)
    else if (v && typeof v.type === 'string') scanVars(v, set)
  }
}
function blockDecls(stmts, set) {
  for (let s of stmts) {
    if (s.type === 'ExportNamedDeclaration' || s.type === 'ExportDefaultDeclaration') s = s.declaration ?? s
    if (s.type === 'VariableDeclaration' && s.kind !== 'var')
      for (const d of s.declarations) for (const x of patNames(d.id, [])) set.add(x)
    else if ((s.type === 'FunctionDeclaration' || s.type === 'ClassDeclaration') && s.id) set.add(s.id.name)
    else if (s.type === 'ImportDeclaration') for (const sp of s.specifiers) set.add(sp.local.name)
  }
}
export function analyze(root) {
  const R = {
    free: new Map(),
    thisTop: false,
    argsTop: false,
    superTop: false,
    newTargetTop: false,
    importMeta: [],
    dynImports: [],
    directEval: false,
    privateUsed: new Set(),
    privateDeclared: new Set(),
    withStmt: false,
  }
  const ref = (n, sc, assigned, tof, eager) => {
    for (let s = sc; s; s = s.up) if (s.names.has(n.name)) return
    let f = R.free.get(n.name)
    if (!f) R.free.set(n.name, (f = { assigned: false, typeofOnly: true, refs: [] }))
    if (assigned) f.assigned = true
    if (!tof) f.typeofOnly = false
    f.refs.push(n)
  }
  const S = (up, names = new Set()) => ({ up, names })
  // ctx.fn: false while `this`/arguments belong to the outside of root
  function pat(p, sc, ctx, assigned) {
    if (!p) return
    switch (p.type) {
      case 'Identifier':
        if (assigned) ref(p, sc, true)
        break
      case 'MemberExpression':
        W(p, sc, ctx)
        break
      case 'ObjectPattern':
        for (const q of p.properties) {
          if (q.type === 'RestElement') pat(q.argument, sc, ctx, assigned)
          else {
            if (q.computed) W(q.key, sc, ctx)
            if (q.shorthand && assigned && q.value.type === 'Identifier') q.value.shorthandPat = true
            pat(q.value, sc, ctx, assigned)
          }
        }
        break
      case 'ArrayPattern':
        for (const q of p.elements) pat(q, sc, ctx, assigned)
        break
      case 'AssignmentPattern':
        pat(p.left, sc, ctx, assigned)
        W(p.right, sc, ctx)
        break
      case 'RestElement':
        pat(p.argument, sc, ctx, assigned)
        break
    }
  }
  function fn(n, sc, ctx) {
    const arrow = n.type === 'ArrowFunctionExpression'
    let s = sc
    if (n.type === 'FunctionExpression' && n.id) s = S(s, new Set([n.id.name]))
    s = S(s)
    for (const p of n.params) patNames(p, []).forEach((x) => s.names.add(x))
    if (!arrow) s.names.add('arguments')
    const c = arrow ? ctx : { fn: true }
    if (n.body.type === 'BlockStatement') {
      scanVars(n.body, s.names)
      blockDecls(n.body.body, s.names)
    }
    for (const p of n.params) pat(p, s, c, false)
    if (n.body.type === 'BlockStatement') for (const st of n.body.body) W(st, s, c)
    else W(n.body, s, c)
  }
  function cls(n, sc, ctx) {
    const s = S(sc, new Set(n.id ? [n.id.name] : []))
    W(n.superClass, s, ctx)
    for (const d of n.decorators ?? []) W(d.expression, sc, ctx)
    for (const m of n.body.body) {
      if (m.key?.type === 'PrivateIdentifier') R.privateDeclared.add(m.key.name)
      if (m.computed) W(m.key, s, ctx)
      if (m.type === 'StaticBlock') {
        const b = S(s)
        b.names.add('arguments')
        m.body.forEach((x) => scanVars(x, b.names))
        blockDecls(m.body, b.names)
        for (const x of m.body) W(x, b, { fn: true })
      } else if (m.type === 'MethodDefinition') fn(m.value, s, { fn: true })
      else W(m.value, S(s, new Set(['arguments'])), { fn: true })
    }
  }
  function W(n, sc, ctx, x = {}) {
    if (!n) return
    switch (n.type) {
      case 'Identifier':
        if (n.name === 'arguments') {
          let f = false
          for (let s = sc; s; s = s.up) if (s.names.has('arguments')) f = true
          if (!f) R.argsTop = true
        }
        return ref(n, sc, x.assigned, x.tof)
      case 'ThisExpression':
        if (!ctx.fn) R.thisTop = true
        return
      case 'Super':
        if (!ctx.fn) R.superTop = true
        return
      case 'MetaProperty':
        if (n.meta.name === 'import') R.importMeta.push(n)
        else if (!ctx.fn) R.newTargetTop = true
        return
      case 'PrivateIdentifier':
        R.privateUsed.add(n.name)
        return
      case 'FunctionExpression':
      case 'ArrowFunctionExpression':
      case 'FunctionDeclaration':
        return fn(n, sc, ctx)
      case 'ClassExpression':
      case 'ClassDeclaration':
        return cls(n, sc, ctx)
      case 'MemberExpression':
        if (n.object.type === 'Identifier' && n.object.name === 'exports' && !n.computed) {
          W(n.object, sc, ctx)
          const f = R.free.get('exports')
          if (f) {
            if (f.refs.length === 1 || f.members) (f.members ??= new Set()).add(n.property.name)
            f.memberRefs = (f.memberRefs ?? 0) + 1
            if (f.memberRefs !== f.refs.length) f.members = undefined
          }
          return
        }
        W(n.object, sc, ctx)
        if (n.computed || n.property.type === 'PrivateIdentifier') W(n.property, sc, ctx)
        return
      case 'Property':
        if (n.computed) W(n.key, sc, ctx)
        if (n.shorthand) n.value.shorthand = true
        return W(n.value, sc, ctx)
      case 'BinaryExpression':
        W(n.left, sc, ctx)
        return W(n.right, sc, ctx)
      case 'AssignmentExpression':
        if (n.left.type === 'Identifier') ref(n.left, sc, true)
        else pat(n.left, sc, ctx, true)
        return W(n.right, sc, ctx)
      case 'UpdateExpression':
        if (n.argument.type === 'Identifier') return ref(n.argument, sc, true)
        return W(n.argument, sc, ctx)
      case 'UnaryExpression':
        return W(n.argument, sc, ctx, { tof: n.operator === 'typeof' })
      case 'CallExpression':
        if (n.callee.type === 'Identifier' && n.callee.name === 'eval') R.directEval = true
        W(n.callee, sc, ctx)
        n.arguments.forEach((a) => W(a, sc, ctx))
        if (n.callee.type === 'Identifier') n.callee.isCallee = true
        return
      case 'ImportExpression':
        R.dynImports.push(n)
        W(n.source, sc, ctx)
        return W(n.options, sc, ctx)
      case 'WithStatement':
        R.withStmt = true
        W(n.object, sc, ctx)
        return W(n.body, sc, ctx)
      case 'Program': {
        const s = S(sc)
        n.body.forEach((b) => scanVars(b, s.names))
        blockDecls(n.body, s.names)
        n.body.forEach((b) => W(b, s, ctx))
        return
      }
      case 'BlockStatement': {
        const s = S(sc)
        blockDecls(n.body, s.names)
        n.body.forEach((b) => W(b, s, ctx))
        return
      }
      case 'SwitchStatement': {
        W(n.discriminant, sc, ctx)
        const s = S(sc)
        n.cases.forEach((c) => blockDecls(c.consequent, s.names))
        n.cases.forEach((c) => {
          W(c.test, s, ctx)
          c.consequent.forEach((b) => W(b, s, ctx))
        })
        return
      }
      case 'ForStatement':
      case 'ForInStatement':
      case 'ForOfStatement': {
        const s = S(sc)
        const i = n.init ?? n.left
        if (i?.type === 'VariableDeclaration') {
          if (i.kind !== 'var') i.declarations.forEach((d) => patNames(d.id, []).forEach((q) => s.names.add(q)))
          W(i, s, ctx)
        } else if (n.left) pat(i, s, ctx, true)
        else W(i, s, ctx)
        W(n.test, s, ctx)
        W(n.update, s, ctx)
        W(n.right, s, ctx)
        return W(n.body, s, ctx)
      }
      case 'CatchClause': {
        const s = S(sc)
        patNames(n.param, []).forEach((q) => s.names.add(q))
        pat(n.param, s, ctx, false)
        return W(n.body, s, ctx)
      }
      case 'VariableDeclaration':
        for (const d of n.declarations) {
          pat(d.id, sc, ctx, false)
          W(d.init, sc, ctx)
        }
        return
      case 'LabeledStatement':
        return W(n.body, sc, ctx)
      case 'BreakStatement':
      case 'ContinueStatement':
      case 'ImportDeclaration':
      case 'ExportAllDeclaration':
        return
      case 'ExportNamedDeclaration':
        return W(n.declaration, sc, ctx)
      case 'ExportDefaultDeclaration':
        return W(n.declaration, sc, ctx)
    }
    for (const k in n) {
      if (k === 'type') continue
      const v = n[k]
      if (Array.isArray(v)) {
        for (const c of v) if (c && typeof c.type === 'string') W(c, sc, ctx)
      } else if (v && typeof v.type === 'string') W(v, sc, ctx)
    }
  }
  W(root, null, { fn: false })
  return R
}

// ---- import table of a script: local name -> how to re-create it in the worker by reference
const litReq = (n) =>
  n?.type === 'CallExpression' &&
  n.callee.type === 'Identifier' &&
  n.callee.name === 'require' &&
  n.arguments[0]?.type === 'Literal'
    ? n.arguments[0].value
    : undefined
const VI = /^__(vi|vite_ssr)_(import|dynamic_import)__$/
function initRef(init, src) {
  // returns {spec, how, code?} if the initializer is a (wrapped) require / await import
  if (!init) return
  if (init.type === 'AwaitExpression') {
    const a = init.argument
    if (a.type === 'ImportExpression' && a.source.type === 'Literal') return { how: 'esm', spec: a.source.value }
    if (
      a.type === 'CallExpression' &&
      a.callee.type === 'Identifier' &&
      VI.test(a.callee.name) &&
      a.arguments[0]?.type === 'Literal'
    )
      return { how: 'vite', spec: a.arguments[0].value }
  }
  const r = litReq(init)
  if (r !== undefined) return { how: 'cjs', spec: r, code: src.slice(init.start, init.end) }
  if (init.type === 'CallExpression' && init.arguments.length && litReq(init.arguments[0]) !== undefined)
    return { how: 'cjs', spec: litReq(init.arguments[0]), code: src.slice(init.start, init.end) }
  if (init.type === 'MemberExpression' && !init.computed && litReq(init.object) !== undefined)
    return { how: 'cjs', spec: litReq(init.object), code: src.slice(init.start, init.end) }
  if (init.type === 'CallExpression' && init.callee.type === 'Identifier' && /createRequire$/.test(init.callee.name))
    return { how: 'createRequire' }
}
export function importTable(program, src) {
  const T = new Map()
  const decl = (d) => {
    for (const v of d.declarations) {
      const r = initRef(v.init, src)
      if (!r) continue
      if (v.id.type === 'Identifier') T.set(v.id.name, { ...r, imported: '*' })
      else if (v.id.type === 'ObjectPattern')
        for (const p of v.id.properties)
          if (p.type === 'Property' && !p.computed && p.value.type === 'Identifier')
            T.set(p.value.name, { ...r, imported: p.key.name ?? p.key.value })
    }
  }
  const body = moduleRoot(program, src).body
  const all = []
  for (const s of body) all.push(s.type === 'BlockStatement' ? s.body : s)
  for (const s of all.flat()) {
    if (s.type === 'ImportDeclaration') {
      const attrs = (s.attributes ?? []).map((a) => [a.key.name ?? a.key.value, a.value.value])
      for (const sp of s.specifiers)
        T.set(sp.local.name, {
          how: 'esm',
          spec: s.source.value,
          attrs,
          imported:
            sp.type === 'ImportNamespaceSpecifier'
              ? '*'
              : sp.type === 'ImportDefaultSpecifier'
                ? 'default'
                : (sp.imported.name ?? sp.imported.value),
        })
    } else if (s.type === 'VariableDeclaration') decl(s)
    else if (s.type === 'ExportNamedDeclaration' && s.declaration?.type === 'VariableDeclaration') decl(s.declaration)
  }
  return T
}

export function pathTo(program, a, b) {
  // nodes strictly enclosing [a,b)
  const out = []
  let n = program
  outer: while (n) {
    if (!(n.start === a && n.end === b)) out.push(n)
    for (const k in n) {
      const v = n[k]
      for (const c of Array.isArray(v) ? v : [v])
        if (c && typeof c.type === 'string' && c.start <= a && c.end >= b) {
          if (c.start === a && c.end === b && /Function|Class/.test(c.type)) {
            return out
          }
          n = c
          continue outer
        }
    }
    break
  }
  return out
}
export function declaringScope(path, name) {
  // innermost enclosing node that declares `name` (not Program)
  for (let i = path.length - 1; i > 0; i--) {
    const n = path[i]
    const set = new Set()
    if (/Function/.test(n.type)) {
      n.params.forEach((p) => patNames(p, []).forEach((x) => set.add(x)))
      if (n.body.type === 'BlockStatement') {
        scanVars(n.body, set)
        blockDecls(n.body.body, set)
      }
    } else if (n.type === 'BlockStatement' || n.type === 'StaticBlock') blockDecls(n.body, set)
    else if (/^For/.test(n.type) && (n.init ?? n.left)?.type === 'VariableDeclaration')
      (n.init ?? n.left).declarations.forEach((d) => patNames(d.id, []).forEach((x) => set.add(x)))
    else if (n.type === 'CatchClause') patNames(n.param, []).forEach((x) => set.add(x))
    else if (/^Class(Decl|Expr)/.test(n.type) && n.id) set.add(n.id.name)
    if (set.has(name)) return n.start
  }
  return -1
}

export function topLevelNames(p) {
  const s = new Set()
  p.body.forEach((b) => scanVars(b.declaration ?? b, s))
  blockDecls(p.body, s)
  return s
}

// The node holding the user's module-level declarations: Program, or the function a tool wrapped the module in
// (tsx CJS: `__filename=...;(()=>{...})()`, vite-node/vitest: `async (...) => {{ ... }}`, old Babel/UMD IIFEs).
export function moduleRoot(program, src) {
  let body = program.body,
    node = program
  const roots = new Set([program.start === undefined ? 0 : -1])
  for (let guard = 0; guard < 6; guard++) {
    let next
    for (const st of body) {
      let e =
        st.type === 'ExpressionStatement'
          ? st.expression
          : st.type === 'BlockStatement'
            ? st
            : st.type === 'ReturnStatement'
              ? st.argument
              : null
      for (let k = 0; e && k < 6; k++) {
        if (e.type === 'UnaryExpression' || e.type === 'AwaitExpression') e = e.argument
        else if (e.type === 'AssignmentExpression') e = e.right
        else if (e.type === 'CallExpression') e = e.callee.type === 'MemberExpression' ? e.callee.object : e.callee
        else break
      }
      if (!e || e.end - e.start < 0.6 * (body.at(-1).end - body[0].start)) continue
      if (/Function/.test(e.type) && e.body.type === 'BlockStatement') {
        roots.add(e.start)
        roots.add(e.body.start)
        next = e.body
      } else if (e.type === 'BlockStatement') {
        roots.add(e.start)
        next = e
      }
      if (next) break
    }
    if (!next) break
    node = next
    body = next.body
  }
  return { body, roots }
}
