// The flags of `ray start`: Ray's, all of them, so that command lines written for Ray (KubeRay's above all) are taken as they are.
//
//   F1. A flag that does nothing here is taken, and said once to do nothing, with why.
//   F2. A value that cannot be right is refused, with one that is.

import fs from 'node:fs'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { InitOptions } from 'ray-ts'

export interface StartFlags
  extends Pick<InitOptions, 'numCpus' | 'numGpus' | 'memory' | 'objectStoreMemory' | 'resources' | 'labels'> {
  readonly head?: boolean
  readonly address?: string
  readonly nodeIpAddress?: string
  readonly port?: number
  readonly nodeManagerPort?: number
  readonly labelsFile?: Readonly<Record<string, string>>
  readonly systemConfig?: Readonly<Record<string, unknown>>
  readonly objectSpillingDirectory?: string
  readonly plasmaDirectory?: string
  readonly tempDir?: string
  readonly redisUsername?: string
  readonly redisPassword?: string
  readonly block?: boolean
}

const NO_DASHBOARD = 'there is no dashboard yet'
const NO_METRICS = 'there is no metrics endpoint yet'
const OWN_PORTS = 'workers take any free port'

/** F1: flag, its value if it has one, and why it does nothing. */
const IDLE: readonly (readonly [flag: string, value: string, why: string])[] = [
  ['include-dashboard', '<boolean>', NO_DASHBOARD],
  ['dashboard-host', '<text>', NO_DASHBOARD],
  ['dashboard-port', '<port>', NO_DASHBOARD],
  ['dashboard-agent-listen-port', '<port>', NO_DASHBOARD],
  ['dashboard-agent-grpc-port', '<port>', NO_DASHBOARD],
  ['proxy-server-url', '<text>', NO_DASHBOARD],
  ['metrics-export-port', '<port>', NO_METRICS],
  ['ray-client-server-port', '<port>', 'programs join through a node of the cluster; there is no Ray client'],
  ['object-manager-port', '<port>', 'objects travel by the port of --node-manager-port'],
  ['min-worker-port', '<port>', OWN_PORTS],
  ['max-worker-port', '<port>', OWN_PORTS],
  ['worker-port-list', '<ports>', OWN_PORTS],
  ['runtime-env-agent-port', '<port>', 'there is no agent for runtime environments'],
  ['autoscaling-config', '<file>', 'there is no autoscaler yet'],
  ['no-monitor', '', 'there is no autoscaler yet'],
  ['ray-debugger-external', '', 'there is no Ray debugger'],
  ['include-log-monitor', '<boolean>', 'nodes send what workers print themselves'],
  ['no-redirect-output', '', 'the output of processes goes to the logs of the session'],
  ['enable-resource-isolation', '', 'there is no isolation by control groups'],
  ['system-reserved-cpu', '<number>', 'there is no isolation by control groups'],
  ['system-reserved-memory', '<bytes>', 'there is no isolation by control groups'],
  ['cgroup-path', '<folder>', 'there is no isolation by control groups'],
  ['tracing-startup-hook', '<hook>', 'there is no tracing yet'],
  ['node-name', '<name>', 'nodes are named by their ids and addresses'],
  ['redis-shard-ports', '<ports>', 'Redis is one place'],
  ['storage', '<uri>', 'it never made a cluster durable: RAY_REDIS_ADDRESS does'],
]
/** Nothing is lost without them: not worth a word. */
const SILENT: readonly (readonly [flag: string, value: string])[] = [
  ['disable-usage-stats', ''],
  ['enable-object-reconstruction', ''],
  ['log-style', '<style>'],
  ['log-color', '<color>'],
  ['verbose', ''],
]

const HEAD_ONLY: readonly (readonly [flag: string, key: string])[] = [
  ['--port', 'port'],
  ['--redis-shard-ports', 'redisShardPorts'],
  ['--include-dashboard', 'includeDashboard'],
]

export function addStartFlags(command: Command): Command {
  command
    .option('--head', 'start the first node of a cluster')
    .option('--address <host:port>', 'join the cluster whose head is there')
    .option('--node-ip-address <ip>', 'where other machines reach this node; beyond loopback the cluster needs a token')
    .option('--port <port>', 'of the head, for nodes and commands; 0: any free one (default: 6379)', port)
    .option('--node-manager-port <port>', 'of this node, for other nodes; 0: any free one (default: 0)', port)
    .option('--num-cpus <n>', 'CPUs of this node (default: what it has)', amount)
    .option('--num-gpus <n>', 'GPUs of this node (default: what it has)', count)
    .option('--memory <bytes>', 'memory that tasks may reserve (default: 70 % of what it has)', bytes)
    .option('--object-store-memory <bytes>', 'size of the object store (default: 30 % of memory)', bytes)
    .option('--resources <json>', `custom resources, such as '{"license": 2}'`, resources)
    .option('--labels <labels>', 'key1=value1,key2=value2, or JSON', labels)
    .option('--labels-file <file>', 'lines of key: value', labelsFile)
    .option('--object-spilling-directory <folder>', 'where objects go when the store is full (default: the session)')
    .option('--plasma-directory <folder>', 'where shared memory is (default: /dev/shm)')
    .option('--temp-dir <folder>', 'where sessions are (default: RAY_TMPDIR, or /tmp/ray)')
    .option('--system-config <json>', 'internal settings by Ray’s names', systemConfig)
    .option('--redis-username <name>', 'for RAY_REDIS_ADDRESS')
    .option('--redis-password <password>', 'for RAY_REDIS_ADDRESS')
    .option('--block', 'stay until a signal comes or a process of the node ends')
  for (const [flag, value] of [...IDLE, ...SILENT])
    command.addOption(new Option(`--${flag}${value ? ` ${value}` : ''}`).hideHelp())
  return suggestsWithoutValues(command)
}

/** Commander compares all of `--adress=10.0.0.1:6379` with what it knows, and finds nothing near. */
function suggestsWithoutValues(command: Command): Command {
  const inner = command as unknown as { unknownOption(flag: string): void }
  const complain = inner.unknownOption.bind(command)
  inner.unknownOption = (flag) => complain(flag.split('=')[0] as string)
  return command
}

/** F1 */
export function idleFlags(given: Readonly<Record<string, unknown>>): string[] {
  return IDLE.filter(([flag]) => isGiven(given, flag)).map(([flag, , why]) => `--${flag} (${why})`)
}

export function headOnlyFlag(given: Readonly<Record<string, unknown>>): string | null {
  return HEAD_ONLY.find(([, key]) => given[key] !== undefined)?.[0] ?? null
}

function isGiven(given: Readonly<Record<string, unknown>>, flag: string): boolean {
  const toKey = (words: string): string => words.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
  // A negation, to commander.
  return flag.startsWith('no-') ? given[toKey(flag.slice(3))] === false : given[toKey(flag)] !== undefined
}

function port(text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value <= 65_535) return value
  throw new InvalidArgumentError('A port is a whole number from 0 to 65535.')
}

function count(text: string): number {
  if (/^\d+$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number that is not negative.')
}

function amount(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isFinite(value) && value >= 0) return value
  throw new InvalidArgumentError('It must be a number that is not negative.')
}

function bytes(text: string): number {
  if (/^\d+(\.0*)?$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a number of bytes, such as 2147483648.')
}

function resources(text: string): Record<string, number> {
  const parsed = object(text, `'{"license": 2}'`)
  for (const [name, value] of Object.entries(parsed)) {
    if (typeof value !== 'number' || !(value >= 0))
      throw new InvalidArgumentError(`The amount of ${name} must be a number that is not negative.`)
    const own: Readonly<Record<string, string>> = {
      CPU: '--num-cpus',
      GPU: '--num-gpus',
      memory: '--memory',
      object_store_memory: '--object-store-memory',
    }
    if (Object.hasOwn(own, name)) throw new InvalidArgumentError(`Use ${own[name]} instead of ${name}.`)
  }
  return parsed as Record<string, number>
}

function systemConfig(text: string): Record<string, unknown> {
  const parsed = object(text, `'{"num_workers_soft_limit": 8}'`)
  const camel = (key: string): string => key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
  return Object.fromEntries(Object.entries(parsed).map(([key, value]) => [camel(key), value]))
}

function labels(text: string): Record<string, string> {
  if (text.trim() === '') return {}
  if (text.trim().startsWith('{')) return labelsOf(object(text, `'{"region": "eu"}'`))
  const found: Record<string, string> = {}
  for (const pair of text.split(',')) {
    const at = pair.indexOf('=')
    if (at < 1) throw new InvalidArgumentError('Labels look like this: --labels="key1=val1,key2=val2"')
    found[pair.slice(0, at).trim()] = pair.slice(at + 1).trim()
  }
  return labelsOf(found)
}

/** The part of YAML that such files need: one mapping of texts. */
function labelsFile(file: string): Record<string, string> {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (error) {
    throw new InvalidArgumentError(`It cannot be read: ${(error as Error).message}`)
  }
  if (text.trim().startsWith('{')) return labelsOf(object(text, '{"region": "eu"}'))
  const found: Record<string, string> = {}
  for (const line of text.split('\n')) {
    if (/^\s*(#.*)?$/.test(line) || line.trim() === '---') continue
    const [, key, value = ''] = /^["']?([^\s"':]+)["']?\s*:\s*(.*?)\s*(?:\s#.*)?$/.exec(line) ?? []
    if (key === undefined) throw new InvalidArgumentError(`'${line}' is no line of the form key: value.`)
    found[key] = value.replace(/^(["'])(.*)\1$/, '$2')
  }
  return labelsOf(found)
}

const LABEL_VALUE = /^([a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?)?$/
const LABEL_KEY = /^([a-zA-Z0-9][a-zA-Z0-9.-]{0,252}\/)?[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?$/

function labelsOf(found: Readonly<Record<string, unknown>>): Record<string, string> {
  for (const [key, value] of Object.entries(found)) {
    if (!LABEL_KEY.test(key)) throw new InvalidArgumentError(`'${key}' is no name of a label.`)
    if (key === 'ray.io/node-id') throw new InvalidArgumentError('ray.io/node-id is given by Ray.')
    if (typeof value !== 'string' || !LABEL_VALUE.test(value))
      throw new InvalidArgumentError(
        `'${String(value)}' is no value of a label: letters and digits, with - _ . between.`,
      )
  }
  return found as Record<string, string>
}

function object(text: string, example: string): Record<string, unknown> {
  try {
    let parsed: unknown = JSON.parse(text)
    if (typeof parsed === 'string') parsed = JSON.parse(parsed) // Quoted twice, as in many YAML files.
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed))
      return parsed as Record<string, unknown>
  } catch {
    // Said below.
  }
  throw new InvalidArgumentError(`It must be a JSON object, such as ${example}.`)
}
