// What a function's text refers to outside of itself: names, `this`, `arguments`, `super`, `import.meta`, private names.
//
//   A1. A name is free when no scope inside the function declares it; hoisting, default parameters and patterns are honoured.

import { addBlockNames, addHoistedNames, addPatternNames } from './declarations.ts'
import { type AnyNode, type ClassNode, childrenOf, type FunctionNode, isNode, type Pattern } from './syntax.ts'

export interface NameUse {
  readonly start: number
  readonly end: number
  /** How the text must change when the name is replaced by a member expression. */
  readonly form: 'plain' | 'callee' | 'shorthand'
}

export interface FreeVariable {
  readonly uses: NameUse[]
  isAssigned: boolean
  /** Only ever looked at by `typeof`, which does not mind that it is missing. */
  isTypeofOnly: boolean
  /** A class needs it while it is being evaluated: superclass, computed keys, static fields and blocks. */
  isEager: boolean
  /** The `name.member` accesses; null once the name is used in another way. */
  members: Set<string> | null
}

export interface Analysis {
  readonly free: Map<string, FreeVariable>
  readonly importMeta: { readonly start: number; readonly end: number }[]
  readonly privateUsed: Set<string>
  readonly privateDeclared: Set<string>
  usesThis: boolean
  usesArguments: boolean
  usesSuper: boolean
  usesNewTarget: boolean
  usesEval: boolean
  usesWith: boolean
}

interface Scope {
  readonly up: Scope | null
  readonly names: Set<string>
}

/**
 * `isOwn`: `this` and `arguments` here belong to something inside; `hasHome`: `super` does. `isEager`: runs while the class is
 * evaluated.
 */
interface Context {
  readonly isOwn: boolean
  readonly hasHome: boolean
  readonly isEager: boolean
}

interface Mode {
  readonly isAssigned?: boolean
  readonly isTypeof?: boolean
  readonly form?: NameUse['form']
  readonly member?: string
}

export function analyze(root: AnyNode): Analysis {
  const walker = new Walker()
  // A lone method leaves its home object and its key behind.
  const isMember = root.type === 'Property' || root.type === 'MethodDefinition'
  const outside = { isOwn: false, hasHome: false, isEager: false }
  walker.visit(isMember ? root.value : root, { up: null, names: new Set() }, outside)
  return walker.found
}

const opened = (up: Scope, names = new Set<string>()): Scope => ({ up, names })

class Walker {
  readonly found: Analysis = {
    free: new Map(),
    importMeta: [],
    privateUsed: new Set(),
    privateDeclared: new Set(),
    usesThis: false,
    usesArguments: false,
    usesSuper: false,
    usesNewTarget: false,
    usesEval: false,
    usesWith: false,
  }

  visit(node: AnyNode | null | undefined, scope: Scope, context: Context): void {
    if (!node) return
    const { found } = this
    switch (node.type) {
      case 'Identifier':
        return this.#use(node, scope, context)
      case 'ThisExpression':
        if (!context.isOwn) found.usesThis = true
        return
      case 'Super':
        if (!context.hasHome) found.usesSuper = true
        return
      case 'MetaProperty':
        if (node.meta.name === 'import') found.importMeta.push({ start: node.start, end: node.end })
        else if (!context.isOwn) found.usesNewTarget = true
        return
      case 'PrivateIdentifier':
        found.privateUsed.add(node.name)
        return
      case 'FunctionExpression':
      case 'ArrowFunctionExpression':
      case 'FunctionDeclaration':
        return this.#function(node, scope, context)
      case 'ClassExpression':
      case 'ClassDeclaration':
        return this.#class(node, scope, context)
      case 'MemberExpression':
      case 'Property':
      case 'AssignmentExpression':
      case 'UpdateExpression':
      case 'UnaryExpression':
      case 'CallExpression':
      case 'TaggedTemplateExpression':
        return this.#expression(node, scope, context)
      default:
        return this.#statement(node, scope, context)
    }
  }

  #use(node: { name: string; start: number; end: number }, scope: Scope, context: Context, mode: Mode = {}): void {
    for (let s: Scope | null = scope; s; s = s.up) if (s.names.has(node.name)) return
    if (node.name === 'arguments') this.found.usesArguments = true
    let variable = this.found.free.get(node.name)
    if (!variable) {
      variable = { uses: [], isAssigned: false, isTypeofOnly: true, isEager: false, members: new Set() }
      this.found.free.set(node.name, variable)
    }
    variable.uses.push({ start: node.start, end: node.end, form: mode.form ?? 'plain' })
    if (mode.isAssigned) variable.isAssigned = true
    if (!mode.isTypeof) variable.isTypeofOnly = false
    if (context.isEager) variable.isEager = true
    if (mode.member === undefined) variable.members = null
    else variable.members?.add(mode.member)
  }

  #expression(node: AnyNode, scope: Scope, context: Context): void {
    switch (node.type) {
      case 'MemberExpression': {
        const member = node.computed || node.property.type !== 'Identifier' ? undefined : node.property.name
        if (node.object.type === 'Identifier' && member !== undefined)
          this.#use(node.object, scope, context, { member })
        else this.visit(node.object, scope, context)
        if (node.computed || node.property.type === 'PrivateIdentifier') this.visit(node.property, scope, context)
        return
      }
      case 'Property':
        if (node.computed) this.visit(node.key, scope, context)
        if (node.shorthand && node.value.type === 'Identifier')
          return this.#use(node.value, scope, context, { form: 'shorthand' })
        return this.visit(
          node.value,
          scope,
          node.method || node.kind !== 'init' ? { ...context, hasHome: true } : context,
        )
      case 'AssignmentExpression':
        this.#pattern(node.left, scope, context, { isAssigned: true })
        return this.visit(node.right, scope, context)
      case 'UpdateExpression':
        if (node.argument.type === 'Identifier') return this.#use(node.argument, scope, context, { isAssigned: true })
        return this.visit(node.argument, scope, context)
      case 'UnaryExpression':
        if (node.operator === 'typeof' && node.argument.type === 'Identifier')
          return this.#use(node.argument, scope, context, { isTypeof: true })
        return this.visit(node.argument, scope, context)
      case 'CallExpression':
        if (node.callee.type === 'Identifier') {
          if (node.callee.name === 'eval') this.found.usesEval = true
          this.#use(node.callee, scope, context, { form: 'callee' })
        } else this.visit(node.callee, scope, context)
        for (const argument of node.arguments) this.visit(argument, scope, context)
        return
      case 'TaggedTemplateExpression':
        if (node.tag.type === 'Identifier') this.#use(node.tag, scope, context, { form: 'callee' })
        else this.visit(node.tag, scope, context)
        return this.visit(node.quasi, scope, context)
    }
  }

  #pattern(pattern: Pattern | null | undefined, scope: Scope, context: Context, mode: Mode): void {
    switch (pattern?.type) {
      case 'Identifier':
        if (mode.isAssigned) this.#use(pattern, scope, context, mode)
        return
      case 'MemberExpression':
        return this.visit(pattern, scope, context)
      case 'ObjectPattern':
        for (const property of pattern.properties) {
          if (property.type === 'RestElement') this.#pattern(property.argument, scope, context, mode)
          else {
            if (property.computed) this.visit(property.key, scope, context)
            const form = property.shorthand ? 'shorthand' : 'plain'
            this.#pattern(property.value, scope, context, { ...mode, form })
          }
        }
        return
      case 'ArrayPattern':
        for (const element of pattern.elements) this.#pattern(element, scope, context, { ...mode, form: 'plain' })
        return
      case 'AssignmentPattern':
        this.#pattern(pattern.left, scope, context, mode)
        return this.visit(pattern.right, scope, context)
      case 'RestElement':
        return this.#pattern(pattern.argument, scope, context, { ...mode, form: 'plain' })
    }
  }

  #function(node: FunctionNode, scope: Scope, context: Context): void {
    const isArrow = node.type === 'ArrowFunctionExpression'
    const named = node.type === 'FunctionExpression' && node.id ? opened(scope, new Set([node.id.name])) : scope
    const own = opened(named)
    for (const param of node.params) addPatternNames(param, own.names)
    if (!isArrow) own.names.add('arguments')
    const inner = isArrow ? context : { ...context, isOwn: true }
    if (node.body.type === 'BlockStatement') {
      addHoistedNames(node.body, own.names)
      addBlockNames(node.body.body, own.names)
    }
    for (const param of node.params) this.#pattern(param, own, inner, {})
    if (node.body.type === 'BlockStatement') for (const statement of node.body.body) this.visit(statement, own, inner)
    else this.visit(node.body, own, inner)
  }

  #class(node: ClassNode, scope: Scope, context: Context): void {
    const own = opened(scope, new Set(node.id ? [node.id.name] : []))
    const eager = { ...context, isEager: true }
    this.visit(node.superClass, own, eager)
    for (const member of node.body.body) {
      if (member.type === 'StaticBlock') {
        const block = opened(own, new Set(['arguments']))
        for (const statement of member.body) addHoistedNames(statement, block.names)
        addBlockNames(member.body, block.names)
        for (const statement of member.body) this.visit(statement, block, { isOwn: true, hasHome: true, isEager: true })
        continue
      }
      if (member.key.type === 'PrivateIdentifier') this.found.privateDeclared.add(member.key.name)
      if (member.computed) this.visit(member.key, own, eager)
      const inner = { isOwn: true, hasHome: true, isEager: context.isEager }
      if (member.type === 'MethodDefinition') this.#function(member.value, own, inner)
      else
        this.visit(member.value, opened(own, new Set(['arguments'])), {
          ...inner,
          isEager: member.static || context.isEager,
        })
    }
  }

  #statement(node: AnyNode, scope: Scope, context: Context): void {
    const own = opened(scope)
    switch (node.type) {
      case 'WithStatement':
        this.found.usesWith = true
        return this.#children(node, scope, context)
      case 'Program':
      case 'BlockStatement':
        if (node.type === 'Program') addHoistedNames(node, own.names)
        addBlockNames(node.body, own.names)
        return this.#children(node, own, context)
      case 'SwitchStatement':
        this.visit(node.discriminant, scope, context)
        for (const { consequent } of node.cases) addBlockNames(consequent, own.names)
        for (const one of node.cases) this.#children(one, own, context)
        return
      case 'ForStatement':
        if (node.init?.type === 'VariableDeclaration') this.#loopNames(node.init, own)
        return this.#children(node, own, context)
      case 'ForInStatement':
      case 'ForOfStatement':
        if (node.left.type === 'VariableDeclaration') {
          this.#loopNames(node.left, own)
          this.visit(node.left, own, context)
        } else this.#pattern(node.left, own, context, { isAssigned: true })
        this.visit(node.right, own, context)
        return this.visit(node.body, own, context)
      case 'CatchClause':
        addPatternNames(node.param, own.names)
        this.#pattern(node.param, own, context, {})
        return this.visit(node.body, own, context)
      case 'VariableDeclarator':
        this.#pattern(node.id, scope, context, {})
        return this.visit(node.init, scope, context)
      case 'LabeledStatement':
        return this.visit(node.body, scope, context)
      case 'BreakStatement':
      case 'ContinueStatement':
      case 'ImportDeclaration':
      case 'ExportAllDeclaration':
        return
      case 'ExportNamedDeclaration':
      case 'ExportDefaultDeclaration':
        return this.visit(isNode(node.declaration) ? node.declaration : null, scope, context)
      default:
        return this.#children(node, scope, context)
    }
  }

  #children(node: AnyNode, scope: Scope, context: Context): void {
    for (const child of childrenOf(node)) this.visit(child, scope, context)
  }

  #loopNames(head: AnyNode & { type: 'VariableDeclaration' }, scope: Scope): void {
    if (head.kind !== 'var') for (const { id } of head.declarations) addPatternNames(id, scope.names)
  }
}
