// `ray start`: a node on this machine that stays when the command has ended; with `--block`, that ends with it.

import fs from 'node:fs'
import path from 'node:path'
import type { Command } from 'commander'
import { makeError } from '../errors/index.ts'
import { isLoopback, makeAuthToken, readAuthToken } from '../runtime/auth-token.ts'
import {
  currentCluster,
  formatAddress,
  parseAddress,
  readStarted,
  type StartedNode,
  startedNodes,
} from '../runtime/cluster-files.ts'
import { tokenFor } from '../runtime/find-cluster.ts'
import { OBJECT_STORE_BYTES_MIN } from '../runtime/node-setup.ts'
import { ownAddress } from '../runtime/own-address.ts'
import { tempRoot } from '../runtime/session.ts'
import { type NodeStart, reviveGcs, type StartedProcesses, startHead, startNode } from '../runtime/start-node.ts'
import { stopNodes } from '../runtime/stop-nodes.ts'
import { resolveSystemConfig, SYSTEM_CONFIG_KEYS } from '../runtime/system-config.ts'
import { tlsSettings } from '../runtime/tls.ts'
import { headOnlyFlag, idleFlags, type StartFlags } from './start-flags.ts'
import { headText, nodeText } from './start-text.ts'

const PORT = 6379
const SPILL_BUFFER_BYTES = 4 * 1024 * 1024
/** The kernel's limit for the path of a socket, less the longest name below a temp root. */
const TEMP_DIR_CHARACTERS_MAX = 107 - 76
const BLOCK_GRACE_MS = 16_000

export async function start(command: Command): Promise<void> {
  const flags = command.opts<StartFlags & Record<string, unknown>>()
  const idle = idleFlags(flags)
  if (idle.length > 0) console.error(`These flags do nothing yet: ${idle.join(', ')}.`)
  const roots = useFolders(flags)
  tlsSettings() // What is wrong with its files is said here, not in a log.
  const orphan = flags.head ? orphanedHead(flags, roots) : undefined
  if (orphan) return revive(orphan)
  const started = flags.head ? await head(flags, roots) : await join(flags, roots)
  if (flags.block) await block(started, roots)
}

/** A head whose GCS died, at the port that is asked for. */
function orphanedHead({ port = PORT }: StartFlags, roots: readonly string[]): StartedNode | undefined {
  return startedNodes(roots.at(-1)).find(({ isHead, nodePid, gcsPid, gcs }) => {
    return isHead && nodePid !== null && gcsPid === null && gcs.port === port
  })
}

async function revive(orphan: StartedNode): Promise<void> {
  const address = formatAddress(orphan.gcs)
  await reviveGcs(orphan, process.env)
  console.log(
    `The GCS of the cluster at ${address} had ended, and its node went on: the GCS is back, with what it knew.\n`,
  )
  console.log(headText({ address, newToken: null }))
}

async function head(flags: StartFlags, roots: readonly string[]): Promise<StartedProcesses> {
  if (flags.address !== undefined) {
    const hint = 'Set RAY_REDIS_ADDRESS to keep its state in Redis; leave --head out to join a cluster.'
    throw makeError('INVALID_ARGUMENT', { message: '`--head` starts a cluster, and has no use for `--address`', hint })
  }
  const host = flags.nodeIpAddress ? toIp(flags.nodeIpAddress) : isNetworked() ? await ownAddress() : '127.0.0.1'
  const known = readAuthToken(process.env)
  const token = known ?? (isLoopback(host) ? null : makeAuthToken())
  console.log(`Local node IP: ${host}\n`)
  const storage = process.env.RAY_REDIS_ADDRESS ? 'redis' : 'lmdb'
  const started = await startHead({ ...nodeStart(flags, { host, token, roots }), port: flags.port ?? PORT, storage })
  console.log(headText({ address: started.address, newToken: known === null ? token : null }))
  return started
}

async function join(flags: StartFlags & Record<string, unknown>, roots: readonly string[]): Promise<StartedProcesses> {
  const wrong = headOnlyFlag(flags)
  if (wrong !== null) {
    const message = `\`${wrong}\` should only be specified when starting head node with \`--head\``
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Leave it out.' })
  }
  const named = flags.address === 'auto' ? (process.env.RAY_ADDRESS ?? currentCluster(roots[0])) : flags.address
  if (!named) {
    const message = '`--address` is a required flag unless starting a head node with `--head`'
    throw makeError('INVALID_ARGUMENT', { message, hint: "For example: ray start --address='10.0.0.1:6379'" })
  }
  const gcs = parseAddress(named)
  if (!gcs) {
    const message = `'${named}' is no address of a cluster`
    throw makeError('INVALID_ARGUMENT', {
      message,
      hint: 'Give the address that `ray start --head` printed, host:port.',
    })
  }
  const host = flags.nodeIpAddress ? toIp(flags.nodeIpAddress) : await ownAddress(gcs)
  console.log(`Local node IP: ${host}\n`)
  const token = tokenFor(formatAddress(gcs), process.env, roots[0])
  const started = await startNode(nodeStart(flags, { host, token, roots }), gcs)
  console.log(nodeText())
  return started
}

function nodeStart(
  flags: StartFlags,
  { host, token, roots }: { host: string; token: string | null; roots: readonly string[] },
): NodeStart {
  const { numCpus, numGpus, memory, objectStoreMemory, objectSpillingDirectory, redisUsername, redisPassword } = flags
  if (objectStoreMemory !== undefined && objectStoreMemory < OBJECT_STORE_BYTES_MIN) {
    const message = `\`--object-store-memory\` is ${objectStoreMemory} bytes, and must be at least ${OBJECT_STORE_BYTES_MIN}`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Give it at least 75 MiB.' })
  }
  const directories = objectSpillingDirectory ? { directories: [path.resolve(objectSpillingDirectory)] } : {}
  return {
    settings: {
      ...{ numCpus, numGpus, memory, objectStoreMemory, host },
      resources: { ...flags.resources, ...override('RAY_OVERRIDE_RESOURCES') },
      labels: { ...flags.labelsFile, ...flags.labels, ...override('RAY_OVERRIDE_LABELS') },
      logging: { level: 'info', encoding: 'TEXT' },
      system: resolveSystemConfig(checkedKeys(flags.systemConfig ?? {}), process.env),
      spilling: { ...directories, bufferBytes: SPILL_BUFFER_BYTES },
    },
    nodePort: flags.nodeManagerPort ?? 0,
    token,
    roots,
    env: {
      ...process.env,
      ...(redisUsername === undefined ? {} : { RAY_REDIS_USERNAME: redisUsername }),
      ...(redisPassword === undefined ? {} : { RAY_REDIS_PASSWORD: redisPassword }),
    },
  }
}

function checkedKeys(given: Readonly<Record<string, unknown>>): Record<string, never> {
  for (const key of Object.keys(given)) {
    if (SYSTEM_CONFIG_KEYS.includes(key)) continue
    const hint = `Known settings: ${SYSTEM_CONFIG_KEYS.join(', ')}.`
    throw makeError('UNKNOWN_OPTION', { option: key, target: '--system-config', hint })
  }
  return given as Record<string, never>
}

/** What launchers of Ray set: it wins over flags. */
function override(variable: string): Record<string, never> {
  const text = process.env[variable]
  if (!text) return {}
  try {
    return JSON.parse(text) as Record<string, never>
  } catch {
    const message = `the environment variable ${variable} is no JSON: ${text}`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Set it to a JSON object.' })
  }
}

/** Where sessions and shared memory are: in the environment, for us and all that we start. Returns the temp roots to be found by. */
function useFolders({ tempDir, plasmaDirectory }: StartFlags): string[] {
  const usual = tempRoot()
  if (plasmaDirectory) process.env.RAY_TS_SHM_DIR = path.resolve(plasmaDirectory)
  if (!tempDir) return [usual]
  const root = path.resolve(tempDir)
  if (root.length > TEMP_DIR_CHARACTERS_MAX) {
    const message = `\`--temp-dir\` is ${root.length} characters long, and sockets below it would have too long a name`
    throw makeError('INVALID_ARGUMENT', {
      message,
      hint: `Use a folder of at most ${TEMP_DIR_CHARACTERS_MAX} characters.`,
    })
  }
  fs.mkdirSync(root, { recursive: true })
  process.env.RAY_TMPDIR = root
  return [usual, root]
}

/** A launcher started us, for a cluster of several machines: it is not asked to repeat our address. */
function isNetworked(): boolean {
  const { RAY_AUTH_MODE, KUBERAY_GEN_RAY_START_CMD, RAY_USAGE_STATS_KUBERAY_IN_USE } = process.env
  return RAY_AUTH_MODE === 'token' || Boolean(KUBERAY_GEN_RAY_START_CMD || RAY_USAGE_STATS_KUBERAY_IN_USE)
}

function toIp(host: string): string {
  if (host === '0.0.0.0' || host === '::') {
    const message = `\`--node-ip-address\` is ${host}, by which no other machine can reach this node`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Give the address of this machine that the others use.' })
  }
  return host === 'localhost' ? '127.0.0.1' : host
}

/** Stays until a signal comes (then the node ends), or until a process of the node has ended (then the other ends too). */
async function block({ gcs, node, sessionDir, logsDir }: StartedProcesses, roots: readonly string[]): Promise<void> {
  const log = path.join(logsDir, 'ray_process_exit.log')
  console.log(`
--block
  This command will now block forever until terminated by a signal.
  Running subprocesses are monitored and a message will be printed if any of them terminate unexpectedly. Subprocesses exit with SIGTERM will be treated as graceful, thus NOT reported.
  Process exit logs will be saved to: ${log}`)
  const children = [{ name: 'raylet', child: node.child }, ...(gcs ? [{ name: 'gcs_server', child: gcs.child }] : [])]
  let why = ''
  const code = await new Promise<number>((resolve) => {
    process.once('SIGTERM', () => resolve(0))
    process.once('SIGINT', () => resolve(130))
    process.once('SIGHUP', () => resolve(129))
    for (const { name, child } of children) {
      child.ref()
      const onExit = (exitCode: number | null, signal: string | null): void => {
        const isGraceful = exitCode === 0 || exitCode === 143 || signal === 'SIGTERM'
        if (!isGraceful) why = `${name} (pid ${child.pid}) ended with ${signal ?? `exit code ${exitCode}`}`
        resolve(isGraceful ? 0 : 1)
      }
      if (child.exitCode !== null || child.signalCode !== null) onExit(child.exitCode, child.signalCode)
      else child.once('exit', onExit)
    }
  })
  if (why) {
    console.error(`\nSome Ray subprocesses exited unexpectedly:\n  ${why}\nRemaining processes will be killed.`)
    fs.appendFileSync(log, `${new Date().toISOString()} ${why}\n`)
  }
  const own = readStarted(sessionDir)
  if (own) await stopNodes([own], { force: false, graceMs: BLOCK_GRACE_MS, roots })
  process.exit(code)
}
