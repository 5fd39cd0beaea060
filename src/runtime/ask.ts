// Asks a GCS how its cluster is, or to drain a node, and a raylet what it does: one connection, one answer.

import net from 'node:net'
import { errorFromWire, makeError } from '../errors/index.ts'
import type { ClusterStatus, DrainAnswer, DrainRequest } from '../wire/cluster.ts'
import { decodeMessage } from '../wire/codec.ts'
import { PROTOCOL_VERSION } from '../wire/messages.ts'
import type { LocalAnswer, LocalAsk, NodeWork, WorkQuestion } from '../wire/work.ts'
import { formatAddress, nodeSocketOf } from './cluster-files.ts'
import { dialTcp, FramedSocket } from './tcp.ts'

export interface AskOptions {
  readonly host: string
  readonly port: number
  readonly token: string | null
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 5000
/** The GCS gives the node some seconds to answer. */
const DRAIN_TIMEOUT_MS = 10_000

/** @throws NO_CLUSTER when nobody answers; AUTH_TOKEN_WRONG, PROTOCOL_MISMATCH. */
export function askStatus(options: AskOptions): Promise<ClusterStatus> {
  return ask(options, 'status', null) as Promise<ClusterStatus>
}

/** Answered also when the GCS ends before it has answered. @throws as `askStatus`. */
export function askDrain(options: AskOptions, request: DrainRequest): Promise<DrainAnswer> {
  const refusal =
    'the GCS has ended, or not answered in time (ray status shows whether the node is drained all the same)'
  const unanswered: DrainAnswer = { refusal }
  return ask({ timeoutMs: DRAIN_TIMEOUT_MS, ...options }, 'drain', request, unanswered) as Promise<DrainAnswer>
}

/** Of the raylet at that address. @throws as `askStatus`. */
export function askWork(options: AskOptions, question: WorkQuestion): Promise<NodeWork> {
  return ask(options, 'work', question) as Promise<NodeWork>
}

/** Of a node that is alone, by its socket. @throws as `askStatus`. */
export function askLocalStatus(sessionDir: string): Promise<ClusterStatus> {
  return askLocal(sessionDir, { about: 'status', ids: [] }) as Promise<ClusterStatus>
}

/** @throws as `askStatus`. */
export function askLocalWork(sessionDir: string, question: WorkQuestion): Promise<NodeWork> {
  return askLocal(sessionDir, { about: 'work', ...question }) as Promise<NodeWork>
}

/** `unanswered`: the answer when the question may have arrived, and none came. */
function ask(
  options: AskOptions,
  purpose: 'status' | 'drain' | 'work',
  question: unknown,
  unanswered?: unknown,
): Promise<unknown> {
  const { host, port, token, timeoutMs = TIMEOUT_MS } = options
  return new Promise((resolve, reject) => {
    let isAsked = false
    const dial = { host, port, token, nodeId: '', purpose, detail: () => question, timeoutMs } as const
    const socket = dialTcp(dial, {
      onAnswer: (answer) => {
        if (answer.t === 'refused') reject(errorFromWire(answer.error))
        else resolve(answer.detail)
        socket.destroy()
      },
      onConnect: () => {
        isAsked = true
      },
      onFrame: () => {},
      onClose: () => {
        if (isAsked && unanswered !== undefined) resolve(unanswered)
        else reject(makeError('NO_CLUSTER', { detail: `no GCS answers at ${formatAddress({ host, port })}` }))
      },
    })
  })
}

function askLocal(sessionDir: string, question: Pick<LocalAsk, 'about' | 'ids'>): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const detail = `the node of ${sessionDir} does not answer`
    const socket = net.connect(nodeSocketOf(sessionDir))
    const timer = setTimeout(() => socket.destroy(), TIMEOUT_MS)
    socket.once('close', () => clearTimeout(timer))
    const framed = new FramedSocket(socket, {
      onFrame: (buffer, start, end) => {
        const answer = decodeMessage<LocalAnswer>(buffer.subarray(start, end))
        if (answer.error) reject(errorFromWire(answer.error))
        else resolve(answer.detail)
        framed.destroy()
      },
      onClose: () => reject(makeError('NO_CLUSTER', { detail })),
    })
    framed.send({ t: 'ask', protocol: PROTOCOL_VERSION, ...question } as LocalAsk)
  })
}
