// The control connection of a process to its node: frames of the real codec; what is idempotent by contract is sometimes sent twice.

import { CONTROL_FRAME_BYTES_MAX, decodeMessage, encodeMessage } from '../wire/codec.ts'
import { FrameReader } from '../wire/frame-reader.ts'
import type { FromNode, ToNode } from '../wire/messages.ts'
import type { Cluster } from './cluster.ts'
import type { Socket } from './network.ts'
import type { SimNode } from './node.ts'
import type { SimProcess } from './processes.ts'

/** Repeated at any later time. */
const REPEATED_LATER = new Set(['lease.request', 'lease.cancel', 'lease.return', 'actor.outOfScope'])
/** Repeated at once. */
const REPEATED = new Set([
  'object.publish',
  'object.unpublish',
  'object.resolve',
  'object.unresolve',
  'object.free',
  'actor.create',
  'kv.put',
])

export class ControlLink {
  readonly #cluster: Cluster
  readonly #os: SimProcess
  readonly #socket: Socket
  #pending: Buffer[] = []
  #requestId = 0
  readonly #requests = new Map<number, (answer: FromNode) => void>()

  constructor(
    cluster: Cluster,
    node: SimNode,
    os: SimProcess,
    onMessage: (message: FromNode) => void,
    onClose: () => void,
  ) {
    this.#cluster = cluster
    this.#os = os
    this.#socket = node.dial(os)
    const reader = new FrameReader((buffer, start, end) => {
      const message = decodeMessage<FromNode>(buffer.subarray(start, end))
      cluster.world.log(`${os.name} < ${describe(message)}`)
      if (!('requestId' in message)) return onMessage(message)
      const answer = this.#requests.get(message.requestId)
      this.#requests.delete(message.requestId)
      answer?.(message)
    }, CONTROL_FRAME_BYTES_MAX)
    this.#socket.listen({ onData: (chunk) => reader.push(chunk), onClose })
  }

  send(message: ToNode): void {
    for (const one of this.#cluster.bugs.toNode?.(message) ?? [message]) this.#write(one)
    const { world, faults } = this.#cluster
    if (!world.random.chance(faults.repeatChance)) return
    if (REPEATED.has(message.t)) this.#write(message)
    else if (REPEATED_LATER.has(message.t)) this.#os.after(world.random.next() * 50, () => this.#write(message))
  }

  request<T extends FromNode['t']>(
    make: (requestId: number) => ToNode,
    callback: (answer: Extract<FromNode, { t: T }>) => void,
  ): void {
    const requestId = ++this.#requestId
    this.#requests.set(requestId, callback as (answer: FromNode) => void)
    this.send(make(requestId))
  }

  flush(): void {
    if (this.#pending.length === 0) return
    this.#cluster.mayTear(this.#os)
    this.#socket.write(Buffer.concat(this.#pending))
    this.#pending = []
  }

  #write(message: ToNode): void {
    const body = encodeMessage(message)
    const head = Buffer.alloc(4)
    head.writeUInt32LE(body.length)
    this.#pending.push(head, body)
  }
}

/** One line for the trace. */
export function describe(message: { readonly t: string }): string {
  const { t, ...rest } = message as Record<string, unknown> & { t: string }
  return `${t} ${JSON.stringify(rest, shorten)}`
}

function shorten(key: string, value: unknown): unknown {
  if (key === 'spec' || key === 'lease' || key === 'options' || key === 'address') return undefined
  if (value instanceof Uint8Array) return `${value.length} bytes`
  if (typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'Buffer') return 'bytes'
  return value
}
