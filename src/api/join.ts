// Joins a cluster by one of its nodes on this machine: one that `ray start` or another program started. The folder of its socket says
// the rest.

import fs from 'node:fs'
import path from 'node:path'
import { errorFromWire, makeError } from '../errors/index.ts'
import { askStatus } from '../runtime/ask.ts'
import { currentCluster, isNodeAlive, nodeSocketOf, parseAddress, sessionOf } from '../runtime/cluster-files.ts'
import type { Identity } from '../runtime/core-runtime.ts'
import { tokenFor } from '../runtime/find-cluster.ts'
import type { JoinInfo } from '../runtime/node-config.ts'
import { NodeLink } from '../runtime/node-link.ts'
import { randomUuid } from '../runtime/node-setup.ts'
import { notedProcess, PID_FILES, randomHex } from '../runtime/session.ts'
import type { FromNode } from '../wire/messages.ts'
import { type Connection, connect, registration } from './connection.ts'
import type { InitOptions } from './options.ts'

/** What is decided when a node starts, and cannot be asked of one that runs. */
const NODE_OPTIONS = [
  'numCpus',
  'numGpus',
  'memory',
  'objectStoreMemory',
  'resources',
  'labels',
  'objectSpilling',
  'systemConfig',
] as const

/** The address to join; null: start a node. Explicit, then RAY_ADDRESS, then the cluster that runs on this machine. */
export function addressToJoin(asked: string | undefined, env: NodeJS.ProcessEnv): string | null {
  if (asked === 'local') return null
  if (asked !== undefined && asked !== 'auto') return asked
  const fromEnv = env.RAY_ADDRESS
  if (fromEnv === 'local' && asked === undefined) return null
  if (fromEnv && fromEnv !== 'auto' && fromEnv !== 'local') return fromEnv
  const running = runningCluster()
  if (running === null && (asked === 'auto' || fromEnv === 'auto')) {
    throw makeError('NO_CLUSTER', { detail: 'none runs on this machine' })
  }
  return running
}

export async function join(address: string, options: InitOptions, shutdown: () => Promise<void>): Promise<Connection> {
  for (const option of NODE_OPTIONS) {
    if (options[option] === undefined) continue
    const message = `option '${option}' of ray.init cannot be given for the running cluster at '${address}'`
    throw makeError('INVALID_ARGUMENT', {
      message,
      hint: "Leave it out, or start a node of your own: address: 'local'.",
    })
  }
  const socket = path.isAbsolute(address) ? address : nodeSocketOf(await sessionHere(address))
  const sessionDir = path.dirname(path.dirname(socket))
  const info = readInfo(socket, sessionDir)
  const namespace = options.namespace ?? (process.env.RAY_NAMESPACE || randomUuid())
  const logToDriver = options.logToDriver ?? process.env.RAY_LOG_TO_DRIVER !== '0'
  const registration = await register(socket, namespace, logToDriver).catch((error: unknown) => {
    throw makeError('NO_CLUSTER', { detail: `nothing answers at '${socket}'` }, { cause: error })
  })
  const { tag, jobId, nodeId } = registration.message
  const identity: Identity = { tag, workerId: registration.workerId, nodeId, jobId, namespace, isDriver: true }
  const made = connect({
    identity,
    folders: info.store,
    address,
    sessionDir,
    session: null,
    system: info.system,
    shutdown,
  })
  made.runtime.link.adopt(registration.link)
  return { ...made.connection, node: null, ready: Promise.resolve() }
}

/** `ray_current_cluster` in the folder of sessions names it, while its node lives. */
function runningCluster(): string | null {
  const address = currentCluster()
  if (address === null) return null
  if (path.isAbsolute(address)) return isNodeAlive(path.dirname(path.dirname(address))) ? address : null
  return sessionOf(address) === null ? null : address
}

/** The session folder of a node of that cluster that runs on this machine: noted here, or as the GCS knows it. */
async function sessionHere(address: string): Promise<string> {
  const at = parseAddress(address)
  if (!at) throw makeError('NO_CLUSTER', { detail: `'${address}' is no address of a cluster` })
  const noted = sessionOf(address)
  if (noted !== null) return noted
  const { nodes } = await askStatus({ ...at, token: tokenFor(address, process.env) })
  const here = nodes.find(({ state, sessionDir, pid }) => {
    return state !== 'DEAD' && notedProcess(path.join(sessionDir, PID_FILES.node)) === pid
  })
  if (!here) throw makeError('NO_NODE_HERE', { address })
  return here.sessionDir
}

function readInfo(address: string, sessionDir: string): JoinInfo {
  try {
    return JSON.parse(fs.readFileSync(path.join(sessionDir, 'node.json'), 'utf8')) as JoinInfo
  } catch (error) {
    throw makeError('NO_CLUSTER', { detail: `there is no node at '${address}'` }, { cause: error })
  }
}

async function register(
  address: string,
  namespace: string,
  logToDriver: boolean,
): Promise<{ link: NodeLink; message: FromNode & { t: 'registered' }; workerId: string }> {
  const workerId = randomHex(28)
  return new Promise((resolve, reject) => {
    const link: NodeLink = new NodeLink({
      onMessage: (message) => {
        if (message.t === 'registered') resolve({ link, message, workerId })
        else if (message.t === 'register.refused') reject(errorFromWire(message.error))
      },
      onClose: () => reject(new Error('the connection closed')),
    })
    link.ref()
    link.send(registration(workerId, namespace, logToDriver))
    link.connect(address).catch(reject)
  })
}
