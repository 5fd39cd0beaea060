// Starts the processes of a node that outlive this one: the GCS, on the head, then the raylet.
//
//   N1. Resolves when the node is a member of its cluster.
//   N2. When it fails, nothing that it started or wrote is left.

import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { makeError } from '../errors/index.ts'
import { askStatus } from './ask.ts'
import { forgetNode, formatAddress, noteNode, writeClusterFile } from './cluster-files.ts'
import { type Launched, launch } from './launch.ts'
import { GCS_CONFIG_VARIABLE, type GcsProcessConfig, NODE_CONFIG_VARIABLE, type NodeConfig } from './node-config.ts'
import { entryFile, type NodeSettings, nodeConfigFor } from './node-setup.ts'
import { noteProcess, PID_FILES, randomHex, removeDeadSession, removeSession, writeWhole } from './session.ts'

export interface NodeStart {
  readonly settings: Omit<NodeSettings, 'isHead'>
  /** Of the raylet, for other nodes; 0: any. */
  readonly nodePort: number
  readonly token: string | null
  /** Temp roots whose programs and commands are to find it. */
  readonly roots: readonly string[]
  readonly env: NodeJS.ProcessEnv
}

export interface HeadStart extends NodeStart {
  /** 0: any. */
  readonly port: number
  readonly storage: 'lmdb' | 'redis'
}

export interface StartedProcesses {
  readonly address: string
  readonly nodeId: string
  readonly sessionDir: string
  readonly logsDir: string
  readonly gcs: Launched | null
  readonly node: Launched
}

type OnSpawn = (child: ChildProcess) => void
/** How the GCS of the session was started: it may have to be started again. */
const GCS_CONFIG_FILE = 'gcs.json'
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export async function startHead(start: HeadStart): Promise<StartedProcesses> {
  const { host } = start.settings
  await requireFreePort(start)
  const config = nodeConfigFor({ ...start.settings, isHead: true })
  const { dir } = config.session
  return withoutRemains(config, async (onSpawn) => {
    const gcsConfig = gcsConfigOf(start, config)
    const serving = launchGcs(gcsConfig, start.env, onSpawn)
    // Where it will be is known, mostly: the two start at once, and the raylet dials until it answers.
    const at = { host, port: start.port || Number((await serving).says) }
    const joining = startRaylet(start, { config, gcs: at, isHead: true, onSpawn })
    joining.catch(() => {})
    const gcs = await serving
    writeWhole(path.join(dir, GCS_CONFIG_FILE), JSON.stringify({ ...gcsConfig, port: at.port }))
    const node = await whileAlive(gcs, joining)
    noteNode(dir, formatAddress(at), start.roots)
    return { ...described(config), address: formatAddress(at), gcs, node }
  })
}

/** The GCS of a head whose raylet goes on without it: it takes up what is durable, and its nodes come back to it. */
export async function reviveGcs({ sessionDir }: { sessionDir: string }, env: NodeJS.ProcessEnv): Promise<Launched> {
  const config = JSON.parse(fs.readFileSync(path.join(sessionDir, GCS_CONFIG_FILE), 'utf8')) as GcsProcessConfig
  return launchGcs(config, env)
}

function launchGcs(config: GcsProcessConfig, env: NodeJS.ProcessEnv, onSpawn: OnSpawn = () => {}): Promise<Launched> {
  return launch({
    entry: entryFile('gcs.js'),
    env: { ...env, [GCS_CONFIG_VARIABLE]: JSON.stringify(config) },
    log: path.join(config.sessionDir, 'logs', 'gcs_server.err'),
    onSpawn,
  })
}

/** Joins the cluster whose GCS is there. */
export async function startNode(
  start: NodeStart,
  gcs: { readonly host: string; readonly port: number },
): Promise<StartedProcesses> {
  await askStatus({ ...gcs, token: start.token }) // What is wrong is told here, and not by a log.
  const config = nodeConfigFor({ ...start.settings, isHead: false })
  return withoutRemains(config, async (onSpawn) => {
    const node = await startRaylet(start, { config, gcs, isHead: false, onSpawn })
    noteNode(config.session.dir, formatAddress(gcs), start.roots)
    return { ...described(config), address: formatAddress(gcs), gcs: null, node }
  })
}

/** A node waits long for a GCS that died. */
async function whileAlive<T>({ child, log }: Launched, work: Promise<T>): Promise<T> {
  let onExit = (): void => {}
  const ended = new Promise<never>((_, reject) => {
    onExit = () => reject(makeError('NODE_START_FAILED', { detail: 'the GCS ended', log }))
    child.once('exit', onExit)
  })
  try {
    return await Promise.race([work, ended])
  } finally {
    child.off('exit', onExit)
  }
}

interface Raylet {
  readonly config: NodeConfig
  readonly gcs: { readonly host: string; readonly port: number }
  readonly isHead: boolean
  readonly onSpawn: OnSpawn
}

async function startRaylet(
  { settings, nodePort, token, env }: NodeStart,
  { config, gcs, isHead, onSpawn }: Raylet,
): Promise<Launched> {
  const { session, nodeId, system } = config
  writeClusterFile(session.dir, { gcs, nodeId, isHead, token })
  const cluster = { gcs, isHead, token, host: settings.host, port: nodePort }
  const full: NodeConfig = {
    ...config,
    cluster: { ...cluster, gcsReconnectTimeoutS: system.gcsRpcServerReconnectTimeoutS },
  }
  const node = await launch({
    entry: entryFile('node.js'),
    env: { ...env, [NODE_CONFIG_VARIABLE]: JSON.stringify(full) },
    log: path.join(session.logsDir, 'raylet.err'),
    onSpawn,
  })
  noteProcess(path.join(session.dir, PID_FILES.driver), node.child.pid) // The session is not ours any more.
  return node
}

function gcsConfigOf({ settings, port, token, storage }: HeadStart, { session, system }: NodeConfig): GcsProcessConfig {
  return {
    clusterId: randomHex(28),
    host: settings.host,
    port,
    token,
    system,
    sessionDir: session.dir,
    storage: storage === 'redis' ? { kind: 'redis' } : { kind: 'lmdb', dir: path.join(session.dir, 'gcs') },
  }
}

function described({ nodeId, session }: NodeConfig): Pick<StartedProcesses, 'nodeId' | 'sessionDir' | 'logsDir'> {
  return { nodeId, sessionDir: session.dir, logsDir: session.logsDir }
}

/** N2, also when a signal ends us in the middle. */
async function withoutRemains(
  { session }: NodeConfig,
  start: (onSpawn: OnSpawn) => Promise<StartedProcesses>,
): Promise<StartedProcesses> {
  const children: ChildProcess[] = []
  let onSignal = (): void => {}
  const interrupted = new Promise<never>((_, reject) => {
    onSignal = () => reject(makeError('NODE_START_FAILED', { detail: 'it was interrupted', log: session.logsDir }))
  })
  for (const signal of SIGNALS) process.on(signal, onSignal)
  try {
    return await Promise.race([start((child) => children.push(child)), interrupted])
  } catch (error) {
    await Promise.all(children.map(end))
    forgetNode(session.dir)
    removeSession(session)
    removeDeadSession(session.dir)
    throw error
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.ref()
  const ended = new Promise((resolve) => child.once('exit', resolve))
  if (child.kill('SIGKILL')) await ended
}

/** Somebody who listens there is told apart: another cluster, or another program. */
async function requireFreePort({ settings: { host }, port, token }: HeadStart): Promise<void> {
  if (await mayListen(host, port)) return
  const at = formatAddress({ host, port })
  const isCluster = await askStatus({ host, port, token, timeoutMs: 1000 }).then(
    () => true,
    (error: { code?: string }) => error.code !== 'NO_CLUSTER',
  )
  const message = isCluster
    ? `Ray is trying to start at ${at}, but is already running at ${at}`
    : `Ray is trying to start at ${at}, but another program has that port`
  const hint = `Please specify a different port using the \`--port\` flag of \`ray start\` (0: any)${
    isCluster ? ', or end that cluster with `ray stop`' : ''
  }.`
  throw makeError('INVALID_ARGUMENT', { message, hint })
}

async function mayListen(host: string, port: number): Promise<boolean> {
  const server = net.createServer()
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host, port }, resolve)
    })
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EADDRINUSE') return false
    const message = `nothing can listen at ${formatAddress({ host, port })} on this machine: ${(error as Error).message}`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Give --node-ip-address an address of this machine.' })
  } finally {
    await new Promise((resolve) => server.close(resolve))
  }
}
