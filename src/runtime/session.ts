// A session's folders: `<temp>/ray/session_<time>_<pid>/{logs,sockets,spill}` and its folder in shared memory.
//
//   F1. Whoever ends last removes both; what a crash left is swept by the next start (`sweepDeadSessions`).
//   F2. A session lives as long as its driver or its node. Process ids are used again: each is noted with its time of birth.

import crypto from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { ShmControl } from './shm/control.ts'

export interface Session {
  readonly dir: string
  readonly logsDir: string
  readonly socketsDir: string
  readonly spillDirs: readonly string[]
  readonly shmDir: string
}

const SHM_ROOT = '/dev/shm'
const SHM_PREFIX = 'ray-ts-'

export function tempRoot(): string {
  return process.env.RAY_TMPDIR ?? path.join(os.tmpdir(), 'ray')
}

export function makeSession(spillDirs: readonly string[] | undefined): Session {
  const now = new Date()
  const stamp = now.toISOString().slice(0, 19).replace('T', '_').replaceAll(':', '-')
  const name = `session_${stamp}_${String(now.getMilliseconds()).padStart(3, '0')}000_${process.pid}_${randomHex(2)}`
  const dir = path.join(tempRoot(), name)
  const session: Session = {
    dir,
    logsDir: path.join(dir, 'logs'),
    socketsDir: path.join(dir, 's'),
    spillDirs: spillDirs?.map((root) => path.join(root, `ray_spilled_${name}`)) ?? [path.join(dir, 'spill')],
    shmDir: path.join(shmRoot(), `${SHM_PREFIX}${name}`),
  }
  for (const folder of [session.logsDir, session.socketsDir, ...session.spillDirs, session.shmDir]) {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  }
  noteProcess(path.join(dir, 'driver.pid'))
  ShmControl.create(session.shmDir)
  return session
}

export function removeSession(session: Session): void {
  for (const folder of [session.shmDir, ...session.spillDirs, session.dir]) {
    fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** Removes the folders of sessions whose processes are all gone. */
export function sweepDeadSessions(): void {
  for (const [root, prefix] of [
    [tempRoot(), 'session_'],
    [shmRoot(), `${SHM_PREFIX}session_`],
  ] as const) {
    for (const name of listDir(root)) {
      if (!name.startsWith(prefix)) continue
      const pid = Number(/_(\d+)_[0-9a-f]+$/.exec(name)?.[1])
      if (!Number.isInteger(pid)) continue
      const dir = path.join(tempRoot(), name.slice(name.indexOf('session_')))
      if (isSame(pid, path.join(dir, 'driver.pid')) || isSame(0, path.join(dir, 'node.pid'))) continue
      fs.rmSync(path.join(root, name), { recursive: true, force: true })
    }
  }
}

/** Writes which process this is: `<pid> <time of birth>`. */
export function noteProcess(file: string): void {
  fs.writeFileSync(file, `${process.pid} ${birthOf(process.pid)}`)
}

/** The process noted in `file` (or, without a note, the one with this id) is alive. F2 */
function isSame(pid: number, file: string): boolean {
  const [noted, birth] = readText(file).split(' ')
  const id = Number(noted) || pid
  return id > 0 && isAlive(id) && (birth === undefined || birth === birthOf(id))
}

/** In clock ticks since the machine started; '' where /proc is missing. */
function birthOf(pid: number): string {
  const stat = readText(`/proc/${pid}/stat`)
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

export function randomHex(bytes: number): string {
  return crypto.randomBytes(bytes).toString('hex')
}

function shmRoot(): string {
  return process.env.RAY_TS_SHM_DIR ?? (fs.existsSync(SHM_ROOT) ? SHM_ROOT : os.tmpdir())
}

function listDir(dir: string): string[] {
  try {
    return fs.readdirSync(dir)
  } catch {
    return []
  }
}

function readText(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
