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

/** A bar on a terminal, a line now and then elsewhere. */
class Progress {
  readonly #total: number
  #shown = -1

  constructor(total: number) {
    this.#total = total
  }

  show(done: number): void {
    const percent = Math.floor((done / this.#total) * 100)
    if (process.stdout.isTTY) {
      const width = Math.max(10, Math.min(40, process.stdout.columns - 40))
      const full = Math.round((done / this.#total) * width)
      const bar = `${'█'.repeat(full)}${'░'.repeat(width - full)}`
      process.stdout.write(`\r  ${bar} ${String(percent).padStart(3)} %  ${done}/${this.#total} files`)
      if (done === this.#total) process.stdout.write('\n')
      return
    }
    const quarter = Math.floor(percent / 25)
    if (quarter > this.#shown) console.log(`  ${percent} %, ${done} of ${this.#total} files`)
    this.#shown = quarter
  }
}

interface Answer {
  readonly top: readonly [string, number][]
  readonly total: readonly [terms: number, occurrences: number]
}

/** Chunks go into shared memory, tasks count them, and an actor merges what they count. A few chunks are on their way at a time. */
async function indexWithRay(files: readonly string[], cpus: number): Promise<{ answer: Answer; seconds: number }> {
  const count = ray.remote((bytes: Buffer) => countTerms(bytes.toString('latin1')))
  const index = ray.remote(Index, { numCpus: 0 }).remote()
  await ray.get([...Array.from({ length: cpus }, () => count.remote(Buffer.from('warm up'))), index.total.remote()])

  const began = performance.now()
  const progress = new Progress(files.length)
  let pending: { ref: ray.ObjectRef<void>; files: number }[] = []
  let done = 0
  for (const chunk of readChunks(files)) {
    using shared = ray.put(chunk.bytes)
    pending.push({ ref: index.add.remote(count.remote(shared)), files: chunk.files })
    if (pending.length < cpus * 4) continue
    const [[first]] = await ray.wait(pending.map(({ ref }) => ref))
    done += pending.find(({ ref }) => ref === first)?.files ?? 0
    pending = pending.filter(({ ref }) => ref !== first)
    progress.show(done)
  }
  await ray.get(pending.map(({ ref }) => ref))
  const [top, total] = await ray.get([index.top.remote(10), index.total.remote()])
  progress.show(files.length)
  return { answer: { top, total }, seconds: (performance.now() - began) / 1000 }
}

function indexAlone(files: readonly string[]): { answer: Answer; seconds: number } {
  const began = performance.now()
  const index = new Index()
  for (const chunk of readChunks(files)) index.add(countTerms(chunk.bytes.toString('latin1')))
  const answer = { top: index.top(10), total: index.total() }
  return { answer, seconds: (performance.now() - began) / 1000 }
}

function fail(message: string): never {
  console.error(message)
  process.exit(1)
}

const shownFolder = path.relative('.', folder) || '.'
if (!fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
  fail(`There is no folder ${shownFolder}. Usage: npm run demo [-- FOLDER]`)
}
const files = listFiles(folder)
if (files.length === 0) fail(`There are no source files (.ts, .js, .json, .md and the like) under ${shownFolder}.`)
// Read once by both ways, so that neither pays for the disk.
const megabytes = files.reduce((sum, file) => sum + fs.readFileSync(file).length, 0) / 1e6

const cluster = await ray.init()
const cpus = (await ray.clusterResources()).CPU ?? 1
console.log(
  `Indexing ${files.length} files (${megabytes.toFixed(0)} MB) under ${shownFolder} with tasks on ${cpus} CPUs`,
)
const parallel = await indexWithRay(files, cpus)
await cluster.shutdown()
console.log('The same in one process, without ray …')
const alone = indexAlone(files)

console.log('\nTop terms')
for (const [term, n] of parallel.answer.top) console.log(`${n.toLocaleString('en').padStart(12)}  ${term}`)
const [terms, occurrences] = parallel.answer.total
console.log(`\n${terms.toLocaleString('en')} terms, ${occurrences.toLocaleString('en')} occurrences`)
for (const [what, seconds] of [
  [`with ray, ${cpus} CPUs`, parallel.seconds],
  ['in one process', alone.seconds],
] as const) {
  const rate = Math.round(files.length / seconds).toLocaleString('en')
  console.log(`${what.padEnd(18)} ${seconds.toFixed(2).padStart(6)} s  ${rate.padStart(8)} files/s`)
}
console.log(`speed-up           ${(alone.seconds / parallel.seconds).toFixed(2).padStart(6)} x`)
const areEqual = JSON.stringify(parallel.answer) === JSON.stringify(alone.answer)
console.log(areEqual ? 'Both answers are equal.' : 'THE ANSWERS DIFFER.')
if (!areEqual) process.exitCode = 1
