// Amounts of resources, in fixed point: integers in units of 0.0001 (Ray's MIN_RESOURCE_GRANULARITY), so that sums are exact.

import type { Resources } from '../wire/messages.ts'

export const UNITS = 10_000

export function toUnits(amount: number): number {
  return Math.round(amount * UNITS)
}

export function fromUnits(resources: Resources): Record<string, number> {
  const out: Record<string, number> = {}
  for (const [name, units] of Object.entries(resources)) if (units !== 0) out[name] = units / UNITS
  return out
}

export function toResources(amounts: Readonly<Record<string, number | undefined>>): Resources {
  const out: Record<string, number> = {}
  for (const [name, amount] of Object.entries(amounts))
    if (amount !== undefined && amount !== 0) out[name] = toUnits(amount)
  return out
}

export function fits(asked: Resources, free: Resources): boolean {
  for (const name in asked) if ((asked[name] as number) > (free[name] ?? 0)) return false
  return true
}

export function add(target: Record<string, number>, amounts: Resources): void {
  for (const name in amounts) target[name] = (target[name] ?? 0) + (amounts[name] as number)
}

export function subtract(target: Record<string, number>, amounts: Resources): void {
  for (const name in amounts) target[name] = (target[name] ?? 0) - (amounts[name] as number)
}

/** `{CPU: 2, GPU: 1}` for people. */
export function formatResources(resources: Resources): string {
  const parts = Object.entries(fromUnits(resources)).map(([name, amount]) => `${name}: ${amount}`)
  return `{${parts.join(', ')}}`
}

/** Which GPUs make up `units`: a fraction goes to the fullest GPU that still has room, whole ones take free GPUs. */
export function pickGpus(free: readonly number[], units: number): number[] | undefined {
  if (units <= 0) return []
  if (units < UNITS) {
    let best = -1
    for (let i = 0; i < free.length; i++) {
      const room = free[i] as number
      if (room >= units && (best < 0 || room < (free[best] as number))) best = i
    }
    return best < 0 ? undefined : [best]
  }
  const whole = free.flatMap((room, i) => (room === UNITS ? [i] : []))
  const count = units / UNITS
  return whole.length < count ? undefined : whole.slice(0, count)
}
