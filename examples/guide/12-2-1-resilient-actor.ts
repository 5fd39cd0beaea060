// Guide 12.2 (fault tolerance of actors): an actor that comes back after its process died, with the state of its last checkpoint.
// The sample pickles to a fixed file in /tmp; here it is JSON in a fresh folder.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import * as ray from 'ray-ts'

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'guide-12-2-'))
const checkpoint = path.join(dir, 'actor_checkpoint.json')

class ResilientActor {
  private readonly state: Record<string, number>

  constructor() {
    this.state = this.loadCheckpoint() // after a restart too
  }

  process(key: string, value: number): number {
    this.state[key] = (this.state[key] ?? 0) + value
    this.saveCheckpoint()
    return this.state[key]
  }

  pid(): number {
    return process.pid
  }

  private saveCheckpoint(): void {
    fs.writeFileSync(`${checkpoint}.new`, JSON.stringify(this.state))
    fs.renameSync(`${checkpoint}.new`, checkpoint) // whole or not at all
  }

  private loadCheckpoint(): Record<string, number> {
    return fs.existsSync(checkpoint) ? JSON.parse(fs.readFileSync(checkpoint, 'utf8')) : {}
  }
}

await using _cluster = await ray.init()

const RemoteResilientActor = ray.remote(ResilientActor, { maxRestarts: 3, maxTaskRetries: 5 })
// It outlives the program that made it, and comes back without limit.
const actor = RemoteResilientActor.options({
  name: 'resilient_worker',
  lifetime: 'detached',
  namespace: 'production',
  maxRestarts: -1,
}).remote()

console.log(await ray.get(actor.process.remote('a', 5)))
const before = await ray.get(actor.pid.remote())
process.kill(before, 'SIGKILL')
console.log(await ray.get(actor.process.remote('a', 3))) // tried again by itself, in the new process
console.log((await ray.get(actor.pid.remote())) !== before)
fs.rmSync(dir, { recursive: true })
//> 5
//> 8
//> true
