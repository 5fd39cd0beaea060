// Nodes that are asked whether they are idle, and who waits for the answer. Only the node knows: what the GCS knows may be a report old.
//
//     who asks ──► node.drainIfIdle ──► node.drainAnswered ──► its answer
//
// Invariants:
//   A1. Everyone who asks gets one answer: the node's, or that it died, or that it said nothing in time.
//   A2. A question goes to its node once: again only when the node has come back without an answer to it, which it then never heard.

import type { NodeId } from '../ids/ids.ts'
import type { GcsToNode, NodeDrain } from '../wire/cluster.ts'

interface Question {
  readonly nodeId: NodeId
  readonly drain: NodeDrain
  isSaid: boolean
}

export class DrainQuestions {
  readonly #open = new Map<string, Question>()

  add(question: string, nodeId: NodeId, drain: NodeDrain): void {
    this.#open.set(question, { nodeId, drain, isSaid: false })
  }

  /** What the node is to be asked now. */
  takeUnsaid(nodeId: NodeId): (GcsToNode & { t: 'node.drainIfIdle' })[] {
    const words: (GcsToNode & { t: 'node.drainIfIdle' })[] = []
    for (const [question, one] of this.#open) {
      if (one.nodeId !== nodeId || one.isSaid) continue
      one.isSaid = true
      words.push({ t: 'node.drainIfIdle', question, drain: one.drain })
    }
    return words
  }

  /** It has come back, and will say again what it had said: after that, what it has not answered it has not heard (A2). */
  cameBack(nodeId: NodeId): void {
    for (const one of this.#open.values()) if (one.nodeId === nodeId) one.isSaid = false
  }

  /** False: it had its answer. */
  end(question: string): boolean {
    return this.#open.delete(question)
  }

  endOf(nodeId: NodeId): string[] {
    const ended = [...this.#open].filter(([, one]) => one.nodeId === nodeId).map(([question]) => question)
    for (const question of ended) this.#open.delete(question)
    return ended
  }
}
