// What dist/ sees as `msgpackr`: bundled without its native string reader, which doubles the time to load it. That one follows when
// the process has started (lists of many strings are then read twice as fast).
import { createRequire } from 'node:module'
import { setExtractor } from 'msgpackr-unpack'

export * from 'msgpackr-pure'

setTimeout(() => {
  try {
    setExtractor(createRequire(import.meta.url)('msgpackr-extract').extractStrings)
  } catch {
    // An optional dependency: not there for this platform.
  }
}, 500).unref()
