// A program's connection to a node: the runtime, its link, and the printer of what workers say. Used by init (a node of our own) and
// by join (somebody else's).

import path from 'node:path'
import { errorFromWire, makeError } from '../errors/index.ts'
import { deferred } from '../kernel/deferred.ts'
import { type CoreRuntime, type Identity, CoreRuntime as Runtime } from '../runtime/core-runtime.ts'
import { LogPrinter, sinkOf } from '../runtime/log-printer.ts'
import { NodeLink } from '../runtime/node-link.ts'
import type { NodeProcess } from '../runtime/node-process.ts'
import { removeSession, type Session } from '../runtime/session.ts'
import { SegmentStore, type StoreFolders } from '../runtime/shm/segment-store.ts'
import type { SystemConfig } from '../runtime/system-config.ts'
import { type FromNode, PROTOCOL_VERSION, type ToNode } from '../wire/messages.ts'
import { giveAdvice } from './advice.ts'
import { makeValueHost } from './host.ts'
import { setRuntime } from './state.ts'

/** A program's connection to a cluster. `await using cluster = await ray.init()` ends it at the end of the block. */
export interface Cluster extends AsyncDisposable {
  /** What another program on this machine passes as `address` to join. */
  readonly address: string
  /** Of the node that this program talks to: 56 hex digits. */
  readonly nodeId: string
  /** Where the node keeps its sockets and logs. */
  readonly sessionDir: string
  /** See `ray.shutdown`. */
  shutdown(): Promise<void>
}

export interface Connection {
  readonly cluster: Cluster
  readonly runtime: CoreRuntime
  readonly ready: Promise<void>
  /** Resolves when the link has closed: nothing more comes. */
  readonly closed: Promise<void>
  /** The node process that this program started; null when it joined one. */
  readonly node: Promise<NodeProcess> | null
  readonly session: Session | null
  stopPrinting(): void
}

export interface Made {
  readonly runtime: CoreRuntime
  readonly registered: Promise<FromNode & { t: 'registered' }>
  readonly connection: Omit<Connection, 'ready' | 'node'>
}

export function connect(options: {
  identity: Identity
  folders: StoreFolders
  address: string
  sessionDir: string
  /** Ours to remove. */
  session: Session | null
  system: SystemConfig
  shutdown: () => Promise<void>
}): Made {
  const { identity, folders, address, sessionDir, session, system, shutdown } = options
  const [out, err] = [sinkOf(process.stdout), sinkOf(process.stderr)]
  const printer = new LogPrinter({ out, err }, process.env)
  const registered = deferred<FromNode & { t: 'registered' }>()
  const closed = deferred<void>()
  registered.promise.catch(() => {})
  const link = new NodeLink({
    onMessage: (message) => {
      if (message.t === 'registered') registered.resolve(message)
      else if (message.t === 'register.refused') registered.reject(errorFromWire(message.error))
      else runtime.onMessage(message)
    },
    onClose: () => {
      registered.reject(makeError('NODE_DIED', { detail: 'the connection to it closed' }))
      runtime.onNodeGone('the connection to it closed')
      if (session) removeSession(session) // The node would have done it, had it been able to.
      closed.resolve()
    },
  })
  const store = new SegmentStore(folders, identity.tag, true)
  const host = makeValueHost(() => runtime)
  const warnAt = system.actorExcessQueueingWarnThreshold
  const runtime: CoreRuntime = new Runtime({ identity, link, store, host, warnAt })
  holdWhileWaiting(runtime, link)
  giveAdvice(runtime, system.fetchWarnTimeoutMilliseconds)
  runtime.onLogs = (message) => printer.print(message.batch)
  setRuntime(runtime, address)
  const { nodeId } = identity
  const cluster: Cluster = { address, nodeId, sessionDir, shutdown, [Symbol.asyncDispose]: shutdown }
  const stopPrinting = (): void => {
    printer.flush()
    out.close()
    err.close()
  }
  const connection = { cluster, runtime, closed: closed.promise, session, stopPrinting }
  return { runtime, registered: registered.promise, connection }
}

/** The program goes on while it waits for something. */
function holdWhileWaiting(runtime: CoreRuntime, link: NodeLink): void {
  let waits = 0
  runtime.onBlocked = () => {
    if (waits++ === 0) link.ref()
  }
  runtime.onUnblocked = () => {
    if (--waits === 0) link.unref()
  }
}

export function registration(workerId: string, namespace: string | null, logToDriver = true): ToNode {
  return {
    t: 'register',
    kind: 'driver',
    startupToken: '',
    workerId,
    pid: process.pid,
    socket: '',
    namespace,
    jobName: path.basename(process.argv[1] ?? 'node'),
    logToDriver,
    protocol: PROTOCOL_VERSION,
  }
}
