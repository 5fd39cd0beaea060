// `ray status` and `ray health-check`: one question to the GCS.

import { makeError } from '../errors/index.ts'
import { askStatus } from '../runtime/ask.ts'
import { type ClusterPlace, findCluster } from '../runtime/find-cluster.ts'
import { statusText } from './status-text.ts'

export async function status({ address, verbose = false }: { address?: string; verbose?: boolean }): Promise<void> {
  console.log(statusText(await askStatus(place(address)), new Date(), verbose))
}

/** Exit code 0 is healthy, as in Ray. */
export async function healthCheck({ address, component }: { address?: string; component?: string }): Promise<void> {
  await askStatus(place(address))
  if (component === undefined) return
  console.error(`error: there is no component '${component}' in this cluster`)
  process.exitCode = 1
}

export function place(address: string | undefined): ClusterPlace {
  const found = findCluster(address, process.env)
  if (found) return found
  const message = 'Could not find any running Ray instance'
  const hint =
    'Please specify the one to connect to by setting `--address` flag or `RAY_ADDRESS` environment variable; `ray start --head` starts one.'
  throw makeError('INVALID_ARGUMENT', { message, hint })
}
