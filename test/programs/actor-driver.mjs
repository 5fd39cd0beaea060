// A driver that joins a node: makes a detached and an ordinary actor by name, says so, and ends as its argument says.
import * as ray from 'ray-ts'

const [address, how] = process.argv.slice(2)
await ray.init({ address, namespace: 'first' })
class Keeper {
  kept = []
  keep(value) {
    this.kept.push(value)
    return this.kept.length
  }
  pid() {
    return process.pid
  }
}
const Remote = ray.remote(Keeper)
const detached = Remote.options({ name: 'detached', lifetime: 'detached' }).remote()
const ordinary = Remote.options({ name: 'ordinary' }).remote()
await ray.get([detached.keep.remote('one'), ordinary.keep.remote('one')])
console.log(`made ${await ray.get(detached.pid.remote())} ${await ray.get(ordinary.pid.remote())}`)
if (how === 'wait') setInterval(() => {}, 1000)
else await ray.shutdown()
