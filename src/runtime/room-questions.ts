// What programs ask of a cluster's nodes: answered when the raylet has heard what all of them have free.

import { add } from '../scheduling/resources.ts'
import type { FromNode, NodeInfo, Resources, ToNode } from '../wire/messages.ts'

export type RoomQuestion = Extract<ToNode, { t: 'cluster.resources' | 'cluster.nodes' }>

export interface RoomQuestionsOptions {
  /** The raylet is to learn it; `known` says when it has. */
  learn(): void
  nodes(): NodeInfo[]
}

/** Without a GCS nobody says what other nodes have free: then the answer is what was last heard. */
const PATIENCE_MS = 1000

export class RoomQuestions {
  readonly #options: RoomQuestionsOptions
  readonly #waiting: (() => void)[] = []

  constructor(options: RoomQuestionsOptions) {
    this.#options = options
  }

  ask(question: RoomQuestion, answer: (message: FromNode) => void): void {
    this.#waiting.push(() => answer(this.#answerTo(question)))
    this.#options.learn()
    if (this.#waiting.length > 0) setTimeout(() => this.known(), PATIENCE_MS).unref()
  }

  known(): void {
    for (const answer of this.#waiting.splice(0)) answer()
  }

  #answerTo({ t, requestId }: RoomQuestion): FromNode {
    const nodes = this.#options.nodes()
    if (t === 'cluster.nodes') return { t: 'cluster.nodesAre', requestId, nodes }
    const alive = nodes.filter((one) => one.alive)
    const [total, available] = [sum(alive.map((one) => one.total)), sum(alive.map((one) => one.available))]
    return { t: 'cluster.resourcesAre', requestId, total, available }
  }
}

function sum(all: readonly Resources[]): Resources {
  const total: Record<string, number> = {}
  for (const one of all) add(total, one)
  return total
}
