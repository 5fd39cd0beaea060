// What may be left of a session when it should be gone, and the check that every file of real-process tests ends with.
//
// Each test file works under a temp root of its own (test/setup.ts), so that whatever bears its name is its own: folders, shared
// memory, sockets, and processes, whose environment names it.

import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export const WITHIN_MS = 5000

/** Processes, folders, shared memory and bound sockets of a session. */
export function leftovers(sessionDir: string): string[] {
  const name = path.basename(sessionDir)
  const shm = shmRoots().map((root) => path.join(root, `ray-ts-${name}`))
  return [...[sessionDir, ...shm].filter((file) => fs.existsSync(file)), ...processesNaming(name), ...socketsOf(name)]
}

/** Of every session below a temp root. */
export function leftoversBelow(tempRoot: string): string[] {
  const sessions = listDir(tempRoot).filter((name) => name.startsWith('session_'))
  const inShm = listDir(shmRootOf(tempRoot)).map((name) => path.join(shmRootOf(tempRoot), name))
  return [...sessions, ...inShm, ...processesNaming(tempRoot), ...socketsOf(tempRoot)]
}

/** Fails unless `look` finds nothing within five seconds. */
export async function expectNothingLeft(look: () => string[], ofWhat: string): Promise<void> {
  const deadline = performance.now() + WITHIN_MS
  let left = look()
  while (left.length > 0 && performance.now() < deadline) {
    await sleep(25)
    left = look()
  }
  if (left.length > 0) throw new Error(`left over after ${WITHIN_MS / 1000} s, ${ofWhat}:\n  ${left.join('\n  ')}`)
}

export function shmRootOf(tempRoot: string): string {
  return fs.existsSync('/dev/shm') ? path.join('/dev/shm', path.basename(tempRoot)) : path.join(tempRoot, 'shm')
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat[stat.lastIndexOf(')') + 2] !== 'Z'
  } catch {
    return false
  }
}

/** Living processes, other than this one, whose environment holds `text`. */
export function processesNaming(text: string): string[] {
  const found: string[] = []
  for (const pid of listDir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
    try {
      if (!fs.readFileSync(`/proc/${pid}/environ`, 'utf8').includes(text) || !isAlive(Number(pid))) continue
      const command = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 100)
      found.push(`process ${pid}: ${command}`)
    } catch {
      // It ended while we looked, or is somebody else's.
    }
  }
  return found
}

function socketsOf(text: string): string[] {
  try {
    const lines = fs.readFileSync('/proc/net/unix', 'utf8').split('\n')
    return lines.filter((line) => line.includes(text)).map((line) => `socket ${line.slice(line.indexOf('/'))}`)
  } catch {
    return []
  }
}

function shmRoots(): string[] {
  return [...new Set([process.env.RAY_TS_SHM_DIR ?? '/dev/shm', '/dev/shm'])]
}

function listDir(dir: string): string[] {
  try {
    return fs.readdirSync(dir)
  } catch {
    return []
  }
}
