// Starts a node on this machine for this program.
//
//   I1. A local node is known before it runs: the program's tag, job and node id are fixed, so that work may be submitted at once
//       (auto-init) and leaves when the node is there.
//   I2. The node ends with this process, however it ends; `shutdown` waits for that end.

import path from 'node:path'
import { warmUp } from '../runtime/closures/index.ts'
import type { Identity } from '../runtime/core-runtime.ts'
import type { NodeConfig } from '../runtime/node-config.ts'
import { NodeProcess } from '../runtime/node-process.ts'
import { entryFile, nodeConfigFor } from '../runtime/node-setup.ts'
import { randomHex } from '../runtime/session.ts'
import { resolveSystemConfig } from '../runtime/system-config.ts'
import { type Connection, connect, type Made, registration } from './connection.ts'
import { parseSpilling } from './object-spilling.ts'
import { type InitOptions, parseSystemConfig } from './options.ts'

export function startLocal(options: InitOptions, shutdown: () => Promise<void>): Connection {
  const config = configFor(options)
  const { session, nodeId, namespace } = config
  const identity: Identity = { tag: 1, workerId: randomHex(28), nodeId, jobId: '01000000', namespace, isDriver: true }
  const address = path.join(session.socketsDir, 'raylet')
  const folders = config.store
  const made = connect({
    identity,
    folders,
    address,
    sessionDir: session.dir,
    session,
    system: config.system,
    shutdown,
  })
  const node = NodeProcess.start(entryFile('node.js'), config)
  warmUp() // While the node starts, this process would only wait.
  const ready = node.then(() => register(made, address, namespace))
  ready.catch((error: unknown) => made.runtime.onNodeGone(error instanceof Error ? error.message : String(error)))
  return { ...made.connection, node, ready }
}

function configFor(options: InitOptions): NodeConfig {
  const { numCpus, numGpus, memory, objectStoreMemory, resources, labels, namespace, logToDriver } = options
  const { loggingLevel = 'info', loggingConfig } = options
  const { logLevel } = loggingConfig ?? {}
  return nodeConfigFor({
    ...{ numCpus, numGpus, memory, objectStoreMemory, resources, labels, namespace, logToDriver },
    logging: { level: loggingLevel, encoding: loggingConfig?.encoding ?? 'TEXT', ...(logLevel ? { logLevel } : {}) },
    system: resolveSystemConfig(parseSystemConfig(options.systemConfig), process.env),
    spilling: parseSpilling(options.objectSpilling ?? options.systemConfig?.objectSpillingConfig),
    host: '127.0.0.1',
    isHead: true,
  })
}

async function register(made: Made, address: string, namespace: string): Promise<void> {
  const { link, identity } = made.runtime
  // It must be the first message: what was submitted meanwhile waits behind it.
  link.sendFirst(registration(identity.workerId, namespace))
  await link.connect(address)
  link.ref()
  try {
    await made.registered
  } finally {
    link.unref()
  }
}
