// `ray why`: the GCS says which nodes, actors and groups there are, each raylet what runs and waits with it and its processes.

import { type ObjectId, ownerOf } from '../ids/ids.ts'
import type { NodeView } from '../wire/cluster.ts'
import { isAmong } from '../wire/tag-map.ts'
import type { Maker } from '../wire/work.ts'
import { type Answerer, answerer } from './status.ts'
import { type NodeAnswer, whyText } from './why-text.ts'

export async function why(name: string | undefined, { address }: { address?: string }): Promise<void> {
  const ask = answerer(address)
  const status = await ask.status()
  const living = status.nodes.filter(({ state }) => state !== 'DEAD')
  const answers = await Promise.all(
    living.map(async (node): Promise<NodeAnswer> => {
      return { node, work: await ask.work(node, { ids: [] }).catch(() => null) }
    }),
  )
  const makers = await makersOf(foreign(answers), living, ask)
  console.log(whyText(status, answers, { makers, ...(name === undefined ? {} : { name }) }))
}

/** Values that others wait for than their owners: these know what makes them. */
function foreign(answers: readonly NodeAnswer[]): ObjectId[] {
  const waiting = answers.flatMap(({ work }) => work?.processes ?? []).flatMap((one) => one.waiting)
  return [...new Set(waiting.filter(({ maker }) => maker === null).map(({ id }) => id))]
}

async function makersOf(
  ids: readonly ObjectId[],
  nodes: readonly NodeView[],
  ask: Answerer,
): Promise<ReadonlyMap<ObjectId, Maker>> {
  const found = await Promise.all(
    nodes.map(async (node) => {
      const own = ids.filter((id) => isAmong(node.tagBlocks, ownerOf(id)))
      if (own.length === 0) return []
      const work = await ask.work(node, { ids: own }).catch(() => null)
      return work?.processes.flatMap(({ makers }) => makers) ?? []
    }),
  )
  return new Map(found.flat())
}
