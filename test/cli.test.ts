// Failure here looks like a command line that ends in silence, or with a stack trace.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import * as ray from 'ray-ts'
import { expect, test } from 'vitest'
import { ray as run } from './cluster/processes.ts'
import { until } from './helpers.ts'

function cli(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/cli.js', ...args], { encoding: 'utf8' })
  return { code: status, out: stdout, err: stderr }
}

test('ray --version and --help', () => {
  const { version } = JSON.parse(fs.readFileSync('package.json', 'utf8')) as { version: string }
  expect(cli('--version')).toEqual({ code: 0, out: `${version}\n`, err: '' })
  const help = cli('--help')
  expect(help.code).toBe(0)
  expect(help.out).toMatch(/Usage: ray \[options\] \[command\]/)
  expect(help.out).toMatch(/microbenchmark/)
  expect(cli('microbenchmark', '--help').out).toMatch(/--filter <text>[\s\S]*--quick[\s\S]*--json <file>/)
})

test('an unknown command or option names the nearest, one of later versions says so', () => {
  const misspelt = cli('microbenchmrk')
  expect(misspelt.code).toBe(1)
  expect(misspelt.err).toMatch(/unknown command 'microbenchmrk'[\s\S]*Did you mean microbenchmark\?[\s\S]*ray --help/)
  expect(cli('microbenchmark', '--quik').err).toMatch(/unknown option '--quik'[\s\S]*--quick/)
  expect(cli('microbenchmark', '--num-cpus', 'two').err).toMatch(/must be a whole number of at least 1/)
  const later = cli('up', 'cluster.yaml', '--yes')
  expect([later.code, later.err]).toEqual([1, expect.stringMatching(/ray up is not in ray-ts .* yet/)])
})

test('[CL-06][ARCH-22] ray status and ray why find the program that has a cluster of its own', async () => {
  expect(await run(['status'])).toMatchObject({ code: 1, err: expect.stringContaining('Could not find any running') })
  await ray.init({ address: 'local', numCpus: 1, resources: { special: 2 } })
  try {
    const gate = new ray.util.Queue<number>()
    const hold = ray.remote(function hold(end: ray.util.Queue<number>) {
      return end.get()
    })
    const [held, waits] = [
      hold.options({ resources: { special: 2 } }).remote(gate),
      hold.options({ resources: { special: 1 } }).remote(gate),
    ]
    const after = ray.remote(function after(value: number) {
      return value
    })
    const last = after.remote(waits)
    let text = ''
    await until(async () => {
      text = (await run(['why'])).out
      return text.includes('is short of special: 0 of 2 free')
    }, 'it says what is short')
    expect(text).toMatch(/hold \(pid \d+, job 01000000\) holds 2 special/)
    expect(text).toContain(
      `after: 1 task of pid ${process.pid} (job 01000000) waits for arguments\n  ObjectRef(${waits.hex()}): hold makes it, which waits for a worker with {`,
    )
    const status = await run(['status'])
    expect(status).toMatchObject({ code: 0, err: '' })
    expect(status.out).toMatch(/2\.0\/2\.0 special/)
    expect(await run(['health-check'])).toMatchObject({ code: 0 })
    await gate.put(1)
    await gate.put(2)
    expect(await ray.get([held, last])).toEqual([1, 2])
  } finally {
    await ray.shutdown()
  }
})
