// The commands about clusters: `ray start`, `stop`, `status`, `health-check`. Each loads what it needs when it runs.

import { type Command, InvalidArgumentError } from 'commander'
import { addStartFlags } from './start-flags.ts'

const GRACE_S = 16

export function addClusterCommands(program: Command): void {
  addStartFlags(program.command('start').description('start a node on this machine')).action(
    saysErrors(async (_flags, command) => (await import('./start.ts')).start(command)),
  )
  program
    .command('stop')
    .description('end the nodes that ray start started on this machine')
    .option('-f, --force', 'kill at once')
    .option(
      '-g, --grace-period <seconds>',
      'how long processes may take to end before they are killed',
      seconds,
      GRACE_S,
    )
    .option('-v, --verbose', 'name what had to be killed')
    .action(saysErrors(async (flags) => (await import('./stop.ts')).stop(flags)))
  program
    .command('status')
    .description('the nodes of a cluster, what they have, and what waits')
    .option('--address <host:port>', 'of the cluster (default: RAY_ADDRESS, else the one on this machine)')
    .option('-v, --verbose', 'what each node has and does, too')
    .action(saysErrors(async (flags) => (await import('./status.ts')).status(flags)))
  program
    .command('health-check')
    .description('exit code 0: the cluster answers')
    .option('--address <host:port>', 'of the cluster (default: RAY_ADDRESS, else the one on this machine)')
    .option('--component <name>', 'of a part of it')
    .option('--skip-version-check', 'accepted for Ray')
    .action(saysErrors(async (flags) => (await import('./status.ts')).healthCheck(flags)))
}

type Action = (flags: Record<string, never>, command: Command) => Promise<void>

/** What went wrong, and what to do: no stack. */
function saysErrors(run: Action): Action {
  return async (flags, command) => {
    try {
      await run(flags, command)
    } catch (error) {
      console.error(`error: ${error instanceof Error ? error.message : String(error)}`)
      process.exitCode = 1
    }
  }
}

function seconds(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isFinite(value) && value >= 0) return value
  throw new InvalidArgumentError('It must be a number of seconds.')
}
