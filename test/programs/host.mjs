// `cluster`: starts a node and stays. `guest ADDRESS`: joins that node, works in a namespace of its own, and reports.
import * as ray from 'ray-ts'

class Owner {
  job() {
    return ray.getRuntimeContext().getJobId()
  }
}

if (process.argv[2] === 'cluster') {
  const cluster = await ray.init({ address: 'local', numCpus: 2 })
  console.log(`address ${cluster.address}`)
  setInterval(() => {}, 1000)
} else {
  await ray.init({ address: process.argv[3], namespace: 'there' })
  const speak = ray.remote(function speak() {
    globalThis.guest = 'was here'
    console.log('of the guest')
    const { namespace } = ray.getRuntimeContext()
    return { pid: process.pid, taskJob: ray.getRuntimeContext().getJobId(), taskNamespace: namespace }
  })
  const inOwnNamespace = await ray.getActor('service').then(
    () => 'found',
    (error) => /no actor is named/.exec(String(error))?.[0],
  )
  const ours = await ray.getActor('service', { namespace: 'here' })
  await ray.get(ray.remote(Owner).options({ name: 'kept', lifetime: 'detached', numCpus: 0 }).remote().job.remote())
  const own = ray.remote(Owner).options({ name: 'service', numCpus: 0 }).remote()
  await ray.get(own.job.remote())
  const find = ray.remote(async () => ray.get((await ray.getActor('service')).job.remote()))
  const report = {
    job: ray.getRuntimeContext().getJobId(),
    ...(await ray.get(speak.remote())),
    inOwnNamespace,
    inOurs: await ray.get(ours.job.remote()),
    fromTask: await ray.get(find.remote()),
  }
  console.log(`report ${JSON.stringify(report)}`)
  await ray.shutdown()
}
