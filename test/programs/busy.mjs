// A driver with work under way in tasks and an actor; ends as its argument says.
import * as ray from 'ray-ts'

const how = process.argv[2]
const cluster = await ray.init({ numCpus: 2 })
const spin = ray.remote(() => {
  for (;;);
})
spin.remote()
const actor = ray
  .remote(
    class Holder {
      hold(data) {
        this.data = data
        return process.pid
      }
    },
  )
  .remote()
const large = ray.put(Buffer.alloc(2_000_000))
await ray.get(actor.hold.remote(large))
console.log(`session ${cluster.sessionDir}`)
if (how === 'throw') throw new Error('the driver failed')
if (how === 'exit') process.exit(3)
if (how === 'end') setTimeout(() => {}, 10)
else setInterval(() => {}, 1000)
