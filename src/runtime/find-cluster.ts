// Which cluster is meant, and how it is reached from this machine.

import { makeError } from '../errors/index.ts'
import { readAuthToken } from './auth-token.ts'
import { currentCluster, formatAddress, isRunning, isSameAddress, parseAddress, startedNodes } from './cluster-files.ts'
import { tempRoot } from './session.ts'

export interface ClusterPlace {
  readonly host: string
  readonly port: number
  readonly token: string | null
}

/**
 * The GCS that an explicit address, RAY_ADDRESS, or what runs on this machine names; null: nothing does.
 * @throws INVALID_ARGUMENT for what is no address.
 */
export function findCluster(asked: string | undefined, env: NodeJS.ProcessEnv): ClusterPlace | null {
  const named = [asked, env.RAY_ADDRESS].find((one) => one && one !== 'auto') ?? runningHere()
  if (named === null) return null
  const at = parseAddress(named)
  if (!at) {
    const message = `'${named}' is no address of a cluster`
    throw makeError('INVALID_ARGUMENT', {
      message,
      hint: 'Give the address that `ray start --head` printed, host:port.',
    })
  }
  return { ...at, token: tokenFor(formatAddress(at), env) }
}

/** The environment's, else what a node of that cluster on this machine has. */
export function tokenFor(address: string, env: NodeJS.ProcessEnv, root: string = tempRoot()): string | null {
  const here = startedNodes(root).find(({ gcs }) => isSameAddress(formatAddress(gcs), address))
  return readAuthToken(env) ?? here?.token ?? null
}

/** The one that was started last, if any of its nodes lives here; else any that does. */
function runningHere(): string | null {
  const living = startedNodes().filter(isRunning)
  const addresses = living.map(({ gcs }) => formatAddress(gcs))
  const current = currentCluster()
  return addresses.find((one) => current !== null && isSameAddress(one, current)) ?? addresses.at(-1) ?? null
}
