// Failure here looks like a reader that sees another value, memory that grows with readers, or a store that works with the addon only.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import * as ray from 'ray-ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const MB = 1024 * 1024

describe('with the native addon', () => {
  beforeAll(() => ray.init({ numCpus: 3 }))
  afterAll(() => ray.shutdown())

  test('[ARCH-17][OBJ-02] readers in several processes share the pages; what one writes stays its own', async () => {
    const data = new Float64Array((64 * MB) / 8).fill(1)
    const ref = ray.put(data)
    class Reader {
      private view: Float64Array | null = null
      load(view: Float64Array): number {
        this.view = view
        return view.reduce((sum, x) => sum + x, 0)
      }
      write(): number {
        const view = this.view as Float64Array
        view[0] = 99
        return view[0]
      }
      first(): number {
        return (this.view as Float64Array)[0] as number
      }
      privateMb(): number {
        const rollup = process.getBuiltinModule('node:fs').readFileSync('/proc/self/smaps_rollup', 'utf8')
        return Number(/Private_Dirty:\s+(\d+)/.exec(rollup)?.[1]) / 1024
      }
    }
    const [a, b] = [ray.remote(Reader).remote(), ray.remote(Reader).remote()]
    const before = await ray.get([a.privateMb.remote(), b.privateMb.remote()])
    expect(await ray.get([a.load.remote(ref), b.load.remote(ref)])).toEqual([data.length, data.length])
    const after = await ray.get([a.privateMb.remote(), b.privateMb.remote()])
    expect(Math.max(after[0] - before[0], after[1] - before[1])).toBeLessThan(40)
    expect(await ray.get(a.write.remote())).toBe(99)
    expect(await ray.get(b.first.remote())).toBe(1)
    expect((await ray.get(ref))[0]).toBe(1)
  })

  test('[OBJ-04] a segment that somebody still reads is not written anew', async () => {
    const held: Uint8Array[] = []
    for (let i = 1; i <= 20; i++) {
      const ref = ray.put(Buffer.alloc(MB, i))
      if (i % 2 === 0) held.push(await ray.get(ref))
      ref[Symbol.dispose]()
    }
    expect(held.map((view) => [view[0], view[MB - 1]])).toEqual(held.map((_, i) => [(i + 1) * 2, (i + 1) * 2]))
  })
})

test('[OBJ-02] without the addon the same values arrive, as copies', () => {
  const program = `
    import * as ray from 'ray-ts'
    await ray.init({ numCpus: 1 })
    const size = ray.remote((data) => [data.length, data[0]])
    const ref = ray.put(new Float64Array(1e6).fill(3))
    console.log(JSON.stringify([await ray.get(size.remote(ref)), (await ray.get(ref))[5]]))
    await ray.shutdown()
  `
  const file = 'test/programs/.plain.mjs'
  fs.writeFileSync(file, program)
  try {
    const env = { ...process.env, RAY_TS_SHM: 'plain' }
    const output = execFileSync(process.execPath, [file], { env, encoding: 'utf8' })
    expect(JSON.parse(output.trim())).toEqual([[1e6, 3], 3])
  } finally {
    fs.rmSync(file)
  }
})
