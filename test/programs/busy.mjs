// A driver with work under way; it ends as its first argument says. The second names the work. Prints its session when all is under way.
import * as ray from 'ray-ts'

const [how, load = 'mixed'] = process.argv.slice(2)
const cluster = await ray.init({ numCpus: 2 })
const spin = ray.remote(() => {
  for (;;);
})
const pid = ray.remote(() => process.pid)

class Holder {
  hold(data) {
    this.data = data
    return process.pid
  }
  compute() {
    for (;;);
  }
}

const loads = {
  /** A computing task, an actor that holds a large object, and an open reference. */
  async mixed() {
    spin.remote()
    const actor = ray.remote(Holder).remote()
    globalThis.kept = [actor, ray.put(Buffer.alloc(2_000_000))]
    await ray.get(actor.hold.remote(globalThis.kept[1]))
  },
  /** Tasks that wait for tasks that compute. */
  async nested() {
    const outer = ray.remote(async () => ray.get([spin.remote(), spin.remote()]))
    outer.remote()
    while ((await ray.util.nodeStats()).leases < 3) await new Promise((resolve) => setTimeout(resolve, 20))
  },
  async actors() {
    const actors = [ray.remote(Holder).remote(), ray.remote(Holder).remote()]
    globalThis.kept = actors
    await ray.get(actors.map((actor) => actor.hold.remote(1)))
    for (const actor of actors) actor.compute.remote()
  },
  async queued() {
    for (let i = 0; i < 2; i++) spin.remote()
    for (let i = 0; i < 5000; i++) pid.remote()
    globalThis.refs = Array.from({ length: 5000 }, () => pid.remote())
  },
}
await loads[load]()
console.log(`session ${cluster.sessionDir}`)
const ends = {
  throw: () => {
    throw new Error('the driver failed')
  },
  reject: () => void Promise.reject(new Error('the driver failed')),
  exit: () => process.exit(3),
  end: () => {},
  shutdown: () => ray.shutdown(),
}
if (how in ends) setTimeout(ends[how], 10)
else setInterval(() => {}, 1000) // It is killed.
