// Sees the whole of a large simulated cluster, and throws when something is not as it must be.
//
//   Y1. A task runs once, on a worker that is leased to its owner, where its strategy wants it.
//   Y2. On no node runs more at once than it has: tasks, actors and reserved bundles together.
//   Y3. An actor starts once, on a worker that was leased for it, and lives until its handle goes.
//   Y4. The bundles of a group lie as its strategy says.
//   Y5. At the end nothing is held anywhere, and the GCS and every raylet know it.

import type { NodeId } from '../../ids/ids.ts'
import { invariant } from '../../kernel/invariant.ts'
import { fits } from '../../scheduling/resources.ts'
import type { BundleSet, NodeToGcs } from '../../wire/cluster.ts'
import type { GroupSpec } from '../../wire/groups.ts'
import type { ActorSpec } from '../../wire/messages.ts'
import type { ScaleCluster } from './cluster.ts'
import type { ScaleNode } from './node.ts'
import type { Owner } from './owner.ts'
import type { Run, SimpleWorker } from './worker.ts'

export class ScaleJudge {
  readonly #cluster: ScaleCluster
  submitted = 0
  begun = 0
  done = 0
  living = 0
  started = 0
  /** CPU in use by node: tasks and actors. */
  readonly #used = new Map<ScaleNode, number>()
  readonly #reserved = new Map<ScaleNode, Map<string, number>>()
  readonly #inBundle = new Map<string, number>()
  readonly #actors = new Map<string, { readonly spec: ActorSpec; starts: number }>()
  readonly #actorsOf = new Map<Owner, ActorSpec[]>()
  readonly #groups = new Map<string, GroupSpec>()
  readonly #running = new Set<string>()
  /** Nodes that ran a task. */
  readonly ranOn = new Set<ScaleNode>()

  constructor(cluster: ScaleCluster) {
    this.#cluster = cluster
  }

  onSubmit(): void {
    this.submitted++
  }

  onResult(): void {
    this.done++
  }

  // Y1, Y2

  onBegin(worker: SimpleWorker, run: Run): void {
    const { node } = worker
    const key = `${run.owner.tag} ${run.sequence}`
    invariant(!this.#running.has(key), `Y1: ${key} runs twice`)
    this.#running.add(key)
    this.begun++
    const wanted = run.owner.wanted.get(run.sequence)
    invariant(wanted !== undefined, `Y1: ${key} runs again`)
    if (run.isCall) {
      invariant(worker.actor !== null, `Y3: a call runs on worker ${worker.tag}, which is no actor`)
      return
    }
    const holder = worker.leaseId?.split('.')[0]
    invariant(holder === String(run.owner.tag), `Y1: ${key} runs on worker ${worker.tag}, leased by ${worker.leaseId}`)
    this.ranOn.add(node)
    const { strategy, resources } = wanted
    if (strategy.kind === 'bundle') {
      const bundle = this.#cluster.gcs.groups.find(strategy.groupId)?.bundles[strategy.bundleIndex]
      invariant(bundle?.nodeId === node.nodeId, `Y1: ${key} runs on another node than its bundle`)
      this.#use(this.#inBundle, `${strategy.groupId} ${strategy.bundleIndex}`, resources.CPU, bundle.resources.CPU)
    } else this.#take(node, resources.CPU ?? 0)
  }

  onEnd(worker: SimpleWorker, run: Run): void {
    this.#running.delete(`${run.owner.tag} ${run.sequence}`)
    const wanted = run.owner.wanted.get(run.sequence)
    if (!wanted || run.isCall) return
    const { strategy, resources } = wanted
    const CPU = resources.CPU ?? 0
    if (strategy.kind !== 'bundle') return this.#give(worker.node, CPU)
    const key = `${strategy.groupId} ${strategy.bundleIndex}`
    this.#inBundle.set(key, (this.#inBundle.get(key) ?? 0) - CPU)
  }

  #use(sums: Map<string, number>, key: string, CPU = 0, most = 0): void {
    const now = (sums.get(key) ?? 0) + CPU
    invariant(now <= most, `Y2: in bundle ${key} ${now} of ${most} run`)
    sums.set(key, now)
  }

  #take(node: ScaleNode, CPU: number): void {
    const used = (this.#used.get(node) ?? 0) + CPU
    this.#used.set(node, used)
    this.#checkRoom(node, used)
  }

  #give(node: ScaleNode, CPU: number): void {
    this.#used.set(node, (this.#used.get(node) ?? 0) - CPU)
  }

  #checkRoom(node: ScaleNode, used: number): void {
    let reserved = 0
    for (const CPU of this.#reserved.get(node)?.values() ?? []) reserved += CPU
    const total = node.total.CPU ?? 0
    invariant(used + reserved <= total, `Y2: node ${node.nodeId.slice(0, 8)} runs ${used} and ${reserved} of ${total}`)
  }

  // Y3

  onActorWanted(owner: Owner, spec: ActorSpec): void {
    this.#actors.set(spec.actorId, { spec, starts: 0 })
    const all = this.#actorsOf.get(owner)
    if (all) all.push(spec)
    else this.#actorsOf.set(owner, [spec])
  }

  actorsOf(owner: Owner): readonly ActorSpec[] {
    return this.#actorsOf.get(owner) ?? []
  }

  onActorStart(worker: SimpleWorker, { actorId, lease }: ActorSpec): void {
    const actor = this.#actors.get(actorId)
    invariant(actor !== undefined && actor.starts++ === 0, `Y3: actor ${actorId} starts twice`)
    invariant(worker.leaseId?.startsWith(`a${actorId}.`) === true, `Y3: ${worker.tag} is not leased for ${actorId}`)
    this.started++
    this.living++
    this.#take(worker.node, lease.resources.CPU ?? 0)
  }

  onActorEnd(worker: SimpleWorker, { lease }: ActorSpec): void {
    this.living--
    this.#give(worker.node, lease.resources.CPU ?? 0)
  }

  // Y4

  onToGcs(node: ScaleNode, message: NodeToGcs): void {
    if (message.t !== 'bundles.done') return
    const reserved = this.#reserved.get(node) ?? new Map<string, number>()
    this.#reserved.set(node, reserved)
    for (const answer of message.answers) {
      if (answer.t === 'prepared' && !answer.isReserved) continue
      const { groupId, indices } = answer.bundles
      for (const index of indices)
        reserved.set(`${groupId} ${index}`, this.#groups.get(groupId)?.bundles[index]?.CPU ?? 0)
    }
    this.#checkRoom(node, this.#used.get(node) ?? 0)
  }

  onBundlesReturn(node: ScaleNode, { groupId, indices }: BundleSet): void {
    for (const index of indices) this.#reserved.get(node)?.delete(`${groupId} ${index}`)
  }

  onGroupWanted(spec: GroupSpec): void {
    this.#groups.set(spec.groupId, spec)
  }

  onGroupReady({ groupId, strategy }: GroupSpec): void {
    const group = this.#cluster.gcs.groups.find(groupId)
    invariant(group?.state === 'CREATED', `Y4: group ${groupId} is said to be ready, and ${group?.state}`)
    const nodes = new Set<NodeId>()
    for (const [index, { nodeId, resources }] of group.bundles.entries()) {
      invariant(nodeId !== null, `Y4: bundle ${index} of ${groupId} lies nowhere`)
      const node = this.#cluster.node(nodeId)
      nodes.add(nodeId)
      const has = this.#reserved.get(node)?.get(`${groupId} ${index}`)
      invariant(has === resources.CPU, `Y4: bundle ${index} of ${groupId} is not reserved on its node`)
    }
    if (strategy === 'STRICT_PACK') invariant(nodes.size === 1, `Y4: ${groupId} lies on ${nodes.size} nodes`)
    if (strategy === 'STRICT_SPREAD') invariant(nodes.size === group.bundles.length, `Y4: ${groupId}: two on a node`)
  }

  // Y5

  checkWorkDone(): void {
    invariant(this.done === this.submitted, `${this.submitted - this.done} of ${this.submitted} have no result`)
    invariant(this.begun === this.submitted, `Y1: ${this.begun} runs of ${this.submitted} tasks and calls`)
    for (const node of this.#cluster.nodes) node.raylet.check()
  }

  checkEnd(): void {
    const { nodes, gcs } = this.#cluster
    invariant(this.living === 0, `Y5: ${this.living} actors live on`)
    for (const { raylet, nodeId, total, owners } of nodes) {
      raylet.check()
      const name = nodeId.slice(0, 8)
      invariant(raylet.leases.leases.size === 0, `Y5: node ${name} keeps ${raylet.leases.leases.size} leases`)
      invariant(raylet.leases.waiting + raylet.spill.parked + raylet.spill.away === 0, `Y5: requests wait on ${name}`)
      invariant(isSame(raylet.leases.free, total), `Y5: node ${name} has not all free`)
      const known = gcs.nodes.get(nodeId)?.available ?? {}
      invariant(isSame(known, total), `Y5: the GCS does not know that ${name} has all free`)
      for (const { core } of owners.values()) {
        invariant(core.openTasks === 0 && core.table.owned.size === 0, `Y5: an owner on ${name} keeps something`)
      }
    }
    const watching = new Set(gcs.nodes.watching())
    for (const { raylet, nodeId } of nodes) {
      invariant([...raylet.view.others()].length === nodes.length - 1, `Y5: ${nodeId.slice(0, 8)} misses nodes`)
      invariant(raylet.watch.isOn === watching.has(nodeId), `Y5: the GCS errs on whether ${nodeId.slice(0, 8)} watches`)
      if (!raylet.watch.isOn) continue
      for (const view of raylet.view.others()) {
        const isRight = isSame(view.available, view.total)
        invariant(isRight, `Y5: ${nodeId.slice(0, 8)} does not know that ${view.nodeId.slice(0, 8)} has all free`)
      }
    }
  }
}

function isSame(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): boolean {
  return fits(a, b) && fits(b, a)
}
