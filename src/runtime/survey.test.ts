// Fails when whoever asks a node waits for a process that has left, or is given the answers to another question.

import { expect, test } from 'vitest'
import { makeObjectId } from '../ids/ids.ts'
import { PROTOCOL_VERSION } from '../wire/messages.ts'
import type { WorkAsk } from '../wire/work.ts'
import { Survey } from './survey.ts'

const HERE = { total: {}, free: {}, running: [], waiting: [] }
const WORK = { jobId: '01000000', waiting: [], isCut: false, makers: [] }

function world(tags: readonly number[]): { survey: Survey; sent: [number, WorkAsk][] } {
  const sent: [number, WorkAsk][] = []
  const survey = new Survey({
    send: (to, message) => sent.push([to, message]),
    processes: () => tags.map((tag) => ({ tag, pid: tag * 10 })),
    here: () => HERE,
    status: () => null,
  })
  return { survey, sent }
}

test('[ARCH-22] a question ends when all have answered or left; owners are asked for their own values', async () => {
  const { survey, sent } = world([1, 2])
  const id = makeObjectId(2, 5)
  const asked = survey.work({ ids: [id] })
  expect(sent.map(([to, { ids }]) => [to, ids])).toEqual([
    [1, []],
    [2, [id]],
  ])
  const question = sent[0]?.[1].question ?? 0
  survey.onAnswer(1, { t: 'work.is', question: question + 1, work: WORK })
  survey.onAnswer(1, { t: 'work.is', question, work: WORK })
  survey.onGone(2)
  expect(await asked).toEqual({ ...HERE, processes: [{ ...WORK, pid: 10 }], silent: [] })
})

test('[ARCH-22] over the socket of a node: another protocol is refused', async () => {
  const { survey } = world([])
  const question = { t: 'ask', about: 'work', ids: [] } as const
  expect(await survey.answer({ ...question, protocol: PROTOCOL_VERSION + 1 })).toMatchObject({
    error: { code: 'PROTOCOL_MISMATCH' },
  })
  expect(await survey.answer({ ...question, protocol: PROTOCOL_VERSION })).toMatchObject({ error: null })
})
