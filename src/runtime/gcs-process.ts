// The GCS as a process of its own: sockets and storage around its machine (durable-gcs.ts).
//
//   P1. Its port is in a file of the session before anybody is told that it is ready.
//   P2. It ends quietly on SIGTERM: nodes look for it until they have waited long enough.
//   P3. A node is told nothing before it connected, and a message that its connection no longer takes is lost: it is said again when
//       the node has resumed.
//   P4. Nodes are let in when all that was durable is loaded. When its state cannot be kept it ends: another one goes on from there.

import path from 'node:path'
import { makeError } from '../errors/index.ts'
import type { GcsToNode, NodeToGcs } from '../wire/cluster.ts'
import { DurableGcs } from './durable-gcs.ts'
import { gcsConfig } from './gcs-port.ts'
import { GcsServer } from './gcs-server.ts'
import { type GcsStorage, makeGcsStorage, redisFromEnv } from './gcs-storage.ts'
import type { GcsProcessConfig } from './node-config.ts'
import { noteProcess, PID_FILES, writeWhole } from './session.ts'

export const GCS_PORT_FILE = 'gcs_server_port'

export class GcsProcess {
  readonly #config: GcsProcessConfig
  readonly #onFailed: (error: unknown) => void
  #gcs: DurableGcs | null = null
  #server: GcsServer<NodeToGcs, GcsToNode> | null = null

  /** `onFailed`: its state cannot be kept any more (P4). */
  constructor(config: GcsProcessConfig, onFailed: (error: unknown) => void) {
    this.#config = config
    this.#onFailed = onFailed
  }

  /** Returns its port. @throws GCS_STORAGE_…, AUTH_TOKEN_MISSING, or what listening fails with. */
  async listen(): Promise<number> {
    const { clusterId, system, host, port, token, sessionDir } = this.#config
    noteProcess(path.join(sessionDir, PID_FILES.gcs))
    const gcs = await DurableGcs.start(gcsConfig(clusterId, system), await storageOf(this.#config), {
      send: (nodeId, message) => this.#server?.send(nodeId, message), // P3
      disconnect: (nodeId) => this.#server?.disconnect(nodeId),
      failed: this.#onFailed,
    })
    this.#gcs = gcs
    const server = await GcsServer.listen<NodeToGcs, GcsToNode>(
      { host, port, token },
      {
        onOpen: (nodeId) => gcs.onOpen(nodeId),
        onMessages: (nodeId, messages) => gcs.onMessages(nodeId, messages),
        onClose: (nodeId) => gcs.onClose(nodeId),
        status: () => gcs.gcs.status(),
        drain: (request) => gcs.drain(request),
      },
    )
    this.#server = server
    writeWhole(path.join(sessionDir, GCS_PORT_FILE), String(server.port)) // P1
    return server.port
  }

  async close(): Promise<void> {
    this.#server?.close()
    await this.#gcs?.close()
  }
}

async function storageOf({ storage }: GcsProcessConfig): Promise<GcsStorage | null> {
  if (storage === null) return null
  const warn = (message: string): void => console.error(message)
  if (storage.kind === 'lmdb') return makeGcsStorage({ dir: storage.dir, redis: null, warn })
  const redis = redisFromEnv(process.env)
  if (redis) return makeGcsStorage({ dir: '', redis, warn })
  const message = 'the GCS is to keep its state in Redis, but RAY_REDIS_ADDRESS is not set'
  throw makeError('INVALID_ARGUMENT', { message, hint: 'Set it to host:port, or start the head without it.' })
}
