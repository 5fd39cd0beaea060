// Ends the nodes that `ray start` started on this machine: raylets first, which end their workers and say goodbye, then their GCS.
//
//   E1. Only processes that are noted with their time of birth, and the children of such ones, are ended: never by name.
//   E2. At the end nothing of them is left: processes, sockets, shared memory, spilled objects, notes.

import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from './clock.ts'
import { forgetCurrentCluster, forgetNode, type StartedNode } from './cluster-files.ts'
import { birthOf, isAlive, removeDeadSession } from './session.ts'

export interface StopOptions {
  /** SIGKILL at once. */
  readonly force: boolean
  /** For all steps together. */
  readonly graceMs: number
  readonly onStopped?: (stopped: number, found: number) => void
  /** Temp roots that must not name them any more. */
  readonly roots: readonly string[]
}

export interface Stopped {
  readonly found: number
  /** Ended when they were asked to. */
  readonly stopped: number
  /** Those that had to be killed. */
  readonly killed: readonly number[]
}

interface Process {
  readonly pid: number
  readonly birth: string
}

const LOOK_EVERY_MS = 10
const KILL_PATIENCE_MS = 2000
const STEPS = 2

export async function stopNodes(nodes: readonly StartedNode[], options: StopOptions): Promise<Stopped> {
  const raylets = identify(nodes.map(({ nodePid }) => nodePid))
  const servers = identify(nodes.map(({ gcsPid }) => gcsPid))
  // A raylet that is killed cannot end its workers.
  const workers = raylets.flatMap(({ pid }) => identify(childrenOf(pid)))
  const found = raylets.length + servers.length
  const killed: number[] = []
  let stopped = 0
  for (const step of [raylets, servers]) {
    const left = await end(step, options, () => options.onStopped?.(++stopped, found))
    killed.push(...left.map(({ pid }) => pid))
  }
  for (const worker of workers) if (isSame(worker)) kill(-worker.pid, 'SIGKILL') || kill(worker.pid, 'SIGKILL')
  await gone(workers, KILL_PATIENCE_MS, () => {})
  for (const { sessionDir } of nodes) {
    removeDeadSession(sessionDir)
    forgetNode(sessionDir)
    forgetCurrentCluster(path.dirname(sessionDir))
  }
  for (const root of options.roots) forgetCurrentCluster(root)
  return { found, stopped: found - killed.length, killed }
}

/** Who did not end in time, and was killed. */
async function end(all: readonly Process[], options: StopOptions, onStopped: () => void): Promise<readonly Process[]> {
  const { force, graceMs } = options
  for (const { pid } of all) kill(pid, force ? 'SIGKILL' : 'SIGTERM')
  const left = await gone(all, graceMs / STEPS, onStopped)
  for (const { pid } of left) kill(pid, 'SIGKILL')
  await gone(left, KILL_PATIENCE_MS, () => {})
  return left
}

/** Waits for their ends: those that live on. */
async function gone(all: readonly Process[], withinMs: number, onGone: () => void): Promise<readonly Process[]> {
  const deadline = monotonicMs() + withinMs
  let left = all
  while (left.length > 0) {
    const living = left.filter(isSame)
    for (let i = living.length; i < left.length; i++) onGone()
    left = living
    if (left.length === 0 || monotonicMs() >= deadline) break
    await sleep(LOOK_EVERY_MS)
  }
  return left
}

function identify(pids: readonly (number | null)[]): Process[] {
  return pids.flatMap((pid) => (pid === null ? [] : [{ pid, birth: birthOf(pid) }]))
}

/** E1 */
function isSame({ pid, birth }: Process): boolean {
  return isAlive(pid) && birthOf(pid) === birth && birth !== 'zombie'
}

/** False: there is no such process, or group. */
function kill(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

/** Without /proc the kernel ends workers with their node, or their closed connection does. */
function childrenOf(pid: number): number[] {
  try {
    const tasks = fs.readdirSync(`/proc/${pid}/task`)
    return tasks.flatMap((task) =>
      fs.readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    )
  } catch {
    return []
  }
}
