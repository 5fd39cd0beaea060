// Compiles the text of a function at the place where its author wrote it.
//
//   L2. Stacks are exact: plain text is placed by line and column, compiled text carries its slice of the source map.

import vm from 'node:vm'
import { type Emitted, emit } from './emit.ts'
import { USE_MAIN_LOADER } from './modules.ts'
import type { FunctionNode } from './payload.ts'
import { encodeMap } from './source-map.ts'

export type Setters = Record<string, (value: unknown) => void>
type Factory = (set: (setters: Setters) => void, ...rest: unknown[]) => unknown

const FILE_OF_NOBODY = 'ray-closure'
const evaluators = new Map<string, (text: string) => unknown>()
let evaluated = 0

export function compileFunction(node: FunctionNode): Emitted & { readonly factory: Factory } {
  const emitted = emit(node)
  return { ...emitted, factory: (node.map ? evaluate(node, emitted) : run(node, emitted)) as Factory }
}

function run(node: FunctionNode, { text, prefixLength }: Emitted): unknown {
  const { line, column } = node
  const place = line === undefined ? {} : { lineOffset: line, columnOffset: (column ?? 0) - prefixLength }
  const options = { filename: node.url ?? FILE_OF_NOBODY, importModuleDynamically: USE_MAIN_LOADER as never, ...place }
  return new vm.Script(text, options).runInThisContext()
}

/** Node reads source maps of evaluated text only, not of `vm.Script`. */
function evaluate(node: FunctionNode, { text, prefixLength }: Emitted): unknown {
  const filename = node.url ?? FILE_OF_NOBODY
  const map = node.map ? JSON.stringify(encodeMap(node.map, prefixLength)) : ''
  const url = `data:application/json;base64,${Buffer.from(map).toString('base64')}`
  // Cut in two, or tools would take these for comments of this file.
  const comments = `\n//# ${'source'}MappingURL=${url}\n//# ${'source'}URL=${filename}?ray=${++evaluated}`
  return evaluatorOf(filename)(text + comments)
}

/** `import()` in evaluated text resolves from the script that evaluates it. */
function evaluatorOf(filename: string): (text: string) => unknown {
  let evaluator = evaluators.get(filename)
  if (!evaluator) {
    const options = { filename, importModuleDynamically: USE_MAIN_LOADER as never }
    evaluator = new vm.Script('(text)=>(0,eval)(text)', options).runInThisContext() as (text: string) => unknown
    evaluators.set(filename, evaluator)
  }
  return evaluator
}
