// A large cluster without faults: production GCS, raylets and core workers on one virtual clock, so many that what grows with their
// number shows. `sim/cluster.ts` is the small one, with faults.
//
//   boot ──► groups, a task in each bundle ──► actors, a call to each ──► tasks ──► all of it goes
//
// Left out, because it costs the same however large the cluster is: sockets and resumed links (messages arrive in order after a fixed
// time), decoding, user code and values, stores, definitions. Workers take time and answer.

import { Gcs } from '../../gcs/gcs.ts'
import type { NodeId, WorkerTag } from '../../ids/ids.ts'
import { invariant } from '../../kernel/invariant.ts'
import type { Ms } from '../../kernel/machine.ts'
import type { GcsToNode, NodeToGcs } from '../../wire/cluster.ts'
import type { GroupStrategy } from '../../wire/groups.ts'
import type { Resources, SchedulingStrategy } from '../../wire/messages.ts'
import { World } from '../world.ts'
import { ScaleJudge } from './judge.ts'
import type { Meter } from './meter.ts'
import { ScaleNode } from './node.ts'
import { groupSpec, Owner } from './owner.ts'
import type { SimpleWorker } from './worker.ts'

export interface ScaleOptions {
  readonly nodes: number
  readonly actors: number
  readonly tasks: number
  readonly groups: number
  /** Drivers, each on a node of its own; they share the work. */
  readonly owners: number
  readonly seed?: number
  readonly onPhase?: (name: string, virtualMs: Ms) => void
}

export interface Phase {
  readonly name: string
  readonly virtualMs: Ms
}

export const CPUS = 16
const FAR_MS: Ms = 0.5
const NEAR_MS: Ms = 0.05
const TASK_MS: readonly [from: Ms, to: Ms] = [50, 350]
const PHASE_MAX_MS: Ms = 600_000
const CPU = 10_000
const DEFAULT: SchedulingStrategy = { kind: 'DEFAULT' }
const SPREAD: SchedulingStrategy = { kind: 'SPREAD' }
const STRATEGIES: readonly GroupStrategy[] = ['PACK', 'SPREAD', 'STRICT_PACK', 'STRICT_SPREAD']
/** Until everybody has heard of everything. */
const SETTLE_MS: Ms = 6000

export class ScaleCluster {
  readonly world: World
  readonly meter: Meter
  readonly judge: ScaleJudge
  readonly gcs: Gcs
  readonly nodes: readonly ScaleNode[]
  readonly workers = new Map<WorkerTag, SimpleWorker>()
  readonly phases: Phase[] = []
  readonly owners: Owner[] = []
  isOver = false
  persisted = 0
  readonly #byId = new Map<NodeId, ScaleNode>()
  readonly #options: ScaleOptions
  readonly #timers = new Map<string, number>()
  /** Heard and not acknowledged, by node. */
  readonly #heard = new Map<NodeId, number>()
  readonly #unacked = new Set<NodeId>()

  constructor(options: ScaleOptions, meter: Meter) {
    this.#options = options
    this.world = new World(options.seed ?? 1, false)
    this.meter = meter
    this.judge = new ScaleJudge(this)
    this.gcs = new Gcs({
      ...{ clusterId: 'scale', actorGracefulShutdownMs: 30_000, reconnectGraceMs: 60_000, system: {}, isDurable: true },
      health: { periodMs: 3000, timeoutMs: 10_000, failureThreshold: 5 },
    })
    const total: Resources = { CPU: CPUS * CPU, memory: 64e9, object_store_memory: 20e9 }
    this.nodes = Array.from({ length: options.nodes }, (_, index) => new ScaleNode(this, index, total, CPUS))
    for (const node of this.nodes) this.#byId.set(node.nodeId, node)
  }

  node(nodeId: NodeId): ScaleNode {
    return this.#byId.get(nodeId) as ScaleNode
  }

  later(where: 'near' | 'far', run: () => void): void {
    this.world.after(where === 'near' ? NEAR_MS : FAR_MS, run)
  }

  taskMs(): Ms {
    const [from, to] = TASK_MS
    return from + this.world.random.next() * (to - from)
  }

  // The GCS's process

  toGcs(from: NodeId, message: NodeToGcs): void {
    this.meter.message('gcs', message)
    this.later('far', () => {
      if (message.t !== 'node.register') {
        this.#heard.set(from, (this.#heard.get(from) ?? 0) + 1)
        if (this.#unacked.size === 0) this.world.after(0, () => this.#acknowledge())
        this.#unacked.add(from)
      }
      const inner = message.t === 'forward' ? `${message.t} ${message.message.t}` : message.t
      this.#step(inner, { kind: 'local', event: { t: 'fromNode', nodeId: from, message } })
    })
  }

  #acknowledge(): void {
    for (const nodeId of this.#unacked) this.#toNode(nodeId, { t: 'acked', count: this.#heard.get(nodeId) ?? 0 })
    this.#unacked.clear()
  }

  #step(what: string, input: Parameters<Gcs['step']>[1]): void {
    const effects = this.meter.step('gcs', 'gcs', what, () => this.gcs.step(this.world.now, input))
    for (const effect of effects) {
      if (effect.kind === 'timer') this.#setTimer(effect.key, effect.at)
      else if (effect.kind !== 'local') continue
      else if (effect.event.t === 'toNode') this.#toNode(effect.event.nodeId, effect.event.message)
      else if (effect.event.t === 'persist')
        for (const { value } of effect.event.changes) this.persisted += value?.length ?? 0
    }
  }

  #toNode(nodeId: NodeId, message: GcsToNode): void {
    const node = this.node(nodeId)
    this.meter.message('gcs', message)
    this.later('far', () => {
      if (message.t === 'bundles.do') {
        for (const step of message.steps) if (step.t === 'return') this.judge.onBundlesReturn(node, step.bundles)
      }
      node.fromGcs(message)
    })
  }

  #setTimer(key: string, at: Ms): void {
    const life = (this.#timers.get(key) ?? 0) + 1
    this.#timers.set(key, life)
    this.world.at(at, () => {
      if (this.#timers.get(key) === life && !this.isOver)
        this.#step(`timer ${key.split(' ')[0]}`, { kind: 'timer', key })
    })
  }

  // The work

  run(): void {
    this.#phase('boot', () => this.#boot(), this.#isUp)
    this.#phase('groups', () => this.#createGroups(), this.#isWorkDone)
    this.#phase('actors', () => this.#createActors(), this.#isWorkDone)
    this.judge.checkWorkDone()
    this.#phase('tasks', () => this.#submitTasks(), this.#isWorkDone)
    this.judge.checkWorkDone()
    this.#phase('end', () => this.#dropAll(), this.#isAllGone)
    this.world.run(this.world.now + SETTLE_MS)
    this.judge.checkEnd()
    this.isOver = true
  }

  #phase(name: string, begin: () => void, isDone: () => boolean): void {
    const began = this.world.now
    begin()
    this.world.run(began + PHASE_MAX_MS, isDone)
    const { done, submitted } = this.judge
    invariant(
      isDone(),
      `the phase '${name}' has not ended after ${PHASE_MAX_MS / 1000} s; ${done} of ${submitted} done`,
    )
    const phase = { name, virtualMs: this.world.now - began }
    this.phases.push(phase)
    this.#options.onPhase?.(name, phase.virtualMs)
  }

  #boot(): void {
    this.#step('start', { kind: 'start' })
    for (const [index, node] of this.nodes.entries()) {
      this.world.after(index * 0.1, () => node.start(index === 0))
    }
    const every = Math.max(1, Math.floor(this.nodes.length / this.#options.owners))
    for (let i = 0; i < this.#options.owners; i++) {
      const node = this.nodes[(i * every) % this.nodes.length] as ScaleNode
      node.addOwner((tag) => {
        const owner = new Owner(node, tag)
        this.owners.push(owner)
        return owner
      })
    }
  }

  readonly #isUp = (): boolean =>
    this.owners.length === this.#options.owners && this.workers.size >= this.nodes.length * CPUS

  readonly #isWorkDone = (): boolean => this.judge.done === this.judge.submitted && this.#groupsOpen === 0
  #groupsOpen = 0

  #ownerAt(index: number): Owner {
    return this.owners[index % this.owners.length] as Owner
  }

  #createGroups(): void {
    const { groups } = this.#options
    this.#groupsOpen = groups
    for (let i = 0; i < groups; i++) {
      const owner = this.#ownerAt(i)
      const strategy = STRATEGIES[i % STRATEGIES.length] as GroupStrategy
      const spec = groupSpec(owner.tag, i + 1, { strategy, bundles: [{ CPU }, { CPU }, { CPU }] })
      this.judge.onGroupWanted(spec)
      owner.createGroup(spec, () => {
        this.judge.onGroupReady(spec)
        this.#groupsOpen--
        for (const bundleIndex of spec.bundles.keys()) {
          const place = { kind: 'bundle', groupId: spec.groupId, bundleIndex, captures: false } as const
          owner.submit({ resources: { CPU }, strategy: place })
        }
      })
    }
  }

  #createActors(): void {
    for (let i = 0; i < this.#options.actors; i++) this.#ownerAt(i).createActor({ CPU: CPU / 4 })
  }

  #submitTasks(): void {
    const { random } = this.world
    for (let i = 0; i < this.#options.tasks; i++) {
      const draw = random.next()
      const wanted = {
        resources: { CPU: draw < 0.1 ? CPU / 2 : CPU },
        strategy: draw > 0.9 ? SPREAD : DEFAULT,
      }
      this.#ownerAt(i).submit(wanted)
    }
  }

  #dropAll(): void {
    for (const owner of this.owners) owner.dropActors()
    for (let i = 0; i < this.#options.groups; i++) {
      const owner = this.#ownerAt(i)
      owner.removeGroup(groupSpec(owner.tag, i + 1, { strategy: 'PACK', bundles: [] }).groupId)
    }
  }

  /** Asked after every step: so many nodes were found without leases, and get none any more. */
  #emptied = 0
  readonly #isAllGone = (): boolean => {
    if (this.judge.living > 0) return false
    while (this.nodes[this.#emptied]?.raylet.leases.leases.size === 0) this.#emptied++
    return this.#emptied === this.nodes.length
  }
}
