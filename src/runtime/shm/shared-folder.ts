// Nodes that run on one machine and see one shared memory: is another node's folder the very one that its path names here?
//
// Addresses do not tell: a container may share its host's address and not its memory, or the other way round. What tells is the
// kernel's boot id together with a file of a name that cannot be guessed, found under the folder's path. Where both hold and a link
// is refused all the same (another mount, another user), the sockets serve.
//
//   E1. `RAY_TS_SHARED_HOST=0` in a node's environment: it neither offers its folder nor takes from others'.

import fs from 'node:fs'
import path from 'node:path'
import type { SharedFolder } from '../../wire/cluster.ts'
import { randomHex } from '../session.ts'

/** What other nodes are told of this one's folder; null: nothing. */
export function offerFolder(shmDir: string): SharedFolder | null {
  const bootId = ownBootId()
  if (bootId === null) return null
  const proof = `proof-${randomHex(16)}`
  fs.writeFileSync(path.join(shmDir, proof), '', { mode: 0o600 })
  return { bootId, path: shmDir, proof }
}

export function isSameFolder(folder: SharedFolder): boolean {
  return folder.bootId === ownBootId() && fs.existsSync(path.join(folder.path, folder.proof))
}

function ownBootId(): string | null {
  if (process.env.RAY_TS_SHARED_HOST === '0') return null // E1
  try {
    return fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return null
  }
}
