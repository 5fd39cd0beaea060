#!/usr/bin/env node
// The `ray` command.

import fs from 'node:fs'
import { Command, InvalidArgumentError } from 'commander'
import { addClusterCommands } from './cluster-commands.ts'

const { version } = JSON.parse(fs.readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string
}

const program = new Command('ray')
  .description('Ray for TypeScript')
  .version(version, '-v, --version', 'print the version')
  .enablePositionalOptions() // After a command -v is the command's.
  .helpOption('-h, --help', 'show this, or the help of a command: ray COMMAND --help')
  .helpCommand(false)
  .showSuggestionAfterError()
  .showHelpAfterError('(ray --help lists the commands)')

program
  .command('microbenchmark')
  .description("Ray's own microbenchmark rows on this machine")
  .option('--filter <text>', 'only rows whose name contains this')
  .option('--quick', 'shorter rounds')
  .option('--num-cpus <n>', 'CPUs of the node that is started', wholeNumber, 2)
  .option('--json <file>', 'write the rows to a file as well')
  .action(async (options: { filter?: string; quick?: boolean; numCpus: number; json?: string }) => {
    const ray = await import('ray-ts')
    const { runMicrobenchmark } = await import('./microbenchmark.ts')
    // Its rows do on purpose what warnings advise against.
    await ray.init({ numCpus: options.numCpus, loggingLevel: 'error' })
    try {
      const rows = await runMicrobenchmark({
        ...(options.filter === undefined ? {} : { filter: options.filter }),
        quick: options.quick ?? false,
        onRow: ({ name, unit, median, deviation }) => {
          const per = unit === '/s' ? 'per second' : unit
          console.log(`${name} ${per} ${round(median)} +- ${round(deviation)}`)
        },
      })
      if (options.json) fs.writeFileSync(options.json, `${JSON.stringify(rows, null, 2)}\n`)
    } finally {
      await ray.shutdown()
    }
  })

addClusterCommands(program)

/** Commands of Ray that this version does not have: better than "unknown". */
const LATER = ['memory', 'timeline', 'list', 'get', 'summary', 'logs', 'job', 'up', 'down']
for (const name of [...LATER, 'attach', 'exec', 'submit', 'dashboard', 'serve', 'stack', 'debug']) {
  program
    .command(name, { hidden: true })
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .action(() => {
      console.error(`error: ray ${name} is not in ray-ts ${version} yet. (ray --help lists the commands)`)
      process.exitCode = 1
    })
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('It must be a whole number of at least 1.')
  return Number(text)
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(4)
}

await program.parseAsync()
