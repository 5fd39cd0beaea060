// A cluster of several nodes on one machine, made of the processes that `ray start` starts: one GCS, and a raylet with workers a node.
//
//   C1. Nothing of it is seen from outside: its sessions are in a folder of their own, and no program joins it unasked.
//   C2. Everything is gone after `shutdown`, or after this process has ended, however it ended: a process of its own watches it.

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { type Cluster as Driver, type InitOptions, init, isInitialized, shutdown } from 'ray-ts'
import { parseSystemConfig } from '../api/options.ts'
import { makeError } from '../errors/index.ts'
import { askStatus } from '../runtime/ask.ts'
import { makeAuthToken } from '../runtime/auth-token.ts'
import { formatAddress } from '../runtime/cluster-files.ts'
import { launch } from '../runtime/launch.ts'
import {
  type ClusterConfig,
  GCS_CONFIG_VARIABLE,
  type GcsProcessConfig,
  type NodeConfig,
} from '../runtime/node-config.ts'
import { entryFile, nodeConfigFor } from '../runtime/node-setup.ts'
import { randomHex, tempRoot } from '../runtime/session.ts'
import { resolveSystemConfig, type SystemConfig, type SystemConfigOptions } from '../runtime/system-config.ts'
import { ClusterNode, disown, type NodeHost, type NodeOptions, type Signal } from './cluster-node.ts'

export interface ClusterOptions {
  readonly head?: NodeOptions
  /** Beside the head: how many, or what each is to be. */
  readonly nodes?: number | readonly NodeOptions[]
  /** The same for all nodes. */
  readonly systemConfig?: SystemConfigOptions
}

export interface RemoveNodeOptions {
  /** False: as if its machine had lost its power. */
  readonly allowGraceful?: boolean
}

export type ConnectOptions = Omit<InitOptions, 'address'> & {
  /** The node to be a driver of; the head unless given. */
  readonly node?: ClusterNode
}

const DEFAULT_HOST: NodeHost = { address: '127.0.0.1' }
const ALIVE_WITHIN_MS = 30_000
const POLL_MS = 20

type FullConfig = NodeConfig & { readonly cluster: ClusterConfig }

export class Cluster {
  readonly #root: string
  readonly #system: SystemConfig
  readonly #token = makeAuthToken()
  readonly #watchdog: ChildProcess
  readonly #nodes: ClusterNode[] = []
  #gcs: { readonly child: ChildProcess; readonly config: GcsProcessConfig; readonly host: NodeHost } | null = null
  #driver: Driver | null = null

  private constructor(systemConfig: SystemConfigOptions | undefined) {
    this.#system = resolveSystemConfig(parseSystemConfig(systemConfig), process.env)
    fs.mkdirSync(tempRoot(), { recursive: true })
    this.#root = fs.mkdtempSync(path.join(tempRoot(), 'c-'))
    this.#watchdog = spawn(process.execPath, [entryFile('reaper.js'), this.#root], {
      stdio: ['pipe', 'ignore', 'inherit'],
      detached: true, // C2
    })
    this.#watchdog.unref()
    ;(this.#watchdog.stdin as unknown as { unref?: () => void }).unref?.()
  }

  /** Resolves when the head and all nodes are alive. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(options.systemConfig)
    try {
      await cluster.#startHead(options.head ?? {})
      const { nodes = 0 } = options
      const wanted = typeof nodes === 'number' ? Array.from({ length: nodes }, () => ({})) : nodes
      const started = await Promise.allSettled(wanted.map((one) => cluster.#startNode(one, false)))
      for (const one of started) if (one.status === 'fulfilled') cluster.#nodes.push(one.value)
      for (const one of started) if (one.status === 'rejected') throw one.reason
      return cluster
    } catch (error) {
      await cluster.shutdown()
      throw error
    }
  }

  /** `host:port` of its GCS. */
  get address(): string {
    if (!this.#gcs) throw makeError('NO_CLUSTER', { detail: 'the test cluster has ended' })
    return formatAddress(this.#gcs.config)
  }

  get head(): ClusterNode {
    const head = this.#nodes.find(({ isHead }) => isHead)
    if (!head) throw makeError('NO_CLUSTER', { detail: 'the head of the test cluster was removed' })
    return head
  }

  /** Those that were not removed, in the order asked for; the head is the first. */
  get nodes(): readonly ClusterNode[] {
    return [...this.#nodes]
  }

  get gcsPid(): number {
    return this.#gcs?.child.pid ?? 0
  }

  /** Environment of a program that is to be a driver of that node. */
  env(node: ClusterNode = this.head): Readonly<Record<string, string>> {
    return { RAY_ADDRESS: node.socket, RAY_TMPDIR: this.#root, RAY_AUTH_TOKEN: this.#token }
  }

  /** Makes this process a driver. */
  async connect({ node = this.head, ...options }: ConnectOptions = {}): Promise<Driver> {
    this.#driver = await init({ ...options, address: node.socket })
    return this.#driver
  }

  /** Resolves when it is alive. */
  async addNode(options: NodeOptions = {}): Promise<ClusterNode> {
    const node = await this.#startNode(options, false)
    this.#nodes.push(node)
    return node
  }

  async removeNode(node: ClusterNode, { allowGraceful = true }: RemoveNodeOptions = {}): Promise<void> {
    const index = this.#nodes.indexOf(node)
    if (index >= 0) this.#nodes.splice(index, 1)
    await node.stop(allowGraceful)
  }

  /** Sends a signal to the process of a node (its raylet) or of the GCS. */
  kill(what: ClusterNode | 'gcs', signal: Signal = 'SIGKILL'): void {
    if (what !== 'gcs') what.kill(signal)
    else this.#gcs?.child.kill(signal)
  }

  /** Kills the GCS, if it lives, and starts it anew at the same address with what it had stored. */
  async restartGcs(): Promise<void> {
    if (!this.#gcs) return
    const { child, config, host } = this.#gcs
    await ended(child)
    await this.#startGcs(config, host)
  }

  /** Resolves when the GCS counts so many living nodes: all that were not removed, unless said otherwise. */
  async waitForNodes(count: number = this.#nodes.length): Promise<void> {
    const deadline = performance.now() + ALIVE_WITHIN_MS
    for (;;) {
      const alive = await this.#countAlive()
      if (alive === count) return
      if (performance.now() > deadline) {
        const message = `${alive} nodes of the test cluster are alive, not ${count}, after ${ALIVE_WITHIN_MS / 1000} s`
        throw makeError('SYSTEM', { message })
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  /** Ends everything, and leaves nothing (C2); the connection of this process too. */
  async shutdown(): Promise<void> {
    const driver = this.#driver
    this.#driver = null
    if (driver && isInitialized()) await shutdown()
    await Promise.all(this.#nodes.splice(0).map((node) => node.stop(true)))
    const gcs = this.#gcs
    this.#gcs = null
    if (gcs) await ended(gcs.child)
    const watched = new Promise((resolve) => this.#watchdog.once('exit', resolve))
    this.#watchdog.ref()
    this.#watchdog.stdin?.destroy()
    await watched
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown()
  }

  async #startHead(options: NodeOptions): Promise<void> {
    const host = options.host ?? DEFAULT_HOST
    const config = this.#configFor(options, true)
    const { dir } = config.session
    await this.#startGcs(
      {
        clusterId: randomHex(28),
        host: host.address,
        port: 0,
        token: this.#token,
        system: this.#system,
        sessionDir: dir,
        storage: { kind: 'lmdb', dir: path.join(this.#root, 'gcs') },
      },
      host,
    ).catch((error: unknown) => {
      disown(dir)
      throw error
    })
    this.#nodes.push(await this.#startNode(options, true, config))
  }

  async #startGcs(config: GcsProcessConfig, host: NodeHost): Promise<void> {
    const { child, says } = await launch({
      entry: entryFile('gcs.js'),
      env: { ...this.#env({}), [GCS_CONFIG_VARIABLE]: JSON.stringify(config) },
      log: path.join(config.sessionDir, 'logs', 'gcs_server.err'),
      prefix: host.prefix ?? [],
    })
    this.#gcs = { child, config: { ...config, port: Number(says) }, host }
  }

  async #startNode(options: NodeOptions, isHead: boolean, made?: NodeConfig): Promise<ClusterNode> {
    const gcs = this.#gcs?.config
    if (!gcs) throw makeError('NO_CLUSTER', { detail: 'the test cluster has ended' })
    const { host = DEFAULT_HOST } = options
    const config: FullConfig = {
      ...(made ?? this.#configFor(options, isHead)),
      cluster: {
        gcs: { host: gcs.host, port: gcs.port },
        host: host.address,
        port: 0,
        isHead,
        token: this.#token,
        gcsReconnectTimeoutS: this.#system.gcsRpcServerReconnectTimeoutS,
      },
    }
    return ClusterNode.start(config, { env: this.#env(options), prefix: host.prefix ?? [] })
  }

  /** Sessions are made below the temp root that the environment names (C1). */
  #configFor(options: NodeOptions, isHead: boolean): NodeConfig {
    const before = process.env.RAY_TMPDIR
    process.env.RAY_TMPDIR = this.#root
    try {
      return nodeConfigFor({
        ...options,
        numCpus: options.numCpus ?? 1,
        numGpus: options.numGpus ?? 0,
        logging: { level: 'info', encoding: 'TEXT' },
        system: this.#system,
        spilling: { bufferBytes: 1024 * 1024 },
        host: (options.host ?? DEFAULT_HOST).address,
        isHead,
      })
    } finally {
      if (before === undefined) delete process.env.RAY_TMPDIR
      else process.env.RAY_TMPDIR = before
    }
  }

  #env(options: NodeOptions): NodeJS.ProcessEnv {
    return { ...process.env, ...options.env, RAY_TMPDIR: this.#root }
  }

  async #countAlive(): Promise<number> {
    const gcs = this.#gcs?.config
    if (!gcs) return 0
    const status = await askStatus({ host: gcs.host, port: gcs.port, token: this.#token }).catch(() => null)
    return status?.nodes.filter(({ state }) => state === 'ALIVE').length ?? 0
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.ref()
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await exit
}
