// `ray drain-node`: a node takes nothing new, and ends when nothing is left there or its time is over.

import { makeError } from '../errors/index.ts'
import { askDrain } from '../runtime/ask.ts'
import { startedNodes } from '../runtime/cluster-files.ts'
import type { DrainReason } from '../wire/cluster.ts'
import { place } from './status.ts'

export interface DrainFlags {
  readonly address?: string
  readonly nodeId?: string
  readonly reason: `DRAIN_NODE_REASON_${DrainReason}`
  readonly reasonMessage: string
  readonly deadlineRemainingSeconds?: number
}

export async function drainNode(flags: DrainFlags): Promise<void> {
  const { address, reasonMessage: message, deadlineRemainingSeconds } = flags
  const reason = flags.reason.replace('DRAIN_NODE_REASON_', '') as DrainReason
  const nodeId = flags.nodeId ?? nodeHere()
  const deadlineMs = deadlineRemainingSeconds === undefined ? null : deadlineRemainingSeconds * 1000
  const { refusal } = await askDrain(place(address), { nodeId, reason, message, deadlineMs })
  if (refusal !== null) {
    console.error(`error: the node ${nodeId} is not drained: ${refusal}`)
    process.exitCode = 1
    return
  }
  console.log(`The node ${nodeId} is being drained.`)
}

function nodeHere(): string {
  const [first, ...others] = startedNodes().filter(({ nodePid }) => nodePid !== null)
  if (first && others.length === 0) return first.nodeId
  const message = first ? 'several nodes run on this machine' : 'no node runs on this machine'
  throw makeError('INVALID_ARGUMENT', { message, hint: 'Name one with --node-id: ray status lists them.' })
}
