// Fails when a message between nodes is lost, doubled or out of order because a connection broke at some moment, when the two ends
// do not come to one connection, or when what they keep grows.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeMessage, encodeMessage } from './codec.ts'
import { FrameReader } from './frame-reader.ts'
import { type LinkEffect, type LinkHello, type LinkInput, type LinkSettings, ResumableLink } from './resume.ts'

type HelloFrame = { t: 'hello'; hello: LinkHello } | { t: 'refused'; detail: string }

/** One direction of a connection: what was written and has not arrived. */
class Pipe {
  bytes = Buffer.alloc(0)
  readonly frames: Buffer[] = []
  isFirst = true
  readonly reader = new FrameReader((buffer, start, end) => {
    this.frames.push(Buffer.from(buffer.subarray(start, end)))
  }, 1 << 20)
}

interface Wire {
  readonly dialler: End
  readonly accepter: End
  /** By who reads. */
  readonly pipes: Map<End, Pipe>
  readonly ids: Map<End, number>
  /** Ends that have not closed it, nor heard that it is closed. */
  readonly open: Set<End>
  isCut: boolean
}

class End {
  readonly link: ResumableLink
  readonly name: string
  readonly timers = new Map<string, number>()
  readonly got: number[] = []
  readonly wires = new Map<number, Wire>()
  accepted = 0
  end: string | null = null
  afterEnd = 0

  constructor(name: string, peer: string, settings: Partial<LinkSettings> = {}) {
    this.name = name
    this.link = new ResumableLink({ own: name, peer, life: `life-${name}`, ...settings })
  }
}

class World {
  now = 0
  readonly ends: readonly [End, End]
  readonly wires: Wire[] = []
  /** Dials fail. */
  isDown = false

  constructor(settings: Partial<LinkSettings> = {}) {
    this.ends = [new End('a', 'b', settings), new End('b', 'a', settings)]
  }

  other(end: End): End {
    return end === this.ends[0] ? this.ends[1] : this.ends[0]
  }

  step(end: End, input: LinkInput): void {
    const effects = end.link.step(this.now, input)
    end.link.check()
    for (const effect of effects) this.#perform(end, effect)
  }

  send(end: End, value: number): void {
    const body = Buffer.alloc(4)
    body.writeUInt32LE(value)
    this.step(end, { t: 'send', body })
  }

  #perform(end: End, effect: LinkEffect): void {
    if (end.end !== null && effect.t === 'deliver') end.afterEnd++
    if (effect.t === 'dial') this.#dial(end, effect.connection)
    else if (effect.t === 'hello') this.#write(end, effect.connection, frame({ t: 'hello', hello: effect.hello }))
    else if (effect.t === 'refuse') {
      this.#write(end, effect.connection, frame({ t: 'refused', detail: effect.detail }))
      this.#close(end, effect.connection)
    } else if (effect.t === 'write') {
      this.#write(end, effect.connection, effect.body ? Buffer.concat([effect.head, effect.body]) : effect.head)
    } else if (effect.t === 'close') this.#close(end, effect.connection)
    else if (effect.t === 'deliver') end.got.push(Buffer.from(effect.body).readUInt32LE())
    else if (effect.t === 'timer') end.timers.set(effect.key, effect.at)
    else if (effect.t === 'cancelTimer') end.timers.delete(effect.key)
    else if (effect.t === 'ended') end.end = effect.end.by
  }

  #dial(end: End, id: number): void {
    const other = this.other(end)
    const wire: Wire = {
      dialler: end,
      accepter: other,
      pipes: new Map([
        [end, new Pipe()],
        [other, new Pipe()],
      ]),
      ids: new Map([
        [end, id],
        [other, -++other.accepted],
      ]),
      open: new Set([end, other]),
      isCut: this.isDown,
    }
    this.wires.push(wire)
    for (const each of this.ends) each.wires.set(wire.ids.get(each) as number, wire)
    if (!wire.isCut) this.step(end, { t: 'opened', connection: id })
  }

  #write(end: End, id: number, bytes: Uint8Array): void {
    const wire = end.wires.get(id) as Wire
    if (wire.isCut || !wire.open.has(end)) return
    const pipe = wire.pipes.get(this.other(end)) as Pipe
    pipe.bytes = Buffer.concat([pipe.bytes, bytes])
  }

  /** Its last words still travel. */
  #close(end: End, id: number): void {
    end.wires.get(id)?.open.delete(end)
  }

  cut(wire: Wire): void {
    wire.isCut = true
  }

  /** `bytes` more of what is under way to `end` arrive: perhaps in the middle of a frame. */
  arrive(wire: Wire, end: End, bytes: number, isDoubled = false): void {
    const pipe = wire.pipes.get(end) as Pipe
    if (wire.isCut || !wire.open.has(end)) return
    const chunk = Buffer.from(pipe.bytes.subarray(0, bytes))
    pipe.bytes = pipe.bytes.subarray(chunk.length)
    pipe.reader.push(chunk)
    for (const bytes of pipe.frames.splice(0)) {
      const isHello = pipe.isFirst
      this.#receive(wire, end, pipe, bytes)
      if (isDoubled && !isHello && wire.open.has(end)) this.#receive(wire, end, pipe, bytes)
    }
  }

  #receive(wire: Wire, end: End, pipe: Pipe, bytes: Buffer): void {
    const connection = wire.ids.get(end) as number
    if (!pipe.isFirst) return this.step(end, { t: 'frame', connection, bytes })
    pipe.isFirst = false
    const first = decodeMessage<HelloFrame>(bytes)
    if (first.t === 'refused')
      this.step(end, { t: 'refused', connection, error: { code: 'SYSTEM', params: { message: first.detail } } })
    else this.step(end, { t: wire.dialler === end ? 'welcomed' : 'accepted', connection, hello: first.hello })
  }

  /** `end` notices that its connection is gone: cut, or closed by the other end with nothing left to read. */
  notice(wire: Wire, end: End): void {
    const isFinished = !wire.open.has(this.other(end)) && (wire.pipes.get(end) as Pipe).bytes.length === 0
    if (!wire.open.has(end) || !(wire.isCut || isFinished)) return
    wire.open.delete(end)
    this.step(end, { t: 'closed', connection: wire.ids.get(end) as number })
  }

  advance(ms: number): void {
    const until = this.now + ms
    for (;;) {
      const due = this.ends
        .flatMap((end) => [...end.timers].map(([key, at]) => ({ end, key: key as 'link' | 'ack', at })))
        .filter(({ at }) => at <= until)
        .sort((a, b) => a.at - b.at)[0]
      if (!due) break
      this.now = Math.max(this.now, due.at)
      due.end.timers.delete(due.key)
      this.step(due.end, { t: 'timer', key: due.key })
    }
    this.now = until
  }

  /** Everything under way arrives, everything cut is noticed, and time goes on until nothing is unacknowledged. */
  settle(): void {
    for (let round = 0; round < 400; round++) {
      for (const wire of [...this.wires]) {
        for (const end of this.ends) {
          this.arrive(wire, end, Number.MAX_SAFE_INTEGER)
          this.notice(wire, end)
        }
      }
      this.advance(50)
    }
  }
}

function frame(message: HelloFrame): Buffer {
  const body = encodeMessage(message)
  const head = Buffer.alloc(4)
  head.writeUInt32LE(body.length)
  return Buffer.concat([head, body])
}

const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('send' as const), end: fc.nat(1), wire: fc.constant(0), n: fc.constant(0) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('arrive' as const), end: fc.nat(1), wire: fc.nat(3), n: fc.nat(400) }),
  },
  fc.record({ do: fc.constant('doubled' as const), end: fc.nat(1), wire: fc.nat(3), n: fc.nat(400) }),
  fc.record({ do: fc.constant('cut' as const), end: fc.nat(1), wire: fc.nat(3), n: fc.constant(0) }),
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('notice' as const), end: fc.nat(1), wire: fc.nat(3), n: fc.constant(0) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('advance' as const),
      end: fc.constant(0),
      wire: fc.constant(0),
      n: fc.nat(6000),
    }),
  },
  fc.record({ do: fc.constant('down' as const), end: fc.nat(1), wire: fc.constant(0), n: fc.constant(0) }),
)

test('[ARCH-21] messages between nodes come once and in order, wherever connections break (R1 to R4)', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 120, size: 'large' }), (actions) => {
      const world = new World()
      const sent: [number, number] = [0, 0]
      for (const { do: what, end, wire: back, n } of actions) {
        const at = world.ends[end] as End
        const wire = world.wires[world.wires.length - 1 - back]
        if (what === 'send') world.send(at, end === 0 ? ++sent[0] : ++sent[1])
        else if (what === 'advance') world.advance(n)
        else if (what === 'down') world.isDown = end === 1
        else if (!wire) continue
        else if (what === 'arrive') world.arrive(wire, at, n)
        else if (what === 'doubled') world.arrive(wire, at, n, true)
        else if (what === 'cut') world.cut(wire)
        else world.notice(wire, at)
      }
      world.isDown = false
      world.settle()
      const [a, b] = world.ends
      expect([a.end, b.end]).toEqual([null, null])
      expect(b.got).toEqual(Array.from({ length: sent[0] }, (_, i) => i + 1))
      expect(a.got).toEqual(Array.from({ length: sent[1] }, (_, i) => i + 1))
      expect([a.link.keptBytes, b.link.keptBytes]).toEqual([0, 0]) // R2
      if (sent[0] + sent[1] > 0) expect([a.link.isConnected, b.link.isConnected]).toEqual([true, true])
    }),
    { numRuns: 300 },
  )
})

test('[ARCH-21] after the end of a link nothing more comes, on either end (R1)', () => {
  fc.assert(
    fc.property(fc.nat(30), fc.nat(30), fc.boolean(), (before, bytes, isCut) => {
      const world = new World()
      const [a, b] = world.ends
      for (let i = 1; i <= before; i++) world.send(i % 2 ? a : b, i)
      for (const wire of [...world.wires]) world.arrive(wire, b, bytes * 20)
      if (isCut) for (const wire of world.wires) world.cut(wire)
      world.step(a, { t: 'end', detail: 'declared dead' })
      const got = [...a.got]
      world.send(a, 99)
      world.send(b, 98)
      world.settle()
      expect(a.got).toEqual(got)
      expect([a.end, b.end]).toEqual(['own', b.link.ended?.by])
      expect(['peer', 'refused']).toContain(b.end)
      expect([a.afterEnd, b.afterEnd, a.timers.size, b.timers.size]).toEqual([0, 0, 0, 0])
      expect(b.got).not.toContain(99)
    }),
  )
})

const A = { own: 'a', peer: 'b', life: 'la' }
const B = { own: 'b', peer: 'a', life: 'lb' }
const from = (settings: typeof A, more: Partial<LinkHello> = {}): LinkHello => {
  return { from: settings.own, to: settings.peer, life: settings.life, known: '', next: 1, attempt: 1, ...more }
}

test('[ARCH-21] both dial at once: the connection of the smaller id stays (R4)', () => {
  const [a, b] = [new ResumableLink(A), new ResumableLink(B)]
  for (const link of [a, b]) {
    link.step(0, { t: 'send', body: Buffer.from('x') })
    link.step(0, { t: 'opened', connection: 1 })
  }
  expect(a.step(1, { t: 'accepted', connection: -1, hello: from(B) })).toEqual([{ t: 'close', connection: -1 }])
  const effects = b.step(1, { t: 'accepted', connection: -1, hello: from(A) })
  expect(effects.map((effect) => [effect.t, 'connection' in effect ? effect.connection : 0])).toEqual([
    ['hello', -1],
    ['close', 1],
    ['timer', 0],
    ['connected', 0],
    ['write', -1],
  ])
  a.step(2, { t: 'welcomed', connection: 1, hello: from(B) })
  expect([a.isConnected, b.isConnected]).toEqual([true, true])
})

test('[ARCH-21] a dial that has not said hello gives way to a connection that is there (R4)', () => {
  const a = new ResumableLink(A)
  a.step(0, { t: 'send', body: Buffer.from('x') })
  const effects = a.step(1, { t: 'accepted', connection: -1, hello: from(B) })
  expect(effects.map(({ t }) => t)).toEqual(['hello', 'close', 'timer', 'connected', 'write'])
  expect(a.step(2, { t: 'opened', connection: 1 })).toEqual([{ t: 'close', connection: 1 }])
})

test('[ARCH-21] a delayed hello does not take the place of a newer connection', () => {
  const a = new ResumableLink(A)
  a.step(0, { t: 'accepted', connection: -1, hello: from(B, { attempt: 2 }) })
  expect(a.step(1, { t: 'accepted', connection: -2, hello: from(B) })).toEqual([{ t: 'close', connection: -2 }])
  expect(a.isConnected).toBe(true)
})

test.each([
  ['another life of the other end', { life: 'lb2', attempt: 2 }],
  ['an other end that knew another life of this one', { known: 'la0', attempt: 2 }],
  ['an other end that waits for what was never sent', { next: 3, attempt: 2 }],
])('[ARCH-21] %s ends the link (R5)', (_, more) => {
  const a = new ResumableLink(A)
  a.step(0, { t: 'accepted', connection: -1, hello: from(B) })
  const effects = a.step(1, { t: 'accepted', connection: -2, hello: from(B, more) })
  expect(effects.map(({ t }) => t)).toEqual(['close', 'cancelTimer', 'cancelTimer', 'ended', 'refuse'])
  expect(a.ended?.by).toBe('lost')
})

test('[ARCH-21] kept bytes press back, drain, and end the link when there are too many (R6)', () => {
  const a = new ResumableLink({ ...A, highWaterBytes: 1000, bytesMax: 3000 })
  const body = Buffer.alloc(400)
  const acks = (next: number): Buffer => {
    const bytes = Buffer.alloc(7)
    bytes[0] = 2
    bytes.writeUIntLE(next, 1, 6)
    return bytes
  }
  a.step(0, { t: 'accepted', connection: -1, hello: from(B) })
  for (let i = 0; i < 3; i++) a.step(0, { t: 'send', body })
  expect([a.isFull, a.keptBytes]).toEqual([true, 3 * 464])
  expect(a.step(1, { t: 'frame', connection: -1, bytes: acks(2) })).toEqual([])
  expect(a.step(1, { t: 'frame', connection: -1, bytes: acks(3) })).toEqual([{ t: 'drained' }])
  for (let i = 0; i < 5; i++) a.step(2, { t: 'send', body })
  expect(a.ended).toBe(null)
  a.step(2, { t: 'send', body })
  expect([a.ended?.by, a.keptBytes]).toEqual(['overflow', 0])
  a.check()
})

test('[ARCH-21] a frame that leaves one out gives the connection up, one of another connection is nothing (R1, R3)', () => {
  const a = new ResumableLink(A)
  a.step(0, { t: 'accepted', connection: -1, hello: from(B) })
  const bytes = Buffer.alloc(14)
  bytes[0] = 1
  bytes.writeUIntLE(1, 1, 6)
  bytes.writeUIntLE(1, 7, 6)
  expect(a.step(1, { t: 'frame', connection: -2, bytes })).toEqual([])
  bytes.writeUIntLE(2, 7, 6)
  const effects = a.step(1, { t: 'frame', connection: -1, bytes })
  expect(effects.map(({ t }) => t)).toEqual(['close', 'disconnected', 'timer'])
})

test('[ARCH-21] a silent connection is given up and dialled anew (R7)', () => {
  const a = new ResumableLink(A)
  a.step(0, { t: 'accepted', connection: -1, hello: from(B) })
  expect(a.step(1000, { t: 'timer', key: 'link' }).map(({ t }) => t)).toEqual(['write', 'timer'])
  expect(a.step(5000, { t: 'timer', key: 'link' })).toEqual([
    { t: 'close', connection: -1 },
    { t: 'disconnected' },
    { t: 'timer', key: 'link', at: 5020 },
  ])
  expect(a.step(5020, { t: 'timer', key: 'link' })[0]).toEqual({ t: 'dial', connection: 1 })
})

test('[ARCH-21] frames that nobody meant give the connection up, and are never handed over', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const a = new ResumableLink(A)
      a.step(0, { t: 'accepted', connection: -1, hello: from(B) })
      const delivered = a.step(1, { t: 'frame', connection: -1, bytes }).filter(({ t }) => t === 'deliver')
      a.check()
      const isFirstMessage = bytes.length >= 13 && bytes[0] === 1 && Buffer.from(bytes).readUIntLE(7, 6) === 1
      expect(delivered.length).toBe(isFirstMessage && Buffer.from(bytes).readUIntLE(1, 6) <= 1 ? 1 : 0)
    }),
  )
})
