// Ours, real Ray and Piscina in turn, in one run on one machine; prints ours, theirs and the ratio (above 1: ours is better).
//
//     npm run bench:peers [-- --quick] [-- --filter TEXT] [-- --json FILE]        one machine
//     npm run bench:peers -- --cluster …                                          four nodes on it

import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

interface Measured {
  readonly name: string
  readonly unit: string
  readonly median: number
}
interface Row {
  readonly name: string
  readonly unit: string
  readonly ours: number
  readonly peer: number
  readonly peerName: string
  readonly ratio: number
}

const args = process.argv.slice(2)
const isQuick = args.includes('--quick')
const isCluster = args.includes('--cluster')
const flagValue = (flag: string): string | undefined => (args.includes(flag) ? args[args.indexOf(flag) + 1] : undefined)
const filter = flagValue('--filter') ?? ''
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname)
const RAY = path.join(here, 'peers/ray')
const LOWER_IS_BETTER = new Set(['s', 'us', 'ms', 'MB'])

/** With NODE_EXTRA_CA_CERTS, Node reads all root certificates at its start: 50 ms of processor time for each process of ours. */
const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env

function run(command: string, commandArgs: readonly string[]): Measured[] {
  const { stdout, status, stderr } = spawnSync(command, commandArgs, {
    env,
    encoding: 'utf8',
    maxBuffer: 1e8,
    timeout: 600_000,
  })
  if (status !== 0) {
    console.error(`${command} ended with ${status}: ${stderr.slice(-1500)}`)
    process.exitCode = 1 // Its rows are missing: the comparison is not whole.
  }
  return stdout.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as Measured] : []))
}

function rayPython(): string | undefined {
  const python = path.join(RAY, '.venv/bin/python')
  if (fs.existsSync(python)) return python
  try {
    console.log('making a virtual environment with ray (a minute or two)')
    execFileSync('python3', ['-m', 'venv', path.join(RAY, '.venv')])
    execFileSync(path.join(RAY, '.venv/bin/pip'), ['install', '-q', '--retries', '0', 'ray', 'numpy'], {
      stdio: 'inherit',
    })
    return python
  } catch (error) {
    console.error(`real Ray is not available here: ${String(error)}`)
    return undefined
  }
}

const quick = isQuick ? ['--quick'] : []
const filtered = filter ? ['--filter', filter] : []
const own = isCluster ? 'dist/bench-cluster.js' : 'dist/bench-rows.js'
const ours = run(process.execPath, ['--expose-gc', own, ...quick, ...filtered])
const python = rayPython()
const script = isCluster ? 'cluster.py' : 'bench.py'
const theirs = python ? run(python, [path.join(RAY, script), ...quick, ...filtered]) : []
const piscina = isCluster ? [] : run(process.execPath, ['--import', 'tsx', path.join(here, 'peers/piscina/bench.ts')])

const rows: Row[] = []
const compare = (peers: readonly Measured[], peerName: string): void => {
  for (const peer of peers) {
    const own = ours.find(({ name }) => name === peer.name)
    if (!own) continue
    const ratio = LOWER_IS_BETTER.has(peer.unit) ? peer.median / own.median : own.median / peer.median
    rows.push({ name: peer.name, unit: peer.unit, ours: own.median, peer: peer.median, peerName, ratio })
  }
}
compare(theirs, 'Ray 2.58')
compare(piscina, 'Piscina')
for (const { name, median, unit } of ours) {
  if (!rows.some((row) => row.name === name)) rows.push({ name, unit, ours: median, peer: 0, peerName: '', ratio: 0 })
}
const show = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3))
for (const { name, unit, ours: own, peer, peerName, ratio } of rows) {
  const against = peerName ? `${peerName} ${show(peer).padStart(9)}   ${ratio.toFixed(1)}x` : ''
  console.log(`${name.padEnd(48)} ${show(own).padStart(9)} ${unit.padEnd(5)} ${against}`)
}
const machine = `${os.cpus()[0]?.model ?? 'unknown'}, ${os.availableParallelism()} CPUs, Node ${process.version}`
const result = { date: new Date().toISOString(), machine, isQuick, isCluster, rows }
const file = flagValue('--json')
if (file) fs.writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`)
