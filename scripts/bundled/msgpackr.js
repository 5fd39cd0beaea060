// What dist/ sees as `msgpackr`: bundled without its native string reader, which doubles the time to load it. That one follows with the
// first long message (lists of many strings are then read twice as fast).
import { createRequire } from 'node:module'
import { Unpackr } from 'msgpackr-pure'
import { setExtractor } from 'msgpackr-unpack'

export * from 'msgpackr-pure'

const LONG_BYTES = 64 * 1024
const { unpack } = Unpackr.prototype

Unpackr.prototype.unpack = function (source, options) {
  if (source.length > LONG_BYTES) {
    Unpackr.prototype.unpack = unpack
    try {
      setExtractor(createRequire(import.meta.url)('msgpackr-extract').extractStrings)
    } catch {
      // An optional dependency: not there for this platform.
    }
  }
  return unpack.call(this, source, options)
}
