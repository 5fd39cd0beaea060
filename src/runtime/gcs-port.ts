// A node's way to the GCS: in its own process when it is alone, else over a connection.
//
//   P1. What a node says arrives in order, and once more when a connection or a GCS was lost in between (gcs-stream.ts).

import { Gcs } from '../gcs/gcs.ts'
import { GcsStream } from '../raylet/gcs-stream.ts'
import type { GcsToNode, NodeToGcs } from '../wire/cluster.ts'
import type { WireError } from '../wire/messages.ts'
import { monotonicMs, msUntil } from './clock.ts'
import { GcsLink } from './gcs-link.ts'
import type { ClusterConfig } from './node-config.ts'
import { randomHex } from './session.ts'
import type { SystemConfig } from './system-config.ts'

export interface GcsPort {
  send(message: NodeToGcs): void
  close(): void
}

export interface GcsPortEvents {
  /** A connection is there: say who you are (`node.register`). */
  onConnected(): void
  onMessage(message: GcsToNode): void
  /** For good. */
  onGone(detail: string): void
}

const RECONNECT_GRACE_MS = 500

export function gcsConfig(clusterId: string, system: SystemConfig): ConstructorParameters<typeof Gcs>[0] {
  return {
    clusterId,
    actorGracefulShutdownMs: system.actorGracefulShutdownTimeoutMs,
    health: {
      periodMs: system.healthCheckPeriodMs,
      timeoutMs: system.healthCheckTimeoutMs,
      failureThreshold: system.healthCheckFailureThreshold,
    },
    reconnectGraceMs: RECONNECT_GRACE_MS,
    restoreGraceMs: system.gcsFailoverNodeReconnectTimeoutS * 1000,
    system,
  }
}

/** The GCS of a node that is alone: a call away. */
export class LocalGcs implements GcsPort {
  readonly gcs: Gcs
  readonly #nodeId: string
  readonly #events: GcsPortEvents
  readonly #timers = new Map<string, NodeJS.Timeout>()

  constructor(nodeId: string, system: SystemConfig, events: GcsPortEvents) {
    this.gcs = new Gcs(gcsConfig(randomHex(28), system))
    this.#nodeId = nodeId
    this.#events = events
  }

  start(): void {
    this.#events.onConnected()
  }

  send(message: NodeToGcs): void {
    const event = { t: 'fromNode', nodeId: this.#nodeId, message } as const
    this.#perform(this.gcs.step(monotonicMs(), { kind: 'local', event }))
  }

  close(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer)
  }

  #perform(effects: ReturnType<Gcs['step']>): void {
    for (const effect of effects) {
      if (effect.kind === 'timer') this.#setTimer(effect.key, effect.at)
      else if (effect.kind === 'local' && effect.event.t === 'toNode') this.#events.onMessage(effect.event.message)
    }
  }

  #setTimer(key: string, at: number): void {
    clearTimeout(this.#timers.get(key))
    const timer = setTimeout(() => {
      this.#timers.delete(key)
      this.#perform(this.gcs.step(monotonicMs(), { kind: 'timer', key }))
    }, msUntil(at))
    this.#timers.set(key, timer)
  }
}

/** The GCS of a cluster. */
export class RemoteGcs implements GcsPort {
  readonly #link: GcsLink<GcsToNode, NodeToGcs>
  readonly #stream = new GcsStream()
  #isRegistered = false

  constructor(nodeId: string, cluster: ClusterConfig, system: SystemConfig, events: GcsPortEvents) {
    const { gcs, token, gcsReconnectTimeoutS } = cluster
    // Pings come every period. After that long it has given us up, or is not there: a broken link says nothing by itself.
    const silenceMs = system.healthCheckPeriodMs * system.healthCheckFailureThreshold + system.healthCheckTimeoutMs
    this.#link = new GcsLink(
      { ...gcs, token, nodeId, reconnectMs: gcsReconnectTimeoutS * 1000, silenceMs },
      {
        onConnected: () => events.onConnected(),
        onMessage: (message) => {
          if (!this.#stream.hear(message)) return
          if (message.t === 'node.registered') this.#registered()
          events.onMessage(message)
        },
        onDisconnected: () => {
          this.#isRegistered = false
          this.#stream.cut()
        },
        onRefused: (error) => events.onGone(`the GCS refused it: ${describe(error)}`),
        onGone: () => events.onGone(`no GCS answered at ${gcs.host}:${gcs.port} for ${gcsReconnectTimeoutS} s`),
      },
    )
  }

  send(message: NodeToGcs): void {
    if (this.#stream.say(message)) this.#link.send(message)
  }

  close(): void {
    this.#link.close()
  }

  /** P1 */
  #registered(): void {
    if (this.#isRegistered) return
    this.#isRegistered = true
    for (const message of this.#stream.resume()) this.#link.send(message)
  }
}

function describe({ code, params }: WireError): string {
  return String(params.detail ?? params.message ?? code)
}
