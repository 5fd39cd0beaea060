// The part of a source map that covers one function's text, so that stacks in a worker show the user's file and line.
//
//   S1. A sliced map counts lines and columns from the start of the function's text.

import type { SlicedMap } from './payload.ts'

export interface SourceMapData {
  readonly sources: readonly (string | null)[]
  readonly sourceRoot?: string
  readonly mappings: string
}

export interface SliceBounds {
  readonly line: number
  readonly column: number
  readonly endLine: number
  readonly endColumn: number
  /** What the sources are relative to. */
  readonly base: string
}

/** Generated column, source, line, column. */
type Segment = readonly [number, number, number, number]

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
const VALUE_OF = new Map([...DIGITS].map((digit, i) => [digit, i]))
const decoded = new WeakMap<SourceMapData, Segment[][]>()

export function sliceMap(map: SourceMapData, bounds: SliceBounds): SlicedMap {
  const { line, column, endLine, endColumn, base } = bounds
  const all = decode(map)
  const lines: Segment[][] = []
  for (let at = line; at <= endLine; at++) {
    let segments = all[at] ?? []
    if (at === line) {
      const first = segments.findLast((segment) => segment[0] <= column)
      segments = segments.filter((segment) => segment[0] > column)
      if (first) segments.unshift([column, first[1], first[2], first[3]])
    }
    if (at === endLine) segments = segments.filter((segment) => segment[0] <= endColumn)
    const shift = at === line ? column : 0
    lines.push(segments.map(([from, source, toLine, toColumn]) => [from - shift, source, toLine, toColumn]))
  }
  return { sources: map.sources.map((source) => absolute((map.sourceRoot ?? '') + (source ?? ''), base)), lines }
}

/** The map after text has been replaced: what follows on the line has moved. Positions are those before the replacements. */
export function shiftMap(
  slice: SlicedMap,
  replaced: ReadonlyMap<number, readonly { readonly start: number; readonly end: number; readonly text: string }[]>,
): SlicedMap {
  if (replaced.size === 0) return slice
  const lines = slice.lines.map((segments, line) => {
    const edits = replaced.get(line)
    if (!edits) return segments
    return segments.map(([from, ...rest]): Segment => {
      let shift = 0
      for (const { start, end, text } of edits) if (end <= from) shift += text.length - (end - start)
      return [from + shift, ...rest]
    })
  })
  return { ...slice, lines }
}

function absolute(source: string, base: string): string {
  try {
    return new URL(source, base).href
  } catch {
    return source
  }
}

/** The map for text that begins after `prefixLength` columns of ours. */
export function encodeMap(slice: SlicedMap, prefixLength: number): object {
  const last = [0, 0, 0]
  const mappings = slice.lines.map((segments, i) => {
    let lastColumn = 0
    return segments
      .map(([from, source, line, column]) => {
        const at = from + (i === 0 ? prefixLength : 0)
        const text = [at - lastColumn, source - (last[0] ?? 0), line - (last[1] ?? 0), column - (last[2] ?? 0)]
          .map(encodeNumber)
          .join('')
        lastColumn = at
        last.splice(0, 3, source, line, column)
        return text
      })
      .join(',')
  })
  return { version: 3, sources: slice.sources, names: [], mappings: mappings.join(';') }
}

function decode(map: SourceMapData): Segment[][] {
  let lines = decoded.get(map)
  if (lines) return lines
  let source = 0
  let line = 0
  let column = 0
  lines = map.mappings.split(';').map((text) => {
    const segments: Segment[] = []
    let from = 0
    for (const piece of text ? text.split(',') : []) {
      const [deltaFrom = 0, deltaSource, deltaLine = 0, deltaColumn = 0] = decodeNumbers(piece)
      from += deltaFrom
      if (deltaSource === undefined) continue
      source += deltaSource
      line += deltaLine
      column += deltaColumn
      segments.push([from, source, line, column])
    }
    return segments
  })
  decoded.set(map, lines)
  return lines
}

function decodeNumbers(text: string): number[] {
  const numbers: number[] = []
  let value = 0
  let shift = 0
  for (const char of text) {
    const digit = VALUE_OF.get(char) ?? 0
    value |= (digit & 31) << shift
    shift += 5
    if (digit & 32) continue
    numbers.push(value & 1 ? -(value >> 1) : value >> 1)
    value = 0
    shift = 0
  }
  return numbers
}

function encodeNumber(number: number): string {
  let rest = number < 0 ? (-number << 1) | 1 : number << 1
  let text = ''
  do {
    const digit = rest & 31
    rest >>>= 5
    text += DIGITS[rest ? digit | 32 : digit]
  } while (rest)
  return text
}
