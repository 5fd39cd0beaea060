// A named, detached actor is a small service: programs find it by name, and it outlives the one that made it.
// The second program is this same file, started with the address of the cluster.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as ray from 'ray-ts'

class Registry {
  private readonly entries = new Map<string, string>()

  set(key: string, value: string): number {
    this.entries.set(key, value)
    return this.entries.size
  }

  get(key: string): string | undefined {
    return this.entries.get(key)
  }
}

const namespace = 'shop'
const address = process.argv[2]

if (address !== undefined) {
  await using _cluster = await ray.init({ address, namespace })
  const registry = await ray.getActor<Registry>('registry')
  await ray.get(registry.set.remote('colour', 'green'))
} else {
  await using cluster = await ray.init({ namespace })
  const RemoteRegistry = ray.remote(Registry).options({ name: 'registry', lifetime: 'detached', getIfExists: true })
  const registry = RemoteRegistry.remote()
  assert.equal(await ray.get(registry.set.remote('size', 'large')), 1)

  // Another program of this machine joins the cluster, finds the actor by its name, and goes.
  execFileSync(process.execPath, [...process.execArgv, import.meta.filename, cluster.address], { stdio: 'inherit' })
  assert.equal(await ray.get(registry.get.remote('colour')), 'green')

  // With getIfExists, making it again gives a handle to the same actor.
  assert.equal(await ray.get(RemoteRegistry.remote().get.remote('size')), 'large')
  assert.deepEqual(await ray.util.listNamedActors(), ['registry'])
  ray.kill(registry) // A detached actor ends when it is killed, or with its cluster.
  console.log('two programs shared one actor')
}
//> two programs shared one actor
