// What dist/ sees as `node:crypto` and `node:inspector`: loaded at first use (crypto alone is 5 ms of each worker's start).

const crypto = () => process.getBuiltinModule('node:crypto')

export const createHash = (...args) => crypto().createHash(...args)
export const randomBytes = (...args) => crypto().randomBytes(...args)

const timingSafeEqual = (...args) => crypto().timingSafeEqual(...args)

export default {
  createHash,
  randomBytes,
  timingSafeEqual,
  get Session() {
    return process.getBuiltinModule('node:inspector').Session
  },
}
