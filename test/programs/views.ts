// What a view of a stored value must survive, in a process of its own (a mistake here ends the process). Arguments: backend, folder.
import assert from 'node:assert'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { setImmediate as tick } from 'node:timers/promises'
import { MessageChannel, Worker } from 'node:worker_threads'
import { chooseBackend, type ShmBackend } from '../../src/runtime/shm/backend.ts'
import { makeHeader } from '../../src/runtime/shm/layout.ts'

const [kind, dir] = process.argv.slice(2) as [string, string]
const addonFile = path.resolve(`packages/native/prebuilds/${process.platform}-${process.arch}.node`)
const gc = globalThis.gc as () => void
const backend = chooseBackend(kind)
/** Above the size at which koffi maps, and not a whole number of pages. */
const BYTES = 33 * 1024 * 1024 + 123
let files = 0

function makeFile(bytes: number, fill: number): string {
  const file = path.join(dir, `v${files++}`)
  fs.writeFileSync(file, Buffer.concat([makeHeader(), Buffer.alloc(bytes, fill)]))
  return file
}

function open(file: string, bytes = BYTES): Uint8Array {
  const range = backend.openReader(file, { offset: 0, bytes, isCounted: true })
  assert(range)
  return new Uint8Array(range.buffer, range.byteOffset, range.byteLength)
}

async function collect(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    gc()
    await tick()
  }
}

/** Makes and forgets many views, so that a range unmapped too early would be used by somebody else. */
function churn(): void {
  for (let i = 0; i < 4; i++) new Uint8Array(BYTES).fill(99)
}

const all = (view: Uint8Array, value: number): boolean => view.every((byte) => byte === value)

/** A sparse file beyond what this Node makes a buffer of: the addon's own way of failing half-way. */
function refusedWhenHuge(): void {
  const file = path.join(dir, 'sparse')
  fs.writeFileSync(file, makeHeader())
  fs.truncateSync(file, 4096 + 5 * 2 ** 30)
  const addon = createRequire(import.meta.url)(addonFile) as { openReader: (...args: unknown[]) => ArrayBuffer }
  try {
    assert.equal(addon.openReader(file, 0, 5 * 2 ** 30, true).byteLength, 5 * 2 ** 30) // Node 22 can.
  } catch (error) {
    assert(error instanceof Error && !(error instanceof assert.AssertionError), String(error))
  }
}

const cases: Record<string, () => Promise<void>> = {
  'two views of one buffer: the first goes': async () => {
    let first: Uint8Array | null = open(makeFile(BYTES, 1))
    const second = first.subarray(4096)
    first = null
    await collect()
    churn()
    assert(all(second, 1))
  },
  'ArrayBuffer.transfer': async () => {
    const file = makeFile(BYTES, 2)
    const moved = (() => {
      const view = open(file)
      const at = view.byteOffset
      const buffer = view.buffer as ArrayBuffer & { transfer?: () => ArrayBuffer }
      return new Uint8Array(buffer.transfer ? buffer.transfer() : structuredClone(buffer), at, BYTES)
    })()
    await collect()
    churn()
    assert(all(moved, 2))
  },
  'structuredClone that transfers': async () => {
    const file = makeFile(BYTES, 3)
    const moved = (() => {
      const view = open(file)
      const at = view.byteOffset
      const buffer = view.buffer as ArrayBuffer
      try {
        return new Uint8Array(structuredClone(buffer, { transfer: [buffer] }), at, BYTES)
      } catch {
        return view // Refused: as good.
      }
    })()
    await collect()
    churn()
    assert(all(moved, 3))
  },
  'byte stream': async () => {
    const file = makeFile(BYTES, 4)
    const stream = new ReadableStream({
      type: 'bytes',
      start(controller) {
        controller.enqueue(open(file))
        controller.close()
      },
    })
    const reader = stream.getReader()
    await collect()
    churn()
    const { value } = (await reader.read()) as { value: Uint8Array }
    await collect()
    churn()
    assert(all(value, 4))
  },
  'postMessage copies': async () => {
    const view = open(makeFile(BYTES, 5))
    const { port1, port2 } = new MessageChannel()
    const got = new Promise<Uint8Array>((resolve) => port2.once('message', resolve))
    port1.postMessage(view)
    const copy = await got
    port1.close()
    copy[0] = 77
    assert.equal(view[0], 5)
    assert(all(view, 5))
  },
  'worker thread: reads and ends before us': async () => {
    const view = open(makeFile(BYTES, 6))
    const worker = new Worker(
      'require("node:worker_threads").parentPort.once("message", (v) => { process.exitCode = v[9] === 6 ? 0 : 1 })',
      { eval: true },
    )
    worker.postMessage(view)
    const code = await new Promise<number>((resolve) => worker.once('exit', resolve))
    assert.equal(code, 0)
    await collect()
    assert(all(view, 6))
  },
  'unlinked while mapped': async () => {
    const file = makeFile(BYTES, 7)
    const view = open(file)
    fs.unlinkSync(file)
    await collect()
    assert(all(view, 7))
  },
  'what is wrong throws or is undefined, a thousand times': async () => {
    const file = makeFile(8192, 8)
    const refused = (call: () => unknown): void => {
      try {
        assert.equal(call(), undefined)
      } catch (error) {
        assert(error instanceof Error && !(error instanceof assert.AssertionError), String(error))
      }
    }
    for (let i = 0; i < 1000; i++) {
      const at = { offset: 0, bytes: 8192, isCounted: true }
      refused(() => backend.openReader(`${file}-missing`, at))
      refused(() => backend.openReader(file, { ...at, bytes: 8193 }))
      refused(() => backend.openReader(dir, at))
      refused(() => backend.openReader(file, { ...at, offset: 2 ** 50 }))
      if (kind === 'native') {
        refused(() => backend.openReader('x'.repeat(5000), at))
        refused(() => backend.openReader(file, { ...at, offset: 1 }))
        refused(() => backend.openReader(file, { ...at, bytes: -1 }))
        refused(() => backend.openShared(file, 2 ** 40))
        if (i < 20) refusedWhenHuge()
      }
    }
    assert(all(open(file, 8192), 8))
  },
  'mappings are counted, and go with their views': async () => {
    await collect()
    const before = backend.mappings()
    const views = [open(makeFile(BYTES, 9)), open(makeFile(BYTES, 9))]
    if (kind === 'native') assert.equal(backend.mappings(), before + 4)
    assert.equal(views.length, 2)
    views.length = 0
    await collect()
    assert.equal(backend.mappings(), before)
  },
  'pages of the file go with the last view': async () => {
    const file = makeFile(BYTES, 12)
    const isMapped = (): boolean => fs.readFileSync('/proc/self/maps', 'utf8').includes(file)
    let view: Uint8Array | null = open(file)
    let part: Uint8Array | null = view.subarray(5)
    assert.equal(isMapped(), kind !== 'plain')
    view = null
    await collect()
    assert.equal(isMapped(), kind !== 'plain')
    assert.equal(part[0], 12)
    part = null
    await collect()
    assert.equal(isMapped(), false)
  },
  'more views than the kernel allows mappings': async () => {
    const file = makeFile(4096, 10)
    const views: Uint8Array[] = []
    for (let i = 0; i < 70_000; i++) views.push(open(file, 4096))
    assert.equal(views[0]?.[0], 10)
    assert.equal(views[69_999]?.[4095], 10)
  },
}

// A thread that opens views and ends: its finalizers run in its own environment.
async function inThread(): Promise<void> {
  const file = makeFile(BYTES, 11)
  const source = `
    const { workerData } = require('node:worker_threads')
    const addon = require(workerData.addon)
    const views = [1, 2, 3].map(() => addon.openReader(workerData.file, 0, ${BYTES}, true))
    if (new Uint8Array(views[2])[5] !== 11) process.exit(1)
  `
  for (let i = 0; i < 3; i++) {
    const worker = new Worker(source, { eval: true, workerData: { addon: addonFile, file } })
    assert.equal(await new Promise((resolve) => worker.once('exit', resolve)), 0)
  }
  const readers = fs.readFileSync(file).readInt32LE(4)
  assert.equal(readers, 0)
}
if (kind === 'native') cases['views made in threads that end'] = inThread

for (const [name, run] of Object.entries(cases)) {
  const began = performance.now()
  await run()
  await collect()
  for (const file of fs.readdirSync(dir)) fs.rmSync(path.join(dir, file))
  console.log(`passed: ${name} (${Math.round(performance.now() - began)} ms)`)
}
const done: ShmBackend['kind'] = backend.kind
console.log(`all passed with ${done}`)
