// Failure here looks like an error that the page does not explain, a class that nobody can catch, or a hint with a hole in it.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import * as ray from 'ray-ts'
import { expect, test } from 'vitest'
import { sourceFiles } from '../scripts/source-files.ts'
import { ERROR_CLASSES, ERROR_TABLE, type ErrorEntry } from '../src/errors/index.ts'

const table = Object.entries(ERROR_TABLE) as [string, ErrorEntry][]

test('table and classes agree', () => {
  const used = new Set(table.map(([, { className }]) => className))
  expect([...used].sort()).toEqual(Object.keys(ERROR_CLASSES).sort())
  for (const className of used) {
    expect(ERROR_CLASSES[className]?.name).toBe(className)
    expect(ray.exceptions, `ray.exceptions.${className}`).toHaveProperty(className)
  }
})

test('table and page agree', () => {
  execFileSync(process.execPath, ['--import', 'tsx', 'scripts/docs-errors.ts', '--check'])
  const page = fs.readFileSync('docs/errors.md', 'utf8')
  for (const [code, { className }] of table) expect(page).toContain(`| \`${code}\` | \`${className}\` |`)
})

test('every code is raised somewhere, says what happened and what to do', () => {
  const sources = sourceFiles('src')
    .filter((file) => !file.endsWith('errors/codes.ts') && !file.endsWith('.test.ts'))
    .map((file) => fs.readFileSync(file, 'utf8'))
    .join('\n')
  for (const [code, { message, hint }] of table) {
    expect(message.length, code).toBeGreaterThan(0)
    expect(hint.length, code).toBeGreaterThan(0)
    expect(sources.includes(`'${code}'`), `${code} is never raised`).toBe(true)
  }
})

test('the words of a text come from params; text and hint are whole', () => {
  for (const [code, { className, message, hint }] of table) {
    const words = [...`${message} ${hint}`.matchAll(/\{(\w+)\}/g)].map(([, word]) => word as string)
    const params = Object.fromEntries(words.map((word) => [word, `<${word}>`]))
    const type = ERROR_CLASSES[className] as NonNullable<(typeof ERROR_CLASSES)[string]>
    const error = new type(code as never, params)
    for (const word of words) expect(`${error.message} ${error.hint}`).toContain(`<${word}>`)
    expect(error.message).not.toMatch(/\{\w+\}/)
    expect(error).toMatchObject({ code, name: className, params })
    expect(error).toBeInstanceOf(ray.RayError)
  }
})

test('[TASK-17] an actor that no node could ever hold fails its calls with ActorUnschedulableError', async () => {
  await using _cluster = await ray.init({ numCpus: 1 })
  class Huge {
    ping(): string {
      return 'pong'
    }
  }
  const huge = ray.remote(Huge).options({ numCpus: 64 }).remote()
  const error = await ray.get(huge.ping.remote()).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(ray.exceptions.ActorUnschedulableError)
  expect(String(error)).toMatch(/CPU: 64.*largest node has.*CPU: 1/)
})
