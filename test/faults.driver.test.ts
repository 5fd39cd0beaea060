// Failure here looks like a process, socket, folder or shared-memory file that stays behind when a driver is gone.
import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { isAlive, startProgram, until } from './helpers.ts'
import { expectNothingLeft, leftovers } from './leftovers.ts'

type Program = ReturnType<typeof startProgram>

async function underWay(program: Program): Promise<string> {
  await until(() => /session (.+)/.test(program.text()), `the program is under way: ${program.text()}`, 40_000)
  return /session (.+)/.exec(program.text())?.[1] as string
}

function pidsOf(sessionDir: string): number[] {
  return leftovers(sessionDir)
    .flatMap((one) => /^process (\d+)/.exec(one)?.[1] ?? [])
    .map(Number)
}

function nodePidOf(sessionDir: string): number {
  return Number.parseInt(fs.readFileSync(path.join(sessionDir, 'node.pid'), 'utf8'), 10)
}

const ENDS = [
  ['throw', 'mixed', /the driver failed/, 1],
  ['reject', 'mixed', /the driver failed/, 1],
  ['exit', 'mixed', null, 3],
  ['end', 'mixed', null, 0],
  ['end', 'actors', null, 0],
  ['end', 'queued', null, 0],
  ['shutdown', 'nested', null, 0],
  ['shutdown', 'queued', null, 0],
  ['shutdown', 'actors', null, 0],
] as const

for (const [how, load, says, expected] of ENDS) {
  test(`[CL-01] a driver ends by ${how} with ${load} work under way: nothing is left`, async () => {
    const program = startProgram('busy.mjs', [how, load])
    const sessionDir = await underWay(program)
    const code = await program.ended
    await expectNothingLeft(() => leftovers(sessionDir), sessionDir)
    if (says) expect(program.text()).toMatch(says)
    expect(code).toBe(expected)
  })
}

const SIGNALS = [
  ['SIGKILL', 'mixed'],
  ['SIGKILL', 'nested'],
  ['SIGKILL', 'actors'],
  ['SIGKILL', 'queued'],
  ['SIGTERM', 'mixed'],
  ['SIGHUP', 'mixed'],
  ['SIGINT', 'mixed'],
] as const

for (const [signal, load] of SIGNALS) {
  test(`[CL-01] ${signal} of a driver with ${load} work under way: nothing is left`, async () => {
    const program = startProgram('busy.mjs', [signal, load])
    const sessionDir = await underWay(program)
    program.child.kill(signal)
    await program.ended
    await expectNothingLeft(() => leftovers(sessionDir), sessionDir)
  })
}

test('[CL-01] Ctrl-C reaches the whole foreground group, as from a terminal: nothing is left', async () => {
  const program = startProgram('busy.mjs', ['SIGINT', 'nested'], { detached: true })
  const sessionDir = await underWay(program)
  process.kill(-(program.child.pid as number), 'SIGINT')
  await program.ended
  await expectNothingLeft(() => leftovers(sessionDir), sessionDir)
})

test('[CL-01] kill -9 of a driver while its node starts: nothing runs on', async () => {
  const program = startProgram('busy.mjs', ['SIGKILL'])
  const root = process.env.RAY_TMPDIR as string
  const sessions = () => fs.readdirSync(root).filter((name) => name.startsWith('session_'))
  const before = new Set(sessions())
  await until(() => sessions().some((name) => !before.has(name)), 'a session begins')
  const sessionDir = path.join(root, sessions().find((name) => !before.has(name)) as string)
  program.child.kill('SIGKILL')
  await program.ended
  await until(() => pidsOf(sessionDir).length === 0, 'no process is left', 5000)
  await nextStartSweeps(sessionDir)
})

for (const load of ['mixed', 'nested', 'actors']) {
  test(`[CL-01] kill -9 of everything at once with ${load} work: nothing runs on, and the next start removes the files`, async () => {
    const program = startProgram('busy.mjs', ['SIGKILL', load])
    const sessionDir = await underWay(program)
    for (const pid of [program.child.pid as number, ...pidsOf(sessionDir)]) process.kill(pid, 'SIGKILL')
    await program.ended
    await until(() => pidsOf(sessionDir).length === 0, 'no process is left', 5000)
    await nextStartSweeps(sessionDir)
  })
}

test('[CL-01] kill -9 of driver and node while workers compute: they end too', async () => {
  const program = startProgram('busy.mjs', ['SIGKILL', 'nested'])
  const sessionDir = await underWay(program)
  process.kill(nodePidOf(sessionDir), 'SIGKILL')
  program.child.kill('SIGKILL')
  await program.ended
  await until(() => pidsOf(sessionDir).length === 0, `no process is left: ${pidsOf(sessionDir)}`, 5000)
  await nextStartSweeps(sessionDir)
})

test('[ARCH-02] kill -9 of the node while workers compute: they end, the driver lives', async () => {
  const program = startProgram('busy.mjs', ['SIGKILL', 'actors'])
  const sessionDir = await underWay(program)
  process.kill(nodePidOf(sessionDir), 'SIGKILL')
  await until(() => pidsOf(sessionDir).every((pid) => pid === program.child.pid), 'the workers end', 5000)
  expect(isAlive(program.child.pid as number)).toBe(true)
  await expectNothingLeft(() => leftovers(sessionDir), sessionDir) // The driver removes it: a signal could come in between.
  program.child.kill('SIGTERM')
  await program.ended
})

async function nextStartSweeps(sessionDir: string): Promise<void> {
  const next = startProgram('busy.mjs', ['end'])
  const nextDir = await underWay(next)
  expect(leftovers(sessionDir)).toEqual([])
  await next.ended
  await expectNothingLeft(() => leftovers(nextDir), nextDir)
}
