// Prints from tasks and actors in the way that its argument says; then keeps a copy of the log folder.
import fs from 'node:fs'
import * as ray from 'ray-ts'

const [what, target] = process.argv.slice(2)
const options = {
  silent: { logToDriver: false },
  json: { loggingConfig: { encoding: 'JSON', logLevel: 'INFO'.toLowerCase() } },
  same: { numCpus: 4 },
}
const cluster = await ray.init({ numCpus: 2, ...options[what] })

const greet = ray.remote(function greet(n) {
  if (n === 'last') process.stdout.write('the last words, without a line end')
  else {
    console.debug('too detailed')
    console.log(...(n ? ['to stdout', n] : ['to stdout']))
    console.error('to stderr')
  }
})

const programs = {
  async names() {
    await ray.get(greet.remote())
    await ray.get(greet.options({ name: 'renamed' }).remote())
    class Plain {
      speak() {
        console.log('from a method')
      }
    }
    class Shop extends Plain {
      constructor(id) {
        super()
        this.id = id
      }
      toString() {
        return `Shop(${this.id})`
      }
    }
    await ray.get(ray.remote(Plain).remote().speak.remote())
    await ray.get(ray.remote(Shop).remote(7).speak.remote())
    await ray.get(greet.remote('last'))
  },
  async same() {
    const load = ray.remote(async function load(shard) {
      await new Promise((resolve) => setTimeout(resolve, 300))
      console.log(`loaded shard ${shard}\nsome noise\nalways shown`)
      return process.pid
    })
    const pids = await ray.get([1, 2, 3, 4].map((shard) => load.remote(shard)))
    if (new Set(pids).size !== 4) throw new Error('it should have run in four workers')
  },
  async shapes() {
    const bar = ray.remote(function bar() {
      for (let i = 1; i <= 100; i++) process.stdout.write(`\r${i}%`)
      process.stdout.write('\n')
      console.log('x'.repeat(50_000))
      const letters = Buffer.from('äöü日本\n')
      process.stdout.write(letters.subarray(0, 8))
      process.stdout.write(letters.subarray(8))
    })
    await ray.get(bar.remote())
  },
  async silent() {
    await ray.get(greet.remote())
  },
  async json() {
    await ray.get(greet.remote(5))
  },
  async flood() {
    const flood = ray.remote(function flood() {
      const line = 'y'.repeat(199)
      for (let i = 0; i < 100_000; i++) console.log(line)
      return 'flooded'
    })
    const ref = flood.remote()
    const end = Date.now() + 1500
    await new Promise((resolve) => setTimeout(resolve, 200))
    while (Date.now() < end); // This program computes: it reads nothing meanwhile.
    await ray.get(ref)
    const last = ray.remote(() => console.log('the last line'))
    await new Promise((resolve) => setTimeout(resolve, 500))
    await ray.get(last.remote())
  },
  async epipe() {
    console.log(`session ${cluster.sessionDir}`)
    await new Promise((resolve) => setTimeout(resolve, 200))
    let done = 0
    for (let i = 0; i < 20; i++) {
      await ray.get(greet.remote(`${i}`))
      await new Promise((resolve) => setTimeout(resolve, 10))
      done++
    }
    fs.writeFileSync(target, `done ${done}`)
  },
}
await programs[what]()
// By its second answer the node has read what was printed before.
for (let i = 0; i < 2; i++) await ray.nodes()
if (what !== 'epipe') fs.cpSync(`${cluster.sessionDir}/logs`, target, { recursive: true })
await ray.shutdown()
