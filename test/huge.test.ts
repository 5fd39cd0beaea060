// Values beyond 2 and 4 GiB. Failure here looks like an abort of the process, or ends that are not where they were.
import { execFileSync } from 'node:child_process'
import os from 'node:os'
import { expect, test } from 'vitest'

/** The value, once in shared memory and once more in a reader of Node 20. */
const hasRoom = os.freemem() > 12 * 1024 ** 3

test.skipIf(!hasRoom)(
  '[OBJ-06][ARCH-17] a value of 4.1 GiB arrives; more than 2 GiB of strings is refused with what to do',
  () => {
    const output = execFileSync(process.execPath, ['test/programs/huge.mjs'], { encoding: 'utf8' })
    const { there, refusal } = JSON.parse(output) as { there: number[]; refusal: string }
    expect(there).toEqual([Math.floor((4.1 * 1024 ** 3) / 8), 1, 2, 3])
    expect(refusal).toMatch(/UnserializableException.*more than 2 GiB[\s\S]*typed arrays/)
  },
  180_000,
)
