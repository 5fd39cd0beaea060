// Nodes as processes of their own, by the command that users type. Whatever a test did, `endAll` ends it.

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

export interface Said {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

const ENV = { ...process.env, RAY_ADDRESS: undefined, RAY_AUTH_TOKEN: undefined, HOME: process.env.RAY_TMPDIR }

/** Runs `ray …` to its end. */
export async function ray(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Said> {
  const { ended } = begin(args, env)
  return ended
}

/** Begins `ray …`: for what blocks. */
export function begin(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): { child: ChildProcess; said: () => string; ended: Promise<Said> } {
  const child = spawn(process.execPath, ['dist/cli.js', ...args], {
    env: { ...ENV, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString()
  })
  const ended = new Promise<Said>((resolve) =>
    child.on('exit', (code) => setImmediate(() => resolve({ code, out, err }))),
  )
  return { child, said: () => out + err, ended }
}

/** Starts a head at any port; its address. */
export async function startHead(
  args: readonly string[] = ['--num-cpus=1'],
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  const { out, err } = await ray(['start', '--head', '--port=0', ...args], env)
  const address = /ray start --address='(.+)'/.exec(out)?.[1]
  if (!address) throw new Error(`no head was started: ${out}${err}`)
  return address
}

export async function endAll(): Promise<void> {
  await ray(['stop', '--force'])
}

/** Short, below the temp root of this test file: sockets lie below it. */
export function otherTempDir(name: string): string {
  const dir = path.join(process.env.RAY_TMPDIR as string, name)
  fs.mkdirSync(dir, { recursive: true })
  return dir
}
