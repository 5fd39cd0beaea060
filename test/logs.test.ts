// Failure here looks like lines that are lost, doubled, attributed to somebody else, or that fill memory and disk.
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { leftovers, tempDir, until } from './helpers.ts'

interface Run {
  readonly out: string
  readonly err: string
  readonly code: number | null
  readonly logs: string
}

const children: number[] = []
afterEach(() => {
  for (const pid of children.splice(0)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended.
    }
  }
})

/** Runs test/programs/speak.mjs, which keeps a copy of its log folder. */
async function speak(what: string, env: Readonly<Record<string, string>> = {}): Promise<Run> {
  const logs = path.join(tempDir(), 'logs')
  const child = spawn(process.execPath, ['test/programs/speak.mjs', what, logs], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  children.push(child.pid as number)
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString()
  })
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  return { out, err, code, logs }
}

const filesOf = (folder: string, pattern: RegExp): string[] =>
  fs.readdirSync(folder).filter((name) => pattern.test(name))

describe('[EXTRA-06] lines of workers on the driver', () => {
  test('[EXTRA-06][CL-03][OBS-15] prefixed with who printed them, stdout and stderr apart, nothing lost at the end', async () => {
    const { out, err, code } = await speak('names')
    expect(code).toBe(0)
    expect(out).toMatch(/^\(greet pid=\d+\) to stdout$/m)
    expect(err).toMatch(/^\(greet pid=\d+\) to stderr$/m)
    expect(out).toMatch(/^\(renamed pid=\d+\) to stdout$/m)
    expect(out).toMatch(/^\(Plain pid=\d+\) from a method$/m)
    expect(out).toMatch(/^\(Shop\(7\) pid=\d+\) from a method$/m)
    expect(out).toMatch(/^\(greet pid=\d+\) the last words, without a line end$/m)
    expect(out).not.toContain('\u001b[')
    expect(out).not.toContain(':task_name:')
  })

  test('[EXTRA-06] the same line of several workers is folded; RAY_DEDUP_LOGS=0, the allow and skip patterns', async () => {
    const { out } = await speak('same', { RAY_DEDUP_LOGS_SKIP_REGEX: 'noise', RAY_DEDUP_LOGS_ALLOW_REGEX: 'always' })
    const [first, folded, ...more] = out.split('\n').filter((line) => line.includes('loaded shard'))
    expect(more).toEqual([])
    expect(first).toMatch(/^\(load pid=\d+\) loaded shard \d$/)
    expect(folded).toMatch(
      /^\(load pid=\d+\) loaded shard \d \[repeated 3x across cluster\] \(Ray deduplicates logs by default\./,
    )
    expect(out.match(/always shown/g)).toHaveLength(4)
    expect(out).not.toContain('noise')
    const all = await speak('same', { RAY_DEDUP_LOGS: '0' })
    expect(all.out.match(/loaded shard/g)).toHaveLength(4)
    expect(all.out).not.toContain('repeated')
  })

  test('[EXTRA-06] colours on demand; a progress bar shows its newest state; long lines are cut, the file has them whole', async () => {
    const { out, logs } = await speak('shapes', { RAY_COLOR_PREFIX: '1' })
    expect(out).toMatch(/^\u001b\[\d+m\(bar pid=\d+\)\u001b\[0m 100%$/m)
    expect(out).not.toContain('\r')
    expect(out).not.toMatch(/ 1%$/m)
    expect(out).toMatch(/ x{16384} \[33616 more characters are in the log file\]$/m)
    expect(out).toMatch(/ äöü日本$/m) // In two writes, cut within a letter.
    const text = filesOf(logs, /^worker-[0-9a-f]{56}-01000000-\d+\.out$/)
      .map((name) => fs.readFileSync(path.join(logs, name), 'utf8'))
      .join('')
    expect(text).toContain('x'.repeat(50_000))
    expect(text).toContain(':task_name:bar\n')
  })

  test('[CL-03] logToDriver: false keeps lines in the files; loggingConfig writes JSON and drops lower levels', async () => {
    const silent = await speak('silent')
    expect(silent.out + silent.err).not.toContain('to stdout')
    const all = filesOf(silent.logs, /\.out$/).map((name) => fs.readFileSync(path.join(silent.logs, name), 'utf8'))
    expect(all.join('')).toContain('to stdout')
    const { out, err } = await speak('json')
    const record = JSON.parse(/^\(greet pid=\d+\) (\{.*\})$/m.exec(out)?.[1] ?? 'null') as Record<string, unknown>
    expect(record).toMatchObject({ levelname: 'INFO', message: 'to stdout 5', job_id: '01000000', task_name: 'greet' })
    expect(record.node_id).toMatch(/^[0-9a-f]{56}$/)
    expect(err).toMatch(/"levelname":"ERROR","message":"to stderr"/)
    expect(out).not.toContain('too detailed')
  })

  test('[OBS-14][EXTRA-06] a flood: everything ends in bounded files, and the driver that does not read hears what it missed', async () => {
    const { out, err, code, logs } = await speak('flood', {
      RAY_ROTATION_MAX_BYTES: '1000000',
      RAY_ROTATION_BACKUP_COUNT: '2',
      RAY_DEDUP_LOGS: '0',
    })
    expect(code).toBe(0)
    const names = filesOf(logs, /\.out(\.\d)?$/)
    expect(names.filter((name) => name.endsWith('.out.2'))).toHaveLength(1)
    const bytes = names.reduce((sum, name) => sum + fs.statSync(path.join(logs, name)).size, 0)
    expect(bytes).toBeGreaterThan(1_000_000)
    expect(bytes).toBeLessThan(3 * 1_000_000 + 3 * 65_536)
    expect(out).toMatch(/the last line$/m)
    expect(err).toMatch(/\(ray\) \[\d+ lines of workers are not shown/)
  })

  test('[EXTRA-06] nobody reads the driver’s stdout any more: the program goes on, and ends in order', async () => {
    const report = path.join(tempDir(), 'report')
    const child = spawn(process.execPath, ['test/programs/speak.mjs', 'epipe', report], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child.pid as number)
    const session = await new Promise<string>((resolve) => {
      child.stdout.once('data', (chunk: Buffer) => resolve(/session (.+)/.exec(chunk.toString())?.[1] ?? ''))
    })
    child.stdout.destroy()
    const code = await new Promise<number | null>((resolve) => child.on('exit', resolve))
    expect([code, fs.readFileSync(report, 'utf8')]).toEqual([0, 'done 20'])
    await until(() => leftovers(session).length === 0, 'nothing is left', 5000)
  })
})
