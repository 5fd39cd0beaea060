#!/usr/bin/env node
// The `ray` command.

import fs from 'node:fs'
import { Command } from 'commander'

const program = new Command('ray').description('Ray for TypeScript')

program
  .command('microbenchmark')
  .description("Ray's own microbenchmark rows on this machine")
  .option('--filter <text>', 'only rows whose name contains this')
  .option('--quick', 'shorter rounds')
  .option('--num-cpus <n>', 'CPUs of the node that is started', '2')
  .option('--json <file>', 'write the rows to a file as well')
  .action(async (options: { filter?: string; quick?: boolean; numCpus: string; json?: string }) => {
    const ray = await import('ray-ts')
    const { runMicrobenchmark } = await import('./microbenchmark.ts')
    await ray.init({ numCpus: Number(options.numCpus), logToDriver: true })
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

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(4)
}

await program.parseAsync()
