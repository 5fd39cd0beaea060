// Failure here looks like an example that a user copies and that does not do what it says.
// Each program asserts its own result; what it prints must be the lines that it ends with, marked `//> `.
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'

/** Features that an example proves from end to end. */
const ROWS: Readonly<Record<string, string>> = {
  'examples/first-answer.ts': '[EXTRA-02]',
  'examples/named-service.ts': '[ACT-05][ACT-06]',
  'examples/queue.ts': '[EXTRA-07]',
  'examples/actor-pool.ts': '[ACT-13]',
  'examples/streaming-pipeline.ts': '[EXTRA-01]',
  'examples/crawler.ts': '[ACT-10][EXTRA-12]',
  'examples/zero-copy.ts': '[OBJ-02]',
  'examples/retries.ts': '[TASK-09][TASK-10]',
  'examples/tree-reduce.ts': '[TASK-18]',
}

interface Outcome {
  readonly code: number | null
  readonly out: string
  readonly error: string
}

async function run(file: string): Promise<Outcome> {
  const child = spawn(process.execPath, ['--import', 'tsx', file], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, error] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    error += chunk.toString()
  })
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  return { code, out, error }
}

function programs(folder: string): string[] {
  if (!fs.existsSync(folder)) return []
  return fs
    .readdirSync(folder)
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.join(folder, name))
}

/** The lines that a program says it prints. */
function promised(file: string): string {
  const text = fs.readFileSync(file, 'utf8')
  return [...text.matchAll(/^\/\/> (.*)$/gm)].map(([, line]) => `${line}\n`).join('')
}

describe.each(['examples', 'examples/guide'].filter((folder) => programs(folder).length > 0))('%s', (folder) => {
  test.each(programs(folder).map((file) => [`${ROWS[file] ?? ''} ${file}`.trim(), file]))('%s', async (_, file) => {
    const { code, out, error } = await run(file as string)
    expect(code, error).toBe(0)
    expect(promised(file as string), 'it must say what it prints').not.toBe('')
    expect(out).toBe(promised(file as string))
  })
})
