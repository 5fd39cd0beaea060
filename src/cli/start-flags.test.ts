// Failure here looks like a command line of Ray that is refused, or a flag that is taken and not obeyed without a word.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { Command } from 'commander'
import { expect, test } from 'vitest'
import { addStartFlags, headOnlyFlag, idleFlags } from './start-flags.ts'

function parse(...argv: string[]): Record<string, unknown> {
  const command = addStartFlags(new Command('start')).exitOverride().showSuggestionAfterError()
  command.configureOutput({ writeErr: () => {} })
  command.parse(argv, { from: 'user' })
  return command.opts()
}
const said = (...argv: string[]): string => {
  try {
    parse(...argv)
    return 'nothing'
  } catch (error) {
    return (error as Error).message
  }
}

test('[CL-04][K8S-01] the command lines that KubeRay makes', () => {
  const head = parse(
    ...['--head', '--block', '--dashboard-agent-listen-port=52365', '--dashboard-host=0.0.0.0', '--no-monitor'],
    ...['--metrics-export-port=8080', '--num-cpus=4', '--memory=8000000000', '--num-gpus=0', '--disable-usage-stats'],
    ...['--resources="{\\"TPU\\":4}"'],
  )
  expect(head).toMatchObject({ head: true, block: true, numCpus: 4, memory: 8e9, numGpus: 0, resources: { TPU: 4 } })
  expect(idleFlags(head)).toEqual([
    '--dashboard-host (there is no dashboard yet)',
    '--dashboard-agent-listen-port (there is no dashboard yet)',
    '--metrics-export-port (there is no metrics endpoint yet)',
    '--no-monitor (there is no autoscaler yet)',
  ])
  const worker = parse('--address=raycluster-head-svc.default.svc.cluster.local:6379', '--block', '--num-cpus=1')
  expect(worker).toMatchObject({ address: 'raycluster-head-svc.default.svc.cluster.local:6379', block: true })
  expect(idleFlags(worker)).toEqual([])
})

test('[CL-04] every flag of Ray 2.58 is taken', () => {
  const flags = {
    ...{ 'node-ip-address': '10.0.0.1', address: 'a:1', port: 0, 'object-manager-port': 1, 'node-manager-port': 2 },
    ...{ 'min-worker-port': 3, 'max-worker-port': 4, 'worker-port-list': '5,6', 'ray-client-server-port': 10001 },
    ...{ 'object-store-memory': 1e9, 'num-cpus': 1, 'num-gpus': 0, resources: '{}', 'include-dashboard': false },
    ...{ 'dashboard-host': 'h', 'dashboard-port': 1, 'dashboard-agent-listen-port': 1, 'dashboard-agent-grpc-port': 1 },
    ...{ 'runtime-env-agent-port': 1, 'plasma-directory': '/p', 'object-spilling-directory': '/s', 'temp-dir': '/t' },
    ...{ 'autoscaling-config': 'f', 'metrics-export-port': 1, 'include-log-monitor': true, 'system-reserved-cpu': 1 },
    ...{ 'system-reserved-memory': 1, 'cgroup-path': '/c', 'proxy-server-url': 'u', 'node-name': 'n', labels: 'a=b' },
    ...{ 'redis-username': 'u', 'redis-password': 'p', 'redis-shard-ports': '1', memory: 1, 'system-config': '{}' },
    ...{ 'tracing-startup-hook': 'h', storage: 's', 'log-style': 'record', 'log-color': 'false' },
  }
  const switches = [
    ...['head', 'block', 'no-redirect-output', 'ray-debugger-external', 'disable-usage-stats', 'no-monitor', 'verbose'],
    ...['enable-resource-isolation', 'enable-object-reconstruction'],
  ]
  const given = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)])
  expect(said(...given, ...switches.map((flag) => `--${flag}`))).toBe('nothing')
})

test('[CL-04] a misspelt flag names the nearest; flags of heads are known', () => {
  expect(said('--num-cpu=2')).toMatch(/unknown option '--num-cpu=?.*'\n\(Did you mean --num-cpus\?\)/)
  expect(said('--adress=a:1')).toMatch(/Did you mean --address\?/)
  expect(headOnlyFlag(parse('--address=a:1', '--port=6379'))).toBe('--port')
  expect(headOnlyFlag(parse('--address=a:1', '--num-cpus=1'))).toBeNull()
})

test('[CL-04] values that cannot be right are refused with one that is', () => {
  expect(said('--port=65536')).toMatch(/from 0 to 65535/)
  expect(said('--num-cpus=two')).toMatch(/a number that is not negative/)
  expect(said('--num-gpus=0.5')).toMatch(/a whole number/)
  expect(said('--memory=2G')).toMatch(/a number of bytes, such as 2147483648/)
  expect(said('--resources={license: 2}')).toMatch(/a JSON object, such as '\{"license": 2\}'/)
  expect(said('--resources={"license": "2"}')).toMatch(/amount of license must be a number/)
  expect(said('--resources={"CPU": 2}')).toMatch(/Use --num-cpus instead of CPU/)
  expect(said('--labels=region')).toMatch(/--labels="key1=val1,key2=val2"/)
  expect(said('--labels={"ray.io/node-id": "x"}')).toMatch(/is given by Ray/)
  expect(said('--labels-file=/nowhere')).toMatch(/cannot be read/)
})

test('[CL-04] labels as pairs, as JSON, and from a file', () => {
  const file = path.join(fs.mkdtempSync(path.join(process.env.RAY_TMPDIR ?? os.tmpdir(), 'labels-')), 'labels.yaml')
  fs.writeFileSync(file, '# where\n---\nregion: us-west  # coast\n"ray.io/zone": \'a\'\nempty:\n')
  expect(parse('--labels=region=eu, disk=ssd').labels).toEqual({ region: 'eu', disk: 'ssd' })
  expect(parse('--labels={"region": "eu"}').labels).toEqual({ region: 'eu' })
  expect(parse(`--labels-file=${file}`).labelsFile).toEqual({ region: 'us-west', 'ray.io/zone': 'a', empty: '' })
  expect(parse('--system-config={"num_workers_soft_limit": 8}').systemConfig).toEqual({ numWorkersSoftLimit: 8 })
})
