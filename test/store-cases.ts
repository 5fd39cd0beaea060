// What the object store does, whatever maps it: run by one test file a backend (store.*.test.ts).
// Failure here looks like changed bytes, values freed while somebody needs them, or files that stay for ever.

import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tempDir, until } from './helpers.ts'

const MB = 1024 * 1024

/** Every kind of buffer that this Node knows, 400 KB each. */
function everyKind(): Record<string, ArrayBufferView | ArrayBuffer> {
  const bytes = crypto.randomBytes(400_000)
  const copy = () => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer
  const kinds: Record<string, ArrayBufferView | ArrayBuffer> = {
    Buffer: Buffer.from(bytes),
    DataView: new DataView(copy()),
    ArrayBuffer: copy(),
    Uint8ClampedArray: new Uint8ClampedArray(copy()),
    Int8Array: new Int8Array(copy()),
    Uint8Array: new Uint8Array(copy()),
    Int16Array: new Int16Array(copy()),
    Uint16Array: new Uint16Array(copy()),
    Int32Array: new Int32Array(copy()),
    Uint32Array: new Uint32Array(copy()),
    Float32Array: new Float32Array(copy()),
    Float64Array: new Float64Array(copy()),
    BigInt64Array: new BigInt64Array(copy()),
    BigUint64Array: new BigUint64Array(copy()),
  }
  const { Float16Array } = globalThis as { Float16Array?: new (buffer: ArrayBuffer) => ArrayBufferView }
  if (Float16Array) kinds.Float16Array = new Float16Array(copy())
  return kinds
}

export function storeCases(kind: 'native' | 'koffi' | 'plain'): void {
  describe(`the object store, mapped by: ${kind}`, () => {
    const spillDirs = [tempDir(), tempDir()]
    let cluster: ray.Cluster
    beforeAll(async () => {
      process.env.RAY_TS_SHM = kind
      cluster = await ray.init({
        numCpus: 2,
        objectStoreMemory: 80 * MB,
        objectSpilling: { directoryPath: spillDirs },
        systemConfig: { minSpillingSize: 20 * MB },
      })
    })
    afterAll(async () => {
      await ray.shutdown()
      for (const dir of spillDirs) fs.rmSync(dir, { recursive: true, force: true })
    })
    const shmFiles = () =>
      fs
        .readdirSync(path.join(process.env.RAY_TS_SHM_DIR as string, `ray-ts-${path.basename(cluster.sessionDir)}`))
        .filter((name) => name !== 'control')
    const spilled = (dir: string) =>
      fs.readdirSync(dir).flatMap((name) => fs.readdirSync(path.join(dir, name)).map((file) => path.join(name, file)))
    const allSpilled = () => spillDirs.flatMap(spilled)

    test('[OBJ-01][OBJ-02][PERF-03] every kind of buffer arrives as it was, wherever it is nested', async () => {
      const value = { kinds: everyKind(), list: [[new Map([['deep', new Float32Array(50_000).fill(1.5)]])]] }
      const echo = ray.remote((x: typeof value) => x)
      const ref = ray.put(value)
      for (const back of [await ray.get(ref), await ray.get(echo.remote(ref)), await ray.get(echo.remote(value))]) {
        expect(Object.keys(back.kinds)).toEqual(Object.keys(value.kinds))
        for (const [name, one] of Object.entries(back.kinds)) {
          expect(one.constructor.name).toBe(name)
          const bytes = (v: ArrayBufferView | ArrayBuffer) =>
            v instanceof ArrayBuffer ? Buffer.from(v) : Buffer.from(v.buffer, v.byteOffset, v.byteLength)
          expect(bytes(one).equals(bytes(value.kinds[name] as ArrayBufferView))).toBe(true)
        }
        expect(back.list[0]?.[0]?.get('deep')?.[49_999]).toBe(1.5)
      }
    })

    test('[ARCH-17][OBJ-02] a write to a view stays private; others read what was put', async () => {
      const ref = ray.put(new Float64Array((40 * MB) / 8).fill(1))
      const scribble = ray.remote((view: Float64Array) => {
        const before = view[0]
        view.fill(7)
        return [before, view[view.length - 1]]
      })
      expect(await ray.get([scribble.remote(ref), scribble.remote(ref), scribble.remote(ref)])).toEqual([
        [1, 7],
        [1, 7],
        [1, 7],
      ])
      const mine = await ray.get(ref)
      mine[0] = 5
      expect([(await ray.get(ref))[0], mine[0]]).toEqual([1, 5])
    })

    test('[ARCH-18][ARCH-19][OBJ-05] 20 values of 20 MB in a store of 80: both folders, fused files, all hashes equal', async () => {
      const make = ray.remote((i: number) =>
        process
          .getBuiltinModule('node:crypto')
          .randomBytes(20 * 1024 * 1024)
          .fill(i, 0, 9),
      )
      const hash = (data: Uint8Array) => crypto.createHash('md5').update(data).digest('hex')
      const values = Array.from({ length: 16 }, (_, i) => crypto.randomBytes(20 * MB).fill(i, 0, 9))
      const hashes = values.map(hash)
      const refs: ray.ObjectRef<Uint8Array>[] = values.map((value) => ray.put(value))
      for (let i = 0; i < 4; i++) refs.push(make.remote(16 + i))
      await ray.wait(refs, { numReturns: refs.length })
      for (const [i, ref] of refs.entries()) {
        const back = await ray.get(ref)
        expect([back.length, back[0], back[8]]).toEqual([20 * MB, i, i])
        if (i < 16) expect(hash(back)).toBe(hashes[i])
      }
      expect(spillDirs.every((dir) => spilled(dir).length > 0)).toBe(true)
      for (const ref of refs) ref[Symbol.dispose]()
      await until(() => allSpilled().length === 0, `spilled files are deleted: ${allSpilled()}`)
    }, 60_000)

    test('[ARCH-19] small values share a file, which goes with the last of them', async () => {
      await until(() => shmFiles().length === 0, 'nothing is kept for reuse')
      const refs = Array.from({ length: 70 }, (_, i) => ray.put(Buffer.alloc(MB, i)))
      await until(() => allSpilled().some((name) => name.includes('fused-')), 'fused files')
      // Values that did not fit at once lie alone; a fused file holds many.
      const fused = spillDirs.flatMap((dir) =>
        spilled(dir)
          .filter((name) => name.includes('fused-'))
          .map((name) => path.join(dir, name)),
      )
      await until(() => fused.some((file) => fs.existsSync(file) && fs.statSync(file).size > 10 * MB), 'a file of many')
      const last = refs.pop() as ray.ObjectRef<Buffer>
      for (const [i, ref] of refs.entries()) {
        const back = await ray.get(ref)
        expect([back.length, back[0], back[MB - 1]]).toEqual([MB, i, i])
        ref[Symbol.dispose]()
      }
      expect((await ray.get(last))[0]).toBe(69)
      last[Symbol.dispose]()
      await until(() => allSpilled().length === 0, `spilled files are deleted: ${allSpilled()}`)
    }, 60_000)

    test('[OBJ-05] a value larger than the store goes straight to disk', async () => {
      const huge = ray.put(Buffer.alloc(200 * MB, 7))
      expect(allSpilled().length).toBeGreaterThan(0)
      const sum = ray.remote((data: Uint8Array) => [data.length, data[0], data[data.length - 1]])
      expect(await ray.get(sum.remote(huge))).toEqual([200 * MB, 7, 7])
      const view = await ray.get(huge)
      huge[Symbol.dispose]()
      await until(() => allSpilled().length === 0, 'its file is deleted')
      expect(view[150 * MB]).toBe(7) // The reader keeps what it has.
    }, 60_000)

    test('[ARCH-21][OBJ-04] what is read, or is the argument of a running task, does not vanish when it is freed or spilled', async () => {
      class Reader {
        private view: Uint8Array = new Uint8Array()
        hold(view: Uint8Array): number {
          this.view = view
          return view.length
        }
        check(): boolean {
          return this.view.every((byte) => byte === 42)
        }
      }
      const reader = ray.remote(Reader).remote()
      const ref = ray.put(Buffer.alloc(10 * MB, 42))
      await ray.get(reader.hold.remote(ref))
      const slow = ray.remote(async (data: Uint8Array, gate: string) => {
        const files = process.getBuiltinModule('node:fs')
        while (!files.existsSync(gate)) await new Promise((resolve) => setTimeout(resolve, 5))
        return data.every((byte) => byte === 42)
      })
      const gate = path.join(spillDirs[0] as string, '..', `gate-${kind}-${process.pid}`)
      const running = slow.remote(ref, gate)
      const pending = slow.remote(ref, gate)
      ref[Symbol.dispose]()
      const pressure = Array.from({ length: 12 }, (_, i) => ray.put(Buffer.alloc(10 * MB, i)))
      await until(() => allSpilled().length > 0, 'pressure')
      expect(await ray.get(reader.check.remote())).toBe(true)
      fs.writeFileSync(gate, '')
      expect(await ray.get([running, pending])).toEqual([true, true])
      fs.rmSync(gate)
      for (const one of pressure) one[Symbol.dispose]()
    }, 60_000)

    test('[ARCH-21][OBJ-04] at the end nothing is left in memory or on disk', async () => {
      await until(
        () => shmFiles().length === 0 && allSpilled().length === 0,
        `left: ${shmFiles()} ${allSpilled()}`,
        15_000,
      )
    }, 20_000)
  })
}
