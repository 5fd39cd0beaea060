// Reads how much memory the machine (or its container) and single processes use. Linux; elsewhere nothing is known.

import fs from 'node:fs'

/** Used and total bytes: of the container when its limit is below the machine's memory. null: this system does not say. */
export function readSystemMemory(): { readonly usedBytes: number; readonly limitBytes: number } | null {
  const meminfo = readText('/proc/meminfo')
  const total = kibibytes(meminfo, 'MemTotal')
  const available = kibibytes(meminfo, 'MemAvailable')
  if (total === null || available === null) return null
  const machine = { usedBytes: total - available, limitBytes: total }
  const container = readCgroup()
  return container && container.limitBytes < total ? container : machine
}

/** Private bytes of a process: what ends with it. Shared memory (stored objects) is not counted. */
export function readPrivateBytes(pid: number): number | null {
  const status = readText(`/proc/${pid}/status`)
  return kibibytes(status, 'RssAnon') ?? kibibytes(status, 'VmRSS')
}

/** Version 2 has one folder for all controllers, version 1 one for memory. Pages of files that can be dropped do not count. */
function readCgroup(): { usedBytes: number; limitBytes: number } | null {
  const own = readText('/proc/self/cgroup') ?? ''
  const v2 = /^0::(.*)$/m.exec(own)?.[1] ?? '/'
  const v1 = /^\d+:memory:(.*)$/m.exec(own)?.[1] ?? '/'
  const places = [
    { dir: `/sys/fs/cgroup${v2}`, used: 'memory.current', limit: 'memory.max' },
    { dir: '/sys/fs/cgroup', used: 'memory.current', limit: 'memory.max' },
    { dir: `/sys/fs/cgroup/memory${v1}`, used: 'memory.usage_in_bytes', limit: 'memory.limit_in_bytes' },
    { dir: '/sys/fs/cgroup/memory', used: 'memory.usage_in_bytes', limit: 'memory.limit_in_bytes' },
  ]
  for (const { dir, used, limit } of places) {
    const usedBytes = Number(readText(`${dir}/${used}`) ?? Number.NaN)
    const limitBytes = Number(readText(`${dir}/${limit}`) ?? Number.NaN) // 'max' is no number: no limit here.
    if (!Number.isFinite(usedBytes) || !Number.isFinite(limitBytes)) continue
    const stat = readText(`${dir}/memory.stat`) ?? ''
    const droppable = Number(/^inactive_file (\d+)$/m.exec(stat)?.[1] ?? 0)
    return { usedBytes: Math.max(0, usedBytes - droppable), limitBytes }
  }
  return null
}

function kibibytes(text: string | null, name: string): number | null {
  const found = text && new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)
  return found ? Number(found[1]) * 1024 : null
}

function readText(file: string): string | null {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return null
  }
}
