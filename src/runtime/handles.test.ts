// Fails when a hold is given back twice (a value goes while it is used), or not at all while a released handle is still reachable.

import { setTimeout as sleep } from 'node:timers/promises'
import v8 from 'node:v8'
import vm from 'node:vm'
import { expect, test } from 'vitest'
import { Handles } from './handles.ts'

v8.setFlagsFromString('--expose-gc')
const gc = vm.runInNewContext('gc') as () => void

/** More than any test gives back: other handles of the id are held. */
const HELD = 10

/** Until as many holds as `count` were given back, or nothing more can be expected. */
async function collect(given: readonly number[], count: number): Promise<void> {
  for (let i = 0; i < 100 && given.length < count; i++) {
    gc()
    await sleep(5)
  }
}

test('[ARCH-21][OBJ-04] a collected handle gives its hold back although another one of its id was released and is still there (H2)', async () => {
  const given: number[] = []
  const handles = new Handles(
    (id) => given.push(id) > HELD,
    () => {},
  )
  const kept = {}
  handles.register(kept, 7)
  handles.register({}, 7)
  handles.release(kept, 7)
  expect(given).toEqual([7])
  await collect(given, 2)
  expect(given).toEqual([7, 7])
  expect(kept).toBeDefined() // Reachable up to here.
})

test('[ARCH-21][OBJ-04] a released handle gives nothing back when it is collected too (H1)', async () => {
  const given: number[] = []
  const handles = new Handles(
    (id) => given.push(id) > HELD,
    () => {},
  )
  const make = (isReleased: boolean): void => {
    const handle = {}
    handles.register(handle, 7)
    if (isReleased) handles.release(handle, 7)
  }
  for (const isReleased of [true, true, false]) make(isReleased)
  handles.register({}, 8)
  await collect(given, 4)
  for (let i = 0; i < 3; i++) {
    gc()
    await sleep(5)
  }
  expect(given.sort()).toEqual([7, 7, 7, 8])
})

test('[ARCH-21][OBJ-04] where the last hold was released, no collection gives anything back', async () => {
  const given: number[] = []
  const handles = new Handles(
    (id) => given.push(id) >= 2,
    () => {},
  )
  const make = (): void => {
    const handle = {}
    handles.register(handle, 7)
    handles.release(handle, 7)
  }
  make()
  make()
  handles.register({}, 8)
  await collect(given, 3)
  expect(given).toEqual([7, 7, 8])
})
