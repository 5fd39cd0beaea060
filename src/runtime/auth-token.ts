// The secret that everyone in a cluster shares: whoever can connect can run code here, so whoever connects from elsewhere must know it.
//
// Where it is found, as in Ray: RAY_AUTH_TOKEN, else the file that RAY_AUTH_TOKEN_PATH names, else ~/.ray/auth_token.
//
//   A1. Beyond loopback nothing listens without a token.
//   A2. Comparing takes the same time whatever is wrong, and a token is never part of a message to people.

import crypto from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { makeError } from '../errors/index.ts'

/** null: there is none. @throws when RAY_AUTH_TOKEN_PATH names a file that holds none. */
export function readAuthToken(env: NodeJS.ProcessEnv): string | null {
  if (env.RAY_AUTH_TOKEN?.trim()) return env.RAY_AUTH_TOKEN.trim()
  const named = env.RAY_AUTH_TOKEN_PATH
  if (!named) return readToken(path.join(env.HOME || os.homedir(), '.ray', 'auth_token'))
  const token = readToken(named)
  if (token === null) {
    const message = `the environment variable RAY_AUTH_TOKEN_PATH names '${named}', which holds no token`
    throw makeError('INVALID_ARGUMENT', { message, hint: 'Write the token of the cluster into that file.' })
  }
  return token
}

export function makeAuthToken(): string {
  return crypto.randomBytes(32).toString('hex')
}

/** A2 */
export function isSameToken(own: string, theirs: unknown): boolean {
  const digest = (text: string): Buffer => crypto.createHash('sha256').update(text).digest()
  return crypto.timingSafeEqual(digest(own), digest(typeof theirs === 'string' ? theirs : '')) && own === theirs
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^(::ffff:)?127\.\d+\.\d+\.\d+$/.test(host)
}

/** A1. @throws AUTH_TOKEN_MISSING */
export function requireToken(host: string, token: string | null): void {
  if (!token && !isLoopback(host)) throw makeError('AUTH_TOKEN_MISSING', { host })
}

function readToken(file: string): string | null {
  try {
    return fs.readFileSync(file, 'utf8').trim() || null
  } catch {
    return null
  }
}
