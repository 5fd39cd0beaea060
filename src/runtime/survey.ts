// What a node answers to `ray why`: what its raylet knows, and which tasks of its processes wait for arguments, which only these know.
//
//   V1. A question ends when all have answered or left, or after `PATIENCE_MS`: who computes does not answer.
//   V2. Who asks by the node's socket may read the session folder, and needs no token.

import { type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import type { ClusterStatus } from '../wire/cluster.ts'
import { PROTOCOL_VERSION } from '../wire/messages.ts'
import type { LocalAnswer, LocalAsk, NodeWork, ProcessWork, WorkAsk, WorkIs, WorkQuestion } from '../wire/work.ts'

const PATIENCE_MS = 1000

export interface SurveyOptions {
  send(to: WorkerTag, message: WorkAsk): void
  processes(): Iterable<{ readonly tag: WorkerTag; readonly pid: number }>
  here(): Omit<NodeWork, 'processes' | 'silent'>
  /** null: the GCS is to be asked. */
  status(): ClusterStatus | null
}

interface Question {
  readonly missing: Map<WorkerTag, number>
  readonly answers: (ProcessWork & { readonly pid: number })[]
  readonly end: () => void
}

export class Survey {
  readonly #options: SurveyOptions
  readonly #open = new Map<number, Question>()
  #asked = 0

  constructor(options: SurveyOptions) {
    this.#options = options
  }

  async work({ ids }: WorkQuestion): Promise<NodeWork> {
    const asked = await this.#ask(ids)
    return { ...this.#options.here(), ...asked }
  }

  /** Of a node that is alone, which listens on no port. */
  async answer({ protocol, about, ids }: LocalAsk): Promise<LocalAnswer> {
    if (protocol !== PROTOCOL_VERSION) {
      const params = { own: protocol, theirs: PROTOCOL_VERSION }
      return { t: 'answer', detail: null, error: { code: 'PROTOCOL_MISMATCH', params } }
    }
    const detail = about === 'status' ? this.#options.status() : await this.work({ ids })
    return { t: 'answer', detail, error: null }
  }

  onAnswer(from: WorkerTag, { question, work }: WorkIs): void {
    const one = this.#open.get(question)
    const pid = one?.missing.get(from)
    if (!one || pid === undefined) return
    one.answers.push({ ...work, pid })
    settle(one, from)
  }

  onGone(tag: WorkerTag): void {
    for (const one of this.#open.values()) settle(one, tag)
  }

  #ask(ids: readonly ObjectId[]): Promise<Pick<NodeWork, 'processes' | 'silent'>> {
    const question = ++this.#asked
    const missing = new Map([...this.#options.processes()].map(({ tag, pid }) => [tag, pid]))
    if (missing.size === 0) return Promise.resolve({ processes: [], silent: [] })
    return new Promise((resolve) => {
      const answers: Question['answers'] = []
      const end = (): void => {
        clearTimeout(timer)
        this.#open.delete(question)
        resolve({ processes: answers, silent: [...missing.values()] })
      }
      const timer = setTimeout(end, PATIENCE_MS)
      this.#open.set(question, { missing, answers, end })
      for (const tag of missing.keys()) {
        const own = ids.filter((id) => ownerOf(id) === tag)
        this.#options.send(tag, { t: 'work.ask', question, ids: own })
      }
    })
  }
}

/** V1 */
function settle({ missing, end }: Question, tag: WorkerTag): void {
  if (missing.delete(tag) && missing.size === 0) end()
}
