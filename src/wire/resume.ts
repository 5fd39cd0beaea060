// One end of a link between two nodes: a reliable, ordered stream of messages over connections that break.
//
//     node A ── ResumableLink ══ connection 1 ╳
//                     ╚═════════ connection 2 ═════ ResumableLink ── node B
//
// Both ends number their messages and keep each until the other says that it has dealt with it (with the next frame that goes there
// anyway, or after a short while). A new connection begins with a hello from each end, which names the number that it waits for;
// the other goes on from there. Sockets, clocks and the bytes of the hello belong to the caller (runtime/peer-link.ts, sim/).
//
// Frames after the hello, without their length:   data 1 | ack u48 | number u48 | body     ack 2 | ack u48     bye 3 | text
//
// Invariants:
//   R1. Each message is handed over exactly once, in the order of sending, until the link is ended. After the end nothing more.
//   R2. What the other end has acknowledged is not kept, what it has not is; its acknowledgements never go back, nor beyond what
//       was sent.
//   R3. Frames count on the current connection only. There is one at most, and adopting another closes it.
//   R4. Of two connections made at once by both ends, both ends keep the one that the smaller node id made.
//   R5. A link joins one life of each end. Another life ends it: what the earlier one had been told is lost, and must not be skipped.
//   R6. Kept bytes are bounded: `isFull` asks the sender to wait for 'drained', and beyond `bytesMax` the link ends.
//   R7. A used link without a connection is dialling, or has a timer to; with one it notices silence.

import type { NodeId } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import type { WireError } from './messages.ts'

/** What each end says first on a connection. */
export interface LinkHello {
  readonly from: NodeId
  readonly to: NodeId
  /** Names this life of the sender's end; a fresh one knows nothing of what came before. */
  readonly life: string
  /** The life of the receiver that it has dealt with; '' for none yet. */
  readonly known: string
  /** The number of the message that it waits for, from 1. */
  readonly next: number
  /** Counts the connections that this end made: a hello that was delayed must not take the place of a newer one. */
  readonly attempt: number
}

export interface LinkEnd {
  /** 'own': by `end`; 'peer': the other end ended it; 'refused': it does not take us; 'lost': one end is not the one it was (R5). */
  readonly by: 'own' | 'peer' | 'refused' | 'lost' | 'overflow'
  readonly detail: string
  /** What the other end refused us with. */
  readonly error: WireError | null
}

/** Connections that this end dials are numbered by it, from 1 up; the caller numbers those it accepts, from -1 down. */
export type ConnectionId = number

export type LinkInput =
  /** The link keeps `body`: it must not change any more. */
  | { readonly t: 'send'; readonly body: Uint8Array }
  /** What was dialled is connected. */
  | { readonly t: 'opened'; readonly connection: ConnectionId }
  /** The answer to our hello on a dialled connection. */
  | { readonly t: 'welcomed'; readonly connection: ConnectionId; readonly hello: LinkHello }
  | { readonly t: 'refused'; readonly connection: ConnectionId; readonly error: WireError }
  /** The other end dialled, and has said who it is. */
  | { readonly t: 'accepted'; readonly connection: ConnectionId; readonly hello: LinkHello }
  /** `bytes` is only read during the step. */
  | { readonly t: 'frame'; readonly connection: ConnectionId; readonly bytes: Uint8Array }
  | { readonly t: 'closed'; readonly connection: ConnectionId }
  | { readonly t: 'timer'; readonly key: LinkTimer }
  | { readonly t: 'end'; readonly detail: string }

export type LinkTimer = 'link' | 'ack'

export type LinkEffect =
  | { readonly t: 'dial'; readonly connection: ConnectionId }
  | { readonly t: 'hello'; readonly connection: ConnectionId; readonly hello: LinkHello }
  /** `head` with its length prefix, then `body` if there is one. */
  | {
      readonly t: 'write'
      readonly connection: ConnectionId
      readonly head: Uint8Array
      readonly body: Uint8Array | null
    }
  /** After what was written to it. Nothing more is expected of it, not even 'closed'. */
  | { readonly t: 'close'; readonly connection: ConnectionId }
  /** The link has ended: say so to who dialled. */
  | { readonly t: 'refuse'; readonly connection: ConnectionId; readonly detail: string }
  /** `body` lies in the frame's buffer. */
  | { readonly t: 'deliver'; readonly body: Uint8Array }
  | { readonly t: 'connected' }
  | { readonly t: 'disconnected' }
  /** No longer full. */
  | { readonly t: 'drained' }
  | { readonly t: 'ended'; readonly end: LinkEnd }
  /** Replaces a pending timer of the same key. */
  | { readonly t: 'timer'; readonly key: LinkTimer; readonly at: Ms }
  | { readonly t: 'cancelTimer'; readonly key: LinkTimer }

export interface LinkSettings {
  readonly own: NodeId
  readonly peer: NodeId
  readonly life: string
  readonly redialMinMs?: Ms
  readonly redialMaxMs?: Ms
  /** From dialling to the other end's hello. */
  readonly connectTimeoutMs?: Ms
  readonly ackDelayMs?: Ms
  /** How often a connection on which nothing goes says that it lives, and after how long a silent one is given up. */
  readonly pulseMs?: Ms
  readonly silenceMs?: Ms
  readonly highWaterBytes?: number
  readonly bytesMax?: number
}

const DEFAULTS = {
  redialMinMs: 20,
  redialMaxMs: 1000,
  connectTimeoutMs: 3000,
  ackDelayMs: 20,
  pulseMs: 1000,
  silenceMs: 5000,
  highWaterBytes: 16 * 1024 * 1024,
  bytesMax: 1024 * 1024 * 1024,
}

const TYPE = { data: 1, ack: 2, bye: 3 } as const
const DATA_HEAD_BYTES = 13
/** What a frame may be longer than its message. */
export const LINK_OVERHEAD_BYTES = DATA_HEAD_BYTES
/** What a kept message costs beside its bytes. */
const KEPT_OVERHEAD_BYTES = 64
/** Acknowledged at once when this much came: the sender keeps it all until then. */
const ACK_BYTES = 256 * 1024

export class ResumableLink {
  readonly #settings: Required<LinkSettings>
  /** Sent and not acknowledged: the numbers `#keptFrom` and on. */
  #kept: Uint8Array[] = []
  #keptHead = 0
  #keptFrom = 1
  #keptBytes = 0
  #isFull = false
  /** The number that we wait for. */
  #next = 1
  #unacknowledgedBytes = 0
  #peerLife = ''
  #peerAttempt = 0
  #attempt = 0
  #dial: { readonly connection: ConnectionId; isOpened: boolean } | null = null
  #current: ConnectionId | null = null
  #heardAt: Ms = 0
  #isAckArmed = false
  #redialMs: Ms
  #isUsed = false
  #end: LinkEnd | null = null

  constructor(settings: LinkSettings) {
    invariant(settings.own !== settings.peer, 'a node has no link to itself')
    this.#settings = { ...DEFAULTS, ...settings }
    this.#redialMs = this.#settings.redialMinMs
  }

  get isConnected(): boolean {
    return this.#current !== null
  }

  get keptBytes(): number {
    return this.#keptBytes
  }

  /** R6: whoever can wait, should, until 'drained'. */
  get isFull(): boolean {
    return this.#isFull
  }

  get ended(): LinkEnd | null {
    return this.#end
  }

  step(now: Ms, input: LinkInput): LinkEffect[] {
    const effects: LinkEffect[] = []
    if (this.#end) {
      if (input.t === 'accepted') effects.push({ t: 'refuse', connection: input.connection, detail: this.#end.detail })
      else if (input.t === 'opened' || input.t === 'welcomed')
        effects.push({ t: 'close', connection: input.connection })
      return effects // R1
    }
    switch (input.t) {
      case 'send':
        this.#send(now, input.body, effects)
        break
      case 'opened':
        this.#opened(input.connection, effects)
        break
      case 'welcomed':
        if (this.#dial?.connection === input.connection) this.#adopt(now, input.connection, input.hello, effects)
        break
      case 'refused':
        if (this.#dial?.connection !== input.connection) break
        this.#finish({ by: 'refused', detail: 'the other end refused the connection', error: input.error }, effects)
        break
      case 'accepted':
        this.#accepted(now, input.connection, input.hello, effects)
        break
      case 'frame':
        if (this.#current === input.connection) this.#frame(now, input.bytes, effects) // R3
        break
      case 'closed':
        this.#closed(now, input.connection, effects)
        break
      case 'timer':
        if (input.key === 'ack') this.#ackDue(effects)
        else this.#linkTimer(now, effects)
        break
      case 'end':
        if (this.#current !== null) this.#write(byeFrame(input.detail), null, effects)
        this.#finish({ by: 'own', detail: input.detail, error: null }, effects)
    }
    return effects
  }

  check(): void {
    const kept = this.#kept.slice(this.#keptHead)
    const bytes = kept.reduce((sum, body) => sum + costOf(body), 0)
    invariant(bytes === this.#keptBytes, `R6: ${bytes} bytes are kept, but ${this.#keptBytes} counted`)
    invariant(this.#current === null || this.#dial === null, 'R3: dialling beside a current connection')
    invariant(this.#end === null || (this.#current === null && kept.length === 0), 'R1: an ended link goes on')
    invariant(this.#end !== null || kept.length === 0 || this.#isUsed, 'R7: a link with messages is not used')
  }

  // Messages

  #send(now: Ms, body: Uint8Array, effects: LinkEffect[]): void {
    if (this.#keptBytes + costOf(body) > this.#settings.bytesMax) {
      const detail = `${this.#keptBytes} bytes wait for the other end, the most that is kept`
      if (this.#current !== null) this.#write(byeFrame(detail), null, effects)
      this.#finish({ by: 'overflow', detail, error: null }, effects)
      return
    }
    this.#kept.push(body)
    this.#keptBytes += costOf(body)
    if (this.#keptBytes > this.#settings.highWaterBytes) this.#isFull = true
    if (this.#current !== null) this.#writeData(this.#keptFrom + this.#kept.length - this.#keptHead - 1, body, effects)
    else if (!this.#isUsed) this.#startDial(now, effects)
  }

  #writeData(number: number, body: Uint8Array, effects: LinkEffect[]): void {
    const head = frameHead(TYPE.data, DATA_HEAD_BYTES, body.length)
    head.writeUIntLE(this.#next, 5, 6)
    head.writeUIntLE(number, 11, 6)
    this.#write(head, body, effects)
    this.#unacknowledgedBytes = 0
  }

  #writeAck(effects: LinkEffect[]): void {
    const head = frameHead(TYPE.ack, 7, 0)
    head.writeUIntLE(this.#next, 5, 6)
    this.#write(head, null, effects)
    this.#unacknowledgedBytes = 0
  }

  #write(head: Uint8Array, body: Uint8Array | null, effects: LinkEffect[]): void {
    invariant(this.#current !== null, 'R3: nothing is current')
    effects.push({ t: 'write', connection: this.#current, head, body })
  }

  #frame(now: Ms, bytes: Uint8Array, effects: LinkEffect[]): void {
    this.#heardAt = now
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const type = view.length > 0 ? view[0] : 0
    if (type === TYPE.bye) {
      this.#finish({ by: 'peer', detail: view.toString('utf8', 1), error: null }, effects)
      return
    }
    const isData = type === TYPE.data
    const isRight = isData ? view.length >= DATA_HEAD_BYTES : type === TYPE.ack && view.length === 7
    if (!isRight || !this.#acknowledged(view.readUIntLE(1, 6), effects)) return this.#giveUp(now, effects)
    if (!isData) return
    const number = view.readUIntLE(7, 6)
    if (number > this.#next) return this.#giveUp(now, effects) // What lies between comes again on the next connection.
    if (number < this.#next) return
    this.#next++
    effects.push({ t: 'deliver', body: view.subarray(DATA_HEAD_BYTES) })
    this.#unacknowledgedBytes += costOf(bytes)
    if (this.#unacknowledgedBytes > ACK_BYTES) this.#writeAck(effects)
    else if (!this.#isAckArmed) {
      this.#isAckArmed = true
      effects.push({ t: 'timer', key: 'ack', at: now + this.#settings.ackDelayMs })
    }
  }

  #ackDue(effects: LinkEffect[]): void {
    this.#isAckArmed = false
    if (this.#current !== null && this.#unacknowledgedBytes > 0) this.#writeAck(effects)
  }

  /** The other end has dealt with all below `next`; false when that cannot be (R2). */
  #acknowledged(next: number, effects: LinkEffect[]): boolean {
    if (next > this.#keptFrom + this.#kept.length - this.#keptHead) return false
    while (this.#keptFrom < next) {
      this.#keptBytes -= costOf(this.#kept[this.#keptHead] as Uint8Array)
      this.#kept[this.#keptHead++] = EMPTY
      this.#keptFrom++
    }
    if (this.#keptHead > 1024 && this.#keptHead * 2 > this.#kept.length) {
      this.#kept = this.#kept.slice(this.#keptHead)
      this.#keptHead = 0
    }
    if (this.#isFull && this.#keptBytes <= this.#settings.highWaterBytes / 2) {
      this.#isFull = false
      effects.push({ t: 'drained' })
    }
    return true
  }

  // Connections

  #startDial(now: Ms, effects: LinkEffect[]): void {
    this.#isUsed = true
    this.#attempt++
    this.#dial = { connection: this.#attempt, isOpened: false }
    effects.push({ t: 'dial', connection: this.#attempt })
    effects.push({ t: 'timer', key: 'link', at: now + this.#settings.connectTimeoutMs })
  }

  #opened(connection: ConnectionId, effects: LinkEffect[]): void {
    if (this.#dial?.connection !== connection) {
      effects.push({ t: 'close', connection })
      return
    }
    this.#dial.isOpened = true
    effects.push({ t: 'hello', connection, hello: this.#hello() })
  }

  #hello(): LinkHello {
    const { own: from, peer: to, life } = this.#settings
    return { from, to, life, known: this.#peerLife, next: this.#next, attempt: this.#attempt }
  }

  #accepted(now: Ms, connection: ConnectionId, hello: LinkHello, effects: LinkEffect[]): void {
    // A hello that was long under way: since then we have dialled, or heard more. What it waits for never goes back (R2).
    const isOld = hello.life === this.#peerLife && (hello.attempt <= this.#peerAttempt || hello.next < this.#keptFrom)
    // R4. Only a dial that has said hello can be taken by the other end; the connection of one that is silent times out.
    const isCrossed = this.#dial?.isOpened === true && this.#settings.own < this.#settings.peer
    if (isOld || isCrossed) {
      effects.push({ t: 'close', connection })
      return
    }
    if (!this.#isSame(hello, effects)) {
      effects.push({ t: 'refuse', connection, detail: this.#end?.detail ?? '' })
      return
    }
    effects.push({ t: 'hello', connection, hello: this.#hello() })
    this.#peerAttempt = hello.attempt
    this.#adopt(now, connection, hello, effects)
  }

  #adopt(now: Ms, connection: ConnectionId, hello: LinkHello, effects: LinkEffect[]): void {
    if (!this.#isSame(hello, effects)) return
    if (this.#dial && this.#dial.connection !== connection)
      effects.push({ t: 'close', connection: this.#dial.connection })
    if (this.#current !== null) effects.push({ t: 'close', connection: this.#current })
    const wasConnected = this.#current !== null
    this.#isUsed = true
    this.#dial = null
    this.#current = connection
    this.#peerLife = hello.life
    this.#heardAt = now
    this.#redialMs = this.#settings.redialMinMs
    this.#acknowledged(hello.next, effects)
    effects.push({ t: 'timer', key: 'link', at: now + this.#settings.pulseMs })
    if (!wasConnected) effects.push({ t: 'connected' })
    for (let i = this.#keptHead; i < this.#kept.length; i++)
      this.#writeData(this.#keptFrom + i - this.#keptHead, this.#kept[i] as Uint8Array, effects)
  }

  /** R5: both ends are those that they were, and what the other waits for is still here; else the link ends. */
  #isSame(hello: LinkHello, effects: LinkEffect[]): boolean {
    const { life } = this.#settings
    const lastSent = this.#keptFrom + this.#kept.length - this.#keptHead - 1
    const isSame =
      (this.#peerLife === '' || this.#peerLife === hello.life) &&
      (hello.known === '' || hello.known === life) &&
      hello.next >= this.#keptFrom &&
      hello.next <= lastSent + 1
    if (!isSame) {
      const detail = `the two ends of the link have not seen the same of each other (waits for ${hello.next} of ${lastSent})`
      this.#finish({ by: 'lost', detail, error: null }, effects)
    }
    return isSame
  }

  #closed(now: Ms, connection: ConnectionId, effects: LinkEffect[]): void {
    if (this.#current === connection) {
      this.#current = null
      effects.push({ t: 'disconnected' })
    } else if (this.#dial?.connection === connection) this.#dial = null
    else return
    this.#redialLater(now, effects)
  }

  #redialLater(now: Ms, effects: LinkEffect[]): void {
    effects.push({ t: 'timer', key: 'link', at: now + this.#redialMs })
    this.#redialMs = Math.min(this.#redialMs * 2, this.#settings.redialMaxMs)
  }

  /** The current connection is of no use. */
  #giveUp(now: Ms, effects: LinkEffect[]): void {
    if (this.#current === null) return
    effects.push({ t: 'close', connection: this.#current })
    this.#closed(now, this.#current, effects)
  }

  #linkTimer(now: Ms, effects: LinkEffect[]): void {
    if (this.#current !== null) {
      if (now - this.#heardAt >= this.#settings.silenceMs) return this.#giveUp(now, effects)
      this.#writeAck(effects)
      effects.push({ t: 'timer', key: 'link', at: now + this.#settings.pulseMs })
    } else if (this.#dial) {
      effects.push({ t: 'close', connection: this.#dial.connection })
      this.#dial = null
      this.#redialLater(now, effects)
    } else if (this.#isUsed) this.#startDial(now, effects)
  }

  #finish(end: LinkEnd, effects: LinkEffect[]): void {
    this.#end = end
    if (this.#dial) effects.push({ t: 'close', connection: this.#dial.connection })
    if (this.#current !== null) effects.push({ t: 'close', connection: this.#current })
    this.#dial = null
    this.#current = null
    this.#kept = []
    this.#keptHead = 0
    this.#keptBytes = 0
    this.#isFull = false
    effects.push({ t: 'cancelTimer', key: 'link' }, { t: 'cancelTimer', key: 'ack' }, { t: 'ended', end })
  }
}

const EMPTY = new Uint8Array(0)

function costOf(body: Uint8Array): number {
  return body.length + KEPT_OVERHEAD_BYTES
}

function byeFrame(detail: string): Uint8Array {
  const text = Buffer.from(detail)
  return Buffer.concat([frameHead(TYPE.bye, 1, text.length), text])
}

/** Length prefix and type, with room for the rest of the head. */
function frameHead(type: number, headBytes: number, bodyBytes: number): Buffer {
  const head = Buffer.allocUnsafe(4 + headBytes)
  head.writeUInt32LE(headBytes + bodyBytes)
  head[4] = type
  return head
}
