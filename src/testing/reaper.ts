// Entry of the process that watches over a test cluster: when the pipe from who made it ends, whatever is left of it is ended and removed.

import fs from 'node:fs'
import path from 'node:path'
import { notedProcess, PID_FILES, removeDeadSession } from '../runtime/session.ts'

const PATIENCE_MS = 10_000
const POLL_MS = 20

const root = process.argv[2] ?? ''
process.title = 'ray-ts reaper'
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
process.env.RAY_TMPDIR = root
process.stdin.on('error', () => {})
process.stdin.on('close', () => reap(performance.now() + PATIENCE_MS))
process.stdin.resume()

/** Again until all sessions are gone: a process that dies may have made files meanwhile. */
function reap(deadline: number): void {
  const sessions = list(root).filter((name) => name.startsWith('session_'))
  const left = sessions.filter((name) => !isGone(path.join(root, name)))
  if (left.length > 0 && performance.now() < deadline) {
    setTimeout(() => reap(deadline), POLL_MS)
    return
  }
  fs.rmSync(root, { recursive: true, force: true })
  process.exit(0)
}

function isGone(dir: string): boolean {
  for (const file of [PID_FILES.gcs, PID_FILES.node]) {
    const pid = notedProcess(path.join(dir, file))
    if (pid !== null) kill(pid)
  }
  return removeDeadSession(dir)
}

/** It leads a group of its own. */
function kill(pid: number): void {
  for (const target of [-pid, pid]) {
    try {
      process.kill(target, 'SIGKILL')
    } catch {
      // It is gone.
    }
  }
}

function list(dir: string): string[] {
  try {
    return fs.readdirSync(dir)
  } catch {
    return []
  }
}
