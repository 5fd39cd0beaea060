// The GCS as a process of its own: drives the machine with real sockets and timers.
//
//   P1. Its port is in a file of the session before anybody is told that it is ready.
//   P2. It ends quietly on SIGTERM: nodes look for it until they have waited long enough.
//   P3. A node is told nothing before it connected, and a message that its connection no longer takes is lost: nodes ask again (K3).

import path from 'node:path'
import { Gcs, type GcsInput } from '../gcs/gcs.ts'
import type { GcsToNode, NodeToGcs } from '../wire/cluster.ts'
import { gcsConfig } from './gcs-port.ts'
import { GcsServer } from './gcs-server.ts'
import type { GcsProcessConfig } from './node-config.ts'
import { noteProcess, PID_FILES, writeWhole } from './session.ts'

export const GCS_PORT_FILE = 'gcs_server_port'

export class GcsProcess {
  readonly #config: GcsProcessConfig
  readonly #gcs: Gcs
  readonly #timers = new Map<string, NodeJS.Timeout>()
  #server: GcsServer<NodeToGcs, GcsToNode> | null = null

  constructor(config: GcsProcessConfig) {
    this.#config = config
    this.#gcs = new Gcs(gcsConfig(config.clusterId, config.system))
  }

  /** Returns its port. */
  async listen(): Promise<number> {
    const { host, port, token, sessionDir } = this.#config
    noteProcess(path.join(sessionDir, PID_FILES.gcs))
    this.#server = await GcsServer.listen<NodeToGcs, GcsToNode>(
      { host, port, token },
      {
        onMessage: (nodeId, message) => this.#local({ t: 'fromNode', nodeId, message }),
        onClose: (nodeId) => this.#local({ t: 'nodeGone', nodeId, detail: 'its connection to the GCS was closed' }),
        status: () => this.#gcs.status(),
      },
    )
    this.#perform(this.#gcs.step(performance.now(), { kind: 'start' }))
    writeWhole(path.join(sessionDir, GCS_PORT_FILE), String(this.#server.port)) // P1
    return this.#server.port
  }

  close(): void {
    this.#server?.close()
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
  }

  #local(event: GcsInput): void {
    this.#perform(this.#gcs.step(performance.now(), { kind: 'local', event }))
  }

  #perform(effects: ReturnType<Gcs['step']>): void {
    for (const effect of effects) {
      if (effect.kind === 'timer') this.#setTimer(effect.key, effect.at)
      else if (effect.kind !== 'local') continue
      else if (effect.event.t === 'toNode')
        this.#server?.send(effect.event.nodeId, effect.event.message) // P3
      else this.#server?.disconnect(effect.event.nodeId)
    }
  }

  #setTimer(key: string, at: number): void {
    clearTimeout(this.#timers.get(key))
    const run = (): void => {
      this.#timers.delete(key)
      this.#perform(this.#gcs.step(performance.now(), { kind: 'timer', key }))
    }
    this.#timers.set(key, setTimeout(run, Math.max(0, at - performance.now())))
  }
}
