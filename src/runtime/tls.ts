// TLS between the processes of a cluster, by Ray's variables: RAY_USE_TLS, RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY, RAY_TLS_CA_CERT.
//
//   T1. Mutual: each end shows a certificate of the same authority, and that of who is dialled names the address that was dialled.
//   T2. Nothing is read from, or said to, an end whose certificate is not right, but why it is refused.
//   T3. An end that speaks TLS where the other does not hears so, either way, and need not try again.

import fs from 'node:fs'
import net from 'node:net'
import { makeError } from '../errors/index.ts'
import type { WireError } from '../wire/messages.ts'

/** Contents of the files. */
export interface TlsSettings {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca: Buffer
}

export interface SecureServerEvents {
  /** It may be talked with. */
  onSocket(socket: net.Socket): void
  /** It speaks no TLS, or shows a certificate that is not right: tell it, if at all, and close it. */
  onRefused(socket: net.Socket, error: WireError): void
}

const FILES = { cert: 'RAY_TLS_SERVER_CERT', key: 'RAY_TLS_SERVER_KEY', ca: 'RAY_TLS_CA_CERT' } as const
const HANDSHAKE_MS = 5000
/** The first byte of a TLS connection. */
const HANDSHAKE_RECORD = 0x16
/** What a certificate can be refused for, beside ERR_TLS_… and ERR_SSL_…: names of OpenSSL's. */
const CERTIFICATE = /CERT|SIGNATURE|ISSUER|CRL|CHAIN|^INVALID_(CA|PURPOSE)$|^PATH_LENGTH_EXCEEDED$|^HOSTNAME_MISMATCH$/

/** At first use: most clusters have none, and loading these would be a tenth of each worker's start. */
const nodeTls = () => process.getBuiltinModule('node:tls')
const certificate = (pem: Buffer) => new (process.getBuiltinModule('node:crypto').X509Certificate)(pem)

let settings: TlsSettings | null | undefined

/** Of this process; null: plain TCP. Read once. @throws TLS_FILE when a file is missing or not what it should be. */
export function tlsSettings(): TlsSettings | null {
  if (settings === undefined) settings = readTls(process.env)
  return settings
}

/** @throws TLS_FILE */
export function readTls(env: NodeJS.ProcessEnv): TlsSettings | null {
  if (!['1', 'true'].includes((env.RAY_USE_TLS ?? '').toLowerCase())) return null
  const read = (variable: string): Buffer => {
    const file = env[variable]
    if (!file) throw makeError('TLS_FILE', { variable, detail: 'it is not set' })
    try {
      return fs.readFileSync(file)
    } catch (error) {
      throw makeError('TLS_FILE', { variable, detail: `${file} cannot be read: ${(error as Error).message}` })
    }
  }
  const [cert, key, ca] = [read(FILES.cert), read(FILES.key), read(FILES.ca)]
  const check = (variable: string, run: () => unknown): void => {
    try {
      run()
    } catch (error) {
      throw makeError('TLS_FILE', { variable, detail: `${env[variable]}: ${(error as Error).message}` })
    }
  }
  check(FILES.cert, () => certificate(cert))
  check(FILES.ca, () => certificate(ca))
  check(FILES.key, () => nodeTls().createSecureContext({ cert, key, ca }))
  return { cert, key, ca }
}

/** As `net.connect`; with TLS, what is written waits for the other end's certificate. */
export function connectTcp(options: net.TcpNetConnectOpts): net.Socket {
  const secure = tlsSettings()
  return secure ? nodeTls().connect({ ...options, ...secure }) : net.connect(options)
}

/** The other end is there, and who it says it is. */
export function onceConnected(socket: net.Socket, run: () => void): void {
  socket.once(tlsSettings() ? 'secureConnect' : 'connect', run)
}

/** Why a connection failed that will fail again; null: for another reason. */
export function tlsRefusal(error: NodeJS.ErrnoException): WireError | null {
  const { code = '', message } = error
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_')) {
    const isPlain = /wrong version number|packet length too long|http request|record layer/i.test(message)
    return refused(isPlain ? 'the other end does not speak TLS' : message)
  }
  if (code.startsWith('ERR_TLS_') || (code.length > 0 && !code.startsWith('E') && CERTIFICATE.test(code)))
    return refused(`the other end's certificate is not accepted: ${message}`)
  return null
}

function refused(detail: string): WireError {
  return { code: 'TLS_REFUSED', params: { detail } }
}

/** As `net.createServer`; with TLS, for ends with a right certificate only (T2). */
export function createTcpServer({ onSocket, onRefused }: SecureServerEvents): net.Server {
  const secure = tlsSettings()
  if (!secure) return net.createServer((socket) => takePlain(socket, { onSocket, onRefused }))
  const inner = nodeTls().createServer({
    ...secure,
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: HANDSHAKE_MS,
  })
  inner.on('secureConnection', (socket) => {
    if (socket.authorized) return onSocket(socket)
    socket.on('error', () => socket.destroy())
    onRefused(socket, refused(`your certificate is not accepted: ${socket.authorizationError ?? 'there is none'}`))
  })
  inner.on('tlsClientError', (_error, socket) => socket.destroy())
  return net.createServer((socket) => {
    socket.on('error', () => socket.destroy())
    const timer = setTimeout(() => socket.destroy(), HANDSHAKE_MS)
    socket.once('close', () => clearTimeout(timer))
    socket.once('readable', () => {
      clearTimeout(timer)
      const chunk = socket.read() as Buffer | null
      if (chunk === null) return void socket.destroy()
      if (chunk[0] !== HANDSHAKE_RECORD) return onRefused(socket, refused('this cluster speaks TLS only')) // T3
      socket.unshift(chunk)
      inner.emit('connection', socket)
    })
  })
}

/** T3: no greeting begins like that, since it would be longer than any may be. */
function takePlain(socket: net.Socket, { onSocket, onRefused }: SecureServerEvents): void {
  socket.once('data', (chunk: Buffer) => {
    if (chunk[0] === HANDSHAKE_RECORD && chunk[1] === 3) onRefused(socket, refused('this cluster does not speak TLS'))
  })
  onSocket(socket)
}
