// Failure here looks like a command line that ends in silence, or with a stack trace.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { expect, test } from 'vitest'

function ray(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/cli.js', ...args], { encoding: 'utf8' })
  return { code: status, out: stdout, err: stderr }
}

test('ray --version and --help', () => {
  const { version } = JSON.parse(fs.readFileSync('package.json', 'utf8')) as { version: string }
  expect(ray('--version')).toEqual({ code: 0, out: `${version}\n`, err: '' })
  const help = ray('--help')
  expect(help.code).toBe(0)
  expect(help.out).toMatch(/Usage: ray \[options\] \[command\]/)
  expect(help.out).toMatch(/microbenchmark/)
  expect(ray('microbenchmark', '--help').out).toMatch(/--filter <text>[\s\S]*--quick[\s\S]*--json <file>/)
})

test('an unknown command or option names the nearest, one of later versions says so', () => {
  const misspelt = ray('microbenchmrk')
  expect(misspelt.code).toBe(1)
  expect(misspelt.err).toMatch(/unknown command 'microbenchmrk'[\s\S]*Did you mean microbenchmark\?[\s\S]*ray --help/)
  expect(ray('microbenchmark', '--quik').err).toMatch(/unknown option '--quik'[\s\S]*--quick/)
  expect(ray('microbenchmark', '--num-cpus', 'two').err).toMatch(/must be a whole number of at least 1/)
  const later = ray('up', 'cluster.yaml', '--yes')
  expect([later.code, later.err]).toEqual([1, expect.stringMatching(/ray up is not in ray-ts .* yet/)])
})
