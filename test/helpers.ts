// What several tests of real processes need.

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export { sleep }

/** A fresh folder, and a counter file for what must be counted across processes. */
export function tempDir(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'ray-ts-test-'))
}

/** Polls until `check` holds; fails with `what` after `withinMs`. */
export async function until(check: () => boolean | Promise<boolean>, what: string, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await sleep(20)
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !fs.readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

/** Runs a program of test/programs as its own driver; its output so far is in `text()`. */
export function startProgram(
  name: string,
  args: string[] = [],
): { child: ChildProcess; text: () => string; ended: Promise<number | null> } {
  const file = path.resolve('test/programs', name)
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
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

/** Processes, session folders and shared-memory folders of a session that should be gone. */
export function leftovers(sessionDir: string): string[] {
  const left: string[] = []
  if (fs.existsSync(sessionDir)) left.push(sessionDir)
  const shm = `/dev/shm/ray-ts-${path.basename(sessionDir)}`
  if (fs.existsSync(shm)) left.push(shm)
  for (const pid of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
    try {
      if (fs.readFileSync(`/proc/${pid}/environ`, 'utf8').includes(path.basename(sessionDir)) && isAlive(Number(pid)))
        left.push(`pid ${pid}`)
    } catch {
      // It ended while we looked.
    }
  }
  return left
}
