// What workers on another node print. Failure here looks like lines that do not come, come to another program, or fill the links.

import { spawn } from 'node:child_process'
import { Cluster } from 'ray-ts/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'

let cluster: Cluster
beforeAll(async () => {
  cluster = await Cluster.start({
    head: { numCpus: 2, resources: { near: 2 } },
    nodes: [{ numCpus: 2, resources: { far: 2 }, host: { address: '127.0.0.2' } }],
  })
})
afterAll(() => cluster.shutdown())

interface Said {
  readonly out: string
  readonly err: string
  readonly code: number | null
}

async function run(what: string, env: Readonly<Record<string, string>> = {}): Promise<Said> {
  const child = spawn(process.execPath, ['test/programs/far-speak.mjs', what], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...cluster.env(), ...env },
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString()
  })
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  return { out, err, code }
}

test('[CL-03] lines say where they come from, stdout and stderr apart; programs see their own, nothing is lost at the end', async () => {
  const [one, other] = await Promise.all([run('names'), run('silent')])
  expect(one).toEqual({
    code: 0,
    out: expect.stringMatching(/^\(speak pid=\d+, ip=127\.0\.0\.2\) from afar$/m),
    err: expect.stringMatching(/^\(speak pid=\d+, ip=127\.0\.0\.2\) from afar to stderr$/m),
  })
  expect(one.out).toMatch(/^\(here pid=\d+\) from here$/m)
  expect(one.out + one.err).not.toContain('never seen')
  expect(other).toEqual({ code: 0, out: '', err: '' }) // logToDriver: false
})

test('[CL-03] the same line of workers on several nodes is folded', async () => {
  const { out, code } = await run('same')
  expect(code).toBe(0)
  expect(out.match(/loaded shard/g)).toHaveLength(2)
  expect(out).toMatch(/loaded shard \d \[repeated 3x across cluster\]/)
})

test('[CL-03] a worker that prints without end does not hold up the work of its node; what is not shown is counted', async () => {
  const { out, err, code } = await run('flood', { RAY_DEDUP_LOGS: '0' })
  expect(code).toBe(0)
  const shown = out.match(/x{99}$/gm)?.length ?? 0
  const missing = [...err.matchAll(/\[(\d+) lines of workers are not shown/g)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  )
  expect(shown + missing).toBe(1_200_000)
})
