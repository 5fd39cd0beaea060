// How large a function is, and which captured variable makes it so.
//
//   D1. From 10 MB a function draws a warning, from 100 MB it is refused, as with Ray; before its bytes are copied.

import { type Captured, isCell, isReference, type Node, type Payload } from './payload.ts'

export const WARN_BYTES = 10 * 1024 * 1024
export const REFUSE_BYTES = 100 * 1024 * 1024

/** `, most of it in the captured variable table (35.2 MB)`, or nothing. */
export function culprit(payload: Payload): string {
  let name = ''
  let most = 0
  for (const node of payload.nodes) {
    if (node.t !== 'fn') continue
    for (const [variable, captured] of Object.entries(node.free ?? {})) {
      const bytes = weighCaptured(captured, payload, new Set())
      if (bytes > most) [name, most] = [variable, bytes]
    }
  }
  return name ? `, most of it in the captured variable ${name} (${megabytes(most)})` : ''
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`
}

function weighCaptured(captured: Captured, payload: Payload, seen: Set<number>): number {
  if (isCell(captured)) return weighNode(captured.cell, payload, seen)
  return weigh(captured, payload, seen)
}

function weighNode(id: number, payload: Payload, seen: Set<number>): number {
  const node = payload.nodes[id]
  // A function's own variables are weighed by their own names.
  if (!node || seen.has(id) || node.t === 'fn') return 0
  seen.add(id)
  const ofBuffer = 'at' in node ? (payload.buffers[(node as Node & { at: number }).at]?.byteLength ?? 0) : 0
  return ofBuffer + weigh(node, payload, seen)
}

function weigh(part: unknown, payload: Payload, seen: Set<number>): number {
  if (typeof part === 'string') return part.length
  if (typeof part !== 'object' || part === null) return 8
  if (Array.isArray(part)) {
    let sum = 0
    for (const item of part) sum += weigh(item, payload, seen)
    return sum
  }
  if (isReference(part as Captured)) return weighNode((part as { r: number }).r, payload, seen)
  let sum = 0
  for (const inner of Object.values(part)) sum += weigh(inner, payload, seen)
  return sum
}
