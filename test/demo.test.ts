// Failure here looks like the program of the README that a newcomer runs first, and that does not end well.
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'

const demo = (folder: string) =>
  spawnSync(process.execPath, ['--import', 'tsx', 'demo/index.ts', folder], { encoding: 'utf8' })

test('the demo indexes a folder, shows its progress, and both ways agree', () => {
  const { stdout, stderr, status } = demo('src')
  expect(status, stderr).toBe(0)
  expect(stdout).toMatch(/Indexing \d+ files \(\d+ MB\) under src with tasks on \d+ CPUs\n {2}\d+ %, \d+ of \d+ files/)
  expect(stdout).toMatch(/100 %[\s\S]*Top terms[\s\S]*files\/s[\s\S]*speed-up[\s\S]*Both answers are equal\./)
})

test('a missing folder and one without sources are said so', () => {
  expect(demo('no/such/folder')).toMatchObject({ status: 1, stdout: '' })
  expect(demo('no/such/folder').stderr).toBe('There is no folder no/such/folder. Usage: npm run demo [-- FOLDER]\n')
  expect(demo('packages/native/prebuilds').stderr).toContain('There are no source files')
})
