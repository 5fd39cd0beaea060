// Fails when a message does not survive its own encoding, or when bytes that nobody meant as one do more than throw `WireFormatError`.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage, WireFormatError } from './codec.ts'
import { FrameReader } from './frame-reader.ts'

/** No message has a field called `__proto__`, which the decoder renames. */
const plain = fc
  .jsonValue({ maxDepth: 3 })
  .map((value) => JSON.stringify(value))
  .filter((text) => !text.includes('__proto__'))
  .map((text) => JSON.parse(text) as unknown)

function frame(body: Uint8Array): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32LE(body.length)
  return Buffer.concat([head, body])
}

test('[ARCH-09] messages survive encoding, their bytes copied', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), plain, fc.uint8Array(), fc.maxSafeNat(), (t, value, bytes, id) => {
      const encoded = encodeMessage({ t, value, bytes, id } as { t: string })
      const decoded = decodeMessage<{ t: string; value: unknown; bytes: Uint8Array; id: number }>(encoded)
      encoded.fill(0)
      expect({ ...decoded, bytes: [...decoded.bytes] }).toEqual({ t, value, bytes: [...bytes], id })
    }),
  )
})

test('[ARCH-09] garbage is a WireFormatError, never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        expect(typeof decodeMessage(bytes).t).toBe('string')
      } catch (error) {
        expect(error).toBeInstanceOf(WireFormatError)
      }
    }),
    { numRuns: 2000 },
  )
})

test('[ARCH-09] frames come out whole and in order, however the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 })),
      fc.array(fc.integer({ min: 1, max: 9 })),
      (bodies, cuts) => {
        const stream = Buffer.concat(bodies.map(frame))
        const out: number[][] = []
        const reader = new FrameReader((buffer, start, end) => out.push([...buffer.subarray(start, end)]), 64)
        for (let at = 0, i = 0; at < stream.length; i++) {
          const size = cuts.length > 0 ? (cuts[i % cuts.length] as number) : stream.length
          reader.push(stream.subarray(at, at + size))
          at += size
        }
        expect(out).toEqual(bodies.map((body) => [...body]))
      },
    ),
  )
})

test('[ARCH-09] a length above the limit throws before anything is kept for it', () => {
  const reader = new FrameReader(() => expect.unreachable(), 1000)
  expect(() => reader.push(Buffer.from([0xff, 0xff, 0xff, 0xff]))).toThrow(WireFormatError)
  expect(CONTROL_FRAME_BYTES_MAX).toBeLessThan(2 ** 32)
})
