// The connection of a raylet to the GCS: in order while it lasts, dialled again when it breaks, given up after a while.
//
//   G1. `onConnected` comes first on each connection: what it sends (`node.register`) is the first message there.
//   G2. What is sent while there is no connection goes nowhere, and so may what was on its way: the machines ask again (K3).
//   G3. After `onGone` or `onRefused` nothing more comes: nobody answered for `reconnectMs`, or we are not wanted.
//   G4. A connection on which nothing came for `silenceMs` is no connection.

import { decodeMessage } from '../wire/codec.ts'
import type { WireError } from '../wire/messages.ts'
import { monotonicMs } from './clock.ts'
import { dialTcp, type FramedSocket } from './tcp.ts'

export interface GcsLinkOptions {
  readonly host: string
  readonly port: number
  readonly token: string | null
  readonly nodeId: string
  /** `system.gcsRpcServerReconnectTimeoutS`, in ms. */
  readonly reconnectMs: number
  /** The GCS pings; 0: it need not. */
  readonly silenceMs?: number
}

export interface GcsLinkEvents<In> {
  onConnected(): void
  onMessage(message: In): void
  onDisconnected?(): void
  onRefused(error: WireError): void
  onGone(): void
}

type Message = { readonly t: string }

const DIAL_TIMEOUT_MS = 3000
const REDIAL_MIN_MS = 20
const REDIAL_MAX_MS = 1000

/** `In`: GcsToNode; `Out`: NodeToGcs. */
export class GcsLink<In extends Message, Out extends Message> {
  readonly #options: GcsLinkOptions
  readonly #events: GcsLinkEvents<In>
  #socket: FramedSocket | null = null
  #isConnected = false
  #isClosed = false
  #redialMs = REDIAL_MIN_MS
  #goneAt: number
  #timer: NodeJS.Timeout | null = null
  #heardAt = 0
  readonly #watch: NodeJS.Timeout | null

  constructor(options: GcsLinkOptions, events: GcsLinkEvents<In>) {
    this.#options = options
    this.#events = events
    this.#goneAt = monotonicMs() + options.reconnectMs
    const { silenceMs = 0 } = options
    this.#watch = silenceMs > 0 ? setInterval(() => this.#listen(silenceMs), silenceMs / 4) : null
    this.#dial()
  }

  get isConnected(): boolean {
    return this.#isConnected
  }

  /** G2 */
  send(message: Out): void {
    if (this.#isConnected) this.#socket?.send(message)
  }

  /** What was sent leaves. */
  close(): void {
    this.#isClosed = true
    this.#isConnected = false
    if (this.#timer) clearTimeout(this.#timer)
    if (this.#watch) clearInterval(this.#watch)
    this.#socket?.end()
  }

  #dial(): void {
    const { host, port, token, nodeId } = this.#options
    const timeoutMs = DIAL_TIMEOUT_MS
    this.#socket = dialTcp(
      { host, port, token, nodeId, purpose: 'gcs', detail: () => null, timeoutMs },
      {
        onAnswer: (answer) => {
          if (answer.t === 'refused') {
            this.close()
            this.#events.onRefused(answer.error)
            return
          }
          this.#isConnected = true
          this.#redialMs = REDIAL_MIN_MS
          this.#heardAt = monotonicMs()
          this.#events.onConnected() // G1
        },
        onFrame: (buffer, start, end) => {
          this.#heardAt = monotonicMs()
          this.#events.onMessage(decodeMessage<In>(buffer.subarray(start, end)))
        },
        onClose: () => this.#lost(),
      },
    )
  }

  #lost(): void {
    if (this.#isClosed) return
    const now = monotonicMs()
    if (this.#isConnected) {
      this.#isConnected = false
      this.#goneAt = now + this.#options.reconnectMs
      this.#events.onDisconnected?.()
      if (this.#isClosed) return
    }
    if (now >= this.#goneAt) {
      this.close()
      this.#events.onGone()
      return
    }
    this.#timer = setTimeout(() => this.#dial(), Math.min(this.#redialMs, this.#goneAt - now))
    this.#redialMs = Math.min(this.#redialMs * 2, REDIAL_MAX_MS)
  }

  /** G4 */
  #listen(silenceMs: number): void {
    if (!this.#isConnected || monotonicMs() - this.#heardAt < silenceMs) return
    this.#socket?.destroy()
    this.#lost()
  }
}
