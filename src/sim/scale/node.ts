// A node of a large simulated cluster: the production raylet and its stream to the GCS, workers that only take time.
//
// Messages are encoded, counted and handed over as they are; links, sockets and stores are left out (the world of `sim/` has them).

import type { NodeId, WorkerTag } from '../../ids/ids.ts'
import type { Ms } from '../../kernel/machine.ts'
import { GcsStream } from '../../raylet/gcs-stream.ts'
import { Raylet } from '../../raylet/raylet.ts'
import type { RayletEffect, RayletInput } from '../../raylet/shell.ts'
import type { GcsToNode, NodeToGcs, RayletToRaylet } from '../../wire/cluster.ts'
import { type FromNode, PROTOCOL_VERSION, type Resources, type ToNode } from '../../wire/messages.ts'
import type { ScaleCluster } from './cluster.ts'
import type { Owner } from './owner.ts'
import { SimpleWorker } from './worker.ts'

/** From the order to start a worker to its registration. */
const WORKER_START_MS: Ms = 200

export class ScaleNode {
  readonly cluster: ScaleCluster
  readonly nodeId: NodeId
  readonly raylet: Raylet
  readonly total: Resources
  readonly workers = new Map<WorkerTag, SimpleWorker>()
  readonly owners = new Map<WorkerTag, Owner>()
  readonly #stream = new GcsStream()
  readonly #timers = new Map<string, number>()
  readonly #links = new Set<NodeId>()
  #tagless: (() => void)[] = []
  #isUp = false

  constructor(cluster: ScaleCluster, index: number, total: Resources, workers: number) {
    this.cluster = cluster
    this.total = total
    this.nodeId = index.toString(16).padStart(8, '0').repeat(7)
    this.raylet = new Raylet({
      ...{ nodeId: this.nodeId, total, numWorkersSoftLimit: workers, maxStarting: workers, prestart: workers },
      ...{ idleMs: 1000, idleCheckMs: 200 },
    })
  }

  get links(): number {
    return this.#links.size
  }

  start(isHead: boolean): void {
    const { nodeId, total } = this
    this.#toGcs({
      t: 'node.register',
      ...{ nodeId, protocol: PROTOCOL_VERSION, version: '1.0.0', address: { host: '10.0.0.1', port: 20_000 } },
      ...{ pid: 1, hostname: nodeId.slice(0, 12), sessionDir: '/tmp/ray/session', isHead, total, labels: {} },
      state: this.raylet.state(),
    })
  }

  // Processes

  addOwner(onReady: (tag: WorkerTag) => Owner): void {
    this.#withTag((tag) => {
      this.owners.set(tag, onReady(tag))
      const jobId = '01000000'
      this.#toGcs({ t: 'job.begin', tag, namespace: '', name: '', pid: 1 })
      this.#local({
        ...{ t: 'registered', kind: 'driver', startupToken: '', job: { jobId, namespace: '' } },
        address: this.#addressOf(tag),
      })
    })
  }

  #withTag(take: (tag: WorkerTag) => void): void {
    const tag = this.raylet.takeTag()
    if (tag === undefined) this.#tagless.push(() => this.#withTag(take))
    else take(tag)
  }

  #addressOf(tag: WorkerTag) {
    const socket = `/tmp/ray/session/w${tag}.sock`
    const tcp = { host: '10.0.0.1', port: 30_000 }
    return { tag, workerId: tag.toString(16).padStart(56, '0'), pid: tag, socket, tcp, nodeId: this.nodeId }
  }

  #spawn(startupToken: string): void {
    this.cluster.world.after(WORKER_START_MS, () => {
      this.#withTag((tag) => {
        const worker = new SimpleWorker(this, tag)
        this.workers.set(tag, worker)
        this.cluster.workers.set(tag, worker)
        this.#local({ t: 'registered', kind: 'worker', startupToken, address: this.#addressOf(tag) })
      })
    })
  }

  /** A worker has ended. */
  gone(tag: WorkerTag, signal: string | null): void {
    const worker = this.workers.get(tag)
    if (!worker) return
    this.workers.delete(tag)
    this.cluster.workers.delete(tag)
    for (const owner of worker.connected) this.cluster.later('far', () => owner.onDisconnected(tag))
    this.cluster.later('near', () => this.#local({ t: 'gone', tag, pid: tag, code: signal ? null : 0, signal }))
  }

  /** A core worker of this node says it. */
  fromClient(from: WorkerTag, message: ToNode): void {
    this.cluster.meter.message('local', message)
    this.cluster.later('near', () => {
      const isForGcs = /^(actor|kv|pg|cluster)\./.test(message.t)
      if (isForGcs) this.#toGcs({ t: 'forward', from, message })
      else this.#step(message.t, { kind: 'message', from, message })
    })
  }

  // The GCS and other nodes

  #toGcs(message: NodeToGcs): void {
    if (!this.#stream.say(message)) return
    this.cluster.toGcs(this.nodeId, message)
  }

  fromGcs(message: GcsToNode): void {
    if (!this.#stream.hear(message)) return
    if (message.t === 'acked' || message.t === 'job.made') return
    this.#local({ t: 'fromGcs', message })
    if (message.t === 'node.registered') {
      for (const word of this.#stream.resume()) this.cluster.toGcs(this.nodeId, word)
      if (!this.#isUp) this.#step('start', { kind: 'start' })
      this.#isUp = true
    }
    const waiting = this.#tagless
    this.#tagless = []
    for (const again of waiting) again()
  }

  fromPeer(nodeId: NodeId, message: RayletToRaylet): void {
    this.#local({ t: 'fromPeer', nodeId, message })
  }

  #toPeer(nodeId: NodeId, message: RayletToRaylet): void {
    this.#meet(nodeId)
    this.#deliver(this.cluster.node(nodeId), message)
  }

  #meet(nodeId: NodeId): void {
    if (this.#links.has(nodeId)) return
    const peer = this.cluster.node(nodeId)
    this.#greet(peer)
    peer.#greet(this)
  }

  #greet(peer: ScaleNode): void {
    this.#links.add(peer.nodeId)
    this.#deliver(peer, this.raylet.hello('scale', PROTOCOL_VERSION, peer.nodeId))
  }

  #deliver(peer: ScaleNode, message: RayletToRaylet): void {
    this.cluster.meter.message('peer', message)
    this.cluster.later('far', () => peer.fromPeer(this.nodeId, message))
  }

  // Effects

  #local(event: RayletInput): void {
    const what = event.t === 'fromGcs' || event.t === 'fromPeer' ? `${event.t} ${event.message.t}` : event.t
    this.#step(what, { kind: 'local', event })
  }

  #step(what: string, input: Parameters<Raylet['step']>[1]): void {
    const { meter, world } = this.cluster
    const effects = meter.step('raylet', this.nodeId, what, () => this.raylet.step(world.now, input))
    for (const effect of effects) {
      if (effect.kind === 'send') this.#send(effect.to, effect.message)
      else if (effect.kind === 'timer') this.#setTimer(effect.key, effect.at)
      else if (effect.kind === 'local') this.#perform(effect.event)
    }
  }

  #perform(event: RayletEffect): void {
    switch (event.t) {
      case 'spawnWorker':
        return this.#spawn(event.startupToken)
      case 'killProcess':
        return this.gone(event.tag, event.signal)
      case 'toGcs':
        this.cluster.judge.onToGcs(this, event.message)
        return this.#toGcs(event.message)
      case 'toPeer':
        return this.#toPeer(event.nodeId, event.message)
      case 'meet':
        return this.#meet(event.nodeId)
      case 'broadcast':
        for (const tag of this.owners.keys()) this.#send(tag, event.message)
        this.cluster.meter.message('local', event.message, this.workers.size) // They would not care.
        return
      default:
        return
    }
  }

  #send(to: WorkerTag, message: FromNode): void {
    this.cluster.meter.message('local', message)
    this.cluster.later('near', () => {
      const owner = this.owners.get(to)
      if (owner) owner.onMessage(message)
      else this.workers.get(to)?.onMessage(message)
    })
  }

  /** Replaces a timer of the same key. */
  #setTimer(key: string, at: Ms): void {
    const life = (this.#timers.get(key) ?? 0) + 1
    this.#timers.set(key, life)
    this.cluster.world.at(at, () => {
      if (this.#timers.get(key) === life && !this.cluster.isOver) this.#step(`timer ${key}`, { kind: 'timer', key })
    })
  }
}
