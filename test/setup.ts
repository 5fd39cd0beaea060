// For every test file: a temp root and a shared-memory folder of its own, and at the end the proof that nothing is left in them.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll } from 'vitest'
import { expectNothingLeft, leftoversBelow, shmRootOf } from './leftovers.ts'

const tempRoot = fs.mkdtempSync(path.join(os.tmpdir(), 'rt-'))
const shmRoot = shmRootOf(tempRoot)
fs.mkdirSync(shmRoot, { recursive: true })
process.env.RAY_TMPDIR = tempRoot
process.env.RAY_TS_SHM_DIR = shmRoot

// Hooks run in the reverse order of their registration: this one is the last.
afterAll(async () => {
  try {
    await expectNothingLeft(() => leftoversBelow(tempRoot), 'of this test file')
  } finally {
    for (const dir of [tempRoot, shmRoot]) fs.rmSync(dir, { recursive: true, force: true })
  }
})
