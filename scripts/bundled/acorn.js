// What dist/ sees as `acorn`: loaded by whoever first serializes a function, which most workers never do (10 ms of each start).
import { createRequire } from 'node:module'

let loaded
const acorn = () => (loaded ??= createRequire(import.meta.url)('acorn'))

export const parse = (source, options) => acorn().parse(source, options)
export const parseExpressionAt = (source, at, options) => acorn().parseExpressionAt(source, at, options)
export const tokenizer = (source, options) => acorn().tokenizer(source, options)
