// What several tests of real processes need.

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach } from 'vitest'

export { isAlive, leftovers } from './leftovers.ts'
export { sleep }

/** A fresh folder, e.g. for a file that counts across processes. It goes with the test file's temp root. */
export function tempDir(): string {
  return fs.mkdtempSync(path.join(process.env.RAY_TMPDIR ?? os.tmpdir(), 'test-'))
}

/** What is put into it is called after each test of this file, the last one first. */
export function makeClosers(): (() => unknown)[] {
  const closers: (() => unknown)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close()
  })
  return closers
}

/** Polls until `check` holds; fails with `what` after `withinMs`. */
export async function until(check: () => boolean | Promise<boolean>, what: string, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await sleep(20)
  }
}

/** Runs a program of test/programs as its own driver; its output so far is in `text()`. */
export function startProgram(
  name: string,
  args: string[] = [],
  options: { detached?: boolean } = {},
): { child: ChildProcess; text: () => string; ended: Promise<number | null> } {
  const file = path.resolve('test/programs', name)
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'pipe'], ...options })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)))
  return { child, text: () => output, ended }
}
