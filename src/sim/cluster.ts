// One simulated world: a GCS and the nodes, the roads between them, and what everybody in it shares with the judge.
//
// A node that is alone composes GCS and raylet in one process; else each has its own.

import type { RemoteFunctionEntry } from '../core-worker/effects.ts'
import type { Gcs } from '../gcs/gcs.ts'
import { type ActorId, type NodeId, type ObjectId, ownerOf, type PlacementGroupId, type WorkerTag } from '../ids/ids.ts'
import type { Bug } from './bugs.ts'
import type { CoreShell } from './core-shell.ts'
import type { Faults } from './faults.ts'
import { GcsProcess, makeGcs } from './gcs-server.ts'
import { Judge } from './judge.ts'
import type { NetFaults } from './net-faults.ts'
import { connect, type Latency, makeRoad, type Receiver, type Road, type Socket } from './network.ts'
import { SimNode } from './node.ts'
import { SimProcess } from './processes.ts'
import { boot, type WorkerProcess } from './workers.ts'
import type { World } from './world.ts'

/** The place of the GCS, beside those of the nodes. */
const GCS_PLACE = -1

export class Cluster {
  readonly world: World
  readonly bugs: Bug
  readonly judge: Judge
  gcs: Gcs
  readonly gcsProcess: GcsProcess
  readonly nodes: readonly SimNode[]
  readonly isAlone: boolean
  readonly net: NetFaults
  /** Of nodes, under which their own copies go. */
  readonly nodeTags = new Map<WorkerTag, SimNode>()
  readonly shells = new Map<WorkerTag, CoreShell>()
  /** By the names of their processes, which are the paths of their sockets. */
  readonly workers = new Map<string, WorkerProcess>()
  faults: Faults
  areFaultsOver = false
  readonly hadStartFailures: boolean
  #pids = 100
  #actorIds = 0
  #groupIds = 0
  readonly #functions = new Map<CoreShell, Map<string, RemoteFunctionEntry>>()
  readonly #roads = new Map<string, Road>()
  readonly #spoilt = new Set<string>()

  constructor(world: World, faults: Faults, net: NetFaults, bug: Bug) {
    this.world = world
    this.faults = faults
    this.net = net
    this.isAlone = net.totals.length === 1
    this.hadStartFailures = faults.startFailureChance > 0 || faults.killEveryMs > 0
    this.bugs = bug
    this.judge = new Judge(this)
    this.gcs = makeGcs(this.isAlone)
    this.gcsProcess = new GcsProcess(this)
    this.nodes = net.totals.map((total, index) => new SimNode(this, index, total))
    bug.gcs?.(this.gcs)
  }

  readonly latency = (): Latency => this.faults

  start(): void {
    if (!this.isAlone) this.gcsProcess.start()
    for (const node of this.nodes) {
      if (node.index === this.net.lateNode) this.world.at(this.net.lateAtMs, () => node.start())
      else node.start()
    }
  }

  /** Every node that is to be there from the beginning knows every other. */
  get isUp(): boolean {
    if (this.isAlone) return true
    const early = this.nodes.filter(({ index }) => index !== this.net.lateNode)
    return early.every(({ raylet }) => [...raylet.view.others()].length >= early.length - 1 && raylet.view.nextTag > 0)
  }

  /** Nothing is on its way between living nodes. */
  get areLinksIdle(): boolean {
    return this.nodes.every(
      (node) => !this.isNodeAlive(node) || [...(node.peers?.open() ?? [])].every(({ keptBytes }) => keptBytes === 0),
    )
  }

  // Who is who

  /** Its process lives, and its node counts as living. */
  isAlive(tag: WorkerTag): boolean {
    const shell = this.shells.get(tag)
    return shell?.os.isAlive === true && !this.isDeclaredDead(shell.node)
  }

  isDeclaredDead({ nodeId }: SimNode): boolean {
    return !this.isAlone && this.gcs.nodes.get(nodeId)?.state === 'DEAD'
  }

  /** It can be of use to others. */
  isNodeAlive(node: SimNode): boolean {
    return node.os.isAlive && !this.isDeclaredDead(node)
  }

  nodeById(nodeId: NodeId): SimNode {
    return this.nodes.find((node) => node.nodeId === nodeId) as SimNode
  }

  nodeOf(tag: WorkerTag): SimNode | undefined {
    return this.shells.get(tag)?.node ?? this.nodeTags.get(tag)
  }

  nextGroupId(): PlacementGroupId {
    return (++this.#groupIds).toString(16).padStart(36, '0')
  }

  nextActorId(): ActorId {
    return (++this.#actorIds).toString(16).padStart(32, '0')
  }

  makeProcess(name: string): SimProcess {
    return new SimProcess(this.world, ++this.#pids, name)
  }

  /** The entry of a function or method in one process; definitions are put by whoever uses them. */
  functionOf(shell: CoreShell, key: string): RemoteFunctionEntry {
    let known = this.#functions.get(shell)
    if (!known) this.#functions.set(shell, (known = new Map()))
    let entry = known.get(key)
    if (!entry) {
      entry = { key, name: key, averageMicros: -1 }
      known.set(key, entry)
      if (key.startsWith('fn:')) shell.link.send({ t: 'kv.put', key, value: Buffer.from(key), overwrite: false })
    }
    return entry
  }

  // Processes

  /** A worker is about to write: it may be killed just before (P1). */
  mayTear(os: SimProcess): void {
    if (!this.workers.has(os.name) || !this.world.tears.chance(this.faults.tearChance)) return
    os.die({ code: null, signal: 'SIGKILL' }, false)
  }

  startDriver(node: SimNode, name: string, onReady: (shell: CoreShell) => void): SimProcess {
    const os = node.startDriver(name)
    os.enter(() => boot(this, node, { os, startupToken: '', kind: 'driver', socketPath: name, onReady }))
    return os
  }

  exitActor(shell: CoreShell): void {
    const found = [...this.workers.values()].find((worker) => worker.shell === shell)
    const actor = this.judge.actorOn(shell.tag)
    if (!found || !actor) return
    const { actorId, incarnation } = actor
    shell.link.send({ t: 'actor.exited', actorId, incarnation, detail: 'exitActor' })
  }

  // Connections

  /** Connects to the socket on which a worker takes tasks. */
  dial(from: CoreShell, socketPath: string): Socket {
    const worker = this.workers.get(socketPath)
    const target: Receiver = worker?.os ?? from.os
    const road = worker && worker.node !== from.node ? this.road(from.node, worker.node) : null
    const [own, theirs] = connect(this.world, this.latency, from.os, target, road)
    from.os.sockets.add(own)
    if (!worker?.os.isAlive) theirs.close()
    else {
      worker.os.sockets.add(theirs)
      worker.accept(theirs)
    }
    return own
  }

  road(from: SimNode, to: SimNode): Road {
    return this.#road(from.index, to.index)
  }

  roadToGcs(node: SimNode): Road {
    return this.#road(node.index, GCS_PLACE)
  }

  #road(from: number, to: number): Road {
    const key = `${Math.min(from, to)} ${Math.max(from, to)}`
    let road = this.#roads.get(key)
    if (!road) this.#roads.set(key, (road = makeRoad()))
    return from < to ? road : { out: road.back, back: road.out, sockets: road.sockets }
  }

  /** Their link is lost for good: one of the two must end. */
  spoil(a: NodeId, b: NodeId): void {
    this.world.log(`the link between ${a.slice(0, 2)} and ${b.slice(0, 2)} is spoilt`)
    this.#spoilt.add([a, b].sort().join(' '))
  }

  isSpoilt(a: NodeId, b: NodeId): boolean {
    return this.#spoilt.has([a, b].sort().join(' '))
  }

  /** All is well from here on. */
  healRoads(): void {
    for (const { out, back } of this.#roads.values()) {
      for (const way of [out, back]) Object.assign(way, { heldUntil: 0, extraMs: 0 })
    }
  }

  // Stored copies

  /** As a reader on `node` gets it: from the maker's node while that one lives. */
  openCopy(storageId: ObjectId, node: SimNode): Buffer | undefined {
    if (this.net.hasTransfers) return node.store.open(storageId)
    const maker = this.nodeOf(ownerOf(storageId))
    if (!maker || (maker !== node && !this.isNodeAlive(maker))) return undefined
    return maker.store.open(storageId)
  }

  /** It is where it should be, or its node is gone. */
  hasCopy(storageId: ObjectId): boolean {
    const maker = this.nodeOf(ownerOf(storageId))
    return maker !== undefined && (!this.isNodeAlive(maker) || maker.store.open(storageId) !== undefined)
  }
}
