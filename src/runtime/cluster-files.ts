// What this machine knows of the clusters that its nodes belong to: files that `ray start` leaves for `ray stop`, `ray status` and
// programs that join.
//
//     <temp root>/ray_current_cluster          the address of the cluster that was started or joined last, as in Ray
//     <temp root>/ray_nodes/<session>          the session folder of a node: it may be elsewhere (--temp-dir)
//     <session>/cluster.json                   which cluster the node belongs to
//
//   C1. A file says nothing of whether something lives: pid files do (session.ts).

import fs from 'node:fs'
import path from 'node:path'
import { listDir, readText } from './files.ts'
import { isNoted, notedProcess, PID_FILES, tempRoot, writeWhole } from './session.ts'

export interface ClusterFile {
  readonly gcs: { readonly host: string; readonly port: number }
  readonly nodeId: string
  readonly isHead: boolean
  /** Whoever may read the session folder may use it. */
  readonly token: string | null
}

/** A node that `ray start` started here. */
export interface StartedNode extends ClusterFile {
  readonly sessionDir: string
  /** null: it has ended. */
  readonly nodePid: number | null
  readonly gcsPid: number | null
}

const CURRENT = 'ray_current_cluster'
const NODES = 'ray_nodes'
const CLUSTER_FILE = 'cluster.json'

export function writeClusterFile(sessionDir: string, cluster: ClusterFile): void {
  writeWhole(path.join(sessionDir, CLUSTER_FILE), JSON.stringify(cluster))
}

/** `roots`: the temp roots in which it is to be found. */
export function noteNode(sessionDir: string, address: string, roots: readonly string[]): void {
  for (const root of new Set(roots)) {
    fs.mkdirSync(path.join(root, NODES), { recursive: true, mode: 0o700 })
    writeWhole(path.join(root, NODES, path.basename(sessionDir)), sessionDir)
    writeWhole(path.join(root, CURRENT), address)
  }
}

export function forgetNode(sessionDir: string): void {
  for (const root of new Set([tempRoot(), path.dirname(sessionDir)])) {
    fs.rmSync(path.join(root, NODES, path.basename(sessionDir)), { force: true })
    if (listDir(path.join(root, NODES)).length === 0)
      fs.rmSync(path.join(root, NODES), { recursive: true, force: true })
  }
}

export function currentCluster(root: string = tempRoot()): string | null {
  return readText(path.join(root, CURRENT)).trim() || null
}

/** Once nothing of it lives here the next program starts a cluster of its own. */
export function forgetCurrentCluster(root: string): void {
  const current = readText(path.join(root, CURRENT)).trim()
  const isLiving = startedNodes(root).some((node) => isRunning(node) && isSameAddress(formatAddress(node.gcs), current))
  if (!isLiving) fs.rmSync(path.join(root, CURRENT), { force: true })
}

export function isRunning({ nodePid, gcsPid }: StartedNode): boolean {
  return nodePid !== null || gcsPid !== null
}

/** All that are noted, living or not, in the order of their starts. */
export function startedNodes(root: string = tempRoot()): StartedNode[] {
  const noted = listDir(path.join(root, NODES)).map((name) => readText(path.join(root, NODES, name)))
  const here = listDir(root).filter((name) => name.startsWith('session_'))
  const dirs = new Set([...noted, ...here.map((name) => path.join(root, name))].filter((dir) => dir !== ''))
  const nodes = [...dirs].flatMap((dir) => readStarted(dir) ?? [])
  return nodes.sort((a, b) => (path.basename(a.sessionDir) < path.basename(b.sessionDir) ? -1 : 1))
}

export function readStarted(sessionDir: string): StartedNode | null {
  try {
    const cluster = JSON.parse(fs.readFileSync(path.join(sessionDir, CLUSTER_FILE), 'utf8')) as ClusterFile
    const nodePid = notedProcess(path.join(sessionDir, PID_FILES.node))
    return { ...cluster, sessionDir, nodePid, gcsPid: notedProcess(path.join(sessionDir, PID_FILES.gcs)) }
  } catch {
    return null
  }
}

/** Programs of this machine that have a cluster of their own, in the order of their starts: their session folders. */
export function localSessions(
  root: string = tempRoot(),
): { readonly sessionDir: string; readonly pid: number | null }[] {
  const dirs = listDir(root).filter((name) => name.startsWith('session_'))
  return dirs.sort().flatMap((name) => {
    const sessionDir = path.join(root, name)
    if (!isNodeAlive(sessionDir) || fs.existsSync(path.join(sessionDir, CLUSTER_FILE))) return []
    return [{ sessionDir, pid: notedProcess(path.join(sessionDir, PID_FILES.driver)) }]
  })
}

/** The session folder of a node of that cluster that lives on this machine; of the head, if there is a choice. */
export function sessionOf(address: string): string | null {
  const nodes = startedNodes().filter(
    (node) => node.nodePid !== null && isSameAddress(formatAddress(node.gcs), address),
  )
  return (nodes.find(({ isHead }) => isHead) ?? nodes[0])?.sessionDir ?? null
}

/** The socket of a session's node. */
export function nodeSocketOf(sessionDir: string): string {
  return path.join(sessionDir, 's', 'raylet')
}

export function isNodeAlive(sessionDir: string): boolean {
  return isNoted(path.join(sessionDir, PID_FILES.node))
}

export function formatAddress({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** null: it is none. */
export function parseAddress(text: string): { readonly host: string; readonly port: number } | null {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:]+)\]|([^:/\s[\]]+)):(\d{1,5})$/.exec(text.trim()) ?? []
  const host = bracketed ?? plain
  const port = Number(digits)
  if (host === undefined || port < 1 || port > 65_535) return null
  return { host: host === 'localhost' ? '127.0.0.1' : host, port }
}

export function isSameAddress(one: string, other: string): boolean {
  const [a, b] = [parseAddress(one), parseAddress(other)]
  return a !== null && b !== null && a.host === b.host && a.port === b.port
}
