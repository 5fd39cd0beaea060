// Guide 16.1, first sample (memory settings): the size of the object store, and where objects go when it is full. Its 20 GB are 80 MB
// here, so that something is spilled.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import * as ray from 'ray-ts'

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'guide-16-1-'))
const directories = [path.join(dir, 'nvme/ray_spill'), path.join(dir, 'hdd/ray_spill')]

await using cluster = await ray.init({
  objectStoreMemory: 80 * 1024 ** 2,
  systemConfig: {
    objectSpillingConfig: {
      type: 'filesystem',
      params: { directoryPath: directories, bufferSize: 1_048_576 }, // the option objectSpilling is the short form
    },
    maxIoWorkers: 8,
    minSpillingSize: 100 * 1024 * 1024,
    objectStoreFullDelayMs: 100,
  },
})

// 160 MB into a store of 80 MB.
const refs = Array.from({ length: 16 }, (_, i) => ray.put(new Uint8Array(10 * 1024 ** 2).fill(i)))
let right = 0
for (const [i, ref] of refs.entries()) if ((await ray.get(ref)).every((byte) => byte === i)) right++
console.log(`${right} of ${refs.length} came back whole`)

await cluster.shutdown()
fs.rmSync(dir, { recursive: true })
//> 16 of 16 came back whole
