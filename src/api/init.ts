// `ray.init` and `ray.shutdown`: a program's way into a cluster, and out of it.
//
//   I3. One connection a process: a second init is refused, also while the first is under way, and in workers, which have theirs.
//   I4. A failed init leaves nothing behind, and may be tried again.

import { makeError } from '../errors/index.ts'
import { removeSession } from '../runtime/session.ts'
import { resolveSystemConfig } from '../runtime/system-config.ts'
import { setWarningLevel, warn } from '../runtime/warnings.ts'
import type { Cluster, Connection } from './connection.ts'
import { addressToJoin, join } from './join.ts'
import { parseSpilling } from './object-spilling.ts'
import { type InitOptions, parseOptions, parseSystemConfig } from './options.ts'
import { startLocal } from './start-local.ts'
import { currentAddress, currentRuntime, setAutoInit, setRuntime } from './state.ts'

export type { Cluster } from './connection.ts'

let connection: Connection | null = null
let starting: Promise<Cluster> | null = null

/**
 * Connects this program to a cluster: starts a node on this machine, or joins the one at `address`.
 * @throws InvalidArgumentError for options that cannot be right, or when it is initialized already.
 */
export async function init(options: InitOptions = {}): Promise<Cluster> {
  const parsed = parseOptions<InitOptions>('ray.init', options)
  // Wrong values are told before anything else.
  resolveSystemConfig(parseSystemConfig(parsed.systemConfig), process.env)
  parseSpilling(parsed.objectSpilling ?? parsed.systemConfig?.objectSpillingConfig)
  if (connection || starting || currentRuntime()) {
    if (!parsed.ignoreReinitError) throw makeError('ALREADY_INITIALIZED')
    if (starting) return starting
    await connection?.ready
    return connection?.cluster ?? workersOwn()
  }
  setWarningLevel(parsed.loggingLevel ?? 'info')
  const { includeDashboard, dashboardHost, dashboardPort } = parsed
  if (includeDashboard || dashboardHost !== undefined || dashboardPort !== undefined)
    warn(
      'there is no dashboard in this version of ray-ts: includeDashboard, dashboardHost and dashboardPort do nothing.',
    )
  starting = start(parsed)
  try {
    return await starting
  } finally {
    starting = null
  }
}

async function start(options: InitOptions): Promise<Cluster> {
  const address = addressToJoin(options.address, process.env)
  const made = address === null ? startLocal(options, shutdown) : await join(address, options, shutdown)
  connection = made
  try {
    await made.ready
  } catch (error) {
    await shutdown()
    throw error
  }
  process.once('beforeExit', endWithProgram)
  return made.cluster
}

/** True between `init` (or the first use) and `shutdown`. */
export function isInitialized(): boolean {
  return currentRuntime() !== null
}

/** Disconnects; a node that this program started ends, with all its processes and files. Does nothing when not initialized. */
export async function shutdown(): Promise<void> {
  const ending = connection
  connection = null
  if (!ending) return
  process.off('beforeExit', endWithProgram)
  setRuntime(null, '')
  const { runtime, session } = ending
  runtime.onNodeGone('ray.shutdown()')
  runtime.close()
  if (ending.node) {
    runtime.link.send({ t: 'node.shutdown' })
    runtime.link.flush()
    runtime.link.ref()
    const node = await ending.node.catch(() => null)
    await node?.end()
    if (node && runtime.link.isConnected) await ending.closed // The last lines of workers come until then.
  } else await lastLines(runtime)
  runtime.link.destroy()
  ending.stopPrinting()
  if (session) removeSession(session)
}

/** What tasks printed before they answered, on whatever node, is shown. */
async function lastLines({ link }: Connection['runtime']): Promise<void> {
  if (link.isClosed) return
  await link.request<'log.flushed'>((requestId) => ({ t: 'log.flush', requestId })).catch(() => {})
}

/** The program has nothing more to do: what its tasks printed last is still shown. */
function endWithProgram(): void {
  void shutdown()
}

/** In a worker: the cluster that it belongs to, which is not its own to end. */
function workersOwn(): Cluster {
  const nodeId = currentRuntime()?.identity.nodeId ?? ''
  const nothing = (): Promise<void> => Promise.resolve()
  return { address: currentAddress(), nodeId, sessionDir: '', shutdown: nothing, [Symbol.asyncDispose]: nothing }
}

setAutoInit(() => {
  const address = addressToJoin(undefined, process.env)
  if (address !== null) {
    const message = `ray is used without ray.init(), and a cluster runs at '${address}'`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Call await ray.init() first: joining takes a moment.' })
  }
  const started = startLocal({}, shutdown)
  started.ready.catch(() => {})
  connection = started
  process.once('beforeExit', endWithProgram)
  return started.runtime
})
