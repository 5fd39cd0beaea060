// Fails when what an owner pushes is not what its worker reads, or when a made-up frame costs more than an error.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { makeObjectId } from '../ids/ids.ts'
import { ByteWriter } from './byte-writer.ts'
import { WireFormatError } from './codec.ts'
import {
  beginReply,
  endReply,
  PushReader,
  readDefine,
  readIds,
  STATUS,
  ValueReader,
  writeDefine,
  writeInline,
  writePush,
  writeStored,
} from './task-frames.ts'

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const id = fc
  .tuple(fc.integer({ min: 0, max: 2 ** 21 - 1 }), u32)
  .map(([owner, sequence]) => makeObjectId(owner, sequence))
const ids = fc.array(id, { maxLength: 5 })
const bytes = fc.uint8Array({ maxLength: 300 })

test('[TASK-02] pushes and definitions', () => {
  fc.assert(
    fc.property(
      u32,
      u32,
      bytes,
      ids,
      fc.option(bytes),
      fc.string({ maxLength: 50 }),
      (task, fn, args, refs, extras, text) => {
        const writer = new ByteWriter()
        writePush(writer, task, fn, 7, args, refs, extras)
        const frame = writer.take()
        const push = new PushReader()
        push.read(frame, 4)
        expect([push.task, push.functionIndex, push.numReturns, push.refs]).toEqual([task, fn, 7, refs])
        expect([...frame.subarray(push.argsStart, push.argsEnd)]).toEqual([...args])
        expect(push.extras === null ? null : [...push.extras]).toEqual(extras === null ? null : [...extras])
        writeDefine(writer, fn, true, text, null)
        expect(readDefine(writer.take(), 4)).toEqual({ index: fn, isMethod: true, text, extras: null })
      },
    ),
  )
})

test('[TASK-03] replies with inline and stored values, references, and what the worker keeps', () => {
  fc.assert(
    fc.property(u32, bytes, ids, id, fc.integer({ min: 1 }), ids, (task, inline, refs, storageId, size, kept) => {
      const writer = new ByteWriter()
      const start = beginReply(writer, task, STATUS.ok, 12)
      writer.u16(2)
      writeInline(writer, inline, refs)
      writeStored(writer, storageId, size, refs)
      endReply(writer, start, kept)
      const reader = new ValueReader(writer.take(), 4 + 10)
      expect(reader.u16()).toBe(2)
      reader.next()
      expect([...reader.buffer.subarray(reader.start, reader.end)]).toEqual([...inline])
      expect(reader.refs).toEqual(refs)
      reader.next()
      expect([reader.isStored, reader.storageId, reader.size, reader.refs]).toEqual([true, storageId, size, refs])
      expect(reader.ids()).toEqual(kept)
    }),
  )
})

test('[ARCH-09] a frame that announces more ids than it has is refused at once', () => {
  expect(() => readIds(Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0]), 0)).toThrow(WireFormatError)
  fc.assert(
    fc.property(bytes, (garbage) => {
      const buffer = Buffer.concat([Buffer.from(garbage), Buffer.alloc(20)])
      try {
        new PushReader().read(buffer, 0)
        new ValueReader(buffer, 0).next()
      } catch (error) {
        expect(error instanceof WireFormatError || error instanceof RangeError).toBe(true)
      }
    }),
  )
})
