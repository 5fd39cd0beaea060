// Each of these once failed under the soak test (scripts/soak.ts).
import * as ray from 'ray-ts'
import { afterAll, beforeAll, expect, test } from 'vitest'

beforeAll(() => ray.init({ numCpus: 2 }))
afterAll(() => ray.shutdown())

test('[OBJ-01] references inside a put value that is passed on can be read by the task', async () => {
  const one = ray.remote(() => 1)
  const open = ray.remote(async (box: { refs: ray.ObjectRef<number>[] }) => (await ray.get(box.refs)).join())
  const box = ray.put({ refs: [one.remote(), ray.put(2)] })
  expect(await ray.get(open.remote(box as never), { timeoutS: 20 })).toBe('1,2')
})
