// A session's folders: `<temp>/ray/session_<time>_<pid>/{logs,sockets,spill}` and its folder in shared memory.
//
//   F1. Whoever ends last removes both; what a crash left is swept by the next start (`sweepDeadSessions`).
//   F2. A session lives as long as its driver, its node or its GCS. Process ids are used again: each is noted with its time of birth.
//   F3. The name of a session tells its temp root: folders elsewhere (shared memory, spilling) are swept only by starts of the same one.

import crypto from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { listDir, readText } from './files.ts'
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
const SPILL_PREFIX = 'ray_spilled_'
/** Who has said that it lives here: see `noteProcess`. */
export const PID_FILES = { driver: 'driver.pid', node: 'node.pid', gcs: 'gcs_server.pid' } as const

/** Where sessions are, and what is known of the clusters of this machine. */
export function tempRoot(): string {
  return process.env.RAY_TMPDIR ?? path.join(os.tmpdir(), 'ray')
}

export function makeSession(spillDirs: readonly string[] | undefined): Session {
  const now = new Date()
  const stamp = now.toISOString().slice(0, 19).replace('T', '_').replaceAll(':', '-')
  const name = `session_${stamp}_${String(now.getMilliseconds()).padStart(3, '0')}000_${process.pid}_${rootMark()}${randomHex(2)}`
  const dir = path.join(tempRoot(), name)
  const session: Session = {
    dir,
    logsDir: path.join(dir, 'logs'),
    socketsDir: path.join(dir, 's'),
    spillDirs: spillDirs?.map((root) => path.join(root, `${SPILL_PREFIX}${name}`)) ?? [path.join(dir, 'spill')],
    shmDir: path.join(shmRoot(), `${SHM_PREFIX}${name}`),
  }
  for (const folder of [session.logsDir, session.socketsDir, ...session.spillDirs]) {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  }
  noteProcess(path.join(dir, PID_FILES.driver))
  return { ...session, shmDir: makeShmDir(session) }
}

/** Without a byte of shared memory, the session's own folder does, slower. */
function makeShmDir({ shmDir, dir }: Session): string {
  const onDisk = path.join(dir, 'shm')
  for (const folder of [shmDir, onDisk]) {
    try {
      fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
      ShmControl.create(folder)
      return folder
    } catch (error) {
      fs.rmSync(folder, { recursive: true, force: true })
      if (folder === onDisk) throw error
    }
  }
  return onDisk
}

/** F1: a GCS that lives keeps what it needs. */
export function removeSession(session: Session): void {
  for (const folder of [session.shmDir, ...session.spillDirs]) remove(folder)
  if (!isNoted(path.join(session.dir, PID_FILES.gcs))) return remove(session.dir)
  remove(session.socketsDir)
  for (const file of ['node.json', PID_FILES.node]) remove(path.join(session.dir, file))
}

/** Of a session whose processes have all ended: whatever is left of it. False: one lives. */
export function removeDeadSession(dir: string): boolean {
  if (isDead(dir)) for (const folder of [...spillDirsOf(dir), shmDirOf(dir), dir]) remove(folder)
  return !fs.existsSync(dir)
}

function shmDirOf(dir: string): string {
  return path.join(shmRoot(), `${SHM_PREFIX}${path.basename(dir)}`)
}

/** Removes the folders of sessions whose processes are all gone; `spillRoots` are looked through too. */
export function sweepDeadSessions(spillRoots: readonly string[]): void {
  const places: readonly (readonly [root: string, prefix: string])[] = [
    [tempRoot(), ''],
    [shmRoot(), SHM_PREFIX],
    ...spillRoots.map((root) => [root, SPILL_PREFIX] as const),
  ]
  // Whether one lives is read from its session folder: decided for all folders before any is removed.
  const dead = new Map<string, boolean>()
  const found: [dir: string, folder: string][] = []
  for (const [root, prefix] of places) {
    for (const entry of listDir(root)) {
      if (!entry.startsWith(`${prefix}session_`)) continue
      const name = entry.slice(prefix.length)
      if (prefix !== '' && !name.slice(name.lastIndexOf('_')).startsWith(`_${rootMark()}`)) continue // F3
      const dir = path.join(tempRoot(), name)
      if (!dead.has(dir)) dead.set(dir, isDead(dir))
      found.push([dir, path.join(root, entry)])
    }
  }
  for (const [dir, folder] of found) {
    if (!dead.get(dir)) continue
    for (const one of spillDirsOf(dir)) remove(one)
    remove(folder)
  }
}

/** F3 */
function rootMark(): string {
  return crypto.createHash('sha256').update(tempRoot()).digest('hex').slice(0, 8)
}

/** F2 */
function isDead(dir: string): boolean {
  const pid = Number(/_(\d+)_[0-9a-f]+$/.exec(dir)?.[1])
  if (!Number.isInteger(pid) || isSame(pid, path.join(dir, PID_FILES.driver))) return false
  return !isNoted(path.join(dir, PID_FILES.node)) && !isNoted(path.join(dir, PID_FILES.gcs))
}

/** Spill folders outside of the session's own, as its node noted them. */
function spillDirsOf(dir: string): string[] {
  try {
    const { store } = JSON.parse(readText(path.join(dir, 'node.json'))) as { store: { spillDirs: string[] } }
    return store.spillDirs.filter((one) => path.basename(one) === `${SPILL_PREFIX}${path.basename(dir)}`)
  } catch {
    return []
  }
}

/** Another user's are left alone. */
function remove(folder: string): void {
  try {
    fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  } catch {
    // Not ours, or in use: the next start tries again.
  }
}

/** Writes which process this is: `<pid> <time of birth>`. */
export function noteProcess(file: string, pid: number = process.pid): void {
  fs.writeFileSync(file, `${pid} ${birthOf(pid)}`)
}

/** Readers see the old file or the new one, never a part. */
export function writeWhole(file: string, text: string): void {
  fs.writeFileSync(`${file}.new`, text, { mode: 0o600 })
  fs.renameSync(`${file}.new`, file)
}

/** A process is noted in `file`, and alive. */
export function isNoted(file: string): boolean {
  return isSame(0, file)
}

/** The id of the process noted in `file`, while it lives; else null. */
export function notedProcess(file: string): number | null {
  return isNoted(file) ? Number(readText(file).split(' ')[0]) : null
}

/** The process noted in `file` (or, without a note, the one with this id) is alive. F2 */
function isSame(pid: number, file: string): boolean {
  const [noted, birth] = readText(file).split(' ')
  const id = Number(noted) || pid
  return id > 0 && isAlive(id) && (birth === undefined || birth === birthOf(id))
}

/** In clock ticks since the machine started; '' where /proc is missing. A zombie is gone, though its id is still taken. */
export function birthOf(pid: number): string {
  const stat = readText(`/proc/${pid}/stat`)
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' ? 'zombie' : (fields[19] ?? '')
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
