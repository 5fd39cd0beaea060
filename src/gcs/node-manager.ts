// The nodes of the cluster: who is a member, what it has, which tags are its own, and whether it still answers.
//
//     register ──► ALIVE ──drain──► DRAINING
//                    │ connection closed, and not back within the grace; or pings unanswered; or it left
//                    ▼
//                  DEAD (for ever)
//
// Invariants:
//   M1. A node that was declared dead never comes back (K4).
//   M2. A tag block is given once.
//   M3. Every change of a view raises its version, and is told to every node once: but where only what is free has changed in short, only to
//       those that watch, and not at all when that is back to what was told.
//   M4. After a restart of the GCS, versions go on above all that was told before.
//   M5. A node of which nobody knows yet whether it outlived the GCS has nothing free until it reports.

import type { NodeId, WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import { NodeTable } from '../scheduling/node-table.ts'
import { fits, subtract } from '../scheduling/resources.ts'
import type { Demand, NodeDrain, NodeRoom, NodeToGcs, NodeView, TagBlock } from '../wire/cluster.ts'
import { PROTOCOL_VERSION, type Resources, type WireError } from '../wire/messages.ts'
import { blockAt, TagMap } from '../wire/tag-map.ts'
import { byIndex, type GcsRecord, Journal, readTable } from './records.ts'

export interface HealthConfig {
  /** Ray's `health_check_period_ms`, `_timeout_ms` and `_failure_threshold`. */
  readonly periodMs: Ms
  readonly timeoutMs: Ms
  readonly failureThreshold: number
}

interface Member {
  view: NodeView
  /** Processes that registered there and have not ended. */
  readonly processes: Set<WorkerTag>
  isConnected: boolean
  /** What was told that it has free. */
  told: NodeView
  /** Told to those that watch only. */
  isRoomTold: boolean
  /** It hears what nodes have free. */
  isWatching: boolean
  /** What waits there, as it last said. */
  demand: readonly Demand[]
  /** It was there before the GCS (came back), and has not told all that it has to tell. */
  isAwaited: boolean
  readonly index: number
  /** Pings since the last answer. */
  unanswered: number
  /** `view.available` was copied since its last report, and may be changed in place. */
  isOwn: boolean
}

type Register = NodeToGcs & { t: 'node.register' }

interface NodeRecord {
  readonly index: number
  readonly view: NodeView
}

/** Reports raise a version without a record: no GCS lives for so many of them. */
const VERSIONS_PER_LIFE = 2 ** 32

/** Dead nodes are remembered, up to so many: Ray's `maximum_gcs_dead_node_cached_count`. */
const DEAD_MAX = 1000

export class NodeManager {
  /** The same nodes, as the schedulers look at them. */
  readonly table = new NodeTable<NodeView>()
  readonly #members = new Map<NodeId, Member>()
  readonly #dead: NodeId[] = []
  readonly #tags = new TagMap()
  #changed = new Set<NodeId>()
  #roomChanged = new Set<NodeId>()
  readonly #journal: Journal
  #blocks = 0
  #index = 0

  constructor(journal = new Journal(false)) {
    this.#journal = journal
  }

  /** How many tag blocks were given. */
  get blocks(): number {
    return this.#blocks
  }

  restore(records: readonly GcsRecord[], blocks: number): void {
    this.#blocks = blocks
    for (const [nodeId, { index, view: stored }] of byIndex(readTable<NodeRecord>(records, 'node'))) {
      const isDead = stored.state === 'DEAD'
      const view: NodeView = {
        ...stored,
        ...(isDead ? {} : { available: {}, waiting: 0 }), // M5
        bundled: {},
        version: stored.version + VERSIONS_PER_LIFE, // M4
      }
      this.#index = index + 1
      for (const block of view.tagBlocks) this.#tags.add(block, nodeId)
      const state = { isConnected: false, isAwaited: !isDead, demand: [], unanswered: 0, isOwn: false, told: view }
      this.#members.set(nodeId, { view, index, processes: new Set(), ...state, isRoomTold: false, isWatching: false })
      this.table.set(view)
      if (isDead) this.#dead.push(nodeId)
    }
  }

  /** The first tags of a new node, or why it may not join. Repeated: it is there already. */
  register(message: Register): TagBlock | WireError {
    const { nodeId, protocol, state } = message
    if (protocol !== PROTOCOL_VERSION)
      return { code: 'PROTOCOL_MISMATCH', params: { own: protocol, theirs: PROTOCOL_VERSION } }
    const known = this.#members.get(nodeId)
    if (known?.view.state === 'DEAD') {
      const detail = `it was declared dead: ${known.view.deathReason ?? 'no reason is known'}`
      return { code: 'NODE_DIED', params: { detail } }
    }
    const processes = known?.processes ?? new Set<WorkerTag>()
    for (const { tag } of state.processes) processes.add(tag)
    for (const block of state.tagBlocks) this.#adopt(block, nodeId)
    const { address, hostname, pid, sessionDir, isHead, total, labels } = message
    // A block that it does not know of yet was on its way: it is its own all the same (M2).
    const granted = known?.view.tagBlocks ?? []
    const tagBlocks = [
      ...granted,
      ...state.tagBlocks.filter(({ first }) => !granted.some((one) => one.first === first)),
    ]
    const view: NodeView = {
      ...{ nodeId, state: 'ALIVE', address, hostname, pid, sessionDir, isHead, total, labels, tagBlocks },
      ...{ available: known?.view.available ?? total, bundled: {}, waiting: 0, deathReason: null },
      version: (known?.view.version ?? 0) + 1,
      ...(known?.view.drain ? { state: 'DRAINING', drain: known.view.drain } : {}),
    }
    const index = known?.index ?? this.#index++
    const isAwaited = known?.isAwaited ?? false
    const demand = known?.demand ?? []
    const fresh = { isConnected: true, unanswered: 0, isOwn: false, told: view, isRoomTold: false, isWatching: false }
    this.#members.set(nodeId, { view, index, processes, isAwaited, demand, ...fresh })
    this.table.set(view)
    this.#changed.add(nodeId)
    this.#record(nodeId)
    const [first] = view.tagBlocks
    return first ?? this.grantTags(nodeId)
  }

  /** A fresh block (M2). */
  grantTags(nodeId: NodeId): TagBlock {
    const block = blockAt(this.#blocks++)
    this.#tags.add(block, nodeId)
    const member = this.#members.get(nodeId)
    if (member) this.#change(member, { tagBlocks: [...member.view.tagBlocks, block] })
    this.#record(nodeId)
    return block
  }

  /** True: it has more of something than before. */
  report(nodeId: NodeId, available: Resources, waiting?: number): boolean {
    const member = this.#living(nodeId)
    if (!member) return false
    const before = member.view.available
    member.isOwn = false
    this.#changeRoom(member, { available, waiting: waiting ?? member.view.waiting })
    for (const name in available) if ((available[name] as number) > (before[name] ?? 0)) return true
    return false
  }

  bundles(nodeId: NodeId, bundled: Resources): void {
    const member = this.#living(nodeId)
    if (member) this.#changeRoom(member, { bundled })
  }

  /** Something was given to it: until its next report it has that much less. */
  take(nodeId: NodeId, resources: Resources): void {
    const member = this.#living(nodeId)
    if (!member) return
    // A node of many bundles has many names: copied once for all that goes there between two reports.
    const available = member.isOwn ? member.view.available : { ...member.view.available }
    subtract(available, resources)
    member.isOwn = true
    this.#changeRoom(member, { available })
  }

  wants(nodeId: NodeId, demand: readonly Demand[]): void {
    const member = this.#living(nodeId)
    if (member) member.demand = demand
  }

  /** What waits on living nodes. */
  demand(): Demand[] {
    return [...this.#members.values()].flatMap(({ view, demand }) => (view.state === 'DEAD' ? [] : demand))
  }

  /** Asked again: the newer word counts. */
  drain(nodeId: NodeId, drain: NodeDrain): boolean {
    const member = this.#living(nodeId)
    if (!member) return false
    this.#change(member, { state: 'DRAINING', drain })
    this.#record(nodeId)
    return true
  }

  draining(): NodeView[] {
    return this.all().filter(({ state }) => state === 'DRAINING')
  }

  joined(nodeId: NodeId, tag: WorkerTag): void {
    this.#members.get(nodeId)?.processes.add(tag)
  }

  left(nodeId: NodeId, tag: WorkerTag): void {
    this.#members.get(nodeId)?.processes.delete(tag)
  }

  /** Those that have joined and not left. */
  processesOf(nodeId: NodeId): Iterable<WorkerTag> {
    return this.#members.get(nodeId)?.processes ?? []
  }

  disconnected(nodeId: NodeId): void {
    const member = this.#members.get(nodeId)
    if (member) member.isConnected = false
  }

  isConnected(nodeId: NodeId): boolean {
    return this.#members.get(nodeId)?.isConnected === true
  }

  /** Declares it dead: the processes that go with it; `null` when it was dead before, or never known. */
  die(nodeId: NodeId, reason: string): readonly WorkerTag[] | null {
    const member = this.#living(nodeId)
    if (!member) return null
    this.#change(member, { state: 'DEAD', available: {}, waiting: 0, deathReason: reason })
    const processes = [...member.processes]
    member.processes.clear()
    member.isAwaited = false
    this.#record(nodeId)
    this.#dead.push(nodeId)
    const forgotten = this.#dead.length > DEAD_MAX ? this.#dead.shift() : undefined
    if (forgotten !== undefined) {
      this.#members.delete(forgotten)
      this.table.delete(forgotten)
      this.#journal.remove('node', forgotten)
    }
    return processes
  }

  /** One period of health checks: whom to ping, and who has not answered for too long. */
  check(config: HealthConfig): { readonly ping: readonly NodeId[]; readonly overdue: readonly NodeId[] } {
    const ping: NodeId[] = []
    const overdue: NodeId[] = []
    const allowed = config.failureThreshold + Math.ceil(config.timeoutMs / config.periodMs)
    for (const [nodeId, member] of this.#members) {
      if (member.view.state === 'DEAD' || !member.isConnected) continue
      if (member.unanswered >= allowed) overdue.push(nodeId)
      else {
        member.unanswered++
        ping.push(nodeId)
      }
    }
    return { ping, overdue }
  }

  answered(nodeId: NodeId): void {
    const member = this.#members.get(nodeId)
    if (member) member.unanswered = 0
  }

  /** All that it had to tell has been heard. */
  resumed(nodeId: NodeId): void {
    const member = this.#members.get(nodeId)
    if (member) member.isAwaited = false
  }

  /** Its node has not said yet whether it lives. */
  isAwaited(tag: WorkerTag): boolean {
    return this.#members.get(this.nodeOf(tag) ?? '')?.isAwaited === true
  }

  /** Of two that cannot both go on: not the head, else one that is not connected, else the younger; none when one is dead already. */
  lesserOf(pair: readonly NodeId[]): NodeId | undefined {
    const members = pair.flatMap((nodeId) => this.#living(nodeId) ?? [])
    if (members.length < 2) return undefined
    const worth = ({ isConnected, view, index }: Member): number =>
      (view.isHead ? 4e9 : 0) + (isConnected ? 2e9 : 0) - index
    return members.reduce((a, b) => (worth(a) <= worth(b) ? a : b)).view.nodeId
  }

  awaited(): NodeId[] {
    return [...this.#members].filter(([, { isAwaited }]) => isAwaited).map(([nodeId]) => nodeId)
  }

  isLiving(nodeId: NodeId, tag: WorkerTag): boolean {
    return this.#members.get(nodeId)?.processes.has(tag) === true
  }

  nodeOf(tag: WorkerTag): NodeId | undefined {
    return this.#tags.nodeOf(tag)
  }

  get(nodeId: NodeId): NodeView | undefined {
    return this.#members.get(nodeId)?.view
  }

  all(): NodeView[] {
    return [...this.#members.values()].map(({ view }) => view)
  }

  /** As all know them: who joins now must not know more, for what goes back to what was told is not told (M3). */
  known(): NodeView[] {
    return [...this.#members].map(([nodeId, { view, told }]) => (this.#changed.has(nodeId) ? view : told))
  }

  /** What has changed since the last call, but for what is free (M3). */
  takeChanged(): NodeView[] {
    if (this.#changed.size === 0) return []
    const changed = [...this.#changed]
    this.#changed = new Set()
    return changed.flatMap((nodeId) => {
      const member = this.#members.get(nodeId)
      if (!member) return []
      this.#told(member)
      member.isRoomTold = false
      this.#roomChanged.delete(nodeId)
      return member.view
    })
  }

  /** What they have free, where that is not what was told (M3). */
  takeRooms(): NodeRoom[] {
    const rooms: NodeRoom[] = []
    for (const nodeId of this.#roomChanged) {
      const member = this.#members.get(nodeId)
      if (!member || isSameRoom(member.view, member.told)) continue
      const room = roomOf(member.view)
      if (!room) continue
      this.#told(member)
      member.isRoomTold = true
      rooms.push(room)
    }
    this.#roomChanged = new Set()
    return rooms
  }

  /** Since when it was told to all that watched: for one that begins to watch. */
  watch(nodeId: NodeId, isWatching: boolean): NodeRoom[] {
    const member = this.#living(nodeId)
    if (member) member.isWatching = isWatching
    if (!isWatching) return []
    const rooms = [...this.#members.values()].map(({ told, isRoomTold }) => (isRoomTold ? roomOf(told) : undefined))
    return rooms.filter((room) => room !== undefined)
  }

  /** Those that watch, and are connected. */
  watching(): NodeId[] {
    const members = [...this.#members].filter(([, { isWatching, isConnected }]) => isWatching && isConnected)
    return members.map(([nodeId]) => nodeId)
  }

  #told(member: Member): void {
    member.told = member.view
    member.isOwn = false // What was told stays as it was.
  }

  get hasChanged(): boolean {
    return this.#changed.size > 0
  }

  get hasRoomChanged(): boolean {
    return this.#roomChanged.size > 0
  }

  /** Of any state. */
  get size(): number {
    return this.#members.size
  }

  #adopt(block: TagBlock, nodeId: NodeId): void {
    this.#tags.add(block, nodeId)
    while (blockAt(this.#blocks).first <= block.first) this.#blocks++
  }

  #living(nodeId: NodeId): Member | undefined {
    const member = this.#members.get(nodeId)
    return member && member.view.state !== 'DEAD' ? member : undefined
  }

  #record(nodeId: NodeId): void {
    const member = this.#members.get(nodeId)
    if (member)
      this.#journal.put('node', nodeId, () => ({ index: member.index, view: this.get(nodeId) ?? member.view }))
  }

  #change(member: Member, change: Partial<NodeView>): void {
    this.#replace(member, change)
    this.#changed.add(member.view.nodeId)
  }

  #changeRoom(member: Member, change: Partial<Room>): void {
    this.#replace(member, change)
    this.#roomChanged.add(member.view.nodeId)
  }

  #replace(member: Member, change: Partial<NodeView>): void {
    member.view = { ...member.view, ...change, version: member.view.version + 1 }
    this.table.set(member.view)
  }
}

type Room = Pick<NodeView, 'available' | 'waiting' | 'bundled'>

function isSameRoom(a: Room, b: Room): boolean {
  const isSame = (one: Resources, other: Resources): boolean => fits(one, other) && fits(other, one)
  return a.waiting === b.waiting && isSame(a.available, b.available) && isSame(a.bundled, b.bundled)
}

/** `undefined`: it has no tag to be named by. */
function roomOf(view: NodeView): NodeRoom | undefined {
  const tag = view.tagBlocks[0]?.first
  if (tag === undefined) return undefined
  const room = [tag, view.version, view.waiting, usedOf(view)] as const
  return Object.keys(view.bundled).length > 0 ? [...room, view.bundled] : room
}

function usedOf({ total, available }: NodeView): Resources {
  const used: Record<string, number> = {}
  for (const name in { ...total, ...available }) {
    const units = (total[name] ?? 0) - (available[name] ?? 0)
    if (units !== 0) used[name] = units
  }
  return used
}
