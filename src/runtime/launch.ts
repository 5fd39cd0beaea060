// Starts a process of a cluster: GCS or node. It leads a group of its own and may outlive us.
//
//   L1. `launch` resolves with the line that the process says when it serves, or rejects with what its log says.

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import { makeError } from '../errors/index.ts'

export interface LaunchOptions {
  /** The file to run. */
  readonly entry: string
  readonly env: NodeJS.ProcessEnv
  /** Takes its standard error. */
  readonly log: string
  /** It runs, but does not serve yet. */
  readonly onSpawn?: (child: ChildProcess) => void
  /** Goes before the command: a namespace to run in, for one. */
  readonly prefix?: readonly string[]
}

export interface Launched {
  readonly child: ChildProcess
  /** What stands after 'ready'. */
  readonly says: string
  readonly log: string
}

/** The standard input is a pipe: who wants to know whether we live reads it. */
export async function launch({ entry, env, log, onSpawn, prefix = [] }: LaunchOptions): Promise<Launched> {
  const logFd = fs.openSync(log, 'a', 0o600)
  const [command = process.execPath, ...rest] = [...prefix, process.execPath, entry]
  const child = spawn(command, rest, {
    env,
    stdio: ['pipe', 'pipe', logFd],
    detached: true, // Not in the terminal's group: Ctrl-C is for us, who then end it.
  })
  fs.closeSync(logFd)
  onSpawn?.(child)
  const says = await new Promise<string>((resolve, reject) => {
    const failed = (detail: string): void => reject(makeError('NODE_START_FAILED', { detail, log }))
    child.once('error', (error) => failed(error.message))
    child.once('exit', (code, signal) => failed(`exit code ${code ?? signal}: ${readTail(log)}`))
    child.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString().replace('ready', '').trim()))
  })
  child.removeAllListeners('error')
  child.on('error', () => {})
  child.unref()
  for (const stream of [child.stdin, child.stdout]) {
    stream?.on('error', () => {})
    ;(stream as unknown as { unref?: () => void } | null)?.unref?.()
  }
  return { child, says, log }
}

function readTail(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8').slice(-2000)
  } catch {
    return ''
  }
}
