// Indexes a folder of real text with tasks and an actor, then does the same in one process, and compares.
//
//     npm run demo [-- FOLDER]        default: every source file under this checkout's node_modules

import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'

const CHUNK_BYTES = 4 * 1024 * 1024
const SOURCE = /\.(m|c)?(j|t)sx?$|\.json$|\.md$/
const folder = path.resolve(process.argv[2] ?? 'node_modules')

/** How often each term of two letters or more occurs. */
function countTerms(text: string): Map<string, number> {
  const counts = new Map<string, number>()
  for (const [term] of text.toLowerCase().matchAll(/[a-z][a-z0-9]+/g)) counts.set(term, (counts.get(term) ?? 0) + 1)
  return counts
}

class Index {
  private readonly counts = new Map<string, number>()

  add(part: Map<string, number>): void {
    for (const [term, count] of part) this.counts.set(term, (this.counts.get(term) ?? 0) + count)
  }

  top(n: number): [string, number][] {
    return [...this.counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, n)
  }

  total(): [number, number] {
    return [this.counts.size, [...this.counts.values()].reduce((sum, count) => sum + count, 0)]
  }
}

function listFiles(dir: string): string[] {
  return fs.readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const full = path.join(dir, entry.name)
    if (entry.isDirectory()) return listFiles(full)
    return entry.isFile() && SOURCE.test(entry.name) ? [full] : []
  })
}

/** File contents packed into buffers of about `CHUNK_BYTES`. */
function* readChunks(files: readonly string[]): Generator<{ files: number; bytes: Buffer }> {
  let parts: Buffer[] = []
  let size = 0
  for (const file of files) {
    parts.push(fs.readFileSync(file), Buffer.from('\n'))
    size += (parts.at(-2) as Buffer).length + 1
    if (size < CHUNK_BYTES) continue
    yield { files: parts.length / 2, bytes: Buffer.concat(parts) }
    parts = []
    size = 0
  }
  if (parts.length > 0) yield { files: parts.length / 2, bytes: Buffer.concat(parts) }
}

function progress(done: number, total: number): void {
  if (!process.stdout.isTTY) return
  const width = 40
  const full = Math.round((done / total) * width)
  process.stdout.write(`\r[${'#'.repeat(full)}${'.'.repeat(width - full)}] ${done}/${total} files`)
  if (done === total) process.stdout.write('\n')
}

const files = listFiles(folder)
if (files.length === 0) throw new Error(`no source files under ${folder}`)
console.log(`${files.length} files under ${path.relative('.', folder) || '.'}`)

const cluster = await ray.init()
const cpus = (await ray.clusterResources()).CPU ?? 1
const count = ray.remote((bytes: Buffer) => countTerms(bytes.toString('utf8')))
const index = ray.remote(Index).remote()
await ray.get([...Array.from({ length: cpus }, () => count.remote(Buffer.from('warm up'))), index.total.remote()])

// The actor has counted nothing yet: what warmed the workers up was not added.
const began = performance.now()
let pending: { ref: ray.ObjectRef<void>; files: number }[] = []
let done = 0
for (const chunk of readChunks(files)) {
  const shared = ray.put(chunk.bytes)
  pending.push({ ref: index.add.remote(count.remote(shared)), files: chunk.files })
  shared[Symbol.dispose]()
  if (pending.length < cpus * 4) continue
  const [[first]] = await ray.wait(pending.map(({ ref }) => ref))
  done += pending.find(({ ref }) => ref === first)?.files ?? 0
  pending = pending.filter(({ ref }) => ref !== first)
  progress(done, files.length)
}
await ray.get(pending.map(({ ref }) => ref))
progress(files.length, files.length)
const [top, total] = [await ray.get(index.top.remote(10)), await ray.get(index.total.remote())]
const parallelS = (performance.now() - began) / 1000

const alone = new Index()
const aloneBegan = performance.now()
for (const chunk of readChunks(files)) alone.add(countTerms(chunk.bytes.toString('utf8')))
const aloneTop = alone.top(10)
const aloneS = (performance.now() - aloneBegan) / 1000
await cluster.shutdown()

for (const [term, n] of top) console.log(`${String(n).padStart(9)}  ${term}`)
console.log(`${total[0]} terms, ${total[1]} occurrences`)
console.log(`with ray on ${cpus} CPUs: ${parallelS.toFixed(1)} s, ${Math.round(files.length / parallelS)} files/s`)
console.log(`in one process:     ${aloneS.toFixed(1)} s, ${Math.round(files.length / aloneS)} files/s`)
console.log(`speed-up: ${(aloneS / parallelS).toFixed(2)}x`)
const areEqual = JSON.stringify([top, total]) === JSON.stringify([aloneTop, alone.total()])
console.log(areEqual ? 'both answers are equal' : 'THE ANSWERS DIFFER')
if (!areEqual) process.exitCode = 1
