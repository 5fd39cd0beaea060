// @ts-nocheck: a codec over untyped JSON maps; its behaviour is held by the tests of this room.
// The part of a source map that covers one function's text, so that stacks in a worker show the user's file and line.

// minimal VLQ source-map slicing: the part of a map that covers one function's text
const C = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
const D = Object.fromEntries([...C].map((c, i) => [c, i]))
function dec(str) {
  const out = []
  let i = 0
  while (i < str.length) {
    let r = 0,
      sh = 0,
      d
    do {
      d = D[str[i++]]
      r |= (d & 31) << sh
      sh += 5
    } while (d & 32)
    out.push(r & 1 ? -(r >> 1) : r >> 1)
  }
  return out
}
function enc(n) {
  let v = n < 0 ? (-n << 1) | 1 : n << 1,
    s = ''
  do {
    let d = v & 31
    v >>>= 5
    if (v) d |= 32
    s += C[d]
  } while (v)
  return s
}
const cache = new WeakMap()
function decode(map) {
  let d = cache.get(map)
  if (d) return d
  let src = 0,
    ln = 0,
    col = 0
  d = map.mappings.split(';').map((l) => {
    let gc = 0
    return l
      ? l.split(',').map((s) => {
          const v = dec(s)
          gc += v[0]
          if (v.length > 1) {
            src += v[1]
            ln += v[2]
            col += v[3]
            return [gc, src, ln, col]
          }
          return [gc]
        })
      : []
  })
  cache.set(map, d)
  return d
}
export function sliceMap(map, line, col, endLine, base, endCol = Infinity) {
  const d = decode(map)
  const lines = []
  for (let l = line; l <= endLine; l++) {
    let segs = (d[l] ?? []).filter((s) => s.length > 1)
    if (l === line) {
      const first = segs.filter((s) => s[0] <= col).pop()
      segs = segs.filter((s) => s[0] > col)
      if (first) segs.unshift([col, ...first.slice(1)])
    }
    if (l === endLine) segs = segs.filter((s) => s[0] <= endCol)
    lines.push(segs.map((s) => [s[0] - (l === line ? col : 0), s[1], s[2], s[3]]))
  }
  const sources = map.sources.map((s) => {
    try {
      return new URL((map.sourceRoot ?? '') + s, base).href
    } catch {
      return s
    }
  })
  return { sources, lines }
}
export function encodeMap(sl, prefixLen) {
  let ps = 0,
    pl = 0,
    pc = 0
  const mappings = sl.lines
    .map((segs, i) => {
      let g = 0
      return segs
        .map((s) => {
          const gc = s[0] + (i === 0 ? prefixLen : 0)
          const r = enc(gc - g) + enc(s[1] - ps) + enc(s[2] - pl) + enc(s[3] - pc)
          g = gc
          ps = s[1]
          pl = s[2]
          pc = s[3]
          return r
        })
        .join(',')
    })
    .join(';')
  return { version: 3, sources: sl.sources, names: [], mappings }
}
