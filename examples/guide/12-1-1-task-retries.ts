// Guide 12.1 (fault tolerance of tasks): which failures are tried again, and how that is changed for one call.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import * as ray from 'ray-ts'

class ConnectionError extends Error {}
class TimeoutError extends Error {}
class OSError extends Error {}

await using _cluster = await ray.init()
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'guide-12-1-'))

/** An API that fails `failures` times. A file counts, since each try may run in another process. */
const unreliableTask = ray.remote(
  (data: { name: string; failures: number; error: 'connection' | 'other' }) => {
    const file = path.join(dir, data.name)
    fs.appendFileSync(file, '.')
    const tries = fs.statSync(file).size
    if (tries <= data.failures) throw data.error === 'connection' ? new ConnectionError('reset') : new Error('odd')
    return tries
  },
  { maxRetries: 5, retryExceptions: [ConnectionError, TimeoutError, OSError] },
)

console.log(await ray.get(unreliableTask.remote({ name: 'a', failures: 3, error: 'connection' })))

// Not one of the listed errors: it is not tried again.
const odd = unreliableTask.remote({ name: 'b', failures: 1, error: 'other' })
console.log(await ray.get(odd).catch((error: Error) => error.constructor === Error || error.message.includes('odd')))

// Changed for one call: every exception, ten times at most.
const stubborn = unreliableTask.options({ maxRetries: 10, retryExceptions: true })
console.log(await ray.get(stubborn.remote({ name: 'c', failures: 8, error: 'other' })))
fs.rmSync(dir, { recursive: true })
//> 4
//> true
//> 9
