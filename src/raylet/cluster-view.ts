// The nodes as this one knows them, itself among them for the schedulers, and which tags are whose and alive.
//
// Invariants:
//   V1. A view is replaced only by a newer one; a dead node stays dead.
//   V2. A tag that was said to be dead stays so; of a node that is dead, all are.
//   V3. Tags of this node are handed out once.

import type { NodeId, WorkerTag } from '../ids/ids.ts'
import type { Ms } from '../kernel/machine.ts'
import { NodeTable, type SchedulableNode } from '../scheduling/node-table.ts'
import { type NodeRoom, type NodeView, type RayletToRaylet, roomEveryMs, type TagBlock } from '../wire/cluster.ts'
import type { Resources } from '../wire/messages.ts'
import { TagMap } from '../wire/tag-map.ts'

/** When so few tags are left, a block more is asked for. */
const TAGS_LOW = 64
/** How long a note stands against what the GCS says, at least. */
const NOTES_MS: Ms = 500
const NO_BUNDLES: Resources = {}

/** Another node. There may be thousands, of which few are looked at between two words: what is available is reckoned when it is asked for. */
class OtherNode implements NodeView {
  readonly nodeId: NodeId
  readonly state: NodeView['state']
  readonly address: NodeView['address']
  readonly hostname: string
  readonly pid: number
  readonly sessionDir: string
  readonly isHead: boolean
  readonly total: Resources
  bundled: Resources
  readonly labels: NodeView['labels']
  readonly tagBlocks: readonly TagBlock[]
  readonly deathReason: string | null
  waiting: number
  version: number
  #available: Resources | null
  #used: Resources = {}

  constructor(view: NodeView) {
    this.nodeId = view.nodeId
    this.state = view.state
    this.address = view.address
    this.hostname = view.hostname
    this.pid = view.pid
    this.sessionDir = view.sessionDir
    this.isHead = view.isHead
    this.total = view.total
    this.bundled = view.bundled
    this.labels = view.labels
    this.tagBlocks = view.tagBlocks
    this.deathReason = view.deathReason
    this.waiting = view.waiting
    this.version = view.version
    this.#available = view.available
  }

  get available(): Resources {
    return (this.#available ??= without(this.total, this.#used))
  }

  set available(available: Resources) {
    this.#available = available
  }

  set used(used: Resources) {
    this.#available = null
    this.#used = used
  }
}

function without(total: Resources, used: Resources): Resources {
  const left: Record<string, number> = { ...total }
  for (const name in used) left[name] = (left[name] ?? 0) - (used[name] as number)
  return left
}

export class ClusterView {
  readonly nodeId: NodeId
  readonly tagBlocks: TagBlock[] = []
  /** For the schedulers: kept up to date one node at a time; this node is a live object in it. */
  readonly table: NodeTable<SchedulableNode>
  /** Counts the times when some node may have got more, or when one takes nothing any more. */
  gains = 0
  /** Leases that wait on other nodes. */
  waitingElsewhere = 0
  /** Others, dead ones included. */
  readonly #nodes = new Map<NodeId, OtherNode>()
  /** What the GCS said, where something was noted since. */
  readonly #told = new Map<NodeId, NodeView['available']>()
  readonly #tags = new TagMap()
  readonly #dead = new Set<WorkerTag>()
  /** Those that have heard who lives here, and hear of ends since. */
  readonly met = new Set<NodeId>()
  #next: WorkerTag = 0
  #left = 0
  readonly #later: TagBlock[] = []
  #isAsking = false

  constructor(own: SchedulableNode) {
    this.nodeId = own.nodeId
    this.table = new NodeTable([own])
  }

  // Tags of this node

  addTags(block: TagBlock): void {
    if (this.tagBlocks.some(({ first }) => first === block.first)) return // Registered again.
    this.tagBlocks.push(block)
    this.#tags.add(block, this.nodeId)
    this.#isAsking = false
    if (this.#left === 0) this.#begin(block)
    else this.#later.push(block)
  }

  /** `undefined`: none is left; ask again when a block has come. */
  takeTag(): WorkerTag | undefined {
    if (this.#left === 0) return undefined
    this.#left--
    const tag = this.#next++
    const next = this.#left === 0 ? this.#later.shift() : undefined
    if (next) this.#begin(next)
    return tag
  }

  /** True once for each time that a block should be asked for. */
  mustAskForTags(): boolean {
    if (this.#isAsking || this.#left + this.#later.length * TAGS_LOW > TAGS_LOW) return false
    this.#isAsking = true
    return true
  }

  /** The first tag that was not handed out yet. */
  get nextTag(): WorkerTag {
    return this.#next
  }

  #begin(block: TagBlock): void {
    this.#next = block.first
    this.#left = block.count
  }

  // Others

  /** The nodes that changed: what they were before, and are now. */
  update(views: readonly NodeView[]): { readonly before: NodeView | undefined; readonly now: NodeView }[] {
    const changes: { before: NodeView | undefined; now: NodeView }[] = []
    for (const now of views) {
      for (const block of now.tagBlocks) this.#tags.add(block, now.nodeId)
      if (now.nodeId === this.nodeId) continue
      const before = this.#nodes.get(now.nodeId)
      if (before && (before.version >= now.version || before.state === 'DEAD')) continue
      const own = new OtherNode(now)
      this.waitingElsewhere += now.waiting - (before?.waiting ?? 0)
      this.gains++
      this.#nodes.set(now.nodeId, own)
      this.table.set(own)
      this.#told.delete(now.nodeId)
      changes.push({ before, now })
    }
    return changes
  }

  /** What they have free now: the views that changed. In place, since there may be thousands several times a second. */
  updateRooms(rooms: readonly NodeRoom[]): NodeView[] {
    const changed: NodeView[] = []
    for (const [tag, version, waiting, used, bundled] of rooms) {
      const view = this.#nodes.get(this.#tags.nodeOf(tag) ?? '')
      if (!view || view.version >= version || view.state === 'DEAD') continue
      view.version = version
      this.waitingElsewhere += waiting - view.waiting
      view.waiting = waiting
      this.gains++
      view.used = used
      view.bundled = bundled ?? NO_BUNDLES
      this.#told.delete(view.nodeId)
      changed.push(view)
    }
    return changed
  }

  /** Others of any state. */
  get size(): number {
    return this.#nodes.size
  }

  learnTags(nodeId: NodeId, blocks: readonly TagBlock[]): void {
    for (const block of blocks) this.#tags.add(block, nodeId)
  }

  get(nodeId: NodeId): NodeView | undefined {
    return this.#nodes.get(nodeId)
  }

  /** What it has just told us of itself, or what we have asked of it: newer than the GCS's word, mostly. */
  note(nodeId: NodeId, available: NodeView['available']): void {
    const view = this.#nodes.get(nodeId)
    if (!view) return
    if (!this.#told.has(nodeId)) this.#told.set(nodeId, view.available)
    view.available = available
  }

  /** This node, from now on as `own` says. */
  changeSelf(own: SchedulableNode): void {
    this.gains++
    this.table.set(own)
  }

  /** The GCS's word may be twice `roomEveryMs` old: sooner forgotten, a note would make place for older news. */
  get notesMs(): Ms {
    return Math.max(NOTES_MS, 2.2 * roomEveryMs(this.size))
  }

  get hasNotes(): boolean {
    return this.#told.size > 0
  }

  /** A note may have been long on its way, and nobody corrects it where nothing changes: the GCS's word counts again. */
  forgetNotes(): void {
    this.gains++
    for (const [nodeId, available] of this.#told) {
      const view = this.#nodes.get(nodeId)
      if (view) view.available = available
    }
    this.#told.clear()
  }

  /** Those that are not dead. */
  *others(): Iterable<NodeView> {
    for (const view of this.#nodes.values()) if (view.state !== 'DEAD') yield view
  }

  all(): Iterable<NodeView> {
    return this.#nodes.values()
  }

  /** Whose it is; `undefined`: nobody's that we have heard of. */
  nodeOf(tag: WorkerTag): NodeId | undefined {
    return this.#tags.nodeOf(tag)
  }

  /** Of a node, or a block of tags, that is newer than this node, and of which nobody has told yet. Older ones were told of at the beginning. */
  isStranger(tag: WorkerTag): boolean {
    const [own] = this.tagBlocks
    return own !== undefined && tag > own.first && this.#tags.nodeOf(tag) === undefined
  }

  /** What comes from another node tells whose tags they are. */
  learnFrom(nodeId: NodeId, message: RayletToRaylet): void {
    const { t } = message
    if (t === 'hello') this.learnTags(nodeId, message.tagBlocks)
    else if (t === 'lease.request') this.learnTags(nodeId, [{ first: message.owner, count: 1 }])
    else if (t === 'ref.route' || t === 'object.resolve') this.learnTags(nodeId, [{ first: message.from, count: 1 }])
  }

  isRemote(tag: WorkerTag): boolean {
    const nodeId = this.#tags.nodeOf(tag)
    return nodeId !== undefined && nodeId !== this.nodeId
  }

  /** One that has said hello, and of which the GCS has not told yet, lives. */
  isNodeAlive(nodeId: NodeId): boolean {
    return this.#nodes.get(nodeId)?.state !== 'DEAD'
  }

  /** Of a remote tag: nobody has said that it ended. */
  mayLive(tag: WorkerTag): boolean {
    const nodeId = this.#tags.nodeOf(tag)
    return nodeId !== undefined && this.isNodeAlive(nodeId) && !this.#dead.has(tag)
  }

  /** False: it was known. */
  died(tag: WorkerTag): boolean {
    if (this.#dead.has(tag)) return false
    this.#dead.add(tag)
    return true
  }
}
