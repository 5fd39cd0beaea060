// What a node says to a GCS that may die. Failure here looks like an actor that nobody makes, a question that is never answered, or
// a handle that hears nothing more of its actor.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { GcsToNode, NodeToGcs } from '../wire/cluster.ts'
import type { ExitInfo, FromNode, ToNode } from '../wire/messages.ts'
import { GcsStream } from './gcs-stream.ts'

const forward = (from: number, message: ToNode): NodeToGcs => ({ t: 'forward', from, message })
const put = (key: string): NodeToGcs => forward(1, { t: 'kv.put', key, value: new Uint8Array(0), overwrite: true })
const find = (requestId: number): ToNode => ({ t: 'actor.find', requestId, name: 'x', namespace: 'ns' })
const subscribe = (actorId: string): ToNode => ({ t: 'actor.subscribe', actorId, owner: 9 })
const report: NodeToGcs = { t: 'node.report', available: {}, waiting: 0, demand: [] }
const resumed: NodeToGcs = { t: 'node.resumed' }
const gone = (tag: number): NodeToGcs => ({ t: 'worker.gone', exit: { tag } as ExitInfo, kind: 'worker' })
const deliver = (stream: GcsStream, to: number, message: object): boolean =>
  stream.hear({ t: 'deliver', to, message: message as FromNode })

function live(): GcsStream {
  const stream = new GcsStream()
  expect(stream.resume()).toEqual([resumed])
  return stream
}

test('[ARCH-07] what was not acknowledged is said again, in order; what was is not', () => {
  const stream = live()
  expect([put('a'), report, put('b'), put('c')].map((one) => stream.say(one))).toEqual([true, true, true, true])
  stream.hear({ t: 'acked', count: 3 }) // resumed, a, report
  expect(stream.kept).toBe(2)
  stream.cut()
  expect([stream.say(put('d')), stream.say(report)]).toEqual([false, false])
  expect(stream.resume()).toEqual([put('b'), put('c'), put('d'), resumed])
  stream.hear({ t: 'acked', count: 3 })
  expect(stream.kept).toBe(0)
  stream.cut()
  expect(stream.resume()).toEqual([resumed])
})

test('[ARCH-07] [PG-01] what the GCS said before it knew what the node had is not heard: it takes that for lost', () => {
  const id = { groupId: 'g', indices: [0] }
  const prepare: GcsToNode = {
    t: 'bundles.do',
    steps: [{ t: 'prepare', bundles: id, attempt: 1, resources: [{ CPU: 10_000 }], isWhole: true }],
  }
  const registered = { t: 'node.registered' } as GcsToNode
  const stream = new GcsStream()
  expect([stream.hear(prepare), stream.hear(registered)]).toEqual([false, true])
  stream.resume()
  expect(stream.hear(prepare)).toBe(true)
  stream.say(put('a'))
  stream.cut() // It registers anew, without the bundle or with it.
  expect([stream.hear(prepare), stream.hear({ t: 'acked', count: 2 })]).toEqual([false, false])
  expect(stream.hear({ t: 'node.end', detail: 'it is dead' })).toBe(true)
  expect(stream.resume()).toEqual([put('a'), resumed])
})

test('[ARCH-07] questions are asked again until they are answered', () => {
  const stream = live()
  stream.say(forward(1, find(7)))
  stream.say(forward(2, find(7)))
  stream.hear({ t: 'acked', count: 3 })
  deliver(stream, 2, { t: 'actor.found', requestId: 7, info: null })
  stream.cut()
  expect(stream.resume()).toEqual([forward(1, find(7)), resumed])
  deliver(stream, 1, { t: 'actor.found', requestId: 7, info: null })
  stream.cut()
  expect(stream.resume()).toEqual([resumed])
})

test('[ARCH-07] who follows an actor is said again, until it is dead, given up, or the follower is gone', () => {
  const stream = live()
  for (const [from, actorId] of [
    [1, 'a'],
    [1, 'b'],
    [2, 'a'],
    [3, 'a'],
  ] as const) {
    stream.say(forward(from, subscribe(actorId)))
  }
  stream.say(forward(1, { t: 'actor.unsubscribe', actorId: 'b' }))
  stream.say(gone(3))
  stream.hear({ t: 'acked', count: 100 })
  stream.cut()
  expect(stream.resume()).toEqual([forward(1, subscribe('a')), forward(2, subscribe('a')), resumed])
  deliver(stream, 2, { t: 'actor.state', info: { actorId: 'a', state: 'RESTARTING' } })
  deliver(stream, 1, { t: 'actor.state', info: { actorId: 'a', state: 'DEAD' } })
  stream.hear({ t: 'acked', count: 3 })
  stream.cut()
  expect(stream.resume()).toEqual([forward(2, subscribe('a')), resumed])
})

test('[ARCH-07] whatever is cut when: all arrives, in the order in which it was said', () => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.constant('say' as const) },
    fc.constantFrom('cut' as const, 'resume' as const),
    fc.record({ deliver: fc.nat(5), ack: fc.boolean() }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const stream = new GcsStream()
      const heard: string[] = []
      let said = 0
      let wire: NodeToGcs[] = []
      let count = 0
      let isUp = false
      const hear = (most: number): void => {
        for (const one of wire.splice(0, most)) {
          count++
          if (one.t === 'forward' && one.message.t === 'kv.put') heard.push(one.message.key)
        }
      }
      const resume = (): void => {
        if (isUp) return
        isUp = true
        count = 0
        wire = stream.resume()
      }
      for (const one of [...steps, 'cut' as const, 'resume' as const, { deliver: 1e9, ack: true }]) {
        if (one === 'say') {
          const message = put(String(++said))
          if (stream.say(message)) wire.push(message)
        } else if (one === 'cut') {
          stream.cut()
          isUp = false
          wire = []
        } else if (one === 'resume') resume()
        else if (isUp) {
          hear(one.deliver)
          if (one.ack) stream.hear({ t: 'acked', count })
        }
      }
      // Each for the first time in order; again only from where an acknowledgement is missing.
      const firsts = [...new Set(heard)]
      expect(firsts).toEqual(Array.from({ length: said }, (_, i) => String(i + 1)))
      expect(stream.kept).toBe(0)
    }),
    { numRuns: 500 },
  )
})
