// Runs the tests of real processes on several versions of Node, whose binaries come from npm, and prints a table.
//
//     npm run test:nodes                            Node 20, 22 and 24, all of test/
//     npm run test:nodes -- --node 24 test/closures
//
// The binaries live in .cache/: they are no dependencies. Workers run on the binary of their driver (process.execPath).

import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'

interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
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
  readonly failed: number
  readonly seconds: number
  readonly failures: readonly string[]
}

const { values, positionals } = parseArgs({
  options: { node: { type: 'string', multiple: true, default: ['20', '22', '24'] } },
  allowPositionals: true,
})
const rows = values.node.map((version) => runOn(version, positionals.length > 0 ? positionals : ['test']))
for (const row of rows) for (const failure of row.failures) console.log(`Node ${row.node}: ${failure}`)
console.log(`\n${'node'.padEnd(12)}${'passed'.padStart(8)}${'failed'.padStart(8)}${'seconds'.padStart(9)}`)
for (const { node, passed, failed, seconds } of rows)
  console.log(
    `${node.padEnd(12)}${String(passed).padStart(8)}${String(failed).padStart(8)}${String(seconds).padStart(9)}`,
  )
process.exitCode = rows.every((row) => row.failed === 0 && row.passed > 0) ? 0 : 1

function runOn(version: string, filters: readonly string[]): Row {
  const binary = install(version)
  const node = execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim()
  console.log(`\n── Node ${node}`)
  const output = path.resolve(`.cache/nodes/report-${version}.json`)
  fs.rmSync(output, { force: true })
  const began = performance.now()
  const args = ['node_modules/vitest/vitest.mjs', 'run', ...filters, '--reporter=dot', '--reporter=json']
  const env = { ...process.env, PATH: `${path.dirname(binary)}${path.delimiter}${process.env.PATH ?? ''}` }
  spawnSync(binary, [...args, `--outputFile.json=${output}`], { env, stdio: 'inherit' })
  const seconds = Math.round((performance.now() - began) / 1000)
  if (!fs.existsSync(output)) return { node, passed: 0, failed: 1, seconds, failures: ['the tests did not end'] }
  const report = JSON.parse(fs.readFileSync(output, 'utf8')) as Report
  const failures = report.testResults.flatMap((file) => {
    const tests = file.assertionResults.filter((test) => test.status === 'failed')
    const lines = tests.map((test) => `${test.fullName}\n    ${test.failureMessages[0]?.split('\n')[0] ?? ''}`)
    // A file may fail beside its tests: at its start, or for what it leaves behind.
    return file.status === 'failed' && lines.length === 0
      ? [`${path.relative('.', file.name)}: ${file.message.split('\n').slice(0, 3).join(' ')}`]
      : lines
  })
  return { node, passed: report.numPassedTests, failed: failures.length, seconds, failures }
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
    stdio: 'inherit',
  })
  return binary
}
