// Asks a GCS how its cluster is: one connection, one answer.

import { errorFromWire, makeError } from '../errors/index.ts'
import type { ClusterStatus } from '../wire/cluster.ts'
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
  const { host, port, token, timeoutMs = TIMEOUT_MS } = options
  return new Promise((resolve, reject) => {
    const dial = { host, port, token, nodeId: '', purpose: 'status', detail: () => null, timeoutMs } as const
    const socket = dialTcp(dial, {
      onAnswer: (answer) => {
        if (answer.t === 'refused') reject(errorFromWire(answer.error))
        else resolve(answer.detail as ClusterStatus)
        socket.destroy()
      },
      onFrame: () => {},
      onClose: () => reject(makeError('NO_CLUSTER', { detail: `no GCS answers at ${formatAddress({ host, port })}` })),
    })
  })
}
