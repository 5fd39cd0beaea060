// What fails and what is tried again: a worker that dies, an exception that is worth repeating, and one that is not.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import * as ray from 'ray-ts'

class RateLimited extends Error {}

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'retries-'))

/** Counts its runs in a file, since a retry may run in another process. */
const attempt = (name: string): number => {
  const file = path.join(dir, name)
  fs.appendFileSync(file, '.')
  return fs.statSync(file).size
}

// A worker that dies is not the task's fault: three more tries by default.
const crashes = ray.remote(() => {
  const n = attempt('crash')
  if (n < 3) process.kill(process.pid, 'SIGKILL')
  return n
})

// Exceptions are not repeated, unless their class is listed.
const limited = ray.remote(
  () => {
    const n = attempt('limited')
    if (n < 3) throw new RateLimited(`try ${n}`)
    return n
  },
  { retryExceptions: [RateLimited], maxRetries: 5 },
)

const broken = ray.remote(
  () => {
    attempt('broken')
    throw new TypeError('a defect: trying again would not help')
  },
  { retryExceptions: [RateLimited] },
)

await using _cluster = await ray.init()
assert.equal(await ray.get(crashes.remote()), 3)
assert.equal(await ray.get(limited.remote()), 3)

// The error that comes back is an instance of the task's own class, and of RayTaskError.
const error = await ray.get(broken.remote()).catch((caught: unknown) => caught)
assert.ok(error instanceof TypeError && error instanceof ray.RayTaskError)
assert.equal(attempt('broken'), 2) // It ran once; this was the second.

const hopeless = crashes.options({ maxRetries: 0 })
fs.rmSync(path.join(dir, 'crash'))
await assert.rejects(ray.get(hopeless.remote()), ray.exceptions.WorkerCrashedError)

fs.rmSync(dir, { recursive: true })
console.log('a crash and a listed exception were tried again; a defect was not')
//> a crash and a listed exception were tried again; a defect was not
