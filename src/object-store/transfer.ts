// Objects between nodes, one machine a node: gets copies of values that other nodes have made, serves what this one has, and keeps the
// book of who has copies of what was made here. Files and connections are the shell's (runtime/object-transfer.ts).
//
//     reader ──want──► [puller] ──object.find──► [home: book] ──object.holders──► [puller] ══ chunks ══ several holders
//                                                                                    ╰──► serves the chunks that it has got
//
// Nodes of one machine that see one shared memory need no chunks: the puller takes the home's segment as it is ('adopt').
//
// "Home" is the node of the value's maker. Who has asked it counts as a holder, so receivers of a broadcast get each other's chunks.
//
// Invariants:
//   T1. Every want is answered once: 'here' when the whole value is, or null when it is lost; unless its reader went, or waits no more.
//   T2. Values begin to come in the order of their first wants, while they fit into the budget together; one that is larger comes
//       alone. Bytes asked for and not come are never more than the budget.
//   T3. Of one holder at most `holderBytesMax` (one chunk at least) and `holderChunksMax` are asked for at a time.
//   T4. What nobody waits for any more is given up: nothing is kept of it, and its home told.
//   T5. What its owner freed is dropped here, complete or not; so is what was coming from a home that died. A whole copy of a dead home's
//       stays until its owner's node says what becomes of it (survivors.ts), or is dead too.
//   T6. Without progress for `stallMs` the home is asked again, and all that was asked for counts as not asked.
//   T7. Who watches a copy hears of each chunk that comes after its answer.

import { type NodeId, type ObjectId, ownerOf, type WorkerTag } from '../ids/ids.ts'
import { invariant } from '../kernel/invariant.ts'
import type { Ms } from '../kernel/machine.ts'
import type { RayletToRaylet, SharedFolder } from '../wire/cluster.ts'
import { CHUNK_BYTES, type HolderToPuller, type PullerToHolder } from '../wire/transfer.ts'
import { chunksIn } from './chunks.ts'
import { HeldCopies } from './held-copies.ts'
import { HolderBook } from './holder-book.ts'
import { Pull } from './pull.ts'
import { ChunkServer } from './serve.ts'

export type PeerMessage = Extract<
  RayletToRaylet,
  {
    readonly t:
      | 'object.find'
      | 'object.holders'
      | 'object.free'
      | 'object.dropped'
      | 'object.copied'
      | 'object.promote'
      | 'object.promoted'
  }
>

export type TransferInput =
  /** A process here needs it; it was made on another node. */
  | { readonly t: 'want'; readonly storageId: ObjectId; readonly reader: WorkerTag }
  | { readonly t: 'unwant'; readonly storageId: ObjectId; readonly reader: WorkerTag }
  | { readonly t: 'readerGone'; readonly reader: WorkerTag }
  | { readonly t: 'peer'; readonly from: NodeId; readonly message: PeerMessage }
  | { readonly t: 'fromHolder'; readonly from: NodeId; readonly message: HolderToPuller }
  | { readonly t: 'fromPuller'; readonly from: NodeId; readonly message: PullerToHolder }
  /** A chunk that `expects` was asked about has been written. */
  | { readonly t: 'chunkCame'; readonly storageId: ObjectId; readonly index: number }
  /** The connection to pull from it broke, or could not be made. */
  | { readonly t: 'holderClosed'; readonly nodeId: NodeId }
  /** The connection on which it pulls from us. */
  | { readonly t: 'pullerClosed'; readonly nodeId: NodeId }
  | { readonly t: 'nodeDied'; readonly nodeId: NodeId }
  /** Answer to 'adopt'. */
  | { readonly t: 'adopted'; readonly storageId: ObjectId; readonly isDone: boolean }
  /** Answer to 'allocate'. */
  | { readonly t: 'allocated'; readonly storageId: ObjectId; readonly isDone: boolean }
  /** Its file takes no more. */
  | { readonly t: 'writeFailed'; readonly storageId: ObjectId }
  /** Announced by its maker here. */
  | { readonly t: 'made'; readonly storageId: ObjectId }
  /** By their owners: of this node or of others. */
  | { readonly t: 'freed'; readonly storageIds: readonly ObjectId[] }
  /** The store gave up complete copies that had been pulled. */
  | { readonly t: 'evicted'; readonly storageIds: readonly ObjectId[] }
  /** An owner of this node has lost these copies: see `object.rescue`. */
  | {
      readonly t: 'rescue'
      readonly owner: WorkerTag
      readonly storageIds: readonly ObjectId[]
      readonly of: NodeId | null
    }
  /** Answer to 'promote'; null: it could not be done. */
  | { readonly t: 'promoted'; readonly storageId: ObjectId; readonly copy: ObjectId | null }
  /** A process of this node has ended. */
  | { readonly t: 'ownerGone'; readonly owner: WorkerTag }
  | { readonly t: 'timer' }

export type TransferEffect =
  | { readonly t: 'toPeer'; readonly nodeId: NodeId; readonly message: PeerMessage }
  /** Makes the connection when there is none. */
  | { readonly t: 'toHolder'; readonly nodeId: NodeId; readonly message: PullerToHolder }
  | { readonly t: 'toPuller'; readonly nodeId: NodeId; readonly message: HolderToPuller }
  /** Read it from wherever the value lies now, and send it; `chunk.gone` when that fails. */
  | {
      readonly t: 'sendChunk'
      readonly nodeId: NodeId
      readonly storageId: ObjectId
      readonly index: number
      readonly offset: number
      readonly bytes: number
    }
  /** Take the whole value from a folder that may be of this machine; answered by 'adopted'. */
  | { readonly t: 'adopt'; readonly storageId: ObjectId; readonly size: number; readonly folder: SharedFolder }
  /** Room for a value of `size` bytes; answered by 'allocated'. */
  | { readonly t: 'allocate'; readonly storageId: ObjectId; readonly size: number }
  /** All chunks are written: readers may open it. */
  | { readonly t: 'seal'; readonly storageId: ObjectId }
  /** The whole copy becomes one of this node's own, under a new id; answered by 'promoted'. */
  | { readonly t: 'promote'; readonly storageId: ObjectId; readonly owner: WorkerTag; readonly size: number }
  | {
      readonly t: 'rescued'
      readonly owner: WorkerTag
      readonly storageId: ObjectId
      readonly copy: ObjectId | null
    }
  /** Complete or not. */
  | { readonly t: 'drop'; readonly storageId: ObjectId }
  | {
      readonly t: 'located'
      readonly storageId: ObjectId
      readonly readers: readonly WorkerTag[]
      readonly where: 'here' | null
    }
  /** Replaces a pending one. */
  | { readonly t: 'timer'; readonly at: Ms }

export interface TransferConfig {
  readonly nodeId: NodeId
  /** Whose tag it is; undefined: nobody's that is known. */
  nodeOf(tag: WorkerTag): NodeId | undefined
  /** A value that was made on this node; 'soon': it is written, but not announced. Only read during steps. */
  look(storageId: ObjectId): { readonly size: number; readonly owner: WorkerTag } | 'soon' | null
  /** A process of this node: word of a copy may come after its end. Unless given, none has but those of 'ownerGone'. */
  hasEnded?(owner: WorkerTag): boolean
  /** What others are told of it; null unless given. */
  readonly folder?: SharedFolder | null
  readonly chunkBytes?: number
  readonly budgetBytes?: number
  readonly holderBytesMax?: number
  readonly holderChunksMax?: number
  readonly stallMs?: Ms
}

const DEFAULTS = {
  folder: null,
  hasEnded: () => false,
  chunkBytes: CHUNK_BYTES,
  budgetBytes: 2 * 1024 ** 3,
  holderBytesMax: 4 * CHUNK_BYTES,
  holderChunksMax: 64,
  stallMs: 10_000,
}
const TICK_MS: Ms = 100
const ASK_AGAIN_MAX_MS: Ms = 2000
/** So many times in a row nobody of those that the home names has it: it is lost, whatever the home's book says. */
const GONE_MAX = 5

interface Load {
  bytes: number
  chunks: number
  /** Pulls that may have something to ask of it, in order. */
  readonly ready: Set<Pull>
}

export class ObjectTransfer {
  readonly #config: Required<TransferConfig>
  readonly #book = new HolderBook()
  readonly #server: ChunkServer
  /** In the order of their first wants. */
  readonly #pulls = new Map<ObjectId, Pull>()
  readonly #held: HeldCopies
  readonly #loads = new Map<NodeId, Load>()
  readonly #dead = new Set<NodeId>()
  #admittedBytes = 0
  #inFlightBytes = 0
  #pulledBytesEver = 0
  #adoptedEver = 0
  #isBudgetSpent = false
  /** Holders of which less is asked than at the beginning of the step. */
  readonly #freed = new Set<NodeId>()
  #isTimerSet = false
  #now: Ms = 0
  #effects: TransferEffect[] = []

  constructor(config: TransferConfig) {
    this.#config = { ...DEFAULTS, ...config }
    invariant(this.#config.budgetBytes >= this.#config.chunkBytes, 'T2: the budget is less than one chunk')
    this.#server = new ChunkServer(this.#config.chunkBytes, {
      look: (storageId) => this.#copyOf(storageId),
      emit: (effect) => this.#effects.push(effect),
    })
    this.#held = new HeldCopies({
      own: config.nodeId,
      nodeOf: config.nodeOf,
      homeOf: (storageId) => this.#homeOf(storageId),
      isDead: (nodeId) => this.#dead.has(nodeId),
      hasEnded: (owner) => this.#config.hasEnded(owner),
      emit: (effect) => this.#effects.push(effect),
      onDropped: (storageId) => this.#server.end(storageId),
    })
  }

  step(now: Ms, input: TransferInput): TransferEffect[] {
    this.#now = now
    this.#handle(input)
    this.#feedFreed()
    if (!this.#isTimerSet && (this.#pulls.size > 0 || this.#book.parked().length > 0)) {
      this.#isTimerSet = true
      this.#effects.push({ t: 'timer', at: now + TICK_MS })
    }
    const effects = this.#effects
    this.#effects = []
    return effects
  }

  /** Should this chunk be written? Asked when its head has come; what is not expected is thrown away. */
  expects(storageId: ObjectId, index: number, bytes: number): boolean {
    const pull = this.#pulls.get(storageId)
    if (pull?.phase !== 'pulling' || index >= pull.have.length) return false
    return !pull.have.has(index) && bytes === pull.bytesOf(index)
  }

  /** A whole copy of a value of another node. */
  holds(storageId: ObjectId): boolean {
    return this.#held.has(storageId)
  }

  stats(): Readonly<Record<string, number>> {
    return {
      pulls: this.#pulls.size,
      pulledCopies: this.#held.size,
      bytesInFlight: this.#inFlightBytes,
      pulledBytesEver: this.#pulledBytesEver,
      adoptedObjectsEver: this.#adoptedEver,
      holdersKnown: this.#book.size,
      watched: this.#server.size,
      survivorsKnown: this.#held.survivors.size,
    }
  }

  check(): void {
    let admitted = 0
    let inFlight = 0
    const byHolder = new Map<NodeId, number>()
    for (const pull of this.#pulls.values()) {
      pull.check()
      invariant(pull.readers.size > 0, `T4: nobody waits for ${pull.storageId}`)
      if (pull.isAdmitted) admitted += pull.size
      for (const [nodeId, source] of pull.sources) {
        for (const index of source.inFlight) {
          inFlight += pull.bytesOf(index)
          byHolder.set(nodeId, (byHolder.get(nodeId) ?? 0) + pull.bytesOf(index))
        }
      }
    }
    invariant(admitted === this.#admittedBytes, `T2: ${admitted} bytes are admitted, ${this.#admittedBytes} counted`)
    invariant(inFlight === this.#inFlightBytes, `T2: ${inFlight} bytes in flight, ${this.#inFlightBytes} counted`)
    invariant(inFlight <= this.#config.budgetBytes, `T2: ${inFlight} bytes in flight are over the budget`)
    for (const [nodeId, load] of this.#loads)
      invariant((byHolder.get(nodeId) ?? 0) === load.bytes, `T3: ${load.bytes} bytes counted at ${nodeId}`)
  }

  #handle(input: TransferInput): void {
    switch (input.t) {
      case 'want':
        return this.#want(input.storageId, input.reader)
      case 'unwant':
        return this.#unwant(this.#pulls.get(input.storageId), input.reader)
      case 'readerGone':
        for (const pull of [...this.#pulls.values()]) this.#unwant(pull, input.reader)
        return
      case 'peer':
        return this.#onPeer(input.from, input.message)
      case 'fromHolder':
        return this.#onHolder(input.from, input.message)
      case 'fromPuller':
        return this.#onPuller(input.from, input.message)
      case 'chunkCame':
        return this.#chunkCame(input.storageId, input.index)
      case 'holderClosed':
        return this.#holderClosed(input.nodeId)
      case 'pullerClosed':
        return this.#server.forget(input.nodeId)
      case 'nodeDied':
        return this.#nodeDied(input.nodeId)
      case 'adopted':
        return this.#adopted(input.storageId, input.isDone)
      case 'allocated':
        return this.#allocated(input.storageId, input.isDone)
      case 'writeFailed':
        return this.#restart(input.storageId)
      case 'made':
        return this.#answerParked(input.storageId)
      case 'freed':
        return this.#onFreed(input.storageIds)
      case 'evicted':
        for (const storageId of input.storageIds) if (this.#held.forget(storageId)) this.#sayDropped(storageId)
        return
      case 'rescue':
        return this.#held.survivors.rescue(input.owner, input.storageIds, input.of)
      case 'promoted':
        return this.#held.promoted(input.storageId, input.copy)
      case 'ownerGone':
        return this.#held.survivors.ownerGone(input.owner)
      case 'timer':
        return this.#tick()
    }
  }

  // Wants

  #want(storageId: ObjectId, reader: WorkerTag): void {
    const home = this.#homeOf(storageId)
    if (this.#held.has(storageId)) return this.#located(storageId, [reader], 'here')
    const known = this.#pulls.get(storageId)
    if (known) {
      known.readers.add(reader)
      return
    }
    if (home === undefined || home === this.#config.nodeId || this.#dead.has(home))
      return this.#located(storageId, [reader], null)
    const pull = new Pull(storageId, home, this.#config.chunkBytes, this.#now)
    pull.readers.add(reader)
    this.#pulls.set(storageId, pull)
    this.#ask(pull)
  }

  #unwant(pull: Pull | undefined, reader: WorkerTag): void {
    if (pull?.readers.delete(reader) && pull.readers.size === 0) this.#abandon(pull)
  }

  #located(storageId: ObjectId, readers: readonly WorkerTag[], where: 'here' | null): void {
    this.#effects.push({ t: 'located', storageId, readers, where })
  }

  #ask(pull: Pull): void {
    pull.askAt = null
    pull.asked++
    pull.progressAt = this.#now // T6 counts from here.
    this.#effects.push({
      t: 'toPeer',
      nodeId: pull.home,
      message: { t: 'object.find', storageId: pull.storageId },
    })
  }

  #askLater(pull: Pull): void {
    pull.askAt = this.#now + Math.min(TICK_MS * 2 ** Math.min(pull.asked, 10), ASK_AGAIN_MAX_MS)
  }

  #lost(pull: Pull): void {
    this.#end(pull)
    this.#located(pull.storageId, [...pull.readers], null)
  }

  /** T4 */
  #abandon(pull: Pull): void {
    this.#end(pull)
    this.#sayDropped(pull.storageId)
  }

  #sayDropped(storageId: ObjectId): void {
    const home = this.#homeOf(storageId)
    if (home === undefined || this.#dead.has(home)) return
    this.#effects.push({ t: 'toPeer', nodeId: home, message: { t: 'object.dropped', storageId } })
  }

  /** Incomplete: nothing is kept. */
  #end(pull: Pull): void {
    const wasAdmitted = pull.isAdmitted
    this.#pulls.delete(pull.storageId)
    this.#leaveAll(pull)
    this.#server.end(pull.storageId)
    if (!wasAdmitted) return
    this.#effects.push({ t: 'drop', storageId: pull.storageId })
    this.#admittedBytes -= pull.size
    this.#admit()
  }

  #leaveAll(pull: Pull): void {
    for (const [nodeId, { inFlight }] of [...pull.sources]) {
      const isToTell = inFlight.size > 0 || nodeId !== pull.home // It would send what is not needed any more.
      this.#leave(pull, nodeId)
      if (!isToTell || this.#dead.has(nodeId)) continue
      this.#effects.push({ t: 'toHolder', nodeId, message: { t: 'chunk.unwatch', storageId: pull.storageId } })
    }
  }

  // Chunks

  /** T2 */
  #admit(): void {
    for (const pull of this.#pulls.values()) {
      if (pull.phase !== 'queued') continue
      const isAlone = this.#admittedBytes === 0
      if (!isAlone && this.#admittedBytes + pull.size > this.#config.budgetBytes) return
      this.#admittedBytes += pull.size
      pull.phase = 'allocating'
      this.#effects.push({ t: 'allocate', storageId: pull.storageId, size: pull.size })
    }
  }

  #allocated(storageId: ObjectId, isDone: boolean): void {
    const pull = this.#pulls.get(storageId)
    if (pull?.phase !== 'allocating') return
    if (!isDone) return this.#restart(storageId)
    pull.phase = 'pulling'
    pull.progressAt = this.#now
    this.#spread(pull)
  }

  /** Taken whole, or it comes in chunks as from any other machine. */
  #adopted(storageId: ObjectId, isDone: boolean): void {
    const pull = this.#pulls.get(storageId)
    if (pull?.phase !== 'adopting') {
      if (isDone && !this.#held.has(storageId)) this.#effects.push({ t: 'drop', storageId }) // Nobody wants it any more.
      return
    }
    if (isDone) {
      this.#adoptedEver++
      return this.#complete(pull)
    }
    pull.phase = 'queued'
    this.#addSources(pull, pull.named)
    this.#admit()
  }

  /** There is no room for it. It begins anew in a while: others may have been freed by then. */
  #restart(storageId: ObjectId): void {
    const pull = this.#pulls.get(storageId)
    if (!pull?.isAdmitted) return
    this.#leaveAll(pull)
    this.#server.end(storageId)
    this.#effects.push({ t: 'drop', storageId })
    this.#admittedBytes -= pull.size
    pull.phase = 'new'
    this.#askLater(pull)
    this.#admit()
  }

  /** One chunk of each in turn, of the least loaded first. */
  #spread(pull: Pull): void {
    const nodes = [...pull.sources.keys()]
    for (const nodeId of nodes) this.#load(nodeId).ready.add(pull)
    for (let isAny = true; isAny; ) {
      isAny = false
      nodes.sort((a, b) => this.#load(a).bytes - this.#load(b).bytes)
      for (const nodeId of nodes) {
        if (this.#request(pull, nodeId) !== 'asked') continue
        isAny = true
        break
      }
    }
  }

  /** What was left out because enough had been asked of a holder, or of all. */
  #feedFreed(): void {
    if (this.#freed.size === 0) return
    const nodes = this.#isBudgetSpent ? [...this.#loads.keys()] : [...this.#freed]
    this.#isBudgetSpent = false
    this.#freed.clear()
    for (const nodeId of nodes) this.#feed(nodeId)
  }

  #feed(nodeId: NodeId): void {
    const load = this.#loads.get(nodeId)
    if (!load) return
    for (const pull of load.ready) {
      for (;;) {
        const outcome = this.#request(pull, nodeId)
        if (outcome === 'full') return
        if (outcome === 'nothing') break
      }
      load.ready.delete(pull)
    }
    if (load.ready.size === 0 && load.chunks === 0) this.#loads.delete(nodeId)
  }

  /** 'full': not now. */
  #request(pull: Pull, nodeId: NodeId): 'asked' | 'nothing' | 'full' {
    const load = this.#load(nodeId)
    if (!this.#hasRoom(load, 1)) return 'full'
    const index = pull.pick(nodeId)
    if (index === undefined) return 'nothing'
    const bytes = pull.bytesOf(index)
    if (!this.#hasRoom(load, bytes)) return 'full'
    if (this.#inFlightBytes + bytes > this.#config.budgetBytes) {
      this.#isBudgetSpent = true
      return 'full'
    }
    pull.request(nodeId, index)
    load.bytes += bytes
    load.chunks++
    this.#inFlightBytes += bytes
    const message: PullerToHolder = { t: 'chunk.request', storageId: pull.storageId, index }
    this.#effects.push({ t: 'toHolder', nodeId, message })
    return 'asked'
  }

  /** T3 */
  #hasRoom(load: Load, bytes: number): boolean {
    const { holderBytesMax, holderChunksMax } = this.#config
    return load.chunks === 0 || (load.bytes + bytes <= holderBytesMax && load.chunks < holderChunksMax)
  }

  #load(nodeId: NodeId): Load {
    let load = this.#loads.get(nodeId)
    if (!load) {
      load = { bytes: 0, chunks: 0, ready: new Set() }
      this.#loads.set(nodeId, load)
    }
    return load
  }

  #release(nodeId: NodeId, bytes: number): void {
    const load = this.#load(nodeId)
    load.bytes -= bytes
    load.chunks--
    this.#inFlightBytes -= bytes
    this.#freed.add(nodeId)
  }

  #chunkCame(storageId: ObjectId, index: number): void {
    const pull = this.#pulls.get(storageId)
    if (pull?.phase !== 'pulling') return
    const { isNew, released } = pull.arrived(index, this.#now)
    if (released !== undefined) this.#release(released, pull.bytesOf(index))
    if (isNew) this.#pulledBytesEver += pull.bytesOf(index)
    if (isNew) this.#server.chunkCame(storageId, index) // T7
    if (pull.have.isFull) this.#complete(pull)
  }

  #complete(pull: Pull): void {
    const { storageId, size, readers, isAdmitted } = pull
    this.#pulls.delete(storageId)
    this.#held.add(pull)
    if (isAdmitted) this.#effects.push({ t: 'seal', storageId })
    this.#located(storageId, [...readers], 'here')
    this.#leaveAll(pull)
    this.#server.isWhole(storageId, isAdmitted)
    if (!isAdmitted) return
    this.#admittedBytes -= size
    this.#admit()
  }

  #homeOf(storageId: ObjectId): NodeId | undefined {
    return this.#config.nodeOf(ownerOf(storageId))
  }

  // Holders

  #onHolder(from: NodeId, message: HolderToPuller): void {
    const pull = this.#pulls.get(message.storageId)
    const source = pull?.sources.get(from)
    if (!pull || !source) return
    if (message.t === 'chunk.gone') {
      this.#leave(pull, from)
      if (from === pull.home) pull.gone++
      this.#afterLoss(pull)
      return
    }
    if (message.t === 'chunk.has') pull.learn(from, message.bits)
    else if (!pull.learnOne(from, message.index)) return
    this.#load(from).ready.add(pull)
    this.#feed(from)
  }

  #leave(pull: Pull, nodeId: NodeId): void {
    for (const index of pull.dropSource(nodeId)) this.#release(nodeId, pull.bytesOf(index))
    const load = this.#loads.get(nodeId)
    load?.ready.delete(pull)
    if (load?.chunks === 0 && load.ready.size === 0) this.#loads.delete(nodeId)
  }

  /** A holder less: what had been asked of it is asked of the others, or the home is asked for more. */
  #afterLoss(pull: Pull): void {
    if (pull.gone > GONE_MAX) return this.#lostHere(pull)
    if (pull.phase === 'pulling') this.#spread(pull)
    // Only the home has all of it for certain.
    if (pull.phase !== 'new' && pull.askAt === null && !pull.sources.has(pull.home)) this.#askLater(pull)
  }

  #lostHere(pull: Pull): void {
    this.#lost(pull)
    this.#sayDropped(pull.storageId)
  }

  #holderClosed(nodeId: NodeId): void {
    for (const pull of [...this.#pulls.values()]) {
      if (!pull.sources.has(nodeId)) continue
      this.#leave(pull, nodeId)
      this.#afterLoss(pull)
    }
  }

  #nodeDied(nodeId: NodeId): void {
    this.#dead.add(nodeId)
    this.#book.nodeDied(nodeId)
    this.#server.forget(nodeId)
    for (const pull of [...this.#pulls.values()]) if (pull.home === nodeId) this.#lost(pull)
    this.#holderClosed(nodeId)
    this.#held.nodeDied(nodeId)
  }

  #tick(): void {
    this.#isTimerSet = false
    for (const storageId of this.#book.parked()) this.#answerParked(storageId)
    for (const pull of [...this.#pulls.values()]) {
      if (pull.askAt !== null) {
        if (pull.askAt <= this.#now) this.#ask(pull)
      } else if (pull.phase !== 'queued' && this.#now - pull.progressAt >= this.#config.stallMs) this.#stalled(pull)
    }
  }

  /** T6. Those that do not answer may be the reason: all are asked anew. */
  #stalled(pull: Pull): void {
    this.#leaveAll(pull)
    this.#ask(pull)
  }

  // Between raylets

  #onPeer(from: NodeId, message: PeerMessage): void {
    switch (message.t) {
      case 'object.find':
        if (!this.#dead.has(from)) this.#find(from, message.storageId)
        return
      case 'object.holders':
        return this.#onHolders(message)
      case 'object.free':
        return this.#onFreed(message.storageIds)
      case 'object.dropped':
        this.#held.survivors.dropped(message.storageId, from)
        return this.#book.drop(message.storageId, from)
      case 'object.copied':
        if (!this.#dead.has(from)) this.#held.survivors.copied(message.storageId, message.owner, from)
        return
      case 'object.promote':
        return this.#held.promote(from, message.storageId, message.owner)
      case 'object.promoted':
        return this.#held.survivors.promoted(message.storageId, from, message.copy)
    }
  }

  #find(asker: NodeId, storageId: ObjectId): void {
    const copy = this.#config.look(storageId)
    if (copy === 'soon') return this.#book.park(storageId, asker)
    const nodes = copy ? [this.#config.nodeId, ...this.#book.add(storageId, asker)] : []
    const { folder } = this.#config
    const { size = 0, owner = -1 } = copy ?? {}
    const message: PeerMessage = { t: 'object.holders', storageId, size, owner, nodes, folder }
    this.#effects.push({ t: 'toPeer', nodeId: asker, message })
  }

  #answerParked(storageId: ObjectId): void {
    for (const asker of this.#book.takeParked(storageId)) this.#find(asker, storageId)
  }

  #onHolders({ storageId, size, owner, nodes, folder }: PeerMessage & { t: 'object.holders' }): void {
    const pull = this.#pulls.get(storageId)
    if (!pull) return
    if (size <= 0 || (pull.size > 0 && pull.size !== size)) return this.#lostHere(pull)
    const isFirst = pull.phase === 'new'
    if (isFirst) pull.begin(size, this.#config.nodeId)
    pull.progressAt = this.#now
    pull.owner = owner
    if (isFirst && folder) {
      pull.phase = 'adopting'
      pull.named = nodes
      this.#effects.push({ t: 'adopt', storageId, size, folder })
      return
    }
    this.#addSources(pull, nodes)
    if (isFirst) this.#admit()
    else if (pull.phase === 'pulling') this.#spread(pull)
  }

  #addSources(pull: Pull, nodes: readonly NodeId[]): void {
    const isSmall = chunksIn(pull.size, this.#config.chunkBytes) === 1 && pull.asked <= 1
    for (const nodeId of nodes) {
      if (nodeId === this.#config.nodeId || this.#dead.has(nodeId)) continue
      if (nodeId === pull.home) pull.addSource(nodeId, 'all')
      else if (!isSmall) this.#watch(pull, nodeId)
    }
  }

  #watch(pull: Pull, nodeId: NodeId): void {
    if (pull.sources.has(nodeId)) return
    pull.addSource(nodeId, null)
    this.#effects.push({ t: 'toHolder', nodeId, message: { t: 'chunk.watch', storageId: pull.storageId } })
  }

  #onPuller(from: NodeId, message: PullerToHolder): void {
    this.#server.onPuller(from, message)
    const pull = message.t === 'chunk.watch' ? this.#pulls.get(message.storageId) : undefined
    // It is getting what we are getting: it will have chunks for us too.
    if (pull && pull.phase !== 'new' && !this.#dead.has(from)) this.#watch(pull, from)
  }

  #copyOf(storageId: ObjectId): { size: number; have: Pull['have'] | null } | null {
    const held = this.#held.sizeOf(storageId)
    if (held !== undefined) return { size: held, have: null }
    const pull = this.#pulls.get(storageId)
    if (pull) return pull.phase === 'new' ? null : { size: pull.size, have: pull.have }
    const own = this.#config.look(storageId)
    return own && own !== 'soon' ? { size: own.size, have: null } : null
  }

  #onFreed(storageIds: readonly ObjectId[]): void {
    const byHolder = new Map<NodeId, ObjectId[]>()
    for (const storageId of storageIds) {
      for (const holder of this.#book.free(storageId)) {
        const ids = byHolder.get(holder)
        if (ids) ids.push(storageId)
        else byHolder.set(holder, [storageId])
      }
      const pull = this.#pulls.get(storageId)
      if (pull) this.#lost(pull)
      this.#held.drop(storageId)
      this.#server.end(storageId)
      this.#answerParked(storageId)
    }
    for (const [nodeId, ids] of byHolder)
      this.#effects.push({ t: 'toPeer', nodeId, message: { t: 'object.free', storageIds: ids } })
  }
}
