// What cannot travel (a schema, a client, a connection) is made once in each process, at the first use there.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'
import { z } from 'zod'

// Captured as it is, a zod schema would be refused: it holds internals of its package. This travels as the way to make it.
const order = ray.perProcess(() => z.object({ item: z.string(), count: z.number().int().positive() }))

const check = ray.remote((lines: readonly string[]) => lines.map((line) => order().safeParse(JSON.parse(line)).success))

await using _cluster = await ray.init()
const lines = ['{ "item": "nut", "count": 3 }', '{ "item": "bolt", "count": -1 }', '{ "count": 1 }']
const results = await ray.get([check.remote(lines), check.remote(lines.slice(0, 1))])
assert.deepEqual(results, [[true, false, false], [true]])
console.log(results[0]?.filter(Boolean).length, 'of', lines.length, 'orders are good')
//> 1 of 3 orders are good
