// Failure here looks like changed bytes, values freed while somebody needs them, or files that stay for ever.
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tempDir, until } from './helpers.ts'

const MB = 1024 * 1024
const spillDirs = [tempDir(), tempDir()]
let cluster: ray.Cluster
beforeAll(async () => {
  cluster = await ray.init({ numCpus: 2, objectStoreMemory: 80 * MB, objectSpilling: { directoryPath: spillDirs } })
})
afterAll(() => ray.shutdown())

const shmFiles = () => fs.readdirSync(`${process.env.RAY_TS_SHM_DIR}/ray-ts-${path.basename(cluster.sessionDir)}`)
const spilledFiles = (dir: string) => fs.readdirSync(dir).flatMap((name) => fs.readdirSync(path.join(dir, name)))

test('[OBJ-01] a put value reaches tasks unchanged; a reference cannot be put', async () => {
  const bytes = crypto.randomBytes(3 * MB)
  const ref = ray.put(bytes)
  const hash = ray.remote((data: Buffer) =>
    process.getBuiltinModule('node:crypto').createHash('sha256').update(data).digest('hex'),
  )
  const expected = crypto.createHash('sha256').update(bytes).digest('hex')
  expect(await ray.get(Array.from({ length: 10 }, () => hash.remote(ref)))).toEqual(new Array(10).fill(expected))
  ref[Symbol.dispose]()
  expect(() => ray.put(ref as never)).toThrow(/not allowed/)
})

test('[OBJ-01] what is put is a copy: later changes are not seen', async () => {
  const list = [1, 2, 3]
  const ref = ray.put(list)
  list.push(4)
  expect(await ray.get(ref)).toEqual([1, 2, 3])
})

test('[OBJ-03] ten thousand references in one get', async () => {
  const refs = Array.from({ length: 10_000 }, (_, i) => ray.put(i))
  const values = await ray.get(refs)
  expect(values[9999]).toBe(9999)
})

test('[ARCH-21][OBJ-04] stored values go when their references do', async () => {
  const before = shmFiles().length
  for (let i = 0; i < 50; i++) {
    const ref = ray.put(Buffer.alloc(5 * MB, i))
    ref[Symbol.dispose]()
  }
  await until(() => shmFiles().length <= before, 'the files are gone')
  const freed = ray.put(Buffer.alloc(MB))
  freed.free()
  await expect(ray.get(freed)).rejects.toThrow(ray.exceptions.ObjectFreedError)
})

test('[ARCH-18][ARCH-19][OBJ-05] more than the store holds goes to both spill folders and comes back', async () => {
  const values = Array.from({ length: 20 }, (_, i) => Buffer.alloc(10 * MB, i))
  const refs = values.map((value) => ray.put(value))
  await until(() => spillDirs.every((dir) => spilledFiles(dir).length > 0), 'files in both folders')
  for (const [i, ref] of refs.entries()) {
    const back = await ray.get(ref)
    expect([back.length, back[0], back[back.length - 1]]).toEqual([10 * MB, i, i])
  }
  const huge = ray.put(Buffer.alloc(200 * MB, 7))
  expect((await ray.get(huge))[199 * MB]).toBe(7)
  for (const ref of [...refs, huge]) ref[Symbol.dispose]()
  await until(() => spillDirs.every((dir) => spilledFiles(dir).length === 0), 'spilled files are deleted')
})

test('[OBJ-02] large results of tasks come back through the store', async () => {
  const make = ray.remote((n: number) => Float64Array.from({ length: n }, (_, i) => i))
  const back = await ray.get(make.remote(500_000))
  expect(back).toBeInstanceOf(Float64Array)
  expect([back.length, back[499_999]]).toEqual([500_000, 499_999])
})

test('[ARCH-21] a reference inside a value keeps what it refers to alive, wherever the value goes', async () => {
  const wrap = ray.remote((value: string) => ({ inner: ray.put(`${value}!`) }))
  const wrapped = await ray.get(wrap.remote('made in a task'))
  expect(await ray.get(wrapped.inner)).toBe('made in a task!')

  class Keeper {
    private kept: ray.ObjectRef<string> | null = null
    keep(box: { ref: ray.ObjectRef<string> }): void {
      this.kept = box.ref
    }
    async read(): Promise<string> {
      return ray.get(this.kept as ray.ObjectRef<string>)
    }
  }
  const keeper = ray.remote(Keeper).remote()
  const ref = ray.put('borrowed')
  await ray.get(keeper.keep.remote({ ref }))
  ref[Symbol.dispose]()
  expect(await ray.get(keeper.read.remote())).toBe('borrowed')
})

test('[OBJ-06] the same large argument again and again draws one warning', async () => {
  const warnings: string[] = []
  const listen = (warning: Error) => warnings.push(warning.message)
  process.on('warning', listen)
  const size = ray.remote((data: Buffer) => data.length)
  const data = Buffer.alloc(2 * MB)
  for (let i = 0; i < 10; i++) await ray.get(size.remote(data))
  await until(() => warnings.length > 0, 'a warning')
  expect(warnings.filter((text) => /same 2\.0 MB argument/.test(text))).toHaveLength(1)
  process.off('warning', listen)
})

test('[TASK-19][PAT-02] a huge capture is refused with the name of the variable', () => {
  const table = Array.from({ length: 3_000_000 }, (_, i) => `row ${i} of the table, quite a long one`)
  const use = ray.remote((i: number) => table[i])
  expect(() => use.remote(1)).toThrow(/captured variable table/)
})

test('[PERF-04] registered serializers', async () => {
  class Point {
    readonly x: number
    constructor(x: number) {
      this.x = x
    }
  }
  ray.util.registerSerializer(Point, { serialize: (point) => point.x, deserialize: (x) => new Point(Number(x) * 10) })
  const back = await ray.get(ray.put({ point: new Point(2) }))
  expect(back.point).toBeInstanceOf(Point)
  expect(back.point.x).toBe(20)
  ray.util.deregisterSerializer(Point)
})

test('[PERF-09][CL-03] inspectSerializability says where it stands', async () => {
  const socket = new (await import('node:net')).Socket()
  const config = { db: { socket } }
  const helper = () => config.db
  const square = (x: number) => [helper(), x * x]
  const { serializable, failures } = ray.util.inspectSerializability(square, 'square')
  expect(serializable).toBe(false)
  expect(failures[0]?.path).toMatch(/square.*helper.*config.*db.*socket/)
  expect(() => ray.remote(square).remote(1)).toThrow(/socket/)
  expect(ray.util.inspectSerializability({ a: 1 })).toEqual({ serializable: true, failures: [] })
  const bytes = ray.serialize({ double: (x: number) => x * 2 })
  expect((await ray.deserialize<{ double: (x: number) => number }>(bytes)).double(4)).toBe(8)
})
