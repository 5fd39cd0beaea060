// Holds the house plan: imports go down the table in layers.json, and only the rooms under `+node` import Node's own modules.

import fs from 'node:fs'
import path from 'node:path'
import { sourceFiles } from './source-files.ts'

const table = JSON.parse(fs.readFileSync('layers.json', 'utf8')) as Record<string, string[]>
const allowed = (room: string): Set<string> =>
  new Set((table[room] ?? []).flatMap((name) => (name.startsWith('@') ? (table[name] ?? []) : [name])))

const breaches: string[] = []
for (const file of sourceFiles('src')) {
  const room = path.relative('src', file).split(path.sep)[0] as string
  if (room.endsWith('.ts')) continue // index.ts is the door itself.
  if (!table[room]) breaches.push(`${file}: the room ${room}/ is not in layers.json`)
  const isTest = file.endsWith('.test.ts')
  for (const match of fs
    .readFileSync(file, 'utf8')
    .matchAll(/^\s*(?:import|export)\s[^'"]*?from\s+['"]([^'"]+)['"]/gm)) {
    const target = match[1] as string
    if (target.startsWith('node:')) {
      if (!(table['+node'] ?? []).includes(room) && !isTest) {
        breaches.push(
          `${file}: ${room}/ touches nothing of the world, but imports ${target}: take it as an input or effect`,
        )
      }
      continue
    }
    if (!target.startsWith('.')) {
      if (target === 'ray-ts' && !allowed(room).has('ray-ts') && !isTest)
        breaches.push(`${file}: ${room}/ is below the public door`)
      continue
    }
    const to = path.relative('src', path.resolve(path.dirname(file), target)).split(path.sep)[0] as string
    if (to === room || allowed(room).has(to)) continue
    breaches.push(`${file}: ${room}/ may not import ${to}/ (it may: ${[...allowed(room)].join(', ') || 'nothing'})`)
  }
}
for (const breach of breaches) console.error(breach)
if (breaches.length > 0) process.exit(1)
