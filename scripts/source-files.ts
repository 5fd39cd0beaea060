// Lists the project's source files for the checks.

import fs from 'node:fs'
import path from 'node:path'

export function sourceFiles(root: string): string[] {
  if (!fs.existsSync(root)) return []
  return fs.readdirSync(root, { withFileTypes: true }).flatMap((entry) => {
    const full = path.join(root, entry.name)
    if (entry.isDirectory())
      return entry.name === 'node_modules' || entry.name === 'dist' || entry.name.startsWith('.')
        ? []
        : sourceFiles(full)
    return /\.(ts|mts|mjs|js)$/.test(entry.name) ? [full] : []
  })
}
