// Map-reduce over files: one task counts the words of one file, and the counts are merged in a tree of tasks, two by two.
//
//     npx tsx examples/word-count.ts [FOLDER]        default: this folder

import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'

type Counts = Map<string, number>

function countWords(text: string): Counts {
  const counts: Counts = new Map()
  for (const [word] of text.toLowerCase().matchAll(/\p{L}+/gu)) counts.set(word, (counts.get(word) ?? 0) + 1)
  return counts
}

function merge(a: Counts, b: Counts): Counts {
  const sum = new Map(a)
  for (const [word, n] of b) sum.set(word, (sum.get(word) ?? 0) + n)
  return sum
}

// A remote function takes along what it uses: `countWords` travels to the worker with it.
const countFile = ray.remote((file: string) => countWords(fs.readFileSync(file, 'utf8')))
const mergeTwo = ray.remote(merge)

const folder = process.argv[2] ?? import.meta.dirname
const files = fs
  .readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .map((name) => path.join(folder, name))
  .filter((file) => fs.statSync(file).isFile())

await using _cluster = await ray.init()

// References go straight into the next task: nothing comes back here until the last merge.
let counts = files.map((file) => countFile.remote(file))
while (counts.length > 1) {
  const [a, b, ...rest] = counts
  if (a && b) counts = [...rest, mergeTwo.remote(a, b)]
}
const total = counts[0] ? await ray.get(counts[0]) : new Map<string, number>()

const alone = files.map((file) => countWords(fs.readFileSync(file, 'utf8'))).reduce(merge, new Map())
assert.deepEqual([...total].sort(), [...alone].sort())
console.log(`"ray" occurs ${(total.get('ray') ?? 0) > 0 ? 'often' : 'never'}; tasks and one process agree`)
//> "ray" occurs often; tasks and one process agree
