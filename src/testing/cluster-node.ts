// One node of a test cluster: its process, and the folder of its session.
//
//   N1. A node that has ended has left nothing: what it could not remove itself (kill -9) is removed when its end is noticed.

import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import type { InitOptions } from 'ray-ts'
import { nodeSocketOf, writeClusterFile } from '../runtime/cluster-files.ts'
import { launch } from '../runtime/launch.ts'
import { type ClusterConfig, NODE_CONFIG_VARIABLE, type NodeConfig } from '../runtime/node-config.ts'
import { entryFile } from '../runtime/node-setup.ts'
import { noteProcess, PID_FILES, removeDeadSession } from '../runtime/session.ts'

/** Where a node runs: another address of this machine, or a network namespace. */
export interface NodeHost {
  readonly address: string
  /** Goes before the command of each process there, e.g. `['ip', 'netns', 'exec', 'one']`. */
  readonly prefix?: readonly string[]
}

export interface NodeOptions
  extends Pick<InitOptions, 'numGpus' | 'memory' | 'objectStoreMemory' | 'resources' | 'labels'> {
  /** 1 unless given. */
  readonly numCpus?: number
  /** 127.0.0.1 unless given. */
  readonly host?: NodeHost
  /** Added to the environment of the node and its workers. */
  readonly env?: Readonly<Record<string, string>>
}

export type Signal = 'SIGKILL' | 'SIGTERM' | 'SIGINT' | 'SIGSTOP' | 'SIGCONT' | 'SIGUSR2'

const GRACE_MS = 10_000

/** This process, which made the session, is not what it lives by. */
export function disown(sessionDir: string): void {
  fs.writeFileSync(path.join(sessionDir, PID_FILES.driver), '1 nobody')
}

export class ClusterNode {
  /** 56 hex digits, as of `ray.nodes()`. */
  readonly nodeId: string
  readonly isHead: boolean
  readonly address: string
  /** Holds its logs. */
  readonly sessionDir: string
  readonly pid: number
  /** Resolves when its process has ended and nothing of it is left. */
  readonly ended: Promise<void>
  #isAlive = true

  private constructor(config: NodeConfig & { readonly cluster: ClusterConfig }, child: ChildProcess) {
    this.nodeId = config.nodeId
    this.isHead = config.cluster.isHead
    this.address = config.cluster.host
    this.sessionDir = config.session.dir
    this.pid = child.pid ?? 0
    this.ended = new Promise<void>((resolve) => child.once('exit', () => resolve())).then(() => {
      this.#isAlive = false
      removeDeadSession(this.sessionDir) // N1
    })
  }

  /** @internal */
  static async start(
    config: NodeConfig & { readonly cluster: ClusterConfig },
    options: { readonly env: NodeJS.ProcessEnv; readonly prefix: readonly string[] },
  ): Promise<ClusterNode> {
    const { dir, logsDir } = config.session
    const { gcs, isHead, token } = config.cluster
    writeClusterFile(dir, { gcs, nodeId: config.nodeId, isHead, token }) // Programs there may join by host and port.
    const launched = launch({
      entry: entryFile('node.js'),
      env: { ...options.env, [NODE_CONFIG_VARIABLE]: JSON.stringify(config) },
      log: path.join(logsDir, 'raylet.err'),
      prefix: options.prefix,
    })
    const { child } = await launched.catch((error: unknown) => {
      disown(dir)
      removeDeadSession(dir)
      throw error
    })
    // The session lives as long as its node, not as long as this process, which made it.
    noteProcess(path.join(dir, PID_FILES.driver), child.pid)
    return new ClusterNode(config, child)
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  /** For `ray.init({ address })`, and RAY_ADDRESS. */
  get socket(): string {
    return nodeSocketOf(this.sessionDir)
  }

  /** Only its own process (the raylet); its workers end with it, as far as they can. */
  kill(signal: Signal = 'SIGKILL'): void {
    if (this.#isAlive) process.kill(this.pid, signal)
  }

  /** Asks it to leave, and waits; after a while, or at once without `allowGraceful`, it is killed. */
  async stop(allowGraceful: boolean): Promise<void> {
    this.kill(allowGraceful ? 'SIGTERM' : 'SIGKILL')
    this.kill('SIGCONT') // A stopped one hears nothing.
    const timer = setTimeout(() => this.kill('SIGKILL'), GRACE_MS)
    await this.ended
    clearTimeout(timer)
  }
}
