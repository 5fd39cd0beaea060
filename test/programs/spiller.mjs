// A driver with values in shared memory and on disk in a folder of the user's, waiting to be killed. Argument: the folder.
import * as ray from 'ray-ts'

const MB = 1024 * 1024
const cluster = await ray.init({
  numCpus: 1,
  objectStoreMemory: 80 * MB,
  objectSpilling: { directoryPath: process.argv[2] },
})
globalThis.kept = Array.from({ length: 10 }, (_, i) => ray.put(Buffer.alloc(10 * MB, i)))
const pid = await ray.get(ray.remote(() => process.pid).remote())
console.log(`session ${cluster.sessionDir} worker ${pid}`)
setInterval(() => {}, 1000)
