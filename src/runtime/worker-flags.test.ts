// Fails when a worker is started with a flag that was meant for the driver, or with half of one.

import { expect, test } from 'vitest'
import { workerFlags } from './worker-flags.ts'

const OWN = '--no-warnings=ExperimentalWarning'

test.each([
  [
    ['--import', 'tsx'],
    ['--import', 'tsx'],
  ],
  [['--cpu-prof', '--cpu-prof-interval', '200', '--import=tsx'], ['--import=tsx']],
  [['--inspect-brk=0.0.0.0:9229', '--max-old-space-size=100'], ['--max-old-space-size=100']],
  [['-e', '-1 + 2'], []],
  [['--input-type=module', '-e', 'await 1', '--expose-gc'], ['--expose-gc']],
  [
    ['--watch', '--watch-path', 'src', '-r', './hook.cjs', '-C', 'dev'],
    ['-r', './hook.cjs', '-C', 'dev'],
  ],
  [['--test', '--test-reporter', 'tap', '--enable-source-maps'], ['--enable-source-maps']],
])('[ARCH-09] of %j workers get %j', (given, expected) => {
  expect(workerFlags(given)).toEqual([...expected, OWN])
})
