// What this machine, or the container on it, has: CPUs, memory, GPUs.
//
//   D1. A container's limits count, not the machine's: cgroup v2 and v1, of our own group and all above it.
//   D2. A fraction of a CPU is cut off, and at least one remains (as Ray does).

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export interface DetectOptions {
  /** Where `/proc` and `/sys` are; tests pass a folder. */
  readonly root?: string
  readonly env?: NodeJS.ProcessEnv
  /** What the operating system says without containers. */
  readonly cpus?: number
  readonly memoryBytes?: number
}

export function detectCpus({ root = '/', cpus = os.availableParallelism() }: DetectOptions = {}): number {
  const limits = cpuLimits(root)
  return limits.length === 0 ? cpus : Math.max(1, Math.min(cpus, Math.floor(Math.min(...limits)))) // D2
}

/** Bytes: of the container, where there is one. */
export function detectMemory({ root = '/', memoryBytes = os.totalmem() }: DetectOptions = {}): number {
  const limits = groupFolders(root, 'memory').flatMap((folder) => {
    const text = readText(path.join(folder, 'memory.max')) || readText(path.join(folder, 'memory.limit_in_bytes'))
    return /^\d+$/.test(text) ? [Number(text)] : []
  })
  return Math.min(memoryBytes, ...limits)
}

/**
 * The names of the GPUs that this process may use: what CUDA_VISIBLE_DEVICES lists, else as many as the NVIDIA driver shows.
 */
export function detectGpus({ root = '/', env = process.env }: DetectOptions = {}): string[] {
  const visible = env.CUDA_VISIBLE_DEVICES
  if (visible !== undefined) {
    if (visible === 'NoDevFiles' || visible === '-1') return []
    return visible
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '')
  }
  try {
    return fs.readdirSync(path.join(root, 'proc/driver/nvidia/gpus')).map((_, index) => String(index))
  } catch {
    return []
  }
}

function cpuLimits(root: string): number[] {
  return groupFolders(root, 'cpu').flatMap((folder) => {
    const [quota, period] = readText(path.join(folder, 'cpu.max')).split(/\s+/)
    if (quota !== undefined && /^\d+$/.test(quota)) return [Number(quota) / Number(period ?? 100_000)]
    const quotaV1 = Number(readText(path.join(folder, 'cpu.cfs_quota_us')))
    const periodV1 = Number(readText(path.join(folder, 'cpu.cfs_period_us')))
    return quotaV1 > 0 && periodV1 > 0 ? [quotaV1 / periodV1] : []
  })
}

/** The folders of our control group and of those above it (D1), for cgroup v2 and for the v1 controller of that name. */
function groupFolders(root: string, controller: string): string[] {
  const folders: string[] = []
  const mount = path.join(root, 'sys/fs/cgroup')
  for (const line of readText(path.join(root, 'proc/self/cgroup')).split('\n')) {
    const [, controllers, group] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (controllers === undefined || group === undefined) continue
    if (controllers !== '' && !controllers.split(',').includes(controller)) continue
    const base = controllers === '' ? mount : path.join(mount, controller)
    for (let folder = path.join(base, group); folder.length > base.length; folder = path.dirname(folder)) {
      if (folder.startsWith(base)) folders.push(folder)
    }
  }
  // In a container with a view of its own, its limits are at the top.
  return [...folders, mount, path.join(mount, controller)]
}

function readText(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8').trim()
  } catch {
    return ''
  }
}
