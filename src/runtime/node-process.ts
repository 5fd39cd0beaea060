// The node process of a driver: started with it, and ended again.

import type { ChildProcess } from 'node:child_process'
import path from 'node:path'
import { launch } from './launch.ts'
import { NODE_CONFIG_VARIABLE, type NodeConfig } from './node-config.ts'

const END_PATIENCE_MS = 5000

export class NodeProcess {
  readonly #child: ChildProcess
  readonly socketPath: string
  readonly #ended: Promise<void>

  private constructor(child: ChildProcess, socketPath: string) {
    this.#child = child
    this.socketPath = socketPath
    this.#ended = new Promise((resolve) => child.once('exit', () => resolve()))
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  static async start(entry: string, config: NodeConfig): Promise<NodeProcess> {
    const { child } = await launch({
      entry,
      env: { ...process.env, [NODE_CONFIG_VARIABLE]: JSON.stringify(config) },
      log: path.join(config.session.logsDir, 'raylet.err'),
    })
    return new NodeProcess(child, path.join(config.session.socketsDir, 'raylet'))
  }

  /** Waits for the end, which the caller has asked for; after a while by force. */
  async end(): Promise<void> {
    this.#child.ref()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_PATIENCE_MS)
    this.#child.stdin?.destroy()
    await this.#ended
    clearTimeout(timer)
  }
}
