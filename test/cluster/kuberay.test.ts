// The command lines and the environment that the KubeRay operator gives its pods, word for word, in "pods" that are network namespaces.
// Failure here looks like a pod of an unmodified operator that does not start, does not join, or does not end.

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import * as ray from 'ray-ts'
import { afterEach, expect, test } from 'vitest'
import { tempDir, until } from '../helpers.ts'
import { type Host, Hosts } from './netns.ts'
import { otherTempDir } from './processes.ts'

const cannot = Hosts.whyNot()
const children: ChildProcess[] = []
let hosts: Hosts | null = null

afterEach(async () => {
  await ray.shutdown()
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGTERM')
    await new Promise((resolve) => child.once('close', resolve))
  }
  hosts?.close()
  hosts = null
})

interface Pod {
  readonly child: ChildProcess
  readonly said: () => string
}

/** As the operator does it: `/bin/bash -c -- '…'`, where `ray` is on the path. */
function pod(host: Host, name: string, command: string, env: Readonly<Record<string, string>>): Pod {
  const bin = tempDir()
  fs.writeFileSync(path.join(bin, 'ray'), `#!/bin/bash\nexec ${process.execPath} ${path.resolve('dist/cli.js')} "$@"\n`)
  fs.chmodSync(path.join(bin, 'ray'), 0o755)
  const [program = '/bin/bash', ...args] = [...host.prefix, '/bin/bash', '-c', '--', command]
  const child = spawn(program, args, {
    env: {
      ...process.env,
      ...{ PATH: `${bin}:${process.env.PATH}`, RAY_TMPDIR: otherTempDir(name), HOME: bin, RAY_ADDRESS: undefined },
      ...{
        RAY_CLUSTER_NAME: 'raycluster',
        RAY_CLUSTER_NAMESPACE: 'default',
        RAY_NODE_TYPE_NAME: name,
        RAY_PORT: '6379',
      },
      ...{ RAY_USAGE_STATS_KUBERAY_IN_USE: '1', RAY_CLOUD_INSTANCE_ID: name, REDIS_PASSWORD: '' },
      ...{ RAY_gcs_rpc_server_reconnect_timeout_s: '600', RAY_timeout_ms_task_wait_for_death_info: '0' },
      ...{
        RAY_gcs_server_request_timeout_seconds: '5',
        RAY_SERVE_KV_TIMEOUT_S: '5',
        RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE: '1',
      },
      ...{ RAY_AUTH_MODE: 'token', RAY_AUTH_TOKEN: 'of the secret' },
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
  return { child, said: () => text }
}

const HEAD =
  'ray start --head  --block  --dashboard-agent-listen-port=52365  --dashboard-host=0.0.0.0  --memory=1000000000  --metrics-export-port=8080  --num-cpus=1 '

test.skipIf(cannot !== null)(
  `[CL-04][CL-05][K8S-01] a head, a worker that waits for it, health checks, and the end of both (${cannot ?? 'as root'})`,
  async () => {
    hosts = Hosts.make(2)
    const [headHost, workerHost] = [hosts.host(0), hosts.host(1)]
    const service = `${headHost.address}:6379`
    const inWorker = { RAY_ADDRESS: service, RAY_IP: headHost.address, FQ_RAY_IP: headHost.address }
    const waits = `until ray health-check --address ${service} > /dev/null 2>&1; do echo waiting; sleep 0.2; done`
    const start = `ray start  --address=${service}  --block  --dashboard-agent-listen-port=52365  --memory=1000000000  --metrics-export-port=8080  --num-cpus=1 `
    const worker = pod(workerHost, 'w', `${waits}; ulimit -n 65536; ${start}`, {
      ...{ KUBERAY_GEN_RAY_START_CMD: start, ...inWorker },
    })
    await until(() => worker.said().includes('waiting'), 'the worker looks for its head', 20_000)
    const head = pod(headHost, 'h', `ulimit -n 65536; ${HEAD}`, {
      ...{ KUBERAY_GEN_RAY_START_CMD: HEAD, RAY_ADDRESS: '127.0.0.1:6379' },
    })
    for (const { said } of [head, worker])
      await until(() => said().includes('This command will now block forever'), 'both run', 30_000)
    expect(head.said()).toContain(`Local node IP: ${headHost.address}\n`)
    expect(worker.said()).toContain(`Local node IP: ${workerHost.address}\n`)
    expect(head.said() + worker.said()).not.toContain('of the secret')

    const status = pod(workerHost, 'w', 'ray status', inWorker)
    await new Promise((resolve) => status.child.once('close', resolve))
    expect(status.said().match(/^ 1 node_/gm)).toHaveLength(2)
    expect(status.said()).toMatch(/^ 0\.0\/2\.0 CPU$/m)
    expect(status.said()).toMatch(/^ 0B\/1\.86GiB memory$/m)

    for (const { child } of [worker, head]) {
      child.kill('SIGTERM')
      const code = await new Promise((resolve) => child.once('close', resolve))
      expect(code).toBe(0)
    }
  },
)
