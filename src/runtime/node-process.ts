// Starts a node process for a driver and ends it again.
//
//   L1. `start` resolves when the node takes connections, or rejects with what its log says.

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { makeError } from '../errors/index.ts'
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
    const log = path.join(config.session.logsDir, 'raylet.err')
    const logFd = fs.openSync(log, 'a', 0o600)
    const child = spawn(process.execPath, [entry], {
      env: { ...process.env, [NODE_CONFIG_VARIABLE]: JSON.stringify(config) },
      stdio: ['pipe', 'pipe', logFd],
      detached: true, // Not in the terminal's group: Ctrl-C is for the driver, which then ends us.
    })
    fs.closeSync(logFd)
    const node = new NodeProcess(child, path.join(config.session.socketsDir, 'raylet'))
    await new Promise<void>((resolve, reject) => {
      const failed = (detail: string): void => reject(makeError('NODE_START_FAILED', { detail, log }))
      child.once('error', (error) => failed(error.message))
      child.once('exit', (code) => failed(`exit code ${code}: ${readTail(log)}`))
      child.stdout?.once('data', () => resolve())
    })
    child.removeAllListeners('error')
    child.on('error', () => {})
    child.unref()
    for (const stream of [child.stdin, child.stdout]) {
      stream?.on('error', () => {})
      ;(stream as unknown as { unref?: () => void } | null)?.unref?.()
    }
    return node
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

function readTail(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8').slice(-2000)
  } catch {
    return ''
  }
}
