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
  'examples/actor-state.ts': '[FT-02]',
  'examples/queue.ts': '[EXTRA-07]',
  'examples/actor-pool.ts': '[ACT-13]',
  'examples/streaming-pipeline.ts': '[EXTRA-01]',
  'examples/crawler.ts': '[ACT-10][EXTRA-12]',
  'examples/zero-copy.ts': '[OBJ-02]',
  'examples/per-process.ts': '[PERF-09]',
  'examples/placement-group.ts': '[PG-01][PG-07]',
  'examples/retries.ts': '[TASK-09][TASK-10]',
  'examples/guide/03-1-2-resources.ts': '[TASK-05][TASK-06][TASK-07][TASK-08]',
  'examples/guide/03-1-3-task-options.ts': '[TASK-12][TASK-13]',
  'examples/guide/03-1-4-dag.ts': '[TASK-14]',
  'examples/guide/03-1-5-wait.ts': '[TASK-16]',
  'examples/guide/03-2-1-counter.ts': '[ACT-01]',
  'examples/guide/03-2-2-actor-resources.ts': '[ACT-04]',
  'examples/guide/03-2-3-named-actor.ts': '[ACT-05][ACT-06]',
  'examples/guide/03-2-4-async-actor.ts': '[ACT-10]',
  'examples/guide/03-2-5-threaded-actor.ts': '[ACT-11][ACT-12]',
  'examples/guide/03-2-6-actor-pool.ts': '[ACT-13]',
  'examples/guide/03-3-1-objects.ts': '[OBJ-01][OBJ-03]',
  'examples/guide/03-3-2-object-transfer.ts': '[OBJ-06]',
  'examples/guide/12-1-1-task-retries.ts': '[TASK-10]',
  'examples/guide/12-2-1-resilient-actor.ts': '[ACT-07][ACT-08]',
  'examples/guide/16-1-1-memory-settings.ts': '[ARCH-18][ARCH-19]',
  'examples/threaded-histogram.ts': '[ACT-11]',
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

describe.each(['examples', 'examples/guide'])('%s', (folder) => {
  test.each(programs(folder).map((file) => [`${ROWS[file] ?? ''} ${file}`.trim(), file]))('%s', async (_, file) => {
    const { code, out, error } = await run(file as string)
    expect(code, error).toBe(0)
    expect(promised(file as string), 'it must say what it prints').not.toBe('')
    expect(out).toBe(promised(file as string))
  })
})

test('the page of the guide lists every twin', () => {
  const listed = [...fs.readFileSync('docs/guide.md', 'utf8').matchAll(/\]\(\.\.\/(.*?)\)/g)].map(([, file]) => file)
  expect(listed.sort()).toEqual(programs('examples/guide').sort())
})
