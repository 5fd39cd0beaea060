// A pool of actors, each with an expensive start (a model, a compiled pattern, a connection) that all of its items share.

import assert from 'node:assert/strict'
import * as ray from 'ray-ts'

class Tokenizer {
  private readonly ids: Map<string, number>
  private used = 0

  constructor(vocabulary: readonly string[]) {
    this.ids = new Map(vocabulary.map((word, id) => [word, id])) // Stands for what is slow to load.
  }

  encode(text: string): number[] {
    this.used++
    return text.split(' ').map((word) => this.ids.get(word) ?? -1)
  }

  load(): number {
    return this.used
  }
}

await using _cluster = await ray.init()

// Put once, shared by all actors.
const vocabulary = ray.put(['the', 'quick', 'brown', 'fox', 'jumps'])
const RemoteTokenizer = ray.remote(Tokenizer)
const actors = [RemoteTokenizer.remote(vocabulary), RemoteTokenizer.remote(vocabulary)]
const pool = new ray.util.ActorPool(actors)

const texts = ['the quick fox', 'fox jumps', 'brown bear', 'the the']
const encoded: number[][] = []
for await (const ids of pool.map((actor, text: string) => actor.encode.remote(text), texts)) encoded.push(ids)
assert.deepEqual(encoded, [
  [0, 1, 3],
  [3, 4],
  [2, -1],
  [0, 0],
]) // In the order of the texts.

// As they are ready, in whatever order.
const unordered: number[][] = []
for await (const ids of pool.mapUnordered((actor, text: string) => actor.encode.remote(text), texts))
  unordered.push(ids)
assert.deepEqual(unordered.map(String).sort(), encoded.map(String).sort())

const used = await ray.get(actors.map((actor) => actor.load.remote()))
console.log(`${used.reduce((sum, n) => sum + n, 0)} texts over ${used.filter((n) => n > 0).length} actors`)
//> 8 texts over 2 actors
