// Failure here looks like a table that arrives as another class or with other rows, or memory that grows with every reader.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import * as flechette from '@uwdata/flechette'
import * as arrow from 'apache-arrow'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'

const ROWS = 4_000_000
beforeAll(() => ray.init({ numCpus: 3 }))
afterAll(() => ray.shutdown())

const words = Array.from({ length: 1000 }, (_, i) => (i % 11 === 0 ? null : `wörd ${i % 97}`))

/** The view under a number column, by each library's own structure. */
const valuesOf = {
  flechette: (table: flechette.Table) => table.getChild('x').data[0]?.values as Float64Array,
  'apache-arrow': (table: arrow.Table) => table.getChild('x')?.data[0]?.values as Float64Array,
}

test('[PERF-03] flechette tables: every column type, nulls, several batches, nested in other values', async () => {
  const table = flechette.tableFromArrays({
    x: Float64Array.from({ length: 1000 }, (_, i) => i / 3),
    n: Int32Array.from({ length: 1000 }, (_, i) => -i),
    big: BigInt64Array.from({ length: 1000 }, (_, i) => BigInt(i) << 40n),
    text: words,
    flag: words.map((_, i) => i % 3 === 0),
    list: words.map((_, i) => [i, i + 1]),
    when: words.map((_, i) => new Date(1e12 + i * 1000)),
  })
  const echo = ray.remote((x: { table: flechette.Table; again: flechette.Table }) => x)
  const back = await ray.get(echo.remote({ table, again: table }))
  expect(back.table).toBeInstanceOf(flechette.Table)
  expect(back.again).toBe(back.table)
  expect(back.table.names).toEqual(table.names)
  expect(back.table.toArray()).toEqual(table.toArray())
})

test('[PERF-03] apache-arrow tables: dictionaries, nulls, several batches, both copies of the library', async () => {
  const table = arrow.tableFromArrays({ x: Float64Array.from({ length: 1000 }, (_, i) => i / 3), text: words })
  const batches = arrow
    .tableFromArrays({ x: Float64Array.of(1, 2) })
    .concat(arrow.tableFromArrays({ x: Float64Array.of(3) }))
  const echo = ray.remote((x: { table: arrow.Table; batches: arrow.Table }) => x)
  const back = await ray.get(echo.remote({ table, batches }))
  expect(back.table).toBeInstanceOf(arrow.Table)
  expect([back.table.numRows, back.batches.numRows, back.batches.batches.length]).toEqual([1000, 3, 2])
  expect(back.table.toArray().map(String)).toEqual(table.toArray().map(String))

  const { createRequire } = process.getBuiltinModule('node:module')
  const required = createRequire(import.meta.url)('apache-arrow') as typeof arrow
  const other = required.tableFromArrays({ x: Float64Array.of(1, 2, 3) })
  const otherBack = await ray.get(ray.put(other))
  expect(otherBack).toBeInstanceOf(required.Table)
  expect([...(otherBack.getChild('x') ?? [])]).toEqual([1, 2, 3])
})

test.each(['flechette', 'apache-arrow'] as const)(
  '[OBJ-02][PERF-03] a %s table is read in place: readers do not grow',
  async (library) => {
    class Reader {
      table: unknown
      sum(table: flechette.Table, how: string): number {
        this.table = table
        const values = (table.getChild('x') as unknown as { data: { values: Float64Array }[] }).data[0]
          ?.values as Float64Array
        if (how === 'scribble') values[0] = 1e9
        return values.reduce((sum, x) => sum + x, 0)
      }
      privateMb(): number {
        const rollup = process.getBuiltinModule('node:fs').readFileSync('/proc/self/smaps_rollup', 'utf8')
        return Number(/Private_Dirty:\s+(\d+)/.exec(rollup)?.[1]) / 1024
      }
    }
    const columns = { x: new Float64Array(ROWS).fill(1), y: Int32Array.from({ length: ROWS }, (_, i) => i) }
    const table = library === 'flechette' ? flechette.tableFromArrays(columns) : arrow.tableFromArrays(columns)
    const ref = ray.put(table) as ray.ObjectRef<flechette.Table>
    const readers = [ray.remote(Reader).remote(), ray.remote(Reader).remote()]
    const small = ray.put((library === 'flechette' ? flechette : arrow).tableFromArrays({ x: Float64Array.of(1) }))
    await ray.get(readers.map((reader) => reader.sum.remote(small as never, 'read'))) // The library is loaded.
    const before = await ray.get(readers.map((reader) => reader.privateMb.remote()))
    expect(await ray.get(readers[0]?.sum.remote(ref, 'scribble') as never)).toBe(ROWS - 1 + 1e9)
    expect(await ray.get(readers[1]?.sum.remote(ref, 'read') as never)).toBe(ROWS)
    const after = await ray.get(readers.map((reader) => reader.privateMb.remote()))
    // 48 MB of columns.
    expect(Math.max(...after.map((mb, i) => mb - (before[i] as number)))).toBeLessThan(24)
    const mine = await ray.get(ref)
    const values = valuesOf[library](mine as never)
    expect(values.buffer.byteLength).toBeGreaterThan(48_000_000) // A window into the stored value.
    expect(values[0]).toBe(1)
  },
)

test('[ARCH-17] importing ray-ts loads no Arrow library and no koffi; the bytes are an Arrow IPC stream', async () => {
  const program = `
    const before = new Set(Object.keys(require.cache ?? {}))
    import('ray-ts').then(() => {
      const maps = require('node:fs').readFileSync('/proc/self/maps', 'utf8')
      const loaded = Object.keys(require.cache).filter((file) => /arrow|flechette|koffi/.test(file))
      console.log(JSON.stringify([loaded, /koffi/.test(maps)]))
    })`
  const output = execFileSync(process.execPath, ['--input-type=commonjs', '-e', program], { encoding: 'utf8' })
  expect(JSON.parse(output)).toEqual([[], false])
  for (const file of fs.readdirSync('dist').filter((name) => name.endsWith('.js'))) {
    expect(fs.readFileSync(path.join('dist', file), 'utf8')).not.toMatch(/^import .*(arrow|flechette|koffi)"/m)
  }
  const bytes = ray.serialize(flechette.tableFromArrays({ x: Float64Array.of(1, 2, 3) }))
  const at = Buffer.from(bytes).indexOf(Buffer.from([0xff, 0xff, 0xff, 0xff]))
  expect(arrow.tableFromIPC(bytes.slice(at)).getChild('x')?.toArray()).toEqual(Float64Array.of(1, 2, 3))
})
