// What dist/ sees as `node:crypto`, `node:inspector`, `node:worker_threads` and `node:v8`: loaded at first use (2 to 5 ms of each worker's start, each).

const threads = () => process.getBuiltinModule('node:worker_threads')
const crypto = () => process.getBuiltinModule('node:crypto')

export const createHash = (...args) => crypto().createHash(...args)
export const randomBytes = (...args) => crypto().randomBytes(...args)

const timingSafeEqual = (...args) => crypto().timingSafeEqual(...args)

export default {
  createHash,
  randomBytes,
  timingSafeEqual,
  setFlagsFromString: (flags) => process.getBuiltinModule('node:v8').setFlagsFromString(flags),
  get Session() {
    return process.getBuiltinModule('node:inspector').Session
  },
  get Worker() {
    return threads().Worker
  },
  get parentPort() {
    return threads().parentPort
  },
  get workerData() {
    return threads().workerData
  },
}
