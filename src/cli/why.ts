// `ray why`: the GCS says which nodes, actors and groups there are, each raylet what runs and waits with it.

import { askStatus, askWork } from '../runtime/ask.ts'
import { place } from './status.ts'
import { type NodeAnswer, whyText } from './why-text.ts'

/** A raylet that stands still must not hold up the answer of the others. */
const PATIENCE_MS = 3000

export async function why(name: string | undefined, { address }: { address?: string }): Promise<void> {
  const at = place(address)
  const status = await askStatus(at)
  const living = status.nodes.filter(({ state }) => state !== 'DEAD')
  const answers = await Promise.all(
    living.map(async (node): Promise<NodeAnswer> => {
      const work = askWork({ ...node.address, token: at.token, timeoutMs: PATIENCE_MS })
      return { node, work: await work.catch(() => null) }
    }),
  )
  console.log(whyText(status, answers, name))
}
