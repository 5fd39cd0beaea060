// The commands about clusters: `ray start`, `stop`, `status`, `health-check`. Each loads what it needs when it runs.

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { DrainFlags } from './drain-node.ts'
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
    .command('why')
    .description(
      'what waits: which resource is short where and who holds it, which argument is missing and what makes it',
    )
    .argument('[name]', 'of a function, an actor or its class (default: all that wait, placement groups too)')
    .option('--address <host:port>', 'of the cluster (default: RAY_ADDRESS, else the one on this machine)')
    .action((name: string | undefined, flags: { address?: string }, command: Command) =>
      saysErrors(async () => (await import('./why.ts')).why(name, flags))({}, command),
    )
  program
    .command('drain-node', { hidden: true })
    .description('let a node take nothing new, and end when nothing is left there')
    .option('--address <host:port>', 'of the cluster (default: RAY_ADDRESS, else the one on this machine)')
    .option('--node-id <hex>', 'of the node (default: the one on this machine)')
    .addOption(
      new Option('--reason <reason>', 'an idle node, or one whose machine will go')
        .choices(['DRAIN_NODE_REASON_IDLE_TERMINATION', 'DRAIN_NODE_REASON_PREEMPTION'])
        .makeOptionMandatory(),
    )
    .requiredOption('--reason-message <text>', 'what ray status shows')
    .option('--deadline-remaining-seconds <n>', 'after so long it ends, whatever runs there (default: never)', seconds)
    .action(saysErrors(async (flags) => (await import('./drain-node.ts')).drainNode(flags as unknown as DrainFlags)))
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
