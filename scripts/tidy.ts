// Limits that keep the code readable and the machines pure. Each message says what to do instead.

import fs from 'node:fs'
import path from 'node:path'
import { sourceFiles } from './source-files.ts'

const LINES_MAX = 800
const TEST_LINES_MAX = 1200
/** Rooms that own the world's clocks, timers, randomness and output. */
const WORLDLY = new Set(['runtime', 'api', 'cli', 'testing'])
const BANNED: readonly [RegExp, string][] = [
  [/\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(/, 'take `now` as an input'],
  [/\bset(Timeout|Interval|Immediate)\(/, 'return a timer effect'],
  [/\bMath\.random\(|\brandomUUID\(/, 'take randomness as an input'],
  [/\bprocess\./, 'let runtime/ ask'],
  [/\bconsole\./, 'return an effect; runtime/ logs'],
]
const EVERYWHERE: readonly [RegExp, string][] = [
  [/\bFIXME\b|\bXXX\b/, 'finish it'],
  [/\b(test|it|describe)\.only\(/, 'a focused test hides the others'],
  [/(^|[^\w.])\/(work|root)\//, 'a path of one machine'],
]

const complaints: string[] = []
for (const file of ['src', 'test', 'scripts', 'examples', 'demo', 'bench'].flatMap(sourceFiles)) {
  const text = fs.readFileSync(file, 'utf8')
  const lines = text.split('\n')
  const limit = file.endsWith('.test.ts') ? TEST_LINES_MAX : LINES_MAX
  if (lines.length > limit) complaints.push(`${file}: ${lines.length} lines; at most ${limit}: split it`)
  const room = path.relative('src', file).split(path.sep)[0] as string
  const isPure =
    file.startsWith(`src${path.sep}`) && !WORLDLY.has(room) && !file.endsWith('.test.ts') && !room.endsWith('.ts')
  lines.forEach((line, i) => {
    const code = line.replace(/^\s*(\/\/|\/?\*).*$/, '')
    if (isPure)
      for (const [pattern, instead] of BANNED) if (pattern.test(code)) complaints.push(`${file}:${i + 1}: ${instead}`)
    if (file.startsWith(`scripts${path.sep}tidy`)) return
    for (const [pattern, instead] of EVERYWHERE) if (pattern.test(line)) complaints.push(`${file}:${i + 1}: ${instead}`)
  })
}
for (const complaint of complaints) console.error(complaint)
if (complaints.length > 0) process.exit(1)
