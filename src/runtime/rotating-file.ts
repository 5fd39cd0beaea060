// A log file that starts anew when it is full: `name`, then `name.1` (the one before), up to the wanted number of old ones.
//
//   R1. The files of one name never take more than (backups + 1) · bytesMax, and one chunk.

import fs from 'node:fs'

export interface RotationLimits {
  /** 0: never. */
  readonly bytesMax: number
  readonly backups: number
}

export class RotatingFile {
  #path: string
  readonly #limits: RotationLimits
  #fd: number
  #size: number

  constructor(path: string, limits: RotationLimits) {
    this.#path = path
    this.#limits = limits
    this.#fd = fs.openSync(path, 'a', 0o600)
    this.#size = fs.fstatSync(this.#fd).size
  }

  write(chunk: Buffer): void {
    const { bytesMax } = this.#limits
    if (bytesMax > 0 && this.#size > 0 && this.#size + chunk.length > bytesMax) this.#rotate()
    fs.writeSync(this.#fd, chunk)
    this.#size += chunk.length
  }

  /** Goes on under another name. */
  rename(path: string): void {
    fs.renameSync(this.#path, path)
    this.#path = path
  }

  close(): void {
    fs.closeSync(this.#fd)
  }

  #rotate(): void {
    const { backups } = this.#limits
    fs.closeSync(this.#fd)
    if (backups === 0) fs.rmSync(this.#path, { force: true })
    for (let i = backups; i > 0; i--) {
      const from = i === 1 ? this.#path : `${this.#path}.${i - 1}`
      if (fs.existsSync(from)) fs.renameSync(from, `${this.#path}.${i}`)
    }
    this.#fd = fs.openSync(this.#path, 'a', 0o600)
    this.#size = 0
  }
}
