// By which address other machines reach this one.

import dgram from 'node:dgram'
import os from 'node:os'
import { isLoopback } from './auth-token.ts'

/** Nothing is sent there: the kernel is only asked by which way it would go. */
const ANYWHERE = { host: '8.8.8.8', port: 80 }

/** Of this machine, as seen from `towards`: loopback when that is this machine. */
export async function ownAddress(towards: { host: string; port: number } = ANYWHERE): Promise<string> {
  if (isLoopback(towards.host)) return '127.0.0.1'
  const socket = dgram.createSocket(towards.host.includes(':') ? 'udp6' : 'udp4')
  try {
    await new Promise<void>((resolve, reject) => {
      // A callback of `connect` would be called with the error too, and no 'error' be emitted.
      socket.once('error', reject)
      socket.once('connect', resolve)
      socket.connect(towards.port, towards.host)
    })
    return socket.address().address
  } catch {
    return firstOutside() ?? '127.0.0.1'
  } finally {
    socket.close()
  }
}

function firstOutside(): string | undefined {
  const all = Object.values(os.networkInterfaces()).flatMap((addresses) => addresses ?? [])
  return all.find(({ internal, family }) => !internal && family === 'IPv4')?.address
}
