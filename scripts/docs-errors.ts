// Writes docs/errors.md from the table of errors; with --check it only compares (part of `npm run check`).

import fs from 'node:fs'
import { ERROR_CLASSES, ERROR_TABLE, RayError } from '../src/errors/index.ts'

const FILE = 'docs/errors.md'

/** The classes that `className` extends, nearest first, without Error itself. */
function lineageOf(className: string): string[] {
  const names: string[] = []
  let type: unknown = ERROR_CLASSES[className]
  while (typeof type === 'function' && type !== RayError) {
    type = Object.getPrototypeOf(type)
    if (typeof type === 'function') names.push(type.name)
  }
  return names
}

function render(): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|').replace(/\{(\w+)\}/g, '*$1*')
  const own = (text: string): string => (/^\{\w+\}$/.test(text) ? '*says so itself*' : cell(text))
  const codes = Object.entries(ERROR_TABLE).map(
    ([code, { className, message, hint }]) => `| \`${code}\` | \`${className}\` | ${own(message)} | ${own(hint)} |`,
  )
  const classes = [...new Set(Object.values(ERROR_TABLE).map(({ className }) => className))].sort().map((className) => {
    const own = Object.entries(ERROR_TABLE).filter(([, entry]) => entry.className === className)
    return `| \`${className}\` | ${lineageOf(className).join(' ← ')} | ${own.map(([code]) => `\`${code}\``).join(', ')} |`
  })
  return [
    '# Errors',
    '',
    'Written by `npm run docs:errors` from [the table](../src/errors/codes.ts); `npm run check` compares the two.',
    '',
    'Every error that ray-ts raises is a `ray.RayError` with a `code` of this page, a `hint` (what to do next), `params` (the words in',
    "italics below) and, where another error led to it, a `cause`. The classes are in `ray.exceptions` and carry Ray's names;",
    '`instanceof` works for them across copies of the package.',
    '',
    '```ts',
    "import * as ray from 'ray-ts'",
    '',
    'const risky = ray.remote(() => JSON.parse("{"))',
    'try {',
    '  await ray.get(risky.remote())',
    '} catch (error) {',
    '  if (error instanceof SyntaxError) console.log("what the task threw, as if it had run here")',
    '  if (error instanceof ray.RayTaskError) console.log(error.code, error.hint, error.cause)',
    '}',
    'await ray.shutdown()',
    '```',
    '',
    '## Codes',
    '',
    '| code | class | what happened | what to do |',
    '|---|---|---|---|',
    ...codes,
    '',
    '## Classes',
    '',
    '| class | extends | codes |',
    '|---|---|---|',
    ...classes,
    '',
  ].join('\n')
}

const page = render()
if (process.argv.includes('--check')) {
  if (!fs.existsSync(FILE) || fs.readFileSync(FILE, 'utf8') !== page) {
    console.error(`${FILE} does not say what src/errors/codes.ts says: run npm run docs:errors`)
    process.exit(1)
  }
} else fs.writeFileSync(FILE, page)
