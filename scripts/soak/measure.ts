// What the soak test watches, and when it calls a figure growing.

import fs from 'node:fs'
import path from 'node:path'

export type Sample = Readonly<Record<string, number>>

/** Figures of one process from /proc. */
export function processFigures(
  pid: number,
): { readonly rssMb: number; readonly fds: number; readonly maps: number } | null {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8')
    const fds = fs.readdirSync(`/proc/${pid}/fd`).length
    const maps = fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').length
    return { rssMb: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024, fds, maps }
  } catch {
    return null // It ended.
  }
}

/** Clock ticks of user and system time of a process so far. */
export function cpuTicks(pid: number): number {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11]) + Number(fields[12])
}

export function childrenOf(pid: number): number[] {
  const found: number[] = []
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = fs.readFileSync(`/proc/${name}/stat`, 'utf8')
      if (Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]) === pid) found.push(Number(name))
    } catch {
      // It ended.
    }
  }
  return found
}

/** Files below a folder, and their bytes. */
export function folderFigures(dir: string): { readonly files: number; readonly mb: number } {
  let files = 0
  let bytes = 0
  for (const entry of fs.existsSync(dir) ? fs.readdirSync(dir, { recursive: true, withFileTypes: true }) : []) {
    if (!entry.isFile()) continue
    try {
      bytes += fs.statSync(path.join(entry.parentPath, entry.name)).size
      files++
    } catch {
      // It was removed.
    }
  }
  return { files, mb: bytes / 1e6 }
}

export interface Trend {
  readonly name: string
  readonly first: number
  readonly median: number
  readonly last: number
  /** Of the line through the samples after the warm-up, over the whole time. */
  readonly growth: number
  readonly allowed: number
  readonly isGrowing: boolean
}

/**
 * The trend of a series after its first quarter (warm-up). Growing: the robust slope (Theil–Sen: the median of all pairs' slopes)
 * adds up to more than `floor` and more than `share` of the median, and the last third's median is above the first third's by as much.
 */
export function trendOf(name: string, series: readonly number[], floor: number, share: number): Trend {
  const steady = series.slice(Math.floor(series.length / 4))
  const slopes: number[] = []
  for (let i = 0; i < steady.length; i++)
    for (let j = i + 1; j < steady.length; j++) slopes.push(((steady[j] as number) - (steady[i] as number)) / (j - i))
  const middle = median(steady)
  const growth = median(slopes) * steady.length
  const allowed = Math.max(floor, share * middle)
  const third = Math.max(1, Math.floor(steady.length / 3))
  const rise = median(steady.slice(-third)) - median(steady.slice(0, third))
  const isGrowing = steady.length >= 6 && growth > allowed && rise > allowed / 2
  return { name, first: steady[0] ?? 0, median: middle, last: steady.at(-1) ?? 0, growth, allowed, isGrowing }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

/** A seeded source of numbers in [0, 1): xorshift32. */
export function seeded(seed: number): () => number {
  let state = seed * 2654435761 + 1 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}
