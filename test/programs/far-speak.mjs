// A driver of a test cluster whose tasks print on another node, `far`, in the way that its argument says.
import * as ray from 'ray-ts'

const [what] = process.argv.slice(2)
await ray.init(what === 'silent' ? { logToDriver: false } : {})
const far = { resources: { far: 1 } }

const speak = ray
  .remote(function speak(text) {
    console.log(text)
    console.error(`${text} to stderr`)
  })
  .options(far)

const programs = {
  async names() {
    await ray.get(speak.remote('from afar'))
    const here = ray.remote(function here() {
      console.log('from here')
    })
    await ray.get(here.options({ resources: { near: 1 } }).remote())
  },
  async same() {
    class Loader {
      load(shard) {
        console.log(`loaded shard ${shard}`)
      }
    }
    const loaders = ['far', 'far', 'near', 'near'].map((name) =>
      ray
        .remote(Loader)
        .options({ resources: { [name]: 1 } })
        .remote(),
    )
    await ray.get(loaders.map((loader, shard) => loader.load.remote(shard)))
  },
  async silent() {
    await ray.get(speak.remote('never seen'))
  },
  async flood() {
    const flood = ray.remote(async function flood(chunks) {
      const chunk = `${'x'.repeat(99)}\n`.repeat(600)
      for (let i = 0; i < chunks; i++) await new Promise((resolve) => process.stdout.write(chunk, resolve))
    })
    const square = ray.remote((x) => x * x).options({ resources: { far: 0.001 } })
    const flooding = flood.options(far).remote(2000)
    for (let x = 0; x < 50; x++) if ((await ray.get(square.remote(x))) !== x * x) throw new Error('wrong')
    await ray.get(flooding)
  },
}

await programs[what]()
await ray.shutdown()
