// What a function or class carries besides its text: static fields with their present values, patched methods, prototypes.
//
//   Z1. Members that the text itself makes, unchanged, are not sent a second time.

import { types } from 'node:util'
import type { Capture } from './capture.ts'
import type { AnyFunction } from './capture-function.ts'
import { captureProperty } from './capture-object.ts'
import type { FunctionNode, Property } from './payload.ts'
import type { ClassMember, ClassNode } from './syntax.ts'

const BUILT_IN = ['length', 'name', 'prototype', 'arguments', 'caller']

export function captureClassState(capture: Capture, fn: AnyFunction, classNode: ClassNode, node: FunctionNode): void {
  const text = Function.prototype.toString.call(fn)
  const proto = fn.prototype as object
  const protoProps = captureAllBut(capture, proto, unchanged(classNode, proto, text, { isStatic: false }), 'prototype')
  if (protoProps.length > 0) node.protoProps = protoProps
  const props = captureAllBut(capture, fn, unchanged(classNode, fn, text, { isStatic: true }), null)
  if (props.length > 0) node.props = props
}

export function captureFunctionState(capture: Capture, fn: AnyFunction, node: FunctionNode): void {
  const proto: unknown = Object.hasOwn(fn, 'prototype') ? fn.prototype : undefined
  if (typeof proto === 'object' && proto !== null) {
    const isGenerator = types.isGeneratorFunction(fn)
    const parent = Object.getPrototypeOf(proto) as object | null
    const isUntouched =
      isGenerator || (parent === Object.prototype && Reflect.ownKeys(proto).every((key) => key === 'constructor'))
    if (!isUntouched) {
      const skip = new Set<PropertyKey>(proto.constructor === fn ? ['constructor'] : [])
      node.protoProps = captureAllBut(capture, proto, skip, 'prototype')
      if (parent !== Object.prototype) node.protoProto = capture.value(parent)
    }
    const own = Object.getPrototypeOf(fn) as object | null
    if (!isGenerator && own !== Function.prototype) node.ownProto = capture.value(own)
  }
  const props = captureAllBut(capture, fn, new Set(BUILT_IN), null)
  if (props.length > 0) node.props = props
}

function captureAllBut(
  capture: Capture,
  value: object,
  skip: ReadonlySet<PropertyKey>,
  hop: string | null,
): Property[] {
  const keys = Reflect.ownKeys(value).filter((key) => !skip.has(key))
  const all = (): Property[] => keys.map((key) => captureProperty(capture, value, key))
  return hop === null ? all() : capture.within(hop, all)
}

/** Z1: the keys of `holder` (the class, or its prototype) that evaluating the class's text makes again. */
function unchanged(
  classNode: ClassNode,
  holder: object,
  text: string,
  { isStatic }: { isStatic: boolean },
): Set<PropertyKey> {
  const keys = new Set<PropertyKey>(isStatic ? BUILT_IN : ['constructor'])
  const isFromText = (key: PropertyKey): boolean => {
    const descriptor = Object.getOwnPropertyDescriptor(holder, key)
    const made: unknown = descriptor?.value ?? descriptor?.get ?? descriptor?.set
    return typeof made === 'function' && text.includes(Function.prototype.toString.call(made))
  }
  let hasUnknownKeys = false
  for (const member of classNode.body.body) {
    if (member.type === 'StaticBlock') continue
    const key = keyOf(member)
    if (key === undefined && member.computed) hasUnknownKeys = true
    if (member.type !== 'MethodDefinition' || member.static !== isStatic || key === undefined) continue
    if (isFromText(key)) keys.add(key)
  }
  if (hasUnknownKeys) for (const key of Reflect.ownKeys(holder)) if (isFromText(key)) keys.add(key)
  return keys
}

/** undefined: private, or computed at run time. */
function keyOf(member: Exclude<ClassMember, { type: 'StaticBlock' }>): PropertyKey | undefined {
  const { key } = member
  if (key.type === 'PrivateIdentifier') return undefined
  if (!member.computed)
    return key.type === 'Identifier' ? key.name : key.type === 'Literal' ? String(key.value) : undefined
  if (key.type === 'Literal') return String(key.value)
  const isSymbol =
    key.type === 'MemberExpression' && key.object.type === 'Identifier' && key.object.name === 'Symbol' && !key.computed
  if (!isSymbol || key.property.type !== 'Identifier') return undefined
  return (Symbol as unknown as Record<string, symbol>)[key.property.name]
}
