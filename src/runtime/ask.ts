// Asks a GCS how its cluster is, or to drain a node, and a raylet what it does: one connection, one answer.

import { errorFromWire, makeError } from '../errors/index.ts'
import type { ClusterStatus, DrainAnswer, DrainRequest, NodeWork } from '../wire/cluster.ts'
import { formatAddress } from './cluster-files.ts'
import { dialTcp } from './tcp.ts'

export interface AskOptions {
  readonly host: string
  readonly port: number
  readonly token: string | null
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 5000

/** @throws NO_CLUSTER when nobody answers; AUTH_TOKEN_WRONG, PROTOCOL_MISMATCH. */
export function askStatus(options: AskOptions): Promise<ClusterStatus> {
  return ask(options, 'status', null) as Promise<ClusterStatus>
}

/** @throws as `askStatus`. */
export function askDrain(options: AskOptions, request: DrainRequest): Promise<DrainAnswer> {
  return ask(options, 'drain', request) as Promise<DrainAnswer>
}

/** Of the raylet at that address. @throws as `askStatus`. */
export function askWork(options: AskOptions): Promise<NodeWork> {
  return ask(options, 'work', null) as Promise<NodeWork>
}

function ask(options: AskOptions, purpose: 'status' | 'drain' | 'work', question: unknown): Promise<unknown> {
  const { host, port, token, timeoutMs = TIMEOUT_MS } = options
  return new Promise((resolve, reject) => {
    const dial = { host, port, token, nodeId: '', purpose, detail: () => question, timeoutMs } as const
    const socket = dialTcp(dial, {
      onAnswer: (answer) => {
        if (answer.t === 'refused') reject(errorFromWire(answer.error))
        else resolve(answer.detail)
        socket.destroy()
      },
      onFrame: () => {},
      onClose: () => reject(makeError('NO_CLUSTER', { detail: `no GCS answers at ${formatAddress({ host, port })}` })),
    })
  })
}
