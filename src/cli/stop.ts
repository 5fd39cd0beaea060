// `ray stop`: ends what `ray start` started on this machine.

import { startedNodes } from '../runtime/cluster-files.ts'
import { tempRoot } from '../runtime/session.ts'
import { stopNodes } from '../runtime/stop-nodes.ts'

export async function stop(flags: { force?: boolean; gracePeriod?: number; verbose?: boolean }): Promise<void> {
  const { force = false, gracePeriod = 0, verbose = false } = flags
  const { found, stopped, killed } = await stopNodes(startedNodes(), {
    force,
    graceMs: gracePeriod * 1000,
    roots: [tempRoot()],
    onStopped: (so, all) => {
      if (process.stdout.isTTY) process.stdout.write(`${so}/${all} stopped.\r`)
    },
  })
  if (found === 0) console.log('Did not find any active Ray processes.')
  else if (stopped === found) console.log(`Stopped all ${stopped} Ray processes.`)
  else {
    console.error(
      `Stopped only ${stopped} out of ${found} Ray processes within the grace period ${gracePeriod} seconds; the others were killed.${
        verbose ? ` (${killed.join(', ')})` : ' Set `-v` to see which.'
      }`,
    )
    console.error('Set a higher `--grace-period` to wait longer for proper termination.')
  }
}
