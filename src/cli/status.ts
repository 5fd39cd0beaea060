// `ray status` and `ray health-check`: one question to the GCS.

import { makeError } from '../errors/index.ts'
import { askLocalStatus, askLocalWork, askStatus, askWork } from '../runtime/ask.ts'
import { localSessions } from '../runtime/cluster-files.ts'
import { type ClusterPlace, findCluster } from '../runtime/find-cluster.ts'
import type { ClusterStatus, NodeView } from '../wire/cluster.ts'
import type { NodeWork, WorkQuestion } from '../wire/work.ts'
import { statusText } from './status-text.ts'

/** A raylet that stands still must not hold up the answer of the others. */
const PATIENCE_MS = 3000

/** Who answers for a cluster. */
export interface Answerer {
  status(): Promise<ClusterStatus>
  work(node: NodeView, question: WorkQuestion): Promise<NodeWork>
}

export async function status({ address, verbose = false }: { address?: string; verbose?: boolean }): Promise<void> {
  console.log(statusText(await answerer(address).status(), new Date(), verbose))
}

/** Exit code 0 is healthy, as in Ray. */
export async function healthCheck({ address, component }: { address?: string; component?: string }): Promise<void> {
  await answerer(address).status()
  if (component === undefined) return
  console.error(`error: there is no component '${component}' in this cluster`)
  process.exitCode = 1
}

/** The cluster that is meant; where none was started here, the program that has one of its own, as in Ray the last of them. */
export function answerer(address: string | undefined): Answerer {
  const found = findCluster(address, process.env)
  const [program, ...others] = found ? [] : localSessions().reverse()
  if (program) {
    const { sessionDir, pid } = program
    if (others.length > 0)
      console.error(
        `${others.length + 1} programs have a cluster of their own here: this is the one of process ${pid}, which began last.`,
      )
    return {
      status: () => askLocalStatus(sessionDir),
      work: (_, question) => askLocalWork(sessionDir, question),
    }
  }
  const at = found ?? place(address)
  return {
    status: () => askStatus(at),
    work: (node, question) => askWork({ ...node.address, token: at.token, timeoutMs: PATIENCE_MS }, question),
  }
}

export function place(address: string | undefined): ClusterPlace {
  const found = findCluster(address, process.env)
  if (found) return found
  const message = 'Could not find any running Ray instance'
  const hint =
    'Please specify the one to connect to by setting `--address` flag or `RAY_ADDRESS` environment variable; `ray start --head` starts one.'
  throw makeError('INVALID_ARGUMENT', { message, hint })
}
