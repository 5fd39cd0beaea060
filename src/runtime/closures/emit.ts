// The text of a factory that makes a captured function again, around the user's own text.
//
//   E1. Everything of ours stands on one line before the user's text, so that its line numbers stay true.
//   E2. Our names begin with `__ray_`: they cannot hide a name of the user's.

import { type FunctionNode, isCell } from './payload.ts'

export interface Emitted {
  readonly text: string
  /** Columns before the user's text. */
  readonly prefixLength: number
  /** Captured variables that are set from outside; the others are cells, parameters of the factory in this order. */
  readonly variables: readonly string[]
  readonly cells: readonly string[]
}

export const META = '__ray_meta'
export const SUPER = '__ray_super'

export function cellName(name: string): string {
  return `__ray_cell_${name}`
}

export function emit(node: FunctionNode): Emitted {
  const variables: string[] = []
  const cells: string[] = []
  for (const [name, captured] of Object.entries(node.free ?? {})) (isCell(captured) ? cells : variables).push(name)
  const params = ['__ray_set', ...cells.map(cellName), ...(node.meta === undefined ? [] : [META])]
  const strict = node.isStrict ? '"use strict";' : ''
  const setters = variables.map((name) => `${name}:__ray_v=>{${name}=__ray_v}`)
  const lets = variables.length > 0 ? `let ${variables.join(',')};__ray_set({${setters.join(',')}});` : ''
  const [before, after] = wrapping(node)
  const prefix = `(function(${params.join(',')}){${strict}${lets}return ${before}`
  return { text: `${prefix}${node.code}${after}})`, prefixLength: prefix.length, variables, cells }
}

function wrapping(node: FunctionNode): readonly [string, string] {
  const key = JSON.stringify(node.key ?? '')
  switch (node.form) {
    case 'method':
      return ['({', `})[${key}]`]
    case 'get':
    case 'set':
      return ['Object.getOwnPropertyDescriptor({', `},${key}).${node.form}`]
    case 'static method':
      return ['(class{', `})[${key}]`]
    case 'expression': {
      if (node.name === '__proto__') return ['(', ')']
      const name = JSON.stringify(node.name) // As a property, an anonymous function gets its name back.
      return [`({${name}:`, `})[${name}]`]
    }
  }
}
