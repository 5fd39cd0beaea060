// npm run sim:scale -- [--nodes 2000] [--actors 40000] [--tasks 1000000] [--pgs 1000] [--drivers 100]   one cluster
//                      --sweep [--to 2000]   clusters of 50 nodes and more, each with the same work a node
//                      --out FILE            where the figures go (bench/results/scale-<date>.json)
//                      --verbose             what took the time, step by step
//
// Exits with 1 when anything was placed or completed wrongly.

import fs from 'node:fs'
import os from 'node:os'
import { ScaleCluster, type ScaleOptions } from '../src/sim/scale/cluster.ts'
import { figuresOf, type ScaleFigures } from '../src/sim/scale/figures.ts'
import { Meter } from '../src/sim/scale/meter.ts'

const args = process.argv.slice(2)
const has = (name: string): boolean => args.includes(`--${name}`)
const numberOf = (name: string, otherwise: number): number =>
  has(name) ? Number(args[args.indexOf(`--${name}`) + 1]) : otherwise

const SWEEP = [50, 200, 500, 1000, 2000]

function shapeOf(nodes: number): ScaleOptions {
  return {
    nodes,
    actors: numberOf('actors', nodes * 20),
    tasks: numberOf('tasks', nodes * 500),
    groups: numberOf('pgs', nodes / 2),
    owners: numberOf('drivers', Math.max(1, Math.round(nodes / 20))),
    seed: numberOf('seed', 1),
  }
}

function run(options: ScaleOptions): ScaleFigures | null {
  const meter = new Meter(() => performance.now())
  const began = performance.now()
  const usedBefore = process.cpuUsage()
  const seconds = (): string => ((performance.now() - began) / 1000).toFixed(1)
  console.log(
    `${options.nodes} nodes, ${options.owners} drivers, ${options.groups} groups, ${options.actors} actors, ${options.tasks} tasks`,
  )
  const onPhase = (name: string, virtualMs: number): void =>
    console.log(`  ${name.padEnd(7)} ${(virtualMs / 1000).toFixed(2).padStart(8)} virtual s   (${seconds()} s in all)`)
  const cluster = new ScaleCluster({ ...options, onPhase }, meter)
  try {
    cluster.run()
  } catch (error) {
    console.error(error)
    return null
  }
  const { user, system } = process.cpuUsage(usedBefore)
  meter.share = Math.min(1, (user + system) / 1000 / (performance.now() - began))
  if (has('verbose')) explain(meter)
  const wallSeconds = (performance.now() - began) / 1000
  return {
    ...figuresOf(cluster, options),
    wallSeconds: round(wallSeconds),
    heapMiB: round(process.memoryUsage().rss / 2 ** 20),
  }
}

function explain(meter: Meter): void {
  for (const [title, sums] of [
    ['ms', meter.steps],
    ['bytes', meter.messages],
  ] as const) {
    for (const [key, { count, amount }] of [...sums].sort(([, a], [, b]) => b.amount - a.amount).slice(0, 28)) {
      console.log(
        `    ${key.padEnd(44)} ${String(count).padStart(10)} × ${(amount / count).toPrecision(3).padStart(9)} = ${Math.round(amount)} ${title}`,
      )
    }
  }
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}

const results: ScaleFigures[] = []
const counts = has('sweep') ? SWEEP.filter((nodes) => nodes <= numberOf('to', 2000)) : [numberOf('nodes', 2000)]
for (const nodes of counts) {
  const figures = run(shapeOf(nodes))
  if (!figures) process.exit(1)
  console.log(JSON.stringify(figures, null, 1))
  results.push(figures)
}
const date = new Date().toISOString().slice(0, 10)
const file = has('out') ? (args[args.indexOf('--out') + 1] as string) : `bench/results/scale-${date}.json`
const machine = { cpus: os.cpus().length, model: os.cpus()[0]?.model ?? '', node: process.version }
fs.writeFileSync(file, `${JSON.stringify({ date, machine, runs: results }, null, 2)}\n`)
console.log(`written to ${file}`)
