// npm run sim -- --seeds 2000 [--from K]   fresh worlds, one a seed       --seed N   one, with its trace
//                --bugs [--net] [--bug NAME] [--seeds N]    every deliberate bug (of several nodes, or that one) must be found
//                --bug NAME   with one bug
//                --nodes N                 so many nodes, whatever the seed says

import { type Bug, BUGS as OF_ONE } from '../src/sim/bugs.ts'
import { NET_BUGS } from '../src/sim/net-bugs.ts'
import { runSeed } from '../src/sim/scenario.ts'

const BUGS = [...OF_ONE, ...NET_BUGS]
const args = process.argv.slice(2)
const has = (name: string): boolean => args.includes(`--${name}`)
const argument = (name: string): string | undefined => (has(name) ? args[args.indexOf(`--${name}`) + 1] : undefined)
const numberOf = (name: string, otherwise: number): number => Number(argument(name) ?? otherwise)
const TAIL_LINES = 60
const TWICE_EVERY = 50

const bugName = argument('bug')
const bug = BUGS.find(({ name }) => name === bugName)
if (bugName !== undefined && !bug) {
  console.error(`there is no bug ${bugName}. There are: ${BUGS.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}

const how = { ...(bug ? { bug } : {}), ...(has('nodes') ? { nodes: numberOf('nodes', 0) } : {}) }

if (has('bugs')) process.exitCode = huntAll() ? 0 : 1
else if (has('seed')) process.exitCode = showOne(numberOf('seed', 0)) ? 0 : 1
else process.exitCode = runMany(numberOf('from', 0), numberOf('seeds', 500)) ? 0 : 1

function showOne(seed: number): boolean {
  const { trace, failure, hash, steps, counts } = runSeed(seed, { keepsTrace: true, ...how })
  console.log(trace.join('\n'))
  console.log(`seed ${seed}: ${steps} steps, hash ${hash}, ${JSON.stringify(counts)}`)
  if (failure) console.error(failure.stack)
  return failure === null
}

function runMany(from: number, count: number): boolean {
  const began = performance.now()
  const counts: Record<string, number> = {}
  let steps = 0
  let virtualMs = 0
  const failed: number[] = []
  for (let seed = from; seed < from + count; seed++) {
    const result = runSeed(seed, how)
    steps += result.steps
    virtualMs += result.virtualMs
    for (const [name, times] of Object.entries(result.counts)) counts[name] = (counts[name] ?? 0) + times
    if (result.failure) {
      failed.push(seed)
      console.error(`seed ${seed}: ${result.failure.message}`)
      if (failed.length >= numberOf('failures', 10)) break
    } else if (seed % TWICE_EVERY === 0 && runSeed(seed, how).hash !== result.hash) {
      failed.push(seed)
      console.error(`seed ${seed}: two runs differ; something in a machine or in sim/ is not deterministic`)
    }
  }
  const seconds = (performance.now() - began) / 1000
  const rate = `${Math.round(count / seconds)} seeds/s, ${Math.round(steps / seconds)} steps/s, ${Math.round(virtualMs / 1000 / seconds)} virtual s/s`
  console.log(`${count} seeds from ${from} in ${seconds.toFixed(1)} s: ${rate}; ${failed.length} failed`)
  console.log(JSON.stringify(counts))
  if (failed.length > 0) console.log(`replay: npm run sim -- --seed ${failed[0]} | tail -${TAIL_LINES}`)
  return failed.length === 0
}

function huntAll(): boolean {
  const limit = numberOf('seeds', 0)
  const survived: Bug[] = []
  const hunted = bug ? [bug] : BUGS.filter(({ isOfMany }) => !has('net') || isOfMany)
  for (const one of hunted) {
    const began = performance.now()
    const seeds = limit || one.seeds
    let found: { seed: number; message: string } | undefined
    for (let seed = 0; seed < seeds && !found; seed++) {
      const { failure } = runSeed(seed, { bug: one })
      if (failure) found = { seed, message: failure.message }
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(2)
    if (found)
      console.log(
        `${one.name.padEnd(28)} seed ${String(found.seed).padStart(4)}  ${seconds} s  ${found.message.slice(0, 110)}`,
      )
    else {
      survived.push(one)
      console.log(`${one.name.padEnd(28)} SURVIVES ${seeds} seeds  ${seconds} s  ${one.what}`)
    }
  }
  console.log(`${hunted.length - survived.length} of ${hunted.length} deliberate bugs found`)
  return survived.length === 0
}
