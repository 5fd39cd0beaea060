// Deliberate bugs of what only several nodes need: hub, spilled leases, views, membership, links. As in `bugs.ts`.

import type { WorkerTag } from '../ids/ids.ts'
import type { TransferEffect } from '../object-store/transfer.ts'
import type { NodeToGcs, RayletToRaylet } from '../wire/cluster.ts'
import type { Bug } from './bugs.ts'

const NOTHING: readonly never[] = []

/** A raylet never says this to another. */
function unsaid(t: RayletToRaylet['t']): NonNullable<Bug['toPeer']> {
  return (message) => (message.t === t ? NOTHING : [message])
}

function untold(t: NodeToGcs['t']): NonNullable<Bug['toGcs']> {
  return (message) => (message.t === t ? NOTHING : [message])
}

/** `change`: null: it is not done. */
function transferring(change: (effect: TransferEffect) => TransferEffect | null): NonNullable<Bug['transfer']> {
  return (transfer) => {
    const step = transfer.step.bind(transfer)
    transfer.step = (now, input) => step(now, input).flatMap((effect) => change(effect) ?? [])
  }
}

const FOUND: readonly Omit<Bug, 'isOfMany'>[] = [
  // Leases of other nodes
  {
    name: 'rejectionForgotten',
    what: 'what another node rejected is not asked for again',
    seeds: 100,
    raylet: ({ spill }) => {
      spill.takeBack = () => undefined
    },
  },
  {
    name: 'parkedForgotten',
    what: 'what no node could hold is not asked for again when another joins',
    seeds: 100,
    raylet: ({ spill }) => {
      spill.takeParked = () => []
    },
  },
  {
    name: 'doubtUnanswered',
    what: 'what no known node could hold waits for an answer that never comes',
    seeds: 60,
    toGcs: untold('nodes.ask'),
  },
  {
    name: 'watchUnsaid',
    what: 'the GCS is not told who has work to place, and tells nobody what is free',
    seeds: 60,
    toGcs: untold('rooms.watch'),
  },
  {
    name: 'askedOfDeadForgotten',
    what: 'what was asked of a node that died is not asked for again',
    seeds: 1000,
    raylet: ({ spill }) => {
      spill.nodeDied = () => []
    },
  },
  {
    name: 'deadOwnerStaysAway',
    what: 'leases that other nodes gave to a process that died are remembered',
    seeds: 200,
    raylet: ({ spill }) => {
      spill.ownerDied = () => {}
    },
  },
  {
    name: 'deadWorkerStaysAway',
    what: 'leases of workers of other nodes that died are remembered',
    seeds: 200,
    raylet: ({ spill }) => {
      spill.workerDied = () => {}
    },
  },
  {
    name: 'deadNodeWaits',
    what: 'requests of a node that died wait on',
    seeds: 1000,
    raylet: ({ leases }) => {
      leases.withdrawWhere = () => {}
    },
  },
  { name: 'remoteReturnLost', what: 'a lease is not given back', seeds: 60, toPeer: unsaid('lease.return') },
  { name: 'remoteCancelLost', what: 'a request is not withdrawn', seeds: 100, toPeer: unsaid('lease.cancel') },
  { name: 'remoteRefusalLost', what: 'a refusal is not told', seeds: 400, toPeer: unsaid('lease.refused') },
  {
    name: 'remoteUnreachableLost',
    what: 'nobody doubts a worker to which the connection broke',
    seeds: 200,
    toPeer: unsaid('worker.unreachable'),
  },
  // The hub
  { name: 'deathUntoldToPeers', what: 'ends stay on their node', seeds: 60, toPeer: unsaid('worker.died') },
  { name: 'remoteAnswerLost', what: 'who asks another node waits', seeds: 60, toPeer: unsaid('object.resolved') },
  { name: 'remoteFreeLost', what: 'copies on other nodes stay', seeds: 60, toPeer: unsaid('object.free') },
  { name: 'remoteLeftLost', what: 'copies of the dead for others stay', seeds: 600, toPeer: unsaid('object.left') },
  {
    name: 'flushLost',
    what: 'what is held back until others are heard waits for ever',
    seeds: 200,
    toPeer: unsaid('ref.flushed'),
  },
  {
    name: 'remoteOwnerDeathUnanswered',
    what: 'who asked for a value of a process of another node that died waits for ever',
    seeds: 400,
    raylet: ({ hub, view }) => {
      const onWorkerDied = hub.onWorkerDied.bind(hub)
      hub.onWorkerDied = (tag) => (view.isRemote(tag) ? [] : onWorkerDied(tag))
    },
  },
  {
    name: 'nodeDeathUnanswered',
    what: 'who asked for a value of a node that died waits for ever',
    seeds: 1000,
    raylet: ({ hub }) => {
      hub.onNodeDied = () => {}
    },
  },
  {
    name: 'helloBeforeJob',
    what: 'a driver that waits for its job counts as dead in a hello',
    seeds: 200,
    toPeer: (message, { cluster }) =>
      message.t === 'hello'
        ? [{ ...message, living: message.living.filter((tag) => cluster.shells.has(tag)) }]
        : [message],
  },
  {
    name: 'dyingNodesCopiesKept',
    what: 'what is stored for owners of a dead node stays',
    seeds: 200,
    node: ({ store }) => {
      store.ownedBy = () => []
    },
  },
  // Membership and views
  {
    name: 'tagsGivenTwice',
    what: 'two nodes get the same tags',
    seeds: 20,
    gcs: ({ nodes }) => {
      const register = nodes.register.bind(nodes)
      nodes.register = (message) => {
        const answer = register(message)
        return 'code' in answer ? answer : { first: 1, count: 255 }
      }
    },
  },
  {
    name: 'viewsFrozen',
    what: 'what the GCS says of nodes later on is not heard',
    seeds: 100,
    raylet: ({ view }) => {
      const update = view.update.bind(view)
      let times = 0
      view.update = (views) => (++times > 3 ? [] : update(views))
    },
  },
  { name: 'reportLost', what: 'a node does not say what it has free', seeds: 20, toGcs: untold('node.report') },
  {
    name: 'nodeDeathUnheard',
    what: 'an owner is not told that a node died',
    seeds: 200,
    core: (core) => {
      const onMessage = core.onMessage.bind(core)
      core.onMessage = (now, message) => {
        if (message.t !== 'node.died') onMessage(now, message)
      }
    },
  },
  {
    name: 'deadNodeGoesOn',
    what: 'a node that was declared dead does not end',
    seeds: 200,
    toRaylet: (message) => (message.t === 'node.end' || message.t === 'node.refused' ? NOTHING : [message]),
  },
  // Actors
  {
    name: 'deadNodesActorsStay',
    what: 'actors of a dead node are not restarted',
    seeds: 200,
    gcs: ({ actors }) => {
      const workerGone = actors.workerGone.bind(actors)
      actors.workerGone = (exit) => {
        if (exit.reason !== 'nodeDied') workerGone(exit)
      }
    },
  },
  {
    name: 'placementOnDeadForgotten',
    what: 'an actor whose lease was asked of a node that died waits for ever',
    seeds: 1000,
    gcs: ({ actors }) => {
      actors.nodeDied = () => {}
    },
  },
  {
    name: 'actorRejectionLost',
    what: 'that a node has no room for an actor is not told',
    seeds: 400,
    toGcs: untold('actorLease.rejected'),
  },
  {
    name: 'placesOnlyOnce',
    what: 'an actor that no node had room for is not tried again',
    seeds: 400,
    gcs: ({ actors }) => {
      actors.placeWaiting = () => {}
    },
  },
  {
    name: 'actorsOfFirstNode',
    what: 'the node with the first tags takes the leases of all actors along when it dies',
    seeds: 1500,
    raylet: ({ view }) => {
      const nodeOf = view.nodeOf.bind(view)
      view.nodeOf = (tag) => nodeOf(tag === 0 ? 1 : tag)
    },
  },
  // Placement groups
  {
    name: 'bundlesNotReturned',
    what: 'bundles of a group that is gone, or could not be made, stay reserved',
    seeds: 60,
    toRaylet: (message) =>
      message.t === 'bundles.do' ? [{ ...message, steps: message.steps.filter(({ t }) => t !== 'return') }] : [message],
  },
  {
    name: 'bundlesOnTheDead',
    what: 'bundles of a node that died are not placed anew',
    seeds: 200,
    gcs: ({ groups }) => {
      groups.nodeDied = () => {}
    },
  },
  {
    name: 'groupsOutliveJobs',
    what: 'placement groups outlive the job that made them',
    seeds: 400,
    gcs: ({ groups }) => {
      groups.jobEnded = () => {}
    },
  },
  {
    name: 'groupChangesUntold',
    what: 'who follows a group hears of it once',
    seeds: 200,
    raylet: (raylet) => {
      const step = raylet.step.bind(raylet)
      const heard = new Set<string>()
      raylet.step = (now, input) => {
        const message = input.kind === 'local' && input.event.t === 'fromGcs' ? input.event.message : null
        if (message?.t !== 'group.is') return step(now, input)
        if (heard.has(message.group.groupId)) return []
        heard.add(message.group.groupId)
        return step(now, input)
      }
    },
  },
  {
    name: 'usersOutliveBundles',
    what: 'workers go on in bundles that were given back',
    seeds: 200,
    raylet: (raylet) => {
      const step = raylet.step.bind(raylet)
      const isOut = (tag: WorkerTag): boolean => raylet.pool.workers.get(tag)?.endReason?.reason === 'groupRemoved'
      raylet.step = (now, input) =>
        step(now, input).filter(
          (effect) => effect.kind !== 'local' || effect.event.t !== 'killProcess' || !isOut(effect.event.tag),
        )
    },
  },
  // Copies
  {
    name: 'wrongChunk',
    what: 'for every chunk the first one is sent',
    seeds: 60,
    transfer: transferring((effect) => (effect.t === 'sendChunk' ? { ...effect, offset: 0 } : effect)),
  },
  {
    name: 'lossUntold',
    what: 'who waits for a copy is not told that it is lost',
    seeds: 600,
    transfer: transferring((effect) => (effect.t === 'located' && effect.where === null ? null : effect)),
  },
  {
    name: 'copiesOutliveValues',
    what: 'who has a copy is not told that its value was freed',
    seeds: 100,
    toPeer: (message) => (message.t === 'object.free' ? [{ ...message, storageIds: [] }] : [message]),
  },
  {
    name: 'copyNotPromoted',
    what: 'a lost copy is not replaced by another one',
    seeds: 1500,
    transfer: transferring((effect) => (effect.t === 'promote' ? null : effect)),
  },
  {
    name: 'dropUntold',
    what: 'that a copy was given up is told to nobody',
    seeds: 400,
    toPeer: unsaid('object.dropped'),
  },
  // Stores that run full
  {
    name: 'evictionUnheard',
    what: 'a copy that the store gave up counts as being here',
    seeds: 400,
    transfer: (transfer) => {
      const step = transfer.step.bind(transfer)
      transfer.step = (now, input) => (input.t === 'evicted' ? [] : step(now, input))
    },
  },
  {
    name: 'spilledIsLost',
    what: 'what moved to disk is not there for other nodes',
    seeds: 400,
    node: ({ store }) => {
      const look = store.look.bind(store)
      store.look = (storageId) => (store.isAtHand(storageId) ? look(storageId) : null)
    },
  },
  {
    name: 'freedWhileMoving',
    what: 'what is freed on its way to disk stays there',
    seeds: 400,
    node: ({ store }) => {
      const endMove = store.endMove.bind(store)
      store.endMove = (storageId) => endMove(storageId) && false
    },
  },
  {
    name: 'readIsGivenUp',
    what: 'a copy is given up while somebody waits for others to read them together',
    seeds: 600,
    node: ({ store }) => {
      store.pin = () => {}
    },
  },
  // Draining
  {
    name: 'drainedTakesWork',
    what: 'a node that is being drained takes requests',
    seeds: 400,
    raylet: ({ draining }) => {
      draining.refuses = () => false
    },
  },
  {
    name: 'drainedStays',
    what: 'a node that was drained goes on when its time is over',
    seeds: 400,
    gcs: (gcs) => {
      const step = gcs.step.bind(gcs)
      gcs.step = (now, input) => (input.kind === 'timer' && input.key.startsWith('drained ') ? [] : step(now, input))
    },
  },
  {
    name: 'drainedThoughBusy',
    what: 'a node says that it is idle while it works',
    seeds: 60,
    raylet: ({ draining }) => {
      draining.whyNotIdle = () => null
    },
  },
  {
    name: 'drainedUnasked',
    what: 'a node is drained as idle by what the GCS knows, without being asked',
    seeds: 60,
    toRaylet: (message) => [message.t === 'node.drainIfIdle' ? { t: 'node.drain', drain: message.drain } : message],
  },
  {
    name: 'drainAnswerKept',
    what: 'the GCS does not tell who asked that the node has died',
    seeds: 60,
    gcs: (gcs) => {
      const step = gcs.step.bind(gcs)
      const isAnswer = (effect: ReturnType<typeof step>[number]): boolean =>
        effect.kind === 'local' &&
        effect.event.t === 'drainAnswered' &&
        effect.event.refusal?.startsWith('it died') === true
      gcs.step = (now, input) => step(now, input).filter((effect) => !isAnswer(effect))
    },
  },
  {
    name: 'idleTakesBundles',
    what: 'a node that is drained as idle reserves bundles',
    seeds: 1500,
    raylet: ({ draining }) => {
      draining.refusalOf = () => undefined
    },
  },
  // Links and connections
  {
    name: 'lostLinkGoesOn',
    what: 'two nodes whose link is lost both live on',
    seeds: 200,
    toGcs: untold('peer.lost'),
  },
  {
    name: 'linkRepeats',
    what: 'now and then a message of a link is handed over twice',
    seeds: 100,
    link: (link) => {
      const step = link.step.bind(link)
      let times = 0
      link.step = (now, input) =>
        step(now, input).flatMap((effect) =>
          effect.t === 'deliver' && ++times % 10 === 0 ? [effect, effect] : [effect],
        )
    },
  },
  {
    name: 'linkLoses',
    what: 'what was kept for a new connection is not sent on it',
    seeds: 200,
    link: (link) => {
      const step = link.step.bind(link)
      link.step = (now, input) =>
        step(now, input).filter((effect) => effect.t !== 'write' || effect.body === null || input.t === 'send')
    },
  },
  {
    name: 'tornCountsAsWhole',
    what: 'a connection to another node that broke is taken for one that ended in order',
    seeds: 600,
    core: (core) => {
      const onDisconnected = core.onDisconnected.bind(core)
      core.onDisconnected = (now, tag) => onDisconnected(now, tag)
    },
  },
]

export const NET_BUGS: readonly Bug[] = FOUND.map((bug) => ({ ...bug, isOfMany: true }))
