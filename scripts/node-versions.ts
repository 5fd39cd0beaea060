// Runs the tests on several versions of Node, whose binaries come from npm, and prints a table.
//
//     npm run test:nodes                                     Node 20, 22 and 24, all tests
//     npm run test:nodes -- --node 24 test/closures          one version, some files
//     npm run test:nodes -- --node 20.19 --node 22 --minutes 30
//
// The binaries live in .cache/nodes/: they are no dependencies. Workers run on the binary of their driver (process.execPath), and
// tools that look for `node` find it first on the PATH. One line a file is shown; all that was said is in .cache/nodes/VERSION.log.
// A version that takes longer than --minutes (20), or Ctrl-C, ends its processes; what lives on after the tests is a failure.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'
import { parseArgs } from 'node:util'
import { expectNothingLeft, processesNaming } from '../test/leftovers.ts'

interface Report {
  readonly numPassedTests: number
  readonly numPendingTests: number
  readonly testResults: readonly {
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: string
      readonly failureMessages: readonly string[]
    }[]
  }[]
}

interface Row {
  readonly node: string
  readonly passed: number
  readonly skipped: number
  readonly seconds: number
  readonly failures: readonly string[]
}

/** What is shown of vitest's output: its line for each file, each failed test, and its sums. */
const SHOWN = /^( [✓❯↓] | +× | *(Test Files|Tests|Errors) )/
const MARK = 'RAY_TS_NODE_VERSIONS'
const KILL_AFTER_MS = 10_000
/** Its output should be at its end when it is; a process that lives on may keep the pipes open. */
const OUTPUT_PATIENCE_MS = 2000

const { values, positionals } = parseArgs({
  options: {
    node: { type: 'string', multiple: true, default: ['20', '22', '24'] },
    minutes: { type: 'string', default: '20' },
  },
  allowPositionals: true,
})
const limitMs = Number(values.minutes) * 60_000
if (!(limitMs > 0)) throw new Error(`--minutes ${values.minutes}: say a number above 0`)
let running: ChildProcess | undefined
let stoppedBy: NodeJS.Signals | undefined
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    stoppedBy = signal
    if (running) end(running)
  })

const rows: Row[] = []
for (const version of values.node) if (!stoppedBy) rows.push(await runOn(version, positionals))
for (const row of rows) for (const failure of row.failures) console.log(`Node ${row.node}: ${failure}`)
console.log(`\n${line('node', 'passed', 'failed', 'skipped', 'seconds')}`)
for (const row of rows) console.log(line(row.node, row.passed, row.failures.length, row.skipped, row.seconds))
process.exitCode = !stoppedBy && rows.every((row) => row.failures.length === 0 && row.passed > 0) ? 0 : 1

async function runOn(version: string, filters: readonly string[]): Promise<Row> {
  const binary = install(version)
  const node = execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim()
  const report = path.resolve(`.cache/nodes/${version}.json`)
  const log = path.resolve(`.cache/nodes/${version}.log`)
  fs.rmSync(report, { force: true })
  console.log(`\n── Node ${node}, everything in ${path.relative('.', log)}`)
  const began = performance.now()
  const mark = `${process.pid}:${version}:`
  const failures: string[] = []
  const how = await runTests({ binary, mark, log, args: [...filters, `--outputFile.json=${report}`] })
  const seconds = Math.round((performance.now() - began) / 1000)
  if (stoppedBy) failures.push(`stopped by ${stoppedBy}`)
  else if (how.isLate) failures.push(`did not end within ${values.minutes} minutes`)
  failures.push(...(await endLeftovers(mark)))
  if (!fs.existsSync(report)) {
    if (failures.length === 0) failures.push(`the tests did not end (exit ${how.code}): see ${path.relative('.', log)}`)
    return { node, passed: 0, skipped: 0, seconds, failures }
  }
  const { numPassedTests, numPendingTests, testResults } = JSON.parse(fs.readFileSync(report, 'utf8')) as Report
  failures.push(...testResults.flatMap(failuresOf))
  if (how.code !== 0 && failures.length === 0) failures.push(`failed beside its tests: see ${path.relative('.', log)}`)
  return { node, passed: numPassedTests, skipped: numPendingTests, seconds, failures }
}

interface Run {
  readonly binary: string
  /** What it starts is known by it. */
  readonly mark: string
  readonly log: string
  readonly args: readonly string[]
}

function runTests({ binary, mark, log, args }: Run): Promise<{ code: number | null; isLate: boolean }> {
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--no-color', '--reporter=default', '--reporter=json']
  const search = `${path.dirname(binary)}${path.delimiter}${process.env.PATH ?? ''}`
  const env = { ...process.env, PATH: search, [MARK]: mark }
  // A group of its own, so that whatever it started can be ended with it.
  const child = spawn(binary, [...vitest, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  running = child
  const file = fs.createWriteStream(log)
  for (const stream of [child.stdout, child.stderr]) {
    stream.pipe(file, { end: false })
    readline.createInterface({ input: stream }).on('line', (text) => SHOWN.test(text) && console.log(text))
  }
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    end(child)
  }, limitMs)
  return new Promise((resolve, reject) => {
    const done = (): void => {
      file.end()
      child.stdout.destroy()
      child.stderr.destroy()
      resolve({ code: child.exitCode, isLate })
    }
    child.on('error', reject)
    child.on('close', done)
    child.on('exit', () => {
      clearTimeout(timer)
      running = undefined
      setTimeout(done, OUTPUT_PATIENCE_MS).unref()
    })
  })
}

function end(child: ChildProcess): void {
  signalGroup(child, 'SIGTERM')
  setTimeout(() => signalGroup(child, 'SIGKILL'), KILL_AFTER_MS).unref()
}

function signalGroup({ pid, exitCode, signalCode }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return
  try {
    process.kill(-pid, signal)
  } catch {
    // It ended meanwhile.
  }
}

async function endLeftovers(mark: string): Promise<string[]> {
  const look = (): string[] => processesNaming(`${MARK}=${mark}`)
  const isClean = await expectNothingLeft(look, '').then(
    () => true,
    () => false,
  )
  if (isClean) return []
  const left = look()
  for (const found of left) {
    try {
      process.kill(Number(/^process (\d+)/.exec(found)?.[1]), 'SIGKILL')
    } catch {
      // It ended meanwhile.
    }
  }
  return left.map((found) => `left over: ${found}`)
}

function failuresOf(file: Report['testResults'][number]): string[] {
  const name = path.relative('.', file.name)
  const tests = file.assertionResults.filter((test) => test.status === 'failed')
  const failed = tests.map((test) => `${name}: ${test.fullName}\n    ${test.failureMessages[0]?.split('\n')[0] ?? ''}`)
  // A file may fail beside its tests: at its start, or for what it leaves behind.
  if (file.status !== 'failed' || failed.length > 0) return failed
  return [`${name}: ${file.message.split('\n').slice(0, 3).join(' ')}`]
}

function install(version: string): string {
  const folder = path.resolve('.cache/nodes', version)
  const name = `node-${process.platform}-${process.arch}`
  const binary = path.join(folder, 'node_modules', name, 'bin/node')
  if (fs.existsSync(binary)) return binary
  fs.mkdirSync(folder, { recursive: true })
  fs.writeFileSync(path.join(folder, 'package.json'), '{ "private": true }')
  execFileSync('npm', ['install', `${name}@${version}`, '--no-audit', '--no-fund', '--no-save'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return binary
}

function line(node: string, ...columns: readonly (string | number)[]): string {
  return node.padEnd(12) + columns.map((column) => String(column).padStart(9)).join('')
}
