// Deliberate bugs. Each breaks one thing in a machine or a message, as a small patch; the simulation must notice within `seeds` seeds.
// One that survives is a missing check, or something that the machines do not need.

import type { CoreWorker } from '../core-worker/core-worker.ts'
import type { Gcs } from '../gcs/gcs.ts'
import { type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import type { ObjectTransfer } from '../object-store/transfer.ts'
import type { Raylet } from '../raylet/raylet.ts'
import type { GcsToNode, NodeToGcs, RayletToRaylet } from '../wire/cluster.ts'
import type { FromNode, ToNode } from '../wire/messages.ts'
import type { ResumableLink } from '../wire/resume.ts'
import type { Cluster } from './cluster.ts'
import type { SimNode } from './node.ts'

export interface Bug {
  readonly name: string
  readonly what: string
  /** Found within so many seeds. */
  readonly seeds: number
  readonly core?: (core: CoreWorker) => void
  /** Only where there are several nodes; else only where there is one. */
  readonly isOfMany?: true
  readonly raylet?: (raylet: Raylet, cluster: Cluster) => void
  readonly gcs?: (gcs: Gcs) => void
  readonly transfer?: (transfer: ObjectTransfer) => void
  /** What a process says to its node. */
  readonly toNode?: (message: ToNode) => readonly ToNode[]
  /** What the node says to a process. */
  readonly fromNode?: (message: FromNode, to: WorkerTag, cluster: Cluster) => readonly FromNode[]
  readonly toRaylet?: (message: GcsToNode, cluster: Cluster) => readonly GcsToNode[]
  /** What a raylet says to another, and hears of it. */
  readonly toPeer?: (message: RayletToRaylet, node: SimNode) => readonly RayletToRaylet[]
  readonly fromPeer?: (message: RayletToRaylet, node: SimNode) => readonly RayletToRaylet[]
  readonly node?: (node: SimNode) => void
  readonly link?: (link: ResumableLink) => void
  readonly toGcs?: (message: NodeToGcs, cluster: Cluster) => readonly NodeToGcs[]
}

/** Every `n`th time. */
function every(n: number): () => boolean {
  let times = 0
  return () => ++times % n === 0
}

const NOTHING: readonly never[] = []

export const BUGS: readonly Bug[] = [
  // References
  {
    name: 'pinForgotten',
    what: 'what a task pins is never released',
    seeds: 20,
    core: ({ table }) => {
      const hold = table.hold.bind(table)
      table.hold = (id) => {
        hold(id)
        if (table.owned.has(id)) hold(id)
      }
    },
  },
  {
    name: 'releasedTwice',
    what: 'now and then a hold is given back twice',
    seeds: 60,
    core: ({ table }) => {
      const release = table.release.bind(table)
      const isTime = every(25)
      table.release = (id, effects) => {
        release(id, effects)
        if (isTime()) release(id, effects)
      }
    },
  },
  {
    name: 'refAddLost',
    what: 'a hold granted to another process is not told to the owner',
    seeds: 60,
    toNode: (message) => (message.t === 'ref.route' && message.body.t === 'ref.add' ? NOTHING : [message]),
  },
  {
    name: 'refAddDoubled',
    what: 'a granted hold is told twice',
    seeds: 60,
    toNode: (message) => (message.t === 'ref.route' && message.body.t === 'ref.add' ? [message, message] : [message]),
  },
  {
    name: 'refRemoveLost',
    what: 'a borrower does not say that it has let go',
    seeds: 60,
    toNode: (message) => (message.t === 'ref.route' && message.body.t === 'ref.remove' ? NOTHING : [message]),
  },
  {
    name: 'refRemoveCountsOne',
    what: 'a borrower gives back one hold, however many it was granted',
    seeds: 150,
    toNode: (message) =>
      message.t === 'ref.route' && message.body.t === 'ref.remove'
        ? [{ ...message, body: { ...message.body, count: 1 } }]
        : [message],
  },
  {
    name: 'borrowedNotGranted',
    what: 'what a worker keeps of its arguments is not granted to it by the owner',
    seeds: 100,
    core: ({ table }) => {
      const grant = table.grant.bind(table)
      table.grant = (id, to, effects) => {
        if (to === table.tag || !table.owned.has(id)) grant(id, to, effects)
      }
    },
  },
  {
    name: 'dyingBorrowerCounts',
    what: 'holds of a dead borrower are kept',
    seeds: 200,
    core: ({ table }) => {
      table.onWorkerDied = () => {}
    },
  },
  {
    name: 'holdsNegativeDrop',
    what: 'a negative count is taken for none: the object goes before its grant arrives',
    seeds: 400,
    core: ({ table }) => {
      const onRefMessage = table.onRefMessage.bind(table)
      const received = table.received.bind(table)
      const forget = (id: ObjectId): void => {
        const borrowers = table.owned.get(id)?.borrowers
        for (const [key, count] of borrowers ?? []) if (count < 0) borrowers?.delete(key)
      }
      table.onRefMessage = (body, effects) => {
        onRefMessage(body, effects)
        if ('id' in body) forget(body.id)
      }
      table.received = (id, via, effects) => {
        received(id, via, effects)
        forget(id)
      }
    },
  },
  {
    name: 'transitNotSettled',
    what: 'what a dead process had given away is never asked after',
    seeds: 2000,
    toNode: (message) => (message.t === 'ref.route' && message.body.t === 'ref.settle' ? NOTHING : [message]),
  },
  {
    name: 'ownTransitKept',
    what: 'what a dead process had counted for its asker and not sent stays counted',
    seeds: 400,
    core: ({ table }) => {
      const onWorkerDied = table.onWorkerDied.bind(table)
      table.onWorkerDied = (tag, effects) => {
        const counted = [...table.owned].flatMap(([id, { borrowers }]) =>
          [...(borrowers ?? [])]
            .filter(([key]) => Math.floor(key / 2 ** 21) === tag)
            .map(([key, n]) => ({ id, key, n })),
        )
        onWorkerDied(tag, effects)
        for (const { id, key, n } of counted) table.owned.get(id)?.borrowers?.set(key, n)
      }
    },
  },
  {
    name: 'leftCopiesKept',
    what: 'copies that a dead process had made and told nobody of are kept',
    seeds: 400,
    core: ({ table }) => {
      table.claim = () => {}
    },
  },
  // Objects
  {
    name: 'publishLost',
    what: 'a value whose reference has left is not published',
    seeds: 40,
    toNode: (message) => (message.t === 'object.publish' ? NOTHING : [message]),
  },
  {
    name: 'unpublishLost',
    what: 'an object that is gone stays published',
    seeds: 40,
    toNode: (message) => (message.t === 'object.unpublish' ? NOTHING : [message]),
  },
  {
    name: 'freeLost',
    what: 'stored copies are not freed',
    seeds: 40,
    toNode: (message) => (message.t === 'object.free' ? NOTHING : [message]),
  },
  {
    name: 'freedEarly',
    what: 'a stored value is freed as soon as it is fulfilled',
    seeds: 40,
    core: (core) => {
      const fulfil = core.table.fulfil.bind(core.table)
      core.table.fulfil = (id, state, effects) => {
        fulfil(id, state, effects)
        if (state.kind !== 'stored' || ownerOf(state.storageId) === core.tag) return
        effects.push({ t: 'toNode', message: { t: 'object.free', storageIds: [state.storageId] } })
      }
    },
  },
  {
    name: 'ownerDeathUnanswered',
    what: 'whoever waits for a dead owner waits for ever',
    seeds: 600,
    raylet: ({ hub: { directory } }) => {
      const onWorkerDied = directory.onWorkerDied.bind(directory)
      directory.onWorkerDied = (tag) => ({ ...onWorkerDied(tag), answers: [] })
    },
  },
  {
    name: 'unresolveLost',
    what: 'who waits no more for a value does not say so',
    seeds: 4000,
    toNode: (message) => (message.t === 'object.unresolve' ? NOTHING : [message]),
  },
  // Leases
  {
    name: 'grantTwice',
    what: 'a repeated request is taken for a new one',
    seeds: 100,
    raylet: ({ leases }) => {
      const request = leases.request.bind(leases)
      leases.request = (leaseId, owner, spec) => {
        if (leases.leases.has(leaseId)) leases.leases.delete(leaseId)
        return request(leaseId, owner, spec)
      }
    },
  },
  {
    name: 'leasedToTwo',
    what: 'a leased worker counts as idle now and then',
    seeds: 60,
    raylet: ({ pool }) => {
      const idle = pool.idle.bind(pool)
      const isTime = every(12)
      pool.idle = (...wanted) => {
        const leased = [...pool.workers.values()].find(({ state }) => state === 'leased')
        return isTime() && leased ? leased : idle(...wanted)
      }
    },
  },
  {
    name: 'returnLost',
    what: 'a lease is not given back now and then',
    seeds: 40,
    toNode: (() => {
      const isTime = every(7)
      return (message: ToNode) => (message.t === 'lease.return' && isTime() ? NOTHING : [message])
    })(),
  },
  {
    name: 'cancelledRequestStays',
    what: 'a withdrawn request stays in the queue',
    seeds: 200,
    raylet: ({ leases }) => {
      leases.withdraw = () => undefined
    },
  },
  {
    name: 'lendsTooMuch',
    what: 'a blocked worker lends its CPU and does not take it back',
    seeds: 200,
    raylet: ({ leases }) => {
      leases.unblock = () => {}
    },
  },
  {
    name: 'blockedKeepsCpu',
    what: 'a worker that waits keeps its CPU',
    seeds: 40,
    raylet: ({ leases }) => {
      leases.block = () => false
    },
  },
  {
    name: 'resourcesLeak',
    what: 'a tenth of the CPUs of a lease is not given back',
    seeds: 20,
    raylet: ({ leases }) => {
      const end = leases.end.bind(leases)
      leases.end = (leaseId) => {
        const granted = end(leaseId)
        if (granted?.held.CPU) leases.free.CPU = (leases.free.CPU ?? 0) - granted.held.CPU / 10
        return granted
      }
    },
  },
  {
    name: 'infeasibleWaits',
    what: 'a request that no node can fit waits for ever',
    seeds: 60,
    raylet: ({ leases, spill }) => {
      const request = leases.request.bind(leases)
      leases.request = (leaseId, owner, spec) => request(leaseId, owner, { ...spec, onInfeasible: 'wait' })
      const choose = spill.choose.bind(spill)
      spill.choose = (spec, ...rest) => choose({ ...spec, onInfeasible: 'wait' }, ...rest)
    },
  },
  {
    name: 'deadOwnerKeepsLeases',
    what: 'a dead owner keeps what it had leased and asked for',
    seeds: 400,
    raylet: (raylet) => {
      raylet.leases.withdrawOf = () => {}
    },
  },
  {
    name: 'workerNeverIdle',
    what: 'a returned worker is not used again',
    seeds: 40,
    raylet: ({ pool }) => {
      pool.release = () => {}
    },
  },
  // Tasks
  {
    name: 'deathUnheard',
    what: 'an owner is not told that a worker died',
    seeds: 60,
    core: (core) => {
      const onMessage = core.onMessage.bind(core)
      core.onMessage = (now, message) => {
        if (message.t !== 'worker.died') onMessage(now, message)
      }
    },
  },
  {
    name: 'deathJudgedEarly',
    what: 'a death is judged before the answers that are on their way',
    seeds: 600,
    core: (core) => {
      core.onConnected = () => {}
    },
  },
  {
    name: 'oneRetryTooMany',
    what: 'a task is retried once more than it may be',
    seeds: 150,
    core: (core) => {
      const submit = core.submit.bind(core)
      core.submit = (now, task) => {
        if (task.retriesLeft >= 0) task.retriesLeft++
        submit(now, task)
      }
    },
  },
  {
    name: 'retriesForgotten',
    what: 'a task is not retried',
    seeds: 100,
    core: (core) => {
      const submit = core.submit.bind(core)
      core.submit = (now, task) => {
        task.retriesLeft = 0
        submit(now, task)
      }
    },
  },
  {
    name: 'bounceLost',
    what: 'a task that a busy worker gave back is forgotten',
    seeds: 100,
    core: (core) => {
      core.onBounced = () => {}
    },
  },
  {
    name: 'valuesSwapped',
    what: 'the returns of a task with several come in reverse',
    seeds: 40,
    core: (core) => {
      const complete = core.complete.bind(core)
      core.complete = (now, task, states, micros) => complete(now, task, [...states].reverse(), micros)
    },
  },
  {
    name: 'itemsRepeated',
    what: 'items that a retried generator sends again are taken for new ones',
    seeds: 1000,
    core: ({ streams }) => {
      const accepts = streams.accepts.bind(streams)
      streams.accepts = (sequence, index) => {
        const stream = streams.get(sequence)
        return stream ? accepts(sequence, stream.received) : index < 0
      }
    },
  },
  {
    name: 'refusalUnheard',
    what: 'an owner does not hear that its request was refused',
    seeds: 60,
    fromNode: (message) => (message.t === 'lease.refused' ? NOTHING : [message]),
  },
  // Actors
  {
    name: 'twoIncarnations',
    what: 'an actor is restarted before its old process has ended',
    seeds: 400,
    gcs: ({ actors }) => {
      const kill = actors.kill.bind(actors)
      actors.kill = (actorId, noRestart, detail) => {
        const info = actors.list(null).find((actor) => actor.actorId === actorId)
        const worker = info?.address
        if (!noRestart && worker) {
          const { tag, pid } = worker
          const exit = { tag, pid, code: null, signal: 'SIGKILL', lastLines: [], reason: 'killed', detail } as const
          actors.workerGone(exit)
        }
        kill(actorId, noRestart, detail)
      }
    },
  },
  {
    name: 'restartForgotten',
    what: 'an actor that may restart does not',
    seeds: 400,
    gcs: ({ actors }) => {
      const create = actors.create.bind(actors)
      actors.create = (from, spec) => create(from, { ...spec, maxRestarts: 0 })
    },
  },
  {
    name: 'restartsForEver',
    what: 'an actor restarts more often than it may',
    seeds: 400,
    gcs: ({ actors }) => {
      const create = actors.create.bind(actors)
      actors.create = (from, spec) => create(from, { ...spec, maxRestarts: -1 })
    },
  },
  {
    name: 'outOfScopeUnheard',
    what: 'an actor lives on when nobody holds it',
    seeds: 60,
    gcs: ({ actors }) => {
      actors.outOfScope = () => {}
    },
  },
  {
    name: 'outOfScopeEarly',
    what: 'an actor ends although handles are held',
    seeds: 60,
    toNode: (message) =>
      message.t === 'actor.create' ? [message, { t: 'actor.outOfScope', actorId: message.spec.actorId }] : [message],
  },
  {
    name: 'subscribersForgotten',
    what: 'who asked for an actor before it was made is not told',
    seeds: 600,
    gcs: ({ actors }) => {
      const subscribe = actors.subscribe.bind(actors)
      actors.subscribe = (from, actorId, owner) => {
        if (actors.list(null).some((actor) => actor.actorId === actorId)) subscribe(from, actorId, owner)
      }
    },
  },
  {
    name: 'actorLeaseKept',
    what: 'the lease of a dead actor that was not placed yet stays',
    seeds: 400,
    toRaylet: (message) => (message.t === 'actorLease.cancel' ? NOTHING : [message]),
  },
  {
    name: 'placementKept',
    what: 'an actor that runs keeps the resources that only its placement needs',
    seeds: 200,
    toRaylet: (message) => (message.t === 'actorLease.keepOnly' ? NOTHING : [message]),
  },
  {
    name: 'ownerDeathSparesActors',
    what: 'actors outlive their owner',
    seeds: 600,
    toGcs: (message) => (message.t === 'worker.gone' && message.kind === 'driver' ? NOTHING : [message]),
  },
  {
    name: 'callsOvertake',
    what: 'calls are sent as soon as their arguments are there',
    seeds: 400,
    core: ({ actors }) => {
      const onState = actors.onState.bind(actors)
      actors.onState = (info, effects) =>
        onState({ ...info, options: { ...info.options, allowOutOfOrder: true } }, effects)
    },
  },
]
