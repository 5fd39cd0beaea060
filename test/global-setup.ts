// Builds dist/ once: the tests of real processes run what users get.

import { execFileSync } from 'node:child_process'

export default function setup(): void {
  execFileSync(process.execPath, ['--import', 'tsx', 'scripts/build.ts'], { stdio: 'inherit' })
}
