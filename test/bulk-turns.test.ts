// Fails when chunks that come faster than they are written keep a node from everything else.

import net from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { BulkClient } from '../src/runtime/bulk-client.ts'
import type { Answer } from '../src/runtime/tcp.ts'
import { encodeMessage } from '../src/wire/codec.ts'
import { CHUNK_BYTES, dataHead } from '../src/wire/transfer.ts'

const MIB = 1024 * 1024
const CHUNKS = 40
const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

test('[ARCH-10] however fast chunks come, a turn of the event loop takes little of them; all arrive, in order', async () => {
  const body = Buffer.alloc(CHUNK_BYTES, 7)
  const answer: Answer = { t: 'welcome', detail: null }
  const welcome = encodeMessage(answer)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(welcome.length)
  const server = net.createServer((socket) => {
    socket.on('error', () => {})
    socket.write(Buffer.concat([length, welcome]))
    for (let index = 0; index < CHUNKS; index++) {
      socket.write(dataHead(1, index, CHUNK_BYTES))
      socket.write(body)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => server.close())
  const { port } = server.address() as net.AddressInfo
  let [bytes, largest, total] = [0, 0, 0]
  const places: number[] = []
  const turn = (): void => {
    largest = Math.max(largest, bytes)
    bytes = 0
    if (total < CHUNKS * CHUNK_BYTES) setImmediate(turn)
    else whole()
  }
  let whole = (): void => {}
  const arrived = new Promise<void>((resolve) => {
    whole = resolve
  })
  const client = new BulkClient({
    nodeId: 'puller',
    token: null,
    addressOf: () => ({ host: '127.0.0.1', port }),
    onMessage: () => {},
    onData: (_, part) => {
      if (part.offset === 0) places.push(part.index)
      bytes += part.bytes.length
      total += part.bytes.length
      for (const end = performance.now() + 0.2; performance.now() < end; ); // The sender is faster.
    },
    onClosed: () => {},
  })
  closers.push(() => client.closeAll())
  client.send('holder', { t: 'chunk.request', storageId: 1, index: 0 })
  setImmediate(turn)
  await arrived
  expect(total).toBe(CHUNKS * CHUNK_BYTES)
  expect(places).toEqual(Array.from({ length: CHUNKS }, (_, i) => i))
  expect(largest).toBeLessThanOrEqual(2 * MIB)
})
