// Fails when the node's book keeps what was freed, in whatever order the owner's and the maker's words arrive.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeObjectId } from '../../ids/ids.ts'
import { ShmControl } from './control.ts'
import { NodeStore } from './node-store.ts'

const OWNER = 1
const MAKER = 2
let dir: string
let store: NodeStore
let recycled: number[]

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(process.env.RAY_TMPDIR ?? os.tmpdir(), 'node-store-'))
  ShmControl.create(dir)
  recycled = []
  const config = {
    shmDir: dir,
    spillDirs: [],
    capacityBytes: 1e9,
    spillThreshold: 0.8,
    minSpillingBytes: 1,
    maxFusedObjects: 1,
    maxIoWorkers: 1,
    spillBufferBytes: 1024,
    collectGraceMs: 1,
    diskThreshold: 1,
    diskCheckMs: 1000,
  }
  store = new NodeStore(config as never, {
    onPressure: () => {},
    recycle: (_, ids) => recycled.push(...ids) > 0,
    spilled: () => {},
  })
})
afterEach(() => {
  store.close()
  fs.rmSync(dir, { recursive: true })
})

test('[ARCH-21] a copy that is freed before its maker announced it does not stay in the book', () => {
  const id = makeObjectId(MAKER, 1)
  store.free([id], OWNER)
  store.created(id, OWNER, 100, null)
  expect(store.stats().objects).toBe(0)
  expect(recycled).toEqual([id])
})

test('[ARCH-21] a copy that is announced, then freed, goes back to its maker', () => {
  const id = makeObjectId(MAKER, 2)
  store.created(id, OWNER, 100, null)
  expect(store.stats().objects).toBe(1)
  store.free([id], OWNER)
  expect(store.stats().objects).toBe(0)
  expect(recycled).toEqual([id])
})

test('[ARCH-21] what a dead maker would have announced is not waited for', () => {
  const id = makeObjectId(MAKER, 3)
  store.free([id], OWNER)
  store.onWorkerDied(MAKER)
  store.created(id, OWNER, 100, null)
  expect(store.stats().objects).toBe(1)
})

test('[ARCH-17] bytes that a killed process had booked for a file that it never made are given back (B6)', async () => {
  const control = new ShmControl(dir)
  const before = control.used()
  expect(control.reserve(5000, 1_000_000)).toBe(true)
  store.onWorkerDied(77)
  await expect.poll(() => control.used(), { timeout: 10_000 }).toBe(before)
})
